//! Every code can be given, and its text is as it should be. The match below has no default: a new code needs a case.

use bytes::Bytes;
use ostler_core::digest::Digest;

use super::{accepted, found};
use crate::compile::{GlobList, Host, Lookup, Unresolved};
use crate::{Code, Diagnostic, Part, PartKind, compile, judge_parts, locate, render};

#[test]
fn each_code_is_given_by_a_document_and_looks_as_it_should() {
    for code in Code::all() {
        let shown: Vec<_> =
            example(*code).into_iter().filter(|diagnostic| diagnostic.is(*code)).take(1).collect();
        assert_eq!(shown.len(), 1, "{code} was not given");
        let text = render::findings(&shown, "ostler.yaml");
        insta::assert_snapshot!(format!("{}_{}", code.id(), code.name()), text);
    }
}

#[test]
fn numbers_and_names_are_unique_and_texts_are_there() {
    let mut ids: Vec<_> = Code::all().iter().map(|code| code.id()).collect();
    let mut names: Vec<_> = Code::all().iter().map(|code| code.name()).collect();
    assert!(ids.is_sorted(), "codes are listed in the order of their numbers");
    ids.dedup();
    names.sort_unstable();
    names.dedup();
    assert_eq!((ids.len(), names.len()), (Code::all().len(), Code::all().len()));
    for code in Code::all() {
        assert!(!code.explanation().is_empty() && !code.remedy().is_empty());
        assert_eq!(Code::from_id(code.id()), Some(*code));
    }
}

