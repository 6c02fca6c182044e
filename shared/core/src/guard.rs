//! Which `Host` and `Origin` a listener answers. A browser page on any site can send requests to loopback, and DNS
//! rebinding makes its requests look local; both are stopped here, on every HTTP listener (MCP transports section
//! "Security Warning").

use std::net::{IpAddr, SocketAddr};

/// The hosts a listener answers for, and from which a browser may call it.
#[derive(Debug, Clone)]
pub struct HostGuard {
    hosts: Vec<String>,
    open: bool,
}

/// Why a request was turned away; answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("host is missing; send a Host header")]
    HostMissing,
    #[error("host is not one that this listener answers for; allow it with --allow-host")]
    HostForeign,
    #[error("origin is not one that this listener answers; allow it with --allow-host")]
    OriginForeign,
}

impl GuardError {
    /// Stable word for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::HostMissing => "host_missing",
            Self::HostForeign => "host_foreign",
            Self::OriginForeign => "origin_foreign",
        }
    }
}

impl HostGuard {
    /// Loopback names, the listener's own address, and the names an operator allowed. Ports are not compared: they say
    /// nothing about who is asking.
    pub fn for_listener(listen: SocketAddr, extra_hosts: &[String]) -> Self {
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        if !listen.ip().is_unspecified() {
            hosts.push(listen.ip().to_string());
        }
        hosts.extend(extra_hosts.iter().map(|host| unbracketed(host).to_ascii_lowercase()));
        Self { hosts, open: false }
    }

    /// Any host, for a listener that shows only metrics and health. Browsers' pages are still turned away.
    pub fn open() -> Self {
        Self { hosts: Vec::new(), open: true }
    }

    /// Judges one request by its `Host` (or `:authority`) and `Origin`.
    ///
    /// # Errors
    /// [`GuardError`], to be answered with 403.
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), GuardError> {
        let host = host.filter(|host| !host.is_empty()).ok_or(GuardError::HostMissing)?;
        if !self.open && !split_port(host).is_some_and(|name| self.knows(name)) {
            return Err(GuardError::HostForeign);
        }
        match origin {
            Some(origin) if !self.knows_origin(origin) => Err(GuardError::OriginForeign),
            _ => Ok(()),
        }
    }

    /// Judges one request by everything in it that names where it goes or which page sent it: the authority of its request
    /// line, each `Host`, each `Origin`. Nothing may be left over that was not judged, or a reader further on could go by
    /// it: hosts that disagree and repeated headers are foreign.
    ///
    /// # Errors
    /// [`GuardError`], to be answered with 403.
    pub fn check_request<'a>(
        &self,
        authority: Option<&'a str>,
        hosts: impl IntoIterator<Item = &'a [u8]>,
        origins: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), GuardError> {
        let host = single(hosts).ok_or(GuardError::HostForeign)?;
        let origin = single(origins).ok_or(GuardError::OriginForeign)?;
        match (authority, host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                Err(GuardError::HostForeign)
            }
            _ => self.check(authority.or(host), origin),
        }
    }

    fn knows_origin(&self, origin: &str) -> bool {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.and_then(split_port).is_some_and(|name| self.knows(name))
    }

    fn knows(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// The one value there is, if any; `None` when there are several. What is no text passes for none of ours, never for absent.
fn single<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Option<&'a str>> {
    let mut values = values.into_iter();
    let first = values.next().map(|value| std::str::from_utf8(value).unwrap_or("\u{fffd}"));
    values.next().is_none().then_some(first)
}

/// Host without its port and brackets; `None` when what follows the host is not a port.
fn split_port(authority: &str) -> Option<&str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (name, port) = rest.split_once(']')?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name);
    }
    match authority.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name),
        None => Some(authority),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> HostGuard {
        HostGuard::for_listener("127.0.0.1:7400".parse().unwrap(), &["Gateway.Example".to_owned()])
    }

    #[test]
    fn answers_local_names_with_any_port() {
        for host in [
            "localhost",
            "localhost:7400",
            "127.0.0.1:1",
            "[::1]:7400",
            "[::1]",
            "gateway.example:443",
            "127.0.0.2",
        ] {
            assert_eq!(guard().check(Some(host), None), Ok(()), "{host}");
        }
    }

    #[test]
    fn refuses_foreign_missing_and_malformed_hosts() {
        assert_eq!(guard().check(None, None), Err(GuardError::HostMissing));
        for host in [
            "evil.example",
            "localhost.evil.example",
            "localhost:x",
            "localhost:80:80",
            "[::1]x",
            "127.0.0.1@evil",
        ] {
            assert_eq!(guard().check(Some(host), None), Err(GuardError::HostForeign), "{host}");
        }
    }

    #[test]
    fn a_request_passes_only_when_everything_in_it_that_names_a_host_or_page_does() {
        let check = |authority: Option<&'static str>, hosts: &[&'static str], origins: &[&'static str]| {
            let bytes = |texts: &[&'static str]| texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>();
            guard().check_request(authority, bytes(hosts), bytes(origins))
        };
        assert_eq!(check(None, &["localhost"], &[]), Ok(()));
        assert_eq!(check(Some("localhost:1"), &[], &["http://localhost"]), Ok(()));
        assert_eq!(check(Some("localhost:1"), &["LOCALHOST:1"], &[]), Ok(()));
        assert_eq!(check(None, &[], &[]), Err(GuardError::HostMissing));
        let foreign_hosts: [(Option<&'static str>, &[&'static str]); 5] = [
            (Some("evil.example"), &["localhost"]),
            (Some("localhost"), &["evil.example"]),
            (None, &["localhost", "evil.example"]),
            (None, &["localhost", "localhost"]),
            (Some("u:p@localhost"), &[]),
        ];
        for (authority, hosts) in foreign_hosts {
            assert_eq!(check(authority, hosts, &[]), Err(GuardError::HostForeign), "{authority:?} {hosts:?}");
        }
        for origins in
            [&["http://localhost", "https://evil.example"][..], &["http://localhost", "http://localhost"]]
        {
            assert_eq!(check(None, &["localhost"], origins), Err(GuardError::OriginForeign), "{origins:?}");
        }
        assert_eq!(guard().check_request(None, [&b"localhost\xff"[..]], []), Err(GuardError::HostForeign));
    }

    #[test]
    fn refuses_foreign_origins_even_with_a_local_host() {
        for origin in
            ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://localhost/x"]
        {
            assert_eq!(
                guard().check(Some("localhost"), Some(origin)),
                Err(GuardError::OriginForeign),
                "{origin}"
            );
        }
        assert_eq!(guard().check(Some("localhost"), Some("http://localhost:3000")), Ok(()));
        assert_eq!(guard().check(Some("localhost"), Some("https://gateway.example")), Ok(()));
    }
}
