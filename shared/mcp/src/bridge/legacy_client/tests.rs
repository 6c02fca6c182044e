//! Legacy clients: what their requests, handshakes and answers become.

use super::*;

const INITIALIZE: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"roots":{"listChanged":true},"tasks":{},"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}"#;

fn caller() -> Caller {
    Caller::of_initialize(Some(INITIALIZE)).unwrap()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_request_says_of_itself_what_the_session_said_and_keeps_its_arguments_bytes() {
    let body = br#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","arguments":{"n":1.50, "s":"\u00e4"},"_meta":{"progressToken":7,"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}}}"#;
    let envelope = Envelope::scan(body).unwrap();
    let mut caller = caller();
    caller.log_level = Some("info".to_owned());
    let sent = caller.request("\"a\"", &envelope, None).unwrap();
    let text = std::str::from_utf8(&sent).unwrap();
    assert!(text.contains(r#""arguments":{"n":1.50, "s":"\u00e4"}"#), "{text}");
    let sent = Envelope::scan(&sent).unwrap();
    assert_eq!(sent.meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(sent.meta.progress_token.unwrap().raw(), "7");
    let meta = &json(text.as_bytes())["params"]["_meta"];
    assert_eq!(meta[META_CLIENT_CAPABILITIES], json(br#"{"roots":{"listChanged":true},"elicitation":{}}"#));
    assert_eq!((&meta[META_CLIENT_INFO]["name"], &meta[META_LOG_LEVEL]), (&"c".into(), &"info".into()));
}

#[test]
fn a_client_may_have_extensions_but_for_tasks_which_have_no_carrier() {
    let initialize = r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"a":1}}}}"#;
    let caller = Caller::of_initialize(Some(initialize)).unwrap();
    let sent = json(&caller.discover("1").unwrap());
    assert_eq!(
        sent["params"]["_meta"][META_CLIENT_CAPABILITIES],
        json(br#"{"extensions":{"io.modelcontextprotocol/ui":{"a":1}}}"#)
    );
    assert!(
        Caller::of_initialize(Some(r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":1}}"#))
            .is_err()
    );
}

#[test]
fn a_request_without_params_gets_them_and_a_level_that_nobody_set_is_not_said() {
    let envelope = Envelope::scan(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).unwrap();
    let sent = json(&caller().request("1", &envelope, None).unwrap());
    assert_eq!(sent["params"]["_meta"][META_PROTOCOL_VERSION], "2026-07-28");
    assert!(sent["params"]["_meta"].get(META_LOG_LEVEL).is_none());
}

#[test]
fn answers_and_state_go_up_with_the_original_parameters() {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{}}}"#;
    let envelope = Envelope::scan(body).unwrap();
    let responses = InputResponses {
        results: vec![("who".to_owned(), r#"{"action":"accept"}"#.to_owned())],
        state: Some(r#""opaque\u00e4""#.to_owned()),
    };
    let sent = caller().request("\"r\"", &envelope, Some(&responses)).unwrap();
    let text = String::from_utf8(sent).unwrap();
    assert!(
        text.contains(r#""inputResponses":{"who":{"action":"accept"}},"requestState":"opaque\u00e4""#),
        "{text}"
    );
    assert!(
        text.starts_with(r#"{"jsonrpc":"2.0","id":"r","method":"tools/call","params":{"name":"x""#),
        "{text}"
    );
}

#[test]
fn initialize_is_answered_with_what_can_be_carried() {
    let discovered = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"extensions":{"io.modelcontextprotocol/tasks":{}},"logging":{}},"instructions":"do","ttlMs":1,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"9"}}}"#;
    let result = initialize_result(discovered, Revision::V2025_06_18, "mount").unwrap();
    assert_eq!(
        result,
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"logging":{}},"serverInfo":{"name":"s","version":"9"},"instructions":"do"}"#
    );
    let nameless = initialize_result(r#"{"capabilities":{}}"#, Revision::LATEST_LEGACY, "mount").unwrap();
    assert_eq!(json(nameless.as_bytes())["serverInfo"]["name"], "mount");
    assert!(initialize_result("{}", Revision::LATEST_LEGACY, "mount").is_err());
}

#[test]
fn a_client_is_answered_with_its_own_revision_or_the_newest_with_a_handshake() {
    for (asked, revision) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let params = INITIALIZE.replace("2025-06-18", asked);
        assert_eq!(Caller::of_initialize(Some(&params)).unwrap().revision.as_str(), revision);
    }
    for bad in [None, Some("[]"), Some("{}"), Some(r#"{"protocolVersion":"2025-06-18","capabilities":[]}"#)] {
        assert!(Caller::of_initialize(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn questions_are_read_in_their_order_and_only_those_that_servers_may_ask() {
    let asked = r#"{"resultType":"input_required","inputRequests":{"b":{"method":"elicitation/create","params":{"message":"m"}},"a":{"method":"roots/list"}},"requestState":"s"}"#;
    let Outcome::InputRequired(required) = outcome(asked, Some("input_required")).unwrap() else { panic!() };
    let keys: Vec<_> = required.requests.iter().map(|request| (&*request.key, &*request.method)).collect();
    assert_eq!(keys, [("b", "elicitation/create"), ("a", "roots/list")]);
    assert_eq!(required.state.as_deref(), Some("\"s\""));
    let foreign = asked.replace("roots/list", "tools/call");
    assert!(outcome(&foreign, Some("input_required")).is_err());
    assert!(outcome("{}", Some("input_required")).is_err(), "a question without one");
    assert!(outcome("{}", Some("task")).is_err());
    assert_eq!(outcome("{}", None), Ok(Outcome::Complete));
    let caller = caller();
    assert!(
        caller.can_answer("roots/list")
            && !caller.can_answer("sampling/createMessage")
            && !caller.can_answer("x")
    );
}

#[test]
fn listening_names_lists_and_resources() {
    let sent = json(&caller().listen("1", ["file:///a", "b\""]).unwrap());
    assert_eq!(sent["method"], "subscriptions/listen");
    let wanted = &sent["params"]["notifications"];
    assert_eq!(wanted["resourceSubscriptions"], serde_json::json!(["file:///a", "b\""]));
    assert_eq!(wanted["toolsListChanged"], true);
    let none = json(&caller().listen("1", []).unwrap());
    assert!(none["params"]["notifications"].get("resourceSubscriptions").is_none());
}