fn example(code: Code) -> Vec<Diagnostic> {
    match code {
        Code::Syntax => found("version: 1\nupstreams:\n  a: { http: { url: http://a/ }\nmounts: {}\n"),
        Code::NotUtf8 => found(b"version: 1\n# caf\xe9\n"),
        Code::TooLarge => found(vec![b' '; 17 * 1024 * 1024]),
        Code::TooDeep => found(format!("version: 1\nmounts: {}", "[".repeat(70))),
        Code::TooManyNodes => {
            let tens = |name: &str| vec![format!("*{name}"); 100].join(", ");
            let one = vec!["1"; 100].join(", ");
            found(format!(
                "a: &a [{one}]\nb: &b [{}]\nc: &c [{}]\nd: &d [{}]\n",
                tens("a"),
                tens("b"),
                tens("c")
            ))
        }
        Code::EmptyDocument => found("# nothing yet\n"),
        Code::SeveralDocuments => found("version: 1\n---\nversion: 1\n"),
        Code::DuplicateKey => found("version: 1\nmounts: {}\nmounts: {}\n"),
        Code::MergeKey => {
            found("version: 1\nupstreams:\n  a: &a { http: { url: http://a/ } }\n  b:\n    <<: *a\n")
        }
        Code::CustomTag => found("version: 1\nupstreams: !include upstreams.yaml\n"),
        Code::BadAlias => found("version: 1\nupstreams: &all\n  a: *all\n"),
        Code::BadKey => found("version: 1\n? [a, b]\n: 1\n"),
        Code::MoreDiagnostics => found((0..300).map(|index| format!("key{index}: 1\n")).collect::<String>()),
        Code::UnknownKey => found("version: 1\nupstreems: {}\n"),
        Code::WrongType => http("    mount: no\n"),
        Code::MissingKey => found("upstreams: {}\n"),
        Code::UnsupportedVersion => found("version: 3\n"),
        Code::UnknownValue => http("    protocol: 2025-06-17\n"),
        Code::BadDuration => http("    timeouts: { connect: 5 }\n"),
        Code::OutOfRange => http("    limits: { in_flight: 100000 }\n"),
        Code::BadReference => http("    headers: { Authorization: 'Bearer ${TOKEN' }\n"),
        Code::ReferenceNotAllowed => found("version: 1\nupstream: { stdio: { command: '${SHELL}' } }\n"),
        Code::BadName => found("version: 1\nupstreams:\n  My Files: { stdio: { command: npx } }\n"),
        Code::NameConflict => found(
            "version: 1\nupstream: { stdio: { command: npx } }\nmounts:\n  default: { upstream: default }\n",
        ),
        Code::UnknownUpstream => {
            found("version: 1\nupstream: { stdio: { command: npx } }\nmounts:\n  a: { upstream: defualt }\n")
        }
        Code::UnknownMount => {
            found("version: 1\nupstreams: { a: { stdio: { command: npx } } }\ndefault_mount: b\n")
        }
        Code::TransportChoice => found("version: 1\nupstreams:\n  a: { protocol: auto }\n"),
        Code::BadUrl => found("version: 1\nupstream: { http: { url: 'https://me:hunter2@a.example/' } }\n"),
        Code::BadHeaderName => http("    headers: { 'X Team': a }\n"),
        Code::BadHeaderValue => http("    headers: { X-Team: \"a\\r\\nb\" }\n"),
        Code::ReservedHeader => http("    headers: { Mcp-Session-Id: a }\n"),
        Code::DuplicateHeader => http("    headers: { X-Team: a, x-team: b }\n"),
        Code::HeadersOnStdio => {
            found("version: 1\nupstreams:\n  a:\n    stdio: { command: npx }\n    headers: { X-A: b }\n")
        }
        Code::BadEnvName => found("version: 1\nupstream: { stdio: { command: npx, env: { 'A=B': c } } }\n"),
        Code::BadProcessValue => found("version: 1\nupstream: { stdio: { command: npx -y server } }\n"),
        Code::UpstreamTwice => found(
            "version: 1\nupstream: { stdio: { command: npx } }\nupstreams:\n  default: { stdio: { command: npx } }\n",
        ),
        Code::WarmNeedsMount => found("version: 1\nupstream: { stdio: { command: npx, warm: true } }\n"),
        Code::BadAddress => listener("address: 'localhost:7410'"),
        Code::AddressConflict => found(
            "version: 1\nlisteners:\n  a: { address: '127.0.0.1:7410' }\n  b: { address: '127.0.0.1:7410' }\n",
        ),
        Code::ListenerNeedsTls => listener("address: '0.0.0.0:7410'"),
        Code::NotFileReference => {
            listener("address: '127.0.0.1:7410', tls: { certificate: '${file:/c}', key: hunter2 }")
        }
        Code::BadHost => listener("address: '127.0.0.1:7410', allowed_hosts: ['https://gateway.example']"),
        Code::LiteralSecret => http("    headers: { Authorization: Bearer hunter2 }\n"),
        Code::NoUpstream => found("version: 1\n"),
        Code::UnmountedUpstream => http("    mount: false\n"),
        Code::MountTwice => http("bundles: { both: { mounts: [a, a] } }\n"),
        Code::NeverMatches => {
            http("policy:\n  rules:\n    - { match: { environment: staging }, action: deny }\n")
        }
        Code::RuleTwice => http(
            "policy:\n  rules:\n    - { name: a, match: { tool: x }, action: deny }\n    - { name: a, match: { tool: y }, action: deny }\n",
        ),
        Code::BadExpression => {
            http("policy:\n  rules:\n    - { match: { when: 'tool = \"x\"' }, action: deny }\n")
        }
        Code::ListenerNeedsAuth => {
            listener("address: '0.0.0.0:7410', tls: { certificate: '${file:/c}', key: '${file:/k}' }")
        }
        Code::UnknownListener => auth("listeners: { tema: { accept: [none] } }"),
        Code::UnknownCredential => auth("accept: [corporate]"),
        Code::BadKeyDigest => auth("api_keys: { ci: { key: hunter2 } }"),
        Code::BadKeySet => auth(
            "resource: https://gateway.example, issuers: { idp: { issuer: https://idp.example, jwks: hunter2 } }",
        ),
        Code::BadScope => auth("mounts: { a: { scopes: ['read write'] } }"),
        Code::ScopesOfNobody => auth("mounts: { a: { accept: [none], scopes: [read] } }"),
        Code::WeakBundle => {
            http("bundles: { all: { mounts: [a] } }\nauth: { mounts: { a: { scopes: [read] } } }\n")
        }
        Code::BadIdentitySource => http("identity: { sources: [client_info] }\n"),
        Code::NotAllowedHere => {
            compiled("version: 1\nupstream: { stdio: { command: npx } }\n", GlobList::none())
        }
        Code::UnresolvedReference => {
            compiled("version: 1\nupstream:\n  http: { url: 'https://${HOST}/' }\n", GlobList::any())
        }
        Code::BadResolvedValue => compiled(
            "version: 1\nupstream:\n  http: { url: http://a/ }\n  headers: { X-Team: '${TWO_LINES}' }\n",
            GlobList::any(),
        ),
        Code::ListenerUnbindable => unbindable_listener(),
        Code::OpenToNetwork => open_to_network(),
        Code::PartDigest => judged(vec![
            settings(),
            Part { sha256: Digest::of(b"other"), ..part(PartKind::Mount, "m", "{}") },
        ]),
        Code::PartTwice => judged(vec![settings(), settings()]),
        Code::PartKindUnknown => judged(vec![settings(), part(PartKind::from_wire("filter"), "p", "{}")]),
        Code::PartMissing => judged(vec![]),
        Code::TooManyParts => judged(vec![settings(); 40_000]),
    }
}

