//! `audit`: what is written down, and what waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_core::limits;

use crate::codes::Code;
use crate::duration;
use crate::located::Located;
use crate::raw::{RawAudit, RawDuration};
use crate::reporter::Reporter;
use crate::validated::{Audit, AuditArguments, AuditMode, AuditResponses};

use super::{one_of, values};

pub(super) fn validate(raw: Located<RawAudit>, reporter: &Reporter<'_>) -> Option<Audit> {
    let raw = raw.value?;
    let default = Audit::default();
    let mode = |found: Option<Located<String>>, default| {
        let words = AuditMode::ALL.iter().map(|mode| (mode.as_str(), *mode));
        found.and_then(|found| one_of(&found, words, "a mode of audit", reporter)).unwrap_or(default)
    };
    let words = AuditArguments::ALL.iter().map(|kept| (kept.as_str(), *kept));
    let arguments = raw.arguments.and_then(|found| one_of(&found, words, "kept of arguments", reporter));
    let words = AuditResponses::ALL.iter().map(|kept| (kept.as_str(), *kept));
    let responses = raw.responses.and_then(|found| one_of(&found, words, "kept of answers", reporter));
    Some(Audit {
        allowed: mode(raw.allowed, default.allowed),
        denied: mode(raw.denied, default.denied),
        outcomes: mode(raw.outcomes, default.outcomes),
        events: mode(raw.events, default.events),
        arguments: arguments.unwrap_or(default.arguments),
        responses: responses.unwrap_or(default.responses),
        secrets: raw.secrets.map(|secrets| names(secrets, reporter)).unwrap_or_default(),
        retention: raw.retention.and_then(|found| retention(found, reporter)).unwrap_or(default.retention),
    })
}

fn names(secrets: Located<Vec<Located<String>>>, reporter: &Reporter<'_>) -> BTreeSet<String> {
    let items = secrets.value.unwrap_or_default();
    values::count(secrets.at, items.len(), limits::AUDIT_SECRETS_MAX, "names of secret fields", reporter);
    let mut found = BTreeSet::new();
    for item in items {
        let Some(name) = item.value else { continue };
        if name.split('.').any(str::is_empty) || name.len() > limits::AUDIT_SECRET_NAME_BYTES_MAX {
            let message = format!("`{}` names no field", values::shown(&name));
            let help = "write the name of a field, or a path such as `card.number`";
            reporter.report(Code::UnknownValue, item.at, message, help);
            continue;
        }
        found.insert(name.to_lowercase());
    }
    found
}

fn retention(found: Located<RawDuration>, reporter: &Reporter<'_>) -> Option<Duration> {
    let RawDuration(text) = found.value?;
    match duration::parse(&text) {
        Err(message) => {
            let help = "write whole numbers with units, the larger first: `24h`, `2160h`";
            reporter.report(Code::BadDuration, found.at, message, help);
            None
        }
        Ok(time) if (limits::AUDIT_RETENTION_MIN..=limits::AUDIT_RETENTION_MAX).contains(&time) => Some(time),
        Ok(time) => {
            let (min, max) = (limits::AUDIT_RETENTION_MIN, limits::AUDIT_RETENTION_MAX);
            let message = format!(
                "{} is outside the range from {} to {}",
                duration::format(time),
                duration::format(min),
                duration::format(max)
            );
            reporter.report(Code::OutOfRange, found.at, message, "choose a time inside the range");
            None
        }
    }
}
