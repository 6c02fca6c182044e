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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::uri::PathAndQuery;
    use ostler_core::clock::WallClock;
    use ostler_core::net::SystemNetwork;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::own::OwnListeners;

    #[tokio::test]
    async fn what_is_fetched_is_never_asked_of_ostlers_own_ports_whatever_they_are_called() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                asked.push(read > 0);
                if read > 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    return asked;
                }
            }
        });
        let get = async |host: &str, own: Vec<std::net::SocketAddr>| {
            let deps = Deps::new(WallClock::manual(0), Arc::new(SystemNetwork), 1, 1);
            let deps = deps.keeping_from(OwnListeners::new(own, None));
            let url = format!("http://{host}:{}/keys", addr.port()).parse().unwrap();
            let source = HttpTransport {
                host_header: HttpTransport::host_header(&url),
                url,
                https: false,
                host: host.to_owned(),
                port: addr.port(),
                path_and_query: PathAndQuery::from_static("/keys"),
                headers: HeaderMap::new(),
                oauth: None,
            };
            fetch(&source, &deps, Ask::default(), 100).await
        };
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            let refused = get(host, vec![addr]).await.unwrap_err();
            assert!(refused.contains("own listeners"), "{host}: {refused}");
        }
        // The same port of somebody else's is asked.
        let answered = get("127.0.0.1", vec!["127.0.0.1:1".parse().unwrap()]).await.unwrap();
        assert_eq!(answered, (StatusCode::OK, b"{}".to_vec()));
        assert_eq!(asked.await.unwrap(), [false, false, false, true]);
    }
}
