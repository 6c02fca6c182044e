//! Serving a router on a listener: TLS where there are files for it, HTTP/1 and HTTP/2, limits on everything a peer
//! could hold on to, and an orderly end. The API and the sync stream are served by this one function.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ostler_core::limits::{
    CONNECTIONS_MAX, DRAIN_DEADLINE, H2_STREAMS_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, HEADERS_MAX,
    SYNC_KEEPALIVE_INTERVAL, SYNC_KEEPALIVE_TIMEOUT, TLS_HANDSHAKE_TIMEOUT,
};
use ostler_core::net::{Listener, Stream};
use ostler_core::tasks::Tasks;
use ostler_tls::ServerTls;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Pause after a failed accept: out of descriptors, most likely, and asking again at once frees none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One listener and what it serves.
pub struct Endpoint {
    pub name: &'static str,
    pub listener: Listener,
    pub tls: Option<ServerTls>,
    pub router: Router,
}

/// Accepts until the tasks are told to stop; connections finish what they have begun.
pub fn serve(endpoint: Endpoint, tasks: &Tasks) {
    let connections = tasks.clone();
    tasks.spawn_until_stopped("accept", async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = match endpoint.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = endpoint.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (name, tls, router) = (endpoint.name, endpoint.tls.clone(), endpoint.router.clone());
            let stop = connections.token();
            connections.spawn("connection", async move {
                if let Err(error) = serve_connection(stream, tls, router, stop).await {
                    tracing::debug!(listener = name, %peer, %error, "connection ended early");
                }
                drop(place);
            });
        }
    });
}

async fn serve_connection(
    stream: Stream,
    tls: Option<ServerTls>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = match tls {
        Some(tls) => tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await??,
        None => stream,
    };
    let spoken = Arc::new(AtomicBool::new(false));
    let speaks = Arc::clone(&spoken);
    let service = service_fn(move |request: Request<Incoming>| {
        speaks.store(true, Ordering::Relaxed);
        router.clone().oneshot(request.map(Body::new))
    });
    let builder = protocol();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let silence = tokio::time::sleep(HEADER_READ_TIMEOUT);
    tokio::pin!(silence);
    let mut judged = false;
    loop {
        tokio::select! {
            outcome = connection.as_mut() => return outcome,
            // The protocol's own timeout starts with its first bytes; this one covers a peer that sends none.
            () = silence.as_mut(), if !judged => {
                if !spoken.load(Ordering::Relaxed) {
                    return Err("no request in time".into());
                }
                judged = true;
            }
            () = stop.cancelled() => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(DRAIN_DEADLINE, connection).await?
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SYNC_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(SYNC_KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::StatusCode;
    use http_body_util::{BodyExt, Empty};
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::*;

    type Served = JoinHandle<Result<(), Box<dyn std::error::Error + Send + Sync>>>;

    fn served() -> (DuplexStream, Served) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let router = Router::new().route("/", get(|| async { "ok" }));
        let stream = Stream::Boxed(Box::new(server));
        let serving = serve_connection(stream, None, router, CancellationToken::new());
        (client, tokio::spawn(serving))
    }

    async fn ask(sender: &mut hyper::client::conn::http2::SendRequest<Empty<bytes::Bytes>>) -> StatusCode {
        let request = Request::get("http://localhost/").body(Empty::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_hung_up_on() {
        let (mut client, served) = served();
        let started = Instant::now();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(started.elapsed() < HEADER_READ_TIMEOUT * 2);
        assert!(served.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_spoken_stays_open_while_its_peer_answers_pings() {
        let (client, _served) = served();
        let io = TokioIo::new(client);
        let (mut sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(driver);
        assert_eq!(ask(&mut sender).await, StatusCode::OK);
        sleep(HEADER_READ_TIMEOUT * 8).await;
        assert_eq!(ask(&mut sender).await, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_goes_silent_is_found_within_thirty_seconds() {
        let (mut far, served) = served();
        let (client, mut near) = tokio::io::duplex(64 * 1024);
        let cut = CancellationToken::new();
        let cutting = cut.clone();
        // Once cut, the line takes nothing and says nothing, but is not closed.
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cutting.cancelled() => std::future::pending().await,
            }
        });
        let io = TokioIo::new(client);
        let (mut sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(driver);
        assert_eq!(ask(&mut sender).await, StatusCode::OK);
        cut.cancel();
        let started = Instant::now();
        let ended = tokio::time::timeout(HEADER_READ_TIMEOUT * 8, served).await;
        assert!(ended.is_ok(), "the connection was kept");
        assert!(started.elapsed() <= Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
