//! One upstream: its transport, how to treat it, and its HTTP side.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use ostler_core::limits;
use ostler_core::name::ResourceName;

use crate::codes::Code;
use crate::located::{Entries, Located};
use crate::node::NodeId;
use crate::raw::{RawHttp, RawOauth, RawSse, RawUpstream};
use crate::reference::{Segment, Template};
use crate::reporter::Reporter;
use crate::secret;
use crate::validated::{
    HttpUpstream, Limits, OauthClient, ProtocolPin, Timeouts, Upstream, UpstreamTransport,
};

use super::{one_of, stdio, url, values};

/// Headers of the connection and those that the data plane writes itself: RFC 9110 section 7.6.1, the MCP transport, trace
/// context, and content codings, because a body that must be judged must be readable.
const RESERVED_HEADERS: [&str; 21] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "baggage",
];
/// Every header of the MCP transport, those of revisions to come included.
const RESERVED_PREFIX: &str = "mcp-";

/// The upstream, if its transport could be understood. `at` is its name.
pub(super) fn validate(
    raw: RawUpstream,
    name: ResourceName,
    at: NodeId,
    reporter: &Reporter<'_>,
) -> Option<Upstream> {
    let headers_at = raw.headers.as_ref().map(|headers| headers.at);
    let is_stdio = raw.stdio.is_some() && raw.http.is_none() && raw.sse.is_none();
    let headers = raw.headers.and_then(|headers| headers.value.map(|Entries(entries)| (headers.at, entries)));
    let protocol = protocol(raw.protocol.as_ref(), reporter);
    let timeouts = timeouts(raw.timeouts, reporter);
    let in_flight = raw.limits.and_then(|limits| limits.value).and_then(|limits| limits.in_flight);
    let default = Limits::default().in_flight;
    let in_flight = values::number(in_flight, limits::CONFIG_IN_FLIGHT_MAX, default, reporter);

    if is_stdio && let Some(at) = headers_at {
        let help = "move the values to `stdio.env` or `stdio.args`, or remove `headers`";
        reporter.report(Code::HeadersOnStdio, at, "a stdio upstream has no headers", help);
    }
    let headers = headers.filter(|_| !is_stdio).map(|(at, entries)| self::headers(at, entries, reporter));
    let oauth = oauth(raw.oauth, headers.as_deref().unwrap_or_default(), is_stdio, reporter);
    let sse = raw.sse.map(RawSse::into_http);
    let transport = match (raw.http, sse, raw.stdio) {
        (Some(http), None, None) => {
            self::http(http, headers.unwrap_or_default(), oauth, reporter).map(UpstreamTransport::Http)
        }
        (None, Some(sse), None) => {
            self::http(sse, headers.unwrap_or_default(), oauth, reporter).map(UpstreamTransport::Sse)
        }
        (None, None, Some(stdio)) => stdio::validate(stdio, reporter).map(UpstreamTransport::Stdio),
        (None, None, None) => {
            let help = "add `http: { url: … }` or `stdio: { command: … }`";
            reporter.report(Code::TransportChoice, at, "the upstream has neither `http` nor `stdio`", help);
            None
        }
        (http, sse, stdio) => {
            let places = [
                ("http", http.as_ref().map(|http| http.at)),
                ("sse", sse.as_ref().map(|sse| sse.at)),
                ("stdio", stdio.as_ref().map(|stdio| stdio.at)),
            ];
            let found: Vec<_> = places.iter().filter_map(|(key, at)| Some((*key, (*at)?))).collect();
            let keys: Vec<_> = found.iter().map(|(key, _)| format!("`{key}`")).collect();
            let message = match &*keys {
                [one, other] => format!("the upstream has both {one} and {other}"),
                _ => format!("the upstream has {}", keys.join(", ")),
            };
            let help = "keep one of them, or make several upstreams of it";
            let last = found.last().map_or(at, |(_, at)| *at);
            reporter.report(Code::TransportChoice, last, message, help);
            for http in [http, sse].into_iter().flatten() {
                let _ = self::http(http, Vec::new(), None, reporter);
            }
            let _ = stdio.map(|stdio| stdio::validate(stdio, reporter));
            None
        }
    };
    Some(Upstream {
        name,
        transport: transport?,
        protocol,
        timeouts,
        limits: Limits { in_flight },
        mount: raw.mount.and_then(|mount| mount.value).unwrap_or(true),
    })
}

fn protocol(found: Option<&Located<String>>, reporter: &Reporter<'_>) -> ProtocolPin {
    let words: Vec<_> = ProtocolPin::all().map(|pin| (pin.as_str(), pin)).collect();
    found
        .and_then(|found| one_of(found, words.iter().copied(), "a protocol revision that is known", reporter))
        .unwrap_or_default()
}

fn timeouts(found: Option<Located<crate::raw::RawTimeouts>>, reporter: &Reporter<'_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(raw) = found.and_then(|found| found.value) else { return default };
    Timeouts {
        connect: values::timeout(raw.connect, default.connect, reporter),
        answer: values::timeout(raw.answer, default.answer, reporter),
        idle: values::timeout(raw.idle, default.idle, reporter),
        total: values::timeout(raw.total, default.total, reporter),
    }
}

fn http(
    raw: Located<RawHttp>,
    headers: Vec<(HeaderName, Template)>,
    oauth: Option<OauthClient>,
    reporter: &Reporter<'_>,
) -> Option<HttpUpstream> {
    let at = raw.at;
    let Some(found) = raw.value?.url else {
        let help = "write the URL, such as `url: https://mcp.example/mcp`";
        reporter.report(Code::MissingKey, at, "the required key `url` is missing", help);
        return None;
    };
    let text = found.value?;
    let url = values::template(found.at, &text, reporter)?;
    if let Some(sample) = sample_url(&url)
        && let Err(problem) = url::parse(&sample)
    {
        reporter.report(Code::BadUrl, found.at, problem.message, problem.help);
        return None;
    }
    if secret::masked_url(&text) != text {
        let message = "a parameter of the URL seems to hold a secret";
        reporter.report(
            Code::LiteralSecret,
            found.at,
            message,
            "write a reference such as `${NAME}` in its place",
        );
    }
    Some(HttpUpstream { url, headers, oauth })
}

