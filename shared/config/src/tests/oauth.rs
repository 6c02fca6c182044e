//! The data plane's own token for an upstream, as config says how to get it.

use super::{accepted, codes, refused};
use crate::validated::UpstreamTransport;
use crate::{Part, diff, judge_parts, judge_text, render};

const CLIENT: &str = "url: 'https://idp/token', client_id: ostler, client_secret: '${file:/secret}'";

fn text(upstream: &str) -> String {
    format!("version: 1\nupstreams: {{ up: {{ {upstream} }} }}\n")
}

fn http(oauth: &str) -> String {
    text(&format!("http: {{ url: 'https://up/mcp' }}, oauth: {{ {oauth} }}"))
}

#[test]
fn a_client_is_the_same_from_its_parts_and_asks_for_the_capability() {
    let config = accepted(&http(&format!("{CLIENT}, scopes: [write, read], resource: 'https://up/mcp'")));
    let upstream = config.upstreams().values().next().unwrap();
    let UpstreamTransport::Http(http) = &upstream.transport else { panic!("{upstream:?}") };
    assert_eq!(http.oauth.as_ref().unwrap().scopes.iter().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(upstream.references().count(), 1, "it is resolved, allowed and watched like any other");
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!((again.upstreams(), again.digest()), (config.upstreams(), config.digest()));
    assert_eq!(config.parts().iter().filter_map(Part::capability).collect::<Vec<_>>(), ["oauth.v1"]);
    let sse = accepted(&text(&format!("sse: {{ url: 'https://up/sse' }}, oauth: {{ {CLIENT} }}")));
    assert_eq!(sse.parts().iter().filter_map(Part::capability).collect::<Vec<_>>(), ["oauth.v1"]);
}

#[test]
fn what_cannot_work_is_refused_with_its_place() {
    for (upstream, code) in [
        (http("url: 'https://idp/token', client_id: ostler"), "OST0203"),
        (http(&CLIENT.replace("https", "http")), "OST0306"),
        (http(&CLIENT.replace("https://idp", "https://${IDP}")), "OST0209"),
        (http(&format!("{CLIENT}, scopes: ['read write']")), "OST0336"),
        (http(&format!("{CLIENT}, audience: x")), "OST0201"),
        (text(&format!("stdio: {{ command: x }}, oauth: {{ {CLIENT} }}")), "OST0311"),
        (
            text(&format!(
                "http: {{ url: 'https://up/' }}, headers: {{ authorization: '${{A}}' }}, oauth: {{ {CLIENT} }}"
            )),
            "OST0310",
        ),
    ] {
        let report = refused(&upstream);
        assert_eq!(codes(&report.diagnostics), [code], "{upstream}: {report}");
    }
}

#[test]
fn a_secret_that_is_written_out_is_a_warning_and_shown_nowhere() {
    let literal = http(&CLIENT.replace("${file:/secret}", "hunter2"));
    let judged = judge_text(literal.as_bytes()).unwrap();
    assert_eq!(judged.warnings.len(), 1, "{:?}", judged.warnings);
    let shown = render::changes(&diff(&accepted(&http(CLIENT)), &judged.config));
    assert!(!shown.contains("hunter2") && shown.contains("client_secret"), "{shown}");
}