fn http(rest: &str) -> Vec<Diagnostic> {
    found(format!("version: 1\nupstreams:\n  a:\n    http: {{ url: http://a/ }}\n{rest}"))
}

fn auth(inside: &str) -> Vec<Diagnostic> {
    http(&format!("auth: {{ {inside} }}\n"))
}

fn listener(inside: &str) -> Vec<Diagnostic> {
    found(format!("version: 1\nlisteners:\n  team: {{ {inside} }}\n"))
}

fn unbindable_listener() -> Vec<Diagnostic> {
    let text = "version: 1\nlisteners:\n  team: { address: '127.0.0.1:7410' }\n";
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: None,
        lookup: &Env,
        unresolved: Unresolved::Refuse,
    };
    let compiled = compile(&accepted(text), &host).unwrap();
    let remedy = "stop the program that has the port, or choose another";
    let mut found = vec![crate::unbindable(&compiled.listeners["team"], "the port is taken", remedy)];
    locate(text.as_bytes(), &mut found);
    found
}

fn open_to_network() -> Vec<Diagnostic> {
    let text = "version: 1\nupstream: { http: { url: http://a/ } }\nauth:\n  accept: [none]\n";
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: Some("0.0.0.0:7400".parse().unwrap()),
        lookup: &Env,
        unresolved: Unresolved::Refuse,
    };
    let mut found = compile(&accepted(text), &host).unwrap_err().diagnostics;
    locate(text.as_bytes(), &mut found);
    found
}

fn judged(parts: Vec<Part>) -> Vec<Diagnostic> {
    judge_parts(&parts).unwrap_err().diagnostics
}

fn settings() -> Part {
    part(PartKind::Settings, "settings", "{\"version\":1}")
}

fn part(kind: PartKind, name: &str, text: &str) -> Part {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Part { kind, name: name.to_owned(), sha256: Digest::of(&bytes), bytes }
}

fn compiled(text: &str, allow_command: GlobList) -> Vec<Diagnostic> {
    let allow_ref = GlobList::any();
    let host = Host {
        allow_command: &allow_command,
        allow_ref: &allow_ref,
        allow_listen: &allow_ref,
        listen: None,
        lookup: &Env,
        unresolved: Unresolved::Refuse,
    };
    let mut diagnostics = compile(&accepted(text), &host).unwrap_err().diagnostics;
    locate(text.as_bytes(), &mut diagnostics);
    diagnostics
}

struct Env;
impl Lookup for Env {
    fn env(&self, name: &str) -> Option<String> {
        (name == "TWO_LINES").then(|| "hunter2\nhunter3".to_owned())
    }
    fn file(&self, _: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
