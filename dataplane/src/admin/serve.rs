//! Serving the admin port on the control thread: a slow scrape never meets traffic.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ostler_core::limits::{ADMIN_CONNECTIONS_MAX, HEAD_BYTES_MAX, HEADER_READ_TIMEOUT, HEADERS_MAX};
use ostler_core::net::{Listener, Stream};
use ostler_tls::ServerTls;
use tokio::sync::Semaphore;

use super::{Admin, AdminBody, AdminDoor};

/// A bound admin or metrics listener.
#[derive(Debug)]
pub struct AdminListener {
    pub listener: Listener,
    pub addr: SocketAddr,
    pub tls: Option<ServerTls>,
    pub door: AdminDoor,
}

/// After an accept that failed for want of file descriptors, trying at once would only spin, on the thread that also
/// applies config.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the task is dropped.
pub async fn serve(admin: Arc<Admin>, bound: AdminListener) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let door = Arc::new(bound.door);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match bound.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (admin, door, tls) = (Arc::clone(&admin), Arc::clone(&door), bound.tls.clone());
        let tasks = admin.deps.tasks.clone();
        tasks.spawn_until_stopped("admin connection", async move {
            connection(admin, door, tls, stream).await;
            drop(place);
        });
    }
}

async fn connection(admin: Arc<Admin>, door: Arc<AdminDoor>, tls: Option<ServerTls>, stream: Stream) {
    let stream = match tls {
        Some(tls) => match tokio::time::timeout(HEADER_READ_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            _ => return,
        },
        None => stream,
    };
    let service = service_fn(move |request| {
        let (admin, door) = (Arc::clone(&admin), Arc::clone(&door));
        async move {
            let answered = AssertUnwindSafe(admin.answer_in_time(&door, request)).catch_unwind().await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|_| failed()))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn failed() -> http::Response<AdminBody> {
    super::text(http::StatusCode::INTERNAL_SERVER_ERROR, "Ostler failed; its log has the reason\n")
}
