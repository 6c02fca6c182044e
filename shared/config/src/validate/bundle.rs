//! One bundle: the mounts that it is made of. Whether they exist is for the whole document to say.

use ostler_core::limits;
use ostler_core::name::ResourceName;

use crate::codes::Code;
use crate::located::Located;
use crate::node::NodeId;
use crate::raw::RawBundle;
use crate::reporter::Reporter;

use super::values;

/// Its mounts, in their order and each once. `existing` finds one, or reports that it does not exist. `at` is its name.
pub(super) fn validate(
    raw: Located<RawBundle>,
    at: NodeId,
    existing: impl Fn(&Located<String>) -> Option<ResourceName>,
    reporter: &Reporter<'_>,
) -> Vec<ResourceName> {
    let Some(raw) = raw.value else { return Vec::new() };
    let Some(mounts) = raw.mounts else {
        let help = "write `mounts: [<name>, <name>]`";
        reporter.report(Code::MissingKey, at, "the required key `mounts` is missing", help);
        return Vec::new();
    };
    let Some(items) = mounts.value else { return Vec::new() };
    if items.is_empty() {
        let help = "name the mounts that it is made of, or remove the bundle";
        reporter.report(Code::OutOfRange, mounts.at, "the bundle would have no mount", help);
    }
    values::count(mounts.at, items.len(), limits::BUNDLE_MOUNTS_MAX, "mounts of one bundle", reporter);
    let mut found: Vec<ResourceName> = Vec::with_capacity(items.len().min(limits::BUNDLE_MOUNTS_MAX));
    for item in &items {
        let Some(name) = existing(item) else { continue };
        if found.contains(&name) {
            let message = format!("the bundle already has the mount `{name}`");
            reporter.report(Code::MountTwice, item.at, message, "keep one of the two");
            continue;
        }
        found.push(name);
    }
    found
}
