//! The rules for an upstream's URL, for a literal one when judged and for a resolved one when compiled.

use http::Uri;

/// A URL that may be connected to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Uri,
    pub(crate) https: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What is wrong with a URL, without the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlProblem {
    pub(crate) message: &'static str,
    pub(crate) help: &'static str,
}

// === impl Target ===

impl Target {
    /// Where an upstream points whose URL has no value: RFC 6761 section 6.4 keeps `.invalid` from ever resolving.
    pub(crate) fn nowhere() -> Self {
        Self {
            url: Uri::from_static("http://unresolved.invalid/"),
            https: false,
            host: "unresolved.invalid".to_owned(),
            port: 80,
        }
    }
}

/// # Errors
/// The first rule that the text breaks.
pub(crate) fn parse(text: &str) -> Result<Target, UrlProblem> {
    let problem = |message, help| UrlProblem { message, help };
    let has_scheme =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if text.is_empty() {
        return Err(problem("the URL is empty", "write a URL such as `https://mcp.example/mcp`"));
    }
    let https = has_scheme("https://");
    if !https && !has_scheme("http://") {
        return Err(problem(
            "the URL does not start with `http://` or `https://`",
            "write the whole URL, such as `https://mcp.example/mcp`",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(problem("the URL holds white space", "remove it, or write it as `%20`"));
    }
    // The parser below drops a fragment without a word.
    if text.contains('#') {
        return Err(problem(
            "the URL has a fragment",
            "remove everything from `#` on; a server never sees it",
        ));
    }
    if !text.is_ascii() {
        return Err(problem(
            "the URL holds characters that are not ASCII",
            "write the host in its `xn--` form and the path percent-encoded",
        ));
    }
    let url: Uri = text
        .parse()
        .map_err(|_| problem("the URL cannot be read", "write a URL such as `https://mcp.example/mcp`"))?;
    let authority = url.authority().ok_or(problem("the URL has no host", "write the host after `://`"))?;
    if authority.as_str().contains('@') {
        return Err(problem(
            "the URL holds a user or password",
            "remove it and write a header instead: `headers: { Authorization: \"Basic ${NAME}\" }`",
        ));
    }
    let host = authority.host();
    if host.is_empty() || host == "[]" {
        return Err(problem("the URL has no host", "write the host after `://`"));
    }
    let port = match authority.as_str().get(host.len()..).and_then(|rest| rest.strip_prefix(':')) {
        None => u16::from(https).saturating_mul(443 - 80).saturating_add(80),
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(problem(
            "the URL's port is not a number from 1 to 65535",
            "correct the port or leave it out",
        ))?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Ok(Target { url, https, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_understood() {
        for (text, https, host, port) in [
            ("http://h", false, "h", 80),
            ("https://H.example/mcp?a=b", true, "h.example", 443),
            ("HTTP://h:8080/", false, "h", 8080),
            ("https://[::1]:7/x", true, "::1", 7),
        ] {
            let target = parse(text).unwrap();
            assert_eq!((target.https, target.host.as_str(), target.port), (https, host, port), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for text in [
            "",
            "h",
            "/mcp",
            "ftp://h",
            "http://",
            "http:///x",
            "http://u:p@h/",
            "http://h/#a",
            "http://h:0/",
            "http://h:99999/",
            "http://h:/",
            "http://h/a b",
            "http://é/",
            "http://:80/",
            "http://[]/",
            "https://h:8a/",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
