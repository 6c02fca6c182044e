//! `auth` and `identity`: who may use what, as a document says it.

use std::io;

use super::{accepted, codes, found, refused};
use crate::compile::{GlobList, Host, Lookup, Unresolved, compile};
use crate::{Accept, Compiled, IdentitySource, Report, diff, judge_parts, judge_text, render};

const UPSTREAMS: &str =
    "version: 1\nupstreams: { a: { http: { url: http://a/ } }, b: { http: { url: http://b/ } } }\n";
const DIGEST: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const ISSUER: &str = "resource: https://gateway.example, issuers: { idp: { issuer: https://idp.example, jwks_url: https://idp.example/keys } }";

fn with(auth: &str) -> String {
    format!("{UPSTREAMS}auth: {{ {auth} }}\n")
}

struct Values(&'static str);

impl Lookup for Values {
    fn env(&self, name: &str) -> Option<String> {
        (name != "UNSET").then(|| self.0.to_owned())
    }

    fn file(&self, _: &str) -> io::Result<String> {
        Ok(format!("{}\n", self.0))
    }
}

fn compiled(text: &str, value: &'static str, unresolved: Unresolved) -> Result<Compiled, Report> {
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: None,
        lookup: &Values(value),
        unresolved,
    };
    compile(&accepted(text), &host)
}

#[test]
fn who_may_use_what_is_one_part_and_is_read_back_as_it_was_meant() {
    let text = with(&format!(
        "accept: [idp, api_keys], api_keys: {{ ci: {{ key: '{DIGEST}', mounts: [b, a], scopes: [w, r] }} }}, {ISSUER}, listeners: {{ mcp: {{ accept: [none] }} }}, mounts: {{ a: {{ scopes: [r] }} }}"
    ));
    let config = accepted(&format!(
        "{text}identity: {{ sources: [{{ claim: email }}, session], on_unresolved: deny }}\n"
    ));
    let names: Vec<_> = config.parts().iter().map(|part| (part.kind.as_str(), part.name.as_str())).collect();
    assert_eq!(names[..2], [("auth", "auth"), ("identity", "identity")]);
    assert!(config.parts()[..2].iter().all(|part| part.capability() == Some("auth.v1")));
    assert_eq!(
        config.parts()[0].bytes,
        format!(
            r#"{{"accept":["api_keys","idp"],"api_keys":{{"ci":{{"key":"{DIGEST}","mounts":["a","b"],"scopes":["r","w"]}}}},"issuers":{{"idp":{{"issuer":"https://idp.example","jwks_url":"https://idp.example/keys"}}}},"listeners":{{"mcp":{{"accept":["none"]}}}},"mounts":{{"a":{{"scopes":["r"]}}}},"resource":"https://gateway.example"}}"#
        )
    );
    assert_eq!(
        config.parts()[1].bytes,
        r#"{"on_unresolved":"deny","sources":[{"claim":"email"},"session"]}"#
    );
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!(
        (again.auth(), again.identity(), again.digest()),
        (config.auth(), config.identity(), config.digest())
    );
}

#[test]
fn a_config_that_asks_for_nothing_has_the_digest_that_it_always_had() {
    assert_eq!(accepted(UPSTREAMS).digest(), accepted(&with("")).digest());
    let identity = format!("{UPSTREAMS}identity: {{ sources: [subject, api_key] }}\n");
    assert_eq!(accepted(UPSTREAMS).digest(), accepted(&identity).digest());
    assert_ne!(accepted(UPSTREAMS).digest(), accepted(&with("accept: [none]")).digest());
}

