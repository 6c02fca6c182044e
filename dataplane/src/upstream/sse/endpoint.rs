//! The `endpoint` event: a URI reference (RFC 3986, 4.1) relative to the stream's URL, followed to the stream's own origin
//! and nowhere else.

use http::Uri;
use http::uri::PathAndQuery;

/// The longest that is followed; a path with a session's id is far shorter.
const ENDPOINT_BYTES_MAX: usize = 4 * 1024;

/// Why an endpoint is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("it is no URI")]
    Malformed,
    #[error("it is on another origin than the stream")]
    Foreign,
}

/// The path to send messages to.
pub(super) fn resolve(stream: &Uri, endpoint: &[u8]) -> Result<PathAndQuery, EndpointError> {
    let text = std::str::from_utf8(endpoint).map_err(|_| EndpointError::Malformed)?.trim();
    if text.is_empty() || text.len() > ENDPOINT_BYTES_MAX || text.contains('\\') {
        return Err(EndpointError::Malformed);
    }
    let text = text.split('#').next().unwrap_or_default();
    let scheme = stream.scheme_str().unwrap_or_default();
    if text.starts_with("//") {
        return absolute(stream, &format!("{scheme}:{text}"));
    }
    if has_scheme(text) {
        return absolute(stream, text);
    }
    let base = stream.path();
    let path = match text.as_bytes().first() {
        Some(b'/') => text.to_owned(),
        Some(b'?') => format!("{base}{text}"),
        _ => {
            let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{text}")
        }
    };
    path.parse().map_err(|_| EndpointError::Malformed)
}

fn has_scheme(text: &str) -> bool {
    let until = text.find([':', '/', '?']).filter(|at| text.as_bytes().get(*at) == Some(&b':'));
    until.is_some()
}

fn absolute(stream: &Uri, text: &str) -> Result<PathAndQuery, EndpointError> {
    let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
    let is_own = origin(&uri).is_some_and(|own| Some(own) == origin(stream));
    if !is_own || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(EndpointError::Foreign);
    }
    Ok(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")))
}

/// Scheme, host and port (RFC 6454, 4).
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = match (uri.port_u16(), &*scheme) {
        (Some(port), _) => port,
        (None, "http") => 80,
        (None, "https") => 443,
        (None, _) => return None,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(endpoint: &str) -> Result<String, EndpointError> {
        let stream: Uri = "https://mcp.example/a/sse?key=1".parse().unwrap();
        resolve(&stream, endpoint.as_bytes()).map(|path| path.to_string())
    }

    #[test]
    fn what_is_relative_is_read_as_from_the_stream() {
        for (endpoint, path) in [
            ("/messages?session_id=x", "/messages?session_id=x"),
            ("messages/x", "/a/messages/x"),
            ("?s=x", "/a/sse?s=x"),
            (" /messages ", "/messages"),
            ("/messages#x", "/messages"),
            ("/at/12:30", "/at/12:30"),
            ("https://mcp.example/m", "/m"),
            ("HTTPS://MCP.example:443/m?s=x", "/m?s=x"),
            ("//mcp.example/m", "/m"),
        ] {
            assert_eq!(from(endpoint).as_deref(), Ok(path), "{endpoint}");
        }
    }

    #[test]
    fn another_origin_is_never_followed() {
        for endpoint in [
            "https://evil.example/m",
            "http://mcp.example/m",
            "https://mcp.example:8443/m",
            "https://mcp.example.evil.example/m",
            "https://mcp.example@evil.example/m",
            "https://user@mcp.example/m",
            "//evil.example/m",
            "ftp://mcp.example/m",
        ] {
            assert_eq!(from(endpoint), Err(EndpointError::Foreign), "{endpoint}");
        }
        for endpoint in [
            "",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:x y",
            "/a b",
            "https://",
            &"/x".repeat(4096),
        ] {
            assert!(from(endpoint).is_err(), "{endpoint}");
        }
    }
}
