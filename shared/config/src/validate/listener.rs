//! One listener: where it listens, with which certificate, for whom. Whether two of them claim one address is judged here
//! too; whether a host may be listened on at all is the data plane's to say.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ostler_core::limits;
use ostler_core::name::ResourceName;

use crate::codes::Code;
use crate::located::Located;
use crate::node::NodeId;
use crate::raw::{RawListener, RawListenerTls};
use crate::reference::{Segment, Source, Template};
use crate::reporter::Reporter;
use crate::validated::{Listener, ListenerTls};

use super::values;

/// What the listener of `--listen` is called.
pub(crate) const BOOTSTRAP: &str = "mcp";
/// What the process's own listeners are called on gauges and in its state folder.
const TAKEN: [&str; 3] = ["admin", BOOTSTRAP, "metrics"];

/// A listener without its mounts, which only the whole document knows. Nothing if its address could not be understood. `at` is its name.
pub(super) fn validate(
    raw: RawListener,
    name: &ResourceName,
    at: NodeId,
    reporter: &Reporter<'_>,
) -> Option<(Listener, NodeId)> {
    if TAKEN.contains(&name.as_str()) {
        let message = format!("`{name}` is what the data plane calls one of its own listeners");
        reporter.report(Code::BadName, at, message, "choose another name");
    }
    let has_tls = raw.tls.is_some();
    let tls = raw.tls.and_then(|tls| self::tls(tls, reporter));
    let allowed_hosts = raw.allowed_hosts.map(|hosts| self::hosts(hosts, reporter)).unwrap_or_default();
    let Some(found) = raw.address else {
        let help = "write the IP address and the port, such as `address: 127.0.0.1:7410`";
        reporter.report(Code::MissingKey, at, "the required key `address` is missing", help);
        return None;
    };
    let address = address(found.at, &found.value?, reporter)?;
    if !has_tls && !address.ip().is_loopback() {
        let message = format!("the listener would be open to the network on {address} without encryption");
        let help = "add `tls: { certificate: \"${file:/path}\", key: \"${file:/path}\" }`, or use a loopback address";
        reporter.report(Code::ListenerNeedsTls, found.at, message, help);
    }
    Some((Listener { name: name.clone(), address, tls, allowed_hosts, mounts: None }, found.at))
}

/// Reports every listener whose address is already claimed by one before it.
pub(super) fn conflicts<'a>(
    listeners: impl Iterator<Item = &'a (Listener, NodeId)>,
    reporter: &Reporter<'_>,
) {
    let mut before: Vec<&Listener> = Vec::new();
    for (listener, at) in listeners {
        if let Some(other) = before.iter().find(|other| overlap(other.address, listener.address)) {
            let message = if other.address == listener.address {
                format!("the listener `{}` already has the address {}", other.name, other.address)
            } else {
                format!(
                    "{} overlaps with {} of the listener `{}`",
                    listener.address, other.address, other.name
                )
            };
            reporter.report(Code::AddressConflict, *at, message, "give one of the two another port");
        }
        before.push(listener);
    }
}

/// Whether a connection to the one could be meant for the other. `[::]` has the IPv4 addresses too.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(ip) => ip.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(ip) => ip == Ipv6Addr::UNSPECIFIED,
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

fn address(at: NodeId, text: &str, reporter: &Reporter<'_>) -> Option<SocketAddr> {
    if !values::fixed(at, text, "an address", reporter) {
        return None;
    }
    let (message, help) = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => (
            "port 0 would be another port at each start".to_owned(),
            "choose a port from 1 to 65535".to_owned(),
        ),
        Ok(address) if address.ip().is_multicast() => {
            (format!("{} is a multicast address", address.ip()), "use an address of this machine".to_owned())
        }
        Ok(address) => return Some(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Err(_) => (
            format!("`{}` is not an IP address with a port", values::shown(text)),
            suggestion(text).map_or_else(
                || "write the IP address and the port, such as `127.0.0.1:7410` or `[::1]:7410`".to_owned(),
                |better| format!("write `{better}`"),
            ),
        ),
    };
    reporter.report(Code::BadAddress, at, message, help);
    None
}

/// What was probably meant.
fn suggestion(text: &str) -> Option<String> {
    if let Some(port) = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')) {
        return port.parse::<u16>().ok().filter(|port| *port != 0).map(|port| format!("127.0.0.1:{port}"));
    }
    match text.trim_matches(['[', ']']).parse::<IpAddr>().ok()? {
        IpAddr::V4(ip) => Some(format!("{ip}:7410")),
        IpAddr::V6(ip) => Some(format!("[{ip}]:7410")),
    }
}

fn tls(raw: Located<RawListenerTls>, reporter: &Reporter<'_>) -> Option<ListenerTls> {
    let at = raw.at;
    let RawListenerTls { certificate, key } = raw.value?;
    let certificate = file(certificate, "certificate", at, reporter);
    let key = file(key, "key", at, reporter);
    Some(ListenerTls { certificate: certificate?, key: key? })
}

/// A template of one `${file:…}`. What stands there instead may be a private key, and so it is never shown.
fn file(
    found: Option<Located<String>>,
    key: &str,
    owner: NodeId,
    reporter: &Reporter<'_>,
) -> Option<Template> {
    let Some(Located { at, value }) = found else {
        let message = format!("the required key `{key}` is missing");
        reporter.report(Code::MissingKey, owner, message, format!("write `{key}: ${{file:/path}}`"));
        return None;
    };
    let text = value?;
    let template = if text.contains("${") {
        values::template(at, &text, reporter)?
    } else {
        Template::parse("").ok()?
    };
    match template.segments() {
        [Segment::Reference(reference)] if matches!(reference.source, Source::File(_)) => {
            return Some(template);
        }
        _ => {}
    }
    let message = format!("`{key}` is not a reference to one file");
    let help = if text.starts_with('/') && !text.contains(char::is_control) && !text.contains("${") {
        format!("write `${{file:{}}}`", values::shown(&text))
    } else {
        "write `${file:/path}`; if a key was written out here, replace it".to_owned()
    };
    reporter.report(Code::NotFileReference, at, message, help);
    None
}

fn hosts(hosts: Located<Vec<Located<String>>>, reporter: &Reporter<'_>) -> BTreeSet<String> {
    let Some(items) = hosts.value else { return BTreeSet::new() };
    values::count(hosts.at, items.len(), limits::CONFIG_HOSTS_MAX, "host names", reporter);
    let mut out = BTreeSet::new();
    for Located { at, value } in items {
        let Some(text) = value.filter(|text| values::fixed(at, text, "a host name", reporter)) else {
            continue;
        };
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
        let is_name = !bare.is_empty()
            && bare.len() <= 253
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if is_name || bare.parse::<Ipv6Addr>().is_ok() {
            out.insert(bare.to_ascii_lowercase());
            continue;
        }
        let message = format!("`{}` is not a host name", values::shown(&text));
        let help = match text.as_str() {
            "*" => "name each host; answering any of them would let a page of any site in",
            _ => "write the name alone, such as `gateway.example`, without scheme, port and path",
        };
        reporter.report(Code::BadHost, at, message, help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_a_connection_could_be_meant_for_either() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "10.1.2.3:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "0.0.0.0:1"),
            ("[::]:1", "[::1]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in
            [("127.0.0.1:1", "127.0.0.1:2"), ("127.0.0.1:1", "127.0.0.2:1"), ("0.0.0.0:1", "[::1]:1")]
        {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }
}
