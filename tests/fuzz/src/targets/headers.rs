//! What stands in the head of a request. The input is lines: host, origin, `MCP-Protocol-Version`, `Mcp-Method`,
//! `Mcp-Name`, a session id; then the body.
//!
//! - A request that passes the guard names exactly one host, a loopback one or one that was allowed, to an independent
//!   reader too; and no page but one of these.
//! - Mirrored headers that are accepted say what the body says, and a modern request that is accepted has them.
//! - Values of headers survive their encoding, which any header carries.
//! - A session id can stand in a header as it is. A known version is its own name.

use std::net::IpAddr;

use http::HeaderValue;
use http::uri::Authority;
use ostler_core::guard::HostGuard;
use ostler_core::limits::SESSION_ID_BYTES_MAX;
use ostler_mcp::era::{Era, Revision};
use ostler_mcp::headers::{Mirrored, decode_value, encode_value, is_session_id};
use ostler_mcp::{Envelope, Kind, method};

const ALLOWED: [&str; 2] = ["gateway.example", "10.1.2.3"];

pub(super) fn run(input: &[u8]) {
    let mut lines = input.splitn(7, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (host, origin) = (line(), line());
    is_guarded(host, origin);
    let (version, method, name) = (text(line()), text(line()), text(line()));
    session_ids_stand_in_headers(line());
    for value in [version, method, name].into_iter().flatten() {
        survives_encoding(value);
        is_placed_in_time(value);
    }
    if let Ok(envelope) = Envelope::scan(line()) {
        let mirrored = Mirrored { protocol_version: version, method, name };
        mirrors(&mirrored, &envelope);
    }
}

/// A line as the text of a header; an empty one stands for a header that is absent.
fn text(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok().filter(|line| !line.is_empty() && HeaderValue::from_str(line).is_ok())
}

fn is_guarded(host: &[u8], origin: &[u8]) {
    let own = "192.0.2.7:7400".parse().expect("an address");
    let guard = HostGuard::for_listener(own, &ALLOWED.map(str::to_owned));
    let hosts: Vec<_> = host.split(|byte| *byte == b',').filter(|host| !host.is_empty()).collect();
    let origins: Vec<_> = origin.split(|byte| *byte == b',').filter(|origin| !origin.is_empty()).collect();
    let is_ours = |name: &str| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        ALLOWED.iter().chain(&["localhost", "192.0.2.7"]).any(|known| known.eq_ignore_ascii_case(bare))
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let read = |authority: &str| authority.parse::<Authority>().ok();
    if guard.check_request(None, hosts.iter().copied(), origins.iter().copied()).is_ok() {
        let [host] = *hosts else { panic!("{} hosts passed", hosts.len()) };
        let host = std::str::from_utf8(host).expect("a host is text");
        // What the other reader cannot read, it cannot be led astray by.
        assert!(read(host).is_none_or(|authority| is_ours(authority.host())), "{host:?} passed");
        for origin in &origins {
            let origin = std::str::from_utf8(origin).expect("an origin is text");
            let uri: Result<http::Uri, _> = origin.parse();
            assert!(uri.is_ok_and(|uri| uri.host().is_some_and(is_ours)), "{origin:?} passed");
        }
        assert!(origins.len() <= 1, "{} origins passed", origins.len());
    }
    if let [first, second, ..] = *hosts
        && let Ok(authority) = std::str::from_utf8(first)
    {
        let passed = guard.check_request(Some(authority), [second], []).is_ok();
        assert!(!passed || first.eq_ignore_ascii_case(second), "two hosts passed");
    }
    // Behind an open listener a page is still a stranger.
    if HostGuard::open().check_request(None, hosts.iter().copied(), origins.iter().copied()).is_ok() {
        let local = |origin: &&[u8]| {
            let text = std::str::from_utf8(origin).unwrap_or_default();
            text.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(is_ours))
        };
        assert!(origins.iter().all(local), "{origins:?} passed an open listener");
    }
}

fn survives_encoding(value: &str) {
    let encoded = encode_value(value);
    let header = HeaderValue::from_str(&encoded).expect("an encoded value is a header's value");
    assert!(header.to_str().is_ok(), "an encoded value is visible ASCII");
    assert_eq!(decode_value(&encoded).as_deref(), Ok(value));
    if let Ok(decoded) = decode_value(value) {
        assert_eq!(decode_value(&encode_value(&decoded)).as_deref(), Ok(&*decoded));
    }
}

fn is_placed_in_time(version: &str) {
    if let Some(revision) = Revision::parse(version) {
        assert_eq!(revision.as_str(), version);
        assert_eq!(revision.era(), Era::of_version(version));
    }
    if Era::of_version(version) == Era::Modern {
        assert!(version >= Revision::V2026_07_28.as_str() && version.len() == 10, "{version:?}");
    }
}

fn session_ids_stand_in_headers(id: &[u8]) {
    if is_session_id(id) {
        assert!(!id.is_empty() && id.len() <= SESSION_ID_BYTES_MAX);
        let header = HeaderValue::from_bytes(id).expect("a session id is a header's value");
        let text = header.to_str().expect("a session id is visible ASCII");
        assert_eq!(text.trim(), text);
    }
}

fn mirrors(mirrored: &Mirrored<'_>, envelope: &Envelope<'_>) {
    let trim = |value: &str| value.trim_matches([' ', '\t']).to_owned();
    for era in [Era::Legacy, Era::Modern, Era::of_request(envelope, mirrored.protocol_version)] {
        if mirrored.check(envelope, era).is_err() {
            continue;
        }
        let owed = era == Era::Modern && envelope.kind == Kind::Request;
        if let Some(method) = mirrored.method {
            assert_eq!(trim(method), *envelope.method);
        }
        assert!(!owed || mirrored.method.is_some(), "a modern request without Mcp-Method passed");
        if let (Some(header), Some(body)) = (mirrored.protocol_version, &envelope.meta.protocol_version) {
            assert_eq!(trim(header), **body);
        }
        if method::target(&envelope.method).is_some()
            && let Some(name) = mirrored.name
        {
            assert_eq!(decode_value(name).ok().as_deref(), envelope.target());
        }
        let named = method::has_name_header(&envelope.method) && envelope.target().is_some();
        assert!(!(owed && named) || mirrored.name.is_some(), "a modern call without Mcp-Name passed");
    }
}
