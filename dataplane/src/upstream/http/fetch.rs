//! One document over HTTP, for what the data plane itself needs: on a connection of its own, in one piece, without redirects.

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use ostler_config::HttpTransport;
use ostler_core::build;

use super::connect::Connector;
use super::keep_alive::KeepAlive;
use super::{RequestBody, with_own_headers};
use crate::deps::Deps;

/// What is asked of the URL.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Takes as long as it takes.
///
/// # Errors
/// Why it cannot be had, in a few words.
pub(crate) async fn fetch(
    source: &HttpTransport,
    deps: &Deps,
    ask: Ask,
    bytes_max: usize,
) -> Result<(StatusCode, Vec<u8>), String> {
    let connector = Connector::new(source, deps, &std::sync::Arc::new(KeepAlive::new()));
    let mut connection = connector.connect().await.map_err(|error| error.detail)?;
    let Ask { method, mut headers, body } = ask;
    headers.insert(USER_AGENT, HeaderValue::from_static(build::USER_AGENT));
    let mut request = Request::new(RequestBody::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = source.path_and_query.clone().into();
    *request.headers_mut() = with_own_headers(headers, source);
    let broken = |error: hyper::Error| error.to_string();
    let (head, mut body) = connection.sender.send_request(request).await.map_err(broken)?.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((head.status, bytes))
}
