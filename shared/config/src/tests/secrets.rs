//! A secret, literal or resolved, appears nowhere but where it is used.

use super::{accepted, found, refused};
use crate::compile::{GlobList, Host, Lookup, Unresolved};
use crate::{Report, compile, diff, render};

const CANARY: &str = "hunter2";

struct CanaryLookup;

impl Lookup for CanaryLookup {
    fn env(&self, _: &str) -> Option<String> {
        Some(CANARY.to_owned())
    }
    fn file(&self, _: &str) -> std::io::Result<String> {
        Ok(format!("{CANARY}\r\n{CANARY}"))
    }
}

/// Every place in which a secret may stand, with a literal one.
const LITERAL: &str = "
version: 1
upstreams:
  a:
    http: { url: 'https://a.example/?token=hunter2' }
    headers:
      Authorization: Bearer hunter2
      X-Api-Key: >-
        hunter2
      Cookie: ${SESSION:-hunter2}
  b:
    stdio:
      command: npx
      args: [--api-key, hunter2, --token=hunter2]
      env: { GITHUB_TOKEN: hunter2, DB_PASSWORD: 'x-hunter2' }
";

#[test]
fn a_literal_secret_is_warned_about_and_not_shown() {
    let judged = crate::judge_text(LITERAL.as_bytes()).unwrap();
    let report = Report { diagnostics: judged.warnings.clone() };
    assert_eq!(report.diagnostics.iter().filter(|d| d.name == "literal_secret").count(), 8, "{report}");
    let without = accepted("version: 1\n");
    for shown in [
        format!("{judged:?}"),
        format!("{report}{report:?}{}", serde_json::to_string(&report).unwrap()),
        format!("{:?}", diff(&without, &judged.config)),
        render::changes(&diff(&judged.config, &without)),
        format!("{:?}", judged.config.upstreams()),
    ] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn a_literal_secret_is_not_shown_by_a_mistake_beside_it() {
    for text in [
        "version: 1\nupstream: { http: { url: http://a/ }, headers: { Authorization: Bearer hunter2, Host: x } }\n",
        "version: 1\nupstream: { stdio: { command: '', env: { A_TOKEN: \"hunter2\" }, args: [--token, hunter2, 5] } }\n",
        "version: 1\nupstream: { http: { url: 'http://me:hunter2@h/' } }\n",
        "version: 1\nupstream: { http: { url: http://a/, password: hunter2 } }\n",
        "version: 1\nupstream: { stdio: { command: x, env: { A_TOKEN: ${hunter2 } }\n",
        "version: 1\nupstream:\n  headers:\n    Authorization: Bearer hunter2: x\n",
        "{\"version\": 1, \"upstream\": {\"headers\": {\"Authorization\": \"Bearer hunter2\", \"X\": \"y\"} \"http\": 1}}",
        "version: 1\nupstream: { http: { url: http://a/ }, headers: { Authorization: \"hunter2\\n\" } }\n",
        "version: 1\nupstream: { stdio: { command: x, env: { A_TOKEN: $hunter2 } } }\n",
        "version: 1\nupstream: { stdio: { command: x, env: { A_TOKEN: '${hunter2' } } }\n",
        "version: 1\nupstreams: [{ api_key: hunter2 }]\n",
        "{\"version\": 1, \"upstream\": {\"headers\": {\"Authorization\": [\"Bearer hunter2\"]}}}",
        "version: 1\nupstream:\n  headers:\n    Authorization:\n      - Bearer hunter2\n",
        "version: 1\nupstream: { headers: { Authorization: [Bearer hunter2, x }\n",
    ] {
        let report = refused(text);
        let shown = format!("{report}{report:?}");
        assert!(!shown.contains(CANARY), "{text}\n{shown}");
    }
}

#[test]
fn a_piece_of_a_long_line_does_not_show_what_is_secret_only_by_what_stands_before_it() {
    for padding in (0..600).step_by(7) {
        // Broken, so that no place in it is known.
        let text = format!(
            "{{\"version\": 1, \"a_token\": \"{}hunter2{}\" \"x\"",
            "y".repeat(padding),
            "z".repeat(90)
        );
        let report = refused(&text);
        let shown = format!("{report}{report:?}");
        assert!(!shown.contains(CANARY), "{padding}\n{shown}");
    }
}

#[test]
fn a_resolved_secret_is_not_shown() {
    let text = "
version: 1
upstreams:
  a:
    http: { url: 'https://${HOST}/${PATH_PART}?x=${X}' }
    headers: { Authorization: 'Bearer ${TOKEN}', X-Plain: '${PLAIN}' }
  o:
    http: { url: 'https://o/' }
    oauth: { url: 'https://idp/token', client_id: '${ID}', client_secret: '${file:/secret}' }
  b:
    stdio: { command: npx, args: ['${ARG}'], env: { PLAIN: '${TOKEN}' } }
listeners:
  l: { address: '127.0.0.1:1', tls: { certificate: '${file:/c}', key: '${file:/k}' } }
";
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: None,
        lookup: &CanaryLookup,
        unresolved: Unresolved::Refuse,
    };
    let compiled = compile(&accepted(text), &host).unwrap();
    let shown = format!("{compiled:?}{compiled:#?}");
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_resolved_secret_is_not_shown_when_it_cannot_be_used() {
    let text = "
version: 1
upstreams:
  a:
    http: { url: '${file:/url}' }
    headers: { Authorization: 'Bearer ${file:/token}' }
";
    let any = GlobList::any();
    for unresolved in [Unresolved::Refuse, Unresolved::MarkDown] {
        let host = Host {
            allow_command: &any,
            allow_ref: &any,
            allow_listen: &any,
            listen: None,
            lookup: &CanaryLookup,
            unresolved,
        };
        let outcome = compile(&accepted(text), &host);
        assert_eq!(outcome.is_err(), unresolved == Unresolved::Refuse);
        let shown = format!("{outcome:?}");
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn a_reference_is_no_literal_secret() {
    let text = "version: 1\nupstream: { http: { url: http://a/ }, headers: { Authorization: 'Basic ${U}:${P}', Cookie: '${file:/c}' } }\n";
    assert_eq!(found(text), []);
}