#[test]
fn whatever_is_configured_is_accepted_where_nothing_is_said() {
    assert!(accepted(UPSTREAMS).auth().default_accept().is_none());
    let config = accepted(&with(&format!("api_keys: {{ ci: {{ key: '{DIGEST}' }} }}, {ISSUER}")));
    let accept = config.auth().default_accept();
    assert!(accept.api_keys && accept.issuers.contains("idp"));
    assert_eq!(config.identity().sources, [IdentitySource::Subject, IdentitySource::ApiKey]);
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_stands() {
    let key = format!("api_keys: {{ ci: {{ key: '{DIGEST}' }} }}");
    for (auth, code, path) in [
        ("accept: []".to_owned(), "OST0207", "auth.accept"),
        ("accept: [api_keys]".to_owned(), "OST0333", "auth.accept[0]"),
        (format!("{key}, accept: [none, api_keys]"), "OST0207", "auth.accept"),
        (format!("{key}, accept: [idp]"), "OST0333", "auth.accept[0]"),
        (format!("{key}, accept: none"), "OST0202", "auth.accept"),
        ("api_keys: { ci: {} }".to_owned(), "OST0203", "auth.api_keys.ci"),
        ("api_keys: { Ci: { key: '${K}' } }".to_owned(), "OST0301", "auth.api_keys.Ci"),
        ("api_keys: { none: { key: '${K}' } }".to_owned(), "OST0301", "auth.api_keys.none"),
        ("api_keys: { ci: { key: '${K}', mounts: [] } }".to_owned(), "OST0207", "auth.api_keys.ci.mounts"),
        (
            "api_keys: { ci: { key: '${K}', mounts: [c] } }".to_owned(),
            "OST0304",
            "auth.api_keys.ci.mounts[0]",
        ),
        (
            "api_keys: { ci: { key: '${K}', scopes: [''] } }".to_owned(),
            "OST0336",
            "auth.api_keys.ci.scopes[0]",
        ),
        ("mounts: { c: { scopes: [r] } }".to_owned(), "OST0304", "auth.mounts.c"),
        ("listeners: { c: { accept: [none] } }".to_owned(), "OST0332", "auth.listeners.c"),
        ("listeners: { mcp: {} }".to_owned(), "OST0203", "auth.listeners.mcp"),
        (
            "issuers: { idp: { issuer: https://idp.example, jwks_url: https://idp.example/ } }".to_owned(),
            "OST0203",
            "auth",
        ),
        (
            "resource: https://g, issuers: { idp: { issuer: https://idp.example } }".to_owned(),
            "OST0203",
            "auth.issuers.idp",
        ),
        (
            "resource: https://g, issuers: { idp: { jwks_url: https://idp.example/ } }".to_owned(),
            "OST0203",
            "auth.issuers.idp",
        ),
        (
            "resource: https://g, issuers: { idp: { issuer: https://i, jwks_url: http://idp.example/ } }"
                .to_owned(),
            "OST0306",
            "auth.issuers.idp.jwks_url",
        ),
        (
            "resource: https://g, issuers: { idp: { issuer: idp.example, jwks_url: https://i/ } }".to_owned(),
            "OST0306",
            "auth.issuers.idp.issuer",
        ),
        ("resource: http://gateway.example".to_owned(), "OST0306", "auth.resource"),
        ("resource: https://gateway.example/prefix".to_owned(), "OST0306", "auth.resource"),
    ] {
        let report = refused(with(&auth));
        assert_eq!(codes(&report.diagnostics)[..1], [code], "{auth}: {report}");
        assert_eq!(report.diagnostics[0].path, path, "{auth}");
    }
}

#[test]
fn a_key_that_was_written_out_is_refused_and_not_shown() {
    for key in ["hunter2hunter2", "sha256:hunter2", "sha256:HUNTER2", "Bearer hunter2"] {
        let report = refused(with(&format!("api_keys: {{ ci: {{ key: '{key}' }} }}")));
        assert_eq!(codes(&report.diagnostics), ["OST0334"], "{report}");
        assert!(!format!("{report}{report:?}").to_lowercase().contains("hunter2"), "{report}");
    }
    let before = accepted(&with(&format!("api_keys: {{ ci: {{ key: '{DIGEST}' }} }}")));
    let shown = render::changes(&diff(&before, &accepted(&with("api_keys: { ci: { key: '${file:/k}' } }"))));
    assert!(!shown.contains("2bb80d53") && shown.contains("file:/k"), "{shown}");
}

#[test]
fn a_listener_on_the_network_says_who_may_use_it() {
    let listener = "listeners: { team: { address: '0.0.0.0:7410', tls: { certificate: '${file:/c}', key: '${file:/k}' } } }\n";
    let open = refused(format!("{UPSTREAMS}{listener}"));
    assert_eq!(codes(&open.diagnostics), ["OST0331"]);
    assert_eq!(open.diagnostics[0].path, "listeners.team");
    let refused_still = refused(format!("{}{listener}", with("accept: [none]")));
    assert_eq!(codes(&refused_still.diagnostics), ["OST0331"], "said of all listeners is said of none");
    for auth in [
        format!("api_keys: {{ ci: {{ key: '{DIGEST}' }} }}"),
        "listeners: { team: { accept: [none] } }".to_owned(),
    ] {
        accepted(&format!("{}{listener}", with(&auth)));
    }
}

#[test]
fn a_bundle_keeps_out_whom_its_mounts_keep_out() {
    let key = format!("api_keys: {{ ci: {{ key: '{DIGEST}' }} }}, {ISSUER}");
    let bundle = "bundles: { all: { mounts: [a, b] } }\n";
    for mounts in [
        "a: { scopes: [r] }",
        "a: { accept: [idp] }",
        "a: { accept: [idp] }, all: { accept: [idp, api_keys] }",
        "a: { accept: [idp] }, all: { accept: [none] }",
        "a: { scopes: [r, w] }, all: { scopes: [r] }",
    ] {
        let report = refused(format!("{}{bundle}", with(&format!("{key}, mounts: {{ {mounts} }}"))));
        assert_eq!(codes(&report.diagnostics), ["OST0338"], "{mounts}: {report}");
        assert_eq!(report.diagnostics[0].path, "bundles.all");
    }
    for mounts in [
        "a: { accept: [none] }",
        "a: { accept: [idp] }, all: { accept: [idp] }",
        "a: { scopes: [r] }, b: { scopes: [w] }, all: { scopes: [r, w, x] }",
    ] {
        accepted(&format!("{}{bundle}", with(&format!("{key}, mounts: {{ {mounts} }}"))));
    }
}

#[test]
fn only_what_no_model_can_set_names_a_caller() {
    for source in [
        "client_info",
        "arguments",
        "{ header: authorization }",
        "{ header: x-forwarded-for }",
        "{ claim: '' }",
        "{ argument: user }",
        "{ claim: a, header: x-b }",
        "{ header: 'x a' }",
    ] {
        let report = refused(format!("{UPSTREAMS}identity: {{ sources: [{source}] }}\n"));
        assert_eq!(codes(&report.diagnostics), ["OST0339"], "{source}: {report}");
    }
    assert_eq!(
        codes(&found(format!("{UPSTREAMS}identity: {{ sources: [session, session] }}\n"))),
        ["OST0339"]
    );
    assert_eq!(codes(&found(format!("{UPSTREAMS}identity: {{ on_unresolved: allow }}\n"))), ["OST0205"]);
}

#[test]
fn keys_are_found_by_the_digest_behind_their_reference() {
    let text = with("api_keys: { ci: { key: '${file:/k}', mounts: [a] } }");
    let compiled = compiled(&text, DIGEST, Unresolved::Refuse).unwrap();
    let key = compiled.auth.keys.values().next().unwrap();
    assert_eq!((key.name.as_str(), key.mounts.as_ref().unwrap().len()), ("ci", 1));
    let digest = DIGEST.strip_prefix("sha256:").unwrap().parse().unwrap();
    assert!(compiled.auth.keys.contains_key(&digest));
}

#[test]
fn a_key_without_a_usable_digest_refuses_a_candidate_and_lets_nobody_in_of_the_last_known_good() {
    let two = with(&format!("api_keys: {{ ci: {{ key: '${{K}}' }}, other: {{ key: '{DIGEST}' }} }}"));
    for (value, text) in [
        ("hunter2", two.clone()),
        (DIGEST, two.replace("${K}", "${UNSET}")),
        // The key of one is the key of the other.
        (DIGEST, two.clone()),
    ] {
        let report = compiled(&text, value, Unresolved::Refuse).unwrap_err();
        assert_eq!(report.diagnostics.len(), 1, "{report}");
        assert!(!format!("{report}{report:?}").contains("hunter2"));
        let kept = compiled(&text, value, Unresolved::MarkDown).unwrap();
        assert_eq!(kept.auth.keys.len(), 1);
        assert_eq!(kept.auth.accept, Accept { api_keys: true, ..Accept::default() }, "the door stays shut");
    }
}

#[test]
fn a_part_of_another_name_is_none() {
    let mut parts = accepted(&with("accept: [none]")).parts().to_vec();
    parts[0].name = "other".to_owned();
    let report = judge_parts(&parts).unwrap_err();
    assert_eq!(codes(&report.diagnostics), ["OST0504"]);
    assert!(judge_text(with("accept: [none]").as_bytes()).is_ok());
}