fn oauth(
    raw: Option<Located<RawOauth>>,
    headers: &[(HeaderName, Template)],
    is_stdio: bool,
    reporter: &Reporter<'_>,
) -> Option<OauthClient> {
    let Located { at, value } = raw?;
    let raw = value?;
    if is_stdio {
        let help = "move the secret to `stdio.env`, and let the program get its token";
        reporter.report(Code::HeadersOnStdio, at, "a stdio upstream is sent no token", help);
        return None;
    }
    if headers.iter().any(|(name, _)| *name == AUTHORIZATION) {
        let message = "`oauth` writes the header `authorization`, which is given under `headers` too";
        reporter.report(Code::DuplicateHeader, at, message, "keep one of the two");
    }
    let required = |key: &str, found: Option<Located<String>>| {
        let Some(found) = found else {
            let message = format!("the required key `{key}` is missing");
            reporter.report(
                Code::MissingKey,
                at,
                message,
                format!("write `{key}` of the client at its authorization server"),
            );
            return None;
        };
        Some((found.at, found.value?))
    };
    let url = required("url", raw.url)
        .filter(|(at, text)| values::own_url(*at, text, "a token endpoint", reporter));
    let reference = |(at, text): (NodeId, String)| values::template(at, &text, reporter).map(|it| (at, it));
    let client_id = required("client_id", raw.client_id).and_then(reference);
    let client_secret = required("client_secret", raw.client_secret).and_then(reference);
    if let Some((at, _)) = client_secret.as_ref().filter(|(_, secret)| secret::has_literal(secret)) {
        let message = "`client_secret` seems to be written out";
        let help =
            "write a reference such as `${NAME}` or `${file:/run/secrets/name}`, and change the secret";
        reporter.report(Code::LiteralSecret, *at, message, help);
    }
    let resource = raw.resource.and_then(|found| Some((found.at, found.value?)));
    let resource = resource.filter(|(at, text)| values::fixed(*at, text, "a resource", reporter));
    Some(OauthClient {
        scopes: values::scopes(raw.scopes, reporter),
        url: url?.1,
        client_id: client_id?.1,
        client_secret: client_secret?.1,
        resource: resource.map(|(_, text)| text),
    })
}

/// The URL with something in place of its references; nothing if they decide about its very beginning.
fn sample_url(url: &Template) -> Option<String> {
    if let Some(Segment::Reference(first)) = url.segments().first()
        && first.default.is_none()
    {
        return None;
    }
    // A digit is legal in a host, a port, a path and a query.
    url.render(|reference| Ok::<_, ()>(reference.default.clone().unwrap_or_else(|| "1".to_owned()))).ok()
}

fn headers(
    at: NodeId,
    entries: Vec<(Located<String>, Located<String>)>,
    reporter: &Reporter<'_>,
) -> Vec<(HeaderName, Template)> {
    values::count(at, entries.len(), limits::CONFIG_HEADERS_MAX, "headers", reporter);
    let mut out: BTreeMap<String, (HeaderName, Template)> = BTreeMap::new();
    for (name, value) in entries {
        let template = value.value.and_then(|text| values::template(value.at, &text, reporter));
        let Some(parsed) = header_name(&name, reporter) else { continue };
        let Some(template) = template else { continue };
        let sample = template.render(|_| Ok::<_, ()>(String::new())).unwrap_or_default();
        if HeaderValue::from_str(&sample).is_err() {
            let message =
                format!("the value of the header `{parsed}` holds a character that is not legal there");
            let help = "remove line breaks and control characters; write what is not ASCII in the encoding of the server";
            reporter.report(Code::BadHeaderValue, value.at, message, help);
            continue;
        }
        if secret::is_secret_header(parsed.as_str()) && secret::has_literal(&template) {
            let message = format!("the header `{parsed}` seems to hold a secret");
            let help = "write a reference such as `Bearer ${NAME}` or `${file:/run/secrets/name}`, and change the secret";
            reporter.report(Code::LiteralSecret, value.at, message, help);
        }
        if out.insert(parsed.as_str().to_owned(), (parsed.clone(), template)).is_some() {
            let message = format!("the header `{parsed}` is given twice; case makes no difference");
            reporter.report(Code::DuplicateHeader, name.at, message, "keep one of the two");
        }
    }
    out.into_values().collect()
}

fn header_name(name: &Located<String>, reporter: &Reporter<'_>) -> Option<HeaderName> {
    let text = name.value.as_deref()?;
    let Ok(parsed) = text.parse::<HeaderName>() else {
        let message = format!("`{}` is not a legal header name", values::shown(text));
        reporter.report(Code::BadHeaderName, name.at, message, "use letters, digits and `-`");
        return None;
    };
    if RESERVED_HEADERS.contains(&parsed.as_str()) || parsed.as_str().starts_with(RESERVED_PREFIX) {
        let message = format!("the header `{parsed}` is written by Ostler itself");
        let help = match parsed.as_str() {
            "mcp-protocol-version" => "remove it; pin the revision with `protocol` instead",
            "host" => "remove it; the host is that of the URL",
            "proxy-authorization" => "remove it; write `Authorization` for the upstream itself",
            _ => "remove it",
        };
        reporter.report(Code::ReservedHeader, name.at, message, help);
        return None;
    }
    Some(parsed)
}
