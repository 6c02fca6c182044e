//! Classification of methods.

use super::*;

#[test]
fn methods_that_act_on_something_name_it() {
    assert_eq!(target(TOOLS_CALL), Some(Target::Name));
    assert_eq!(target(PROMPTS_GET), Some(Target::Name));
    assert_eq!(target(RESOURCES_SUBSCRIBE), Some(Target::Uri));
    assert_eq!(target(TASKS_CANCEL), Some(Target::TaskId));
    assert_eq!(target(TASKS_LIST), None);
    assert_eq!(target("tools/Call"), None, "method names are case-sensitive");
    for method in KNOWN.into_iter().filter(|method| has_name_header(method)) {
        assert!(target(method).is_some(), "{method}");
    }
}

#[test]
fn a_tool_call_is_never_repeated_by_itself() {
    assert!(!is_repeatable(TOOLS_CALL));
    assert!(!is_repeatable("vendor/anything"));
    assert!(is_repeatable(TOOLS_LIST) && is_repeatable(RESOURCES_READ));
}

#[test]
fn a_label_is_never_the_clients_own_text() {
    assert_eq!(label("tools/call"), "tools/call");
    assert_eq!(label("tools/call\n"), "other");
    assert_eq!(label("vendor/anything"), "other");
    let mut names = KNOWN.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KNOWN.len());
}
