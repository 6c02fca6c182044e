//! `audit:`: what is written down, as a document says it.

use std::time::Duration;

use super::{accepted, codes, refused};
use crate::{Audit, AuditArguments, AuditMode, diff, judge_parts, rejudge_parts};

const UPSTREAMS: &str = "version: 1\nupstreams:\n  a: { http: { url: http://a/ } }\n";

fn with(audit: &str) -> String {
    format!("{UPSTREAMS}audit: {{ {audit} }}\n")
}

#[test]
fn audit_is_a_part_of_its_own_without_its_defaults() {
    let config = accepted(&with("allowed: async, secrets: [SSN, card.number], retention: 24h"));
    let audit = config.audit().unwrap();
    assert_eq!((audit.allowed, audit.denied), (AuditMode::Async, AuditMode::Durable));
    assert_eq!((audit.outcomes, audit.events), (AuditMode::Async, AuditMode::Durable));
    assert_eq!((audit.arguments, audit.retention), (AuditArguments::Redacted, Duration::from_secs(86_400)));
    let part = config.parts().iter().find(|part| part.name == "audit").unwrap();
    assert_eq!((part.kind.as_str(), part.capability()), ("audit", Some("audit.v1")));
    assert_eq!(part.bytes, r#"{"allowed":"async","retention":"24h","secrets":["card.number","ssn"]}"#);
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!((again.audit(), again.digest()), (config.audit(), config.digest()));
    let spelled = accepted(&with("denied: durable, outcomes: async, events: durable, arguments: redacted"));
    assert_eq!(spelled.digest(), accepted(&with("")).digest());
}

#[test]
fn a_document_without_audit_is_not_one_with_its_defaults() {
    let (without, with) = (accepted(UPSTREAMS), accepted(&with("")));
    assert!(without.audit().is_none());
    assert_eq!(with.audit().map(|audit| (**audit).clone()), Some(Audit::default()));
    assert_ne!(without.digest(), with.digest());
    let changes = diff(&without, &with);
    assert_eq!(changes.iter().map(|change| &*change.path).collect::<Vec<_>>(), ["audit"]);
    // Taken away, it does not stay by what was judged before.
    let parts: Vec<_> = with.parts().iter().filter(|part| part.name != "audit").cloned().collect();
    assert!(rejudge_parts(&parts.into(), Some(&with)).unwrap().config.audit().is_none());
    assert!(rejudge_parts(&with.parts().into(), Some(&without)).unwrap().config.audit().is_some());
}

#[test]
fn what_audit_cannot_mean_is_refused_where_it_stands() {
    for (audit, code, path) in [
        ("allowed: sync", "OST0205", "audit.allowed"),
        ("arguments: all", "OST0205", "audit.arguments"),
        ("secrets: ['a..b']", "OST0205", "audit.secrets[0]"),
        ("secrets: ['']", "OST0205", "audit.secrets[0]"),
        ("retention: 90d", "OST0206", "audit.retention"),
        ("retention: 1s", "OST0207", "audit.retention"),
        ("decisions: durable", "OST0201", "audit.decisions"),
    ] {
        let report = refused(with(audit));
        assert_eq!(codes(&report.diagnostics), [code], "{audit}: {report}");
        assert_eq!(report.diagnostics[0].path, path, "{audit}");
    }
    let many = (0..300).map(|index| format!("f{index}")).collect::<Vec<_>>().join(", ");
    assert_eq!(codes(&refused(with(&format!("secrets: [{many}]"))).diagnostics), ["OST0207"]);
}
