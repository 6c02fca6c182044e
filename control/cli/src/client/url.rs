//! The address of a server of ours as people write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::Uri;

/// `http://host:port`, with an optional path in front of the server's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    https: bool,
    /// IPv6 addresses stand in brackets.
    host: String,
    port: u16,
    prefix: String,
}

impl ServerUrl {
    pub fn is_https(&self) -> bool {
        self.https
    }

    pub fn with_https(self) -> Self {
        Self { https: true, ..self }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// What the `Host` header says.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What the request line says.
    ///
    /// # Errors
    /// When the path holds what no request line carries.
    pub fn target(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.prefix).parse()
    }
}

impl From<SocketAddr> for ServerUrl {
    fn from(addr: SocketAddr) -> Self {
        let host = match addr.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { https: false, host, port: addr.port(), prefix: String::new() }
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || "it is no address of a server; write it as http://host:port".to_owned();
        let uri: Uri = text.parse().map_err(|_| usage())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(usage()),
        };
        let authority = uri.authority().ok_or_else(usage)?;
        if authority.as_str().contains('@') {
            return Err("it holds a user name; no address that is given here needs one".to_owned());
        }
        if uri.query().is_some() || authority.host().is_empty() {
            return Err(usage());
        }
        Ok(Self {
            https,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_written() {
        let url: ServerUrl = "https://control.example/ostler/".parse().unwrap();
        assert_eq!(url.to_string(), "https://control.example:443/ostler");
        assert_eq!(url.target("/v1/fleets").unwrap().to_string(), "/ostler/v1/fleets");
        assert!(!url.is_loopback());
        let six: ServerUrl = "http://[::1]:7500".parse().unwrap();
        assert!(six.is_loopback());
        assert_eq!(six, ServerUrl::from("[::1]:7500".parse::<SocketAddr>().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["127.0.0.1:7500", "ftp://a:1", "http://", "http://user:pass@host:1", "http://a:1/?q", ""]
        {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_that_only_looks_local_is_not_loopback() {
        for host in ["127.0.0.1.example", "localhost.example", "10.0.0.1"] {
            assert!(!format!("http://{host}:1").parse::<ServerUrl>().unwrap().is_loopback(), "{host}");
        }
    }
}
