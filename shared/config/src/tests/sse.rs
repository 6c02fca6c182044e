//! Upstreams over HTTP+SSE: judged like others with a URL, and asked for of data planes that know them.

use crate::validated::UpstreamTransport;
use crate::{judge_parts, judge_text};

fn text(upstream: &str) -> String {
    format!("version: 1\nupstreams: {{ up: {upstream} }}\n")
}

#[test]
fn an_upstream_may_be_reached_over_http_sse_and_is_the_same_from_its_parts() {
    let judged = judge_text(text("{ sse: { url: 'https://x/sse' }, headers: { A: '${B}' } }").as_bytes());
    let config = judged.unwrap().config;
    let upstream = config.upstreams().values().next().unwrap();
    assert!(matches!(&upstream.transport, UpstreamTransport::Sse(sse) if sse.headers.len() == 1));
    let again = judge_parts(config.parts()).unwrap();
    assert_eq!(again.config, config);
    assert_eq!(again.config.upstreams(), config.upstreams());
}

#[test]
fn only_a_config_that_has_one_asks_for_the_capability() {
    let needed = |upstream: &str| {
        let config = judge_text(text(upstream).as_bytes()).unwrap().config;
        config.parts().iter().filter_map(crate::Part::capability).collect::<Vec<_>>()
    };
    assert_eq!(needed("{ sse: { url: 'https://x/sse' } }"), ["sse.v1"]);
    assert!(needed("{ http: { url: 'https://x/sse' } }").is_empty());
}

#[test]
fn two_transports_are_one_too_many_and_a_bad_url_is_said_where_it_stands() {
    let said = |upstream: &str| {
        let diagnostics = judge_text(text(upstream).as_bytes()).unwrap_err();
        format!("{diagnostics:?}")
    };
    let both = said("{ http: { url: 'https://x/' }, sse: { url: 'https://x/' } }");
    assert!(both.contains("the upstream has both `http` and `sse`"), "{both}");
    let all = said("{ http: { url: 'https://x/' }, sse: { url: 'https://x/' }, stdio: { command: x } }");
    assert!(all.contains("the upstream has `http`, `sse`, `stdio`"), "{all}");
    let bad = said("{ sse: { url: 'ftp://x/' } }");
    assert!(bad.contains("upstreams.up.sse.url"), "{bad}");
}
