//! What everything is compared with: an HTTP server and an HTTP client of hyper on one thread, with one connection each. The request's body is
//! collected, as whoever judges it has to; the answer passes. Nothing is looked at, limited, counted or logged.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::Builder;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// The connection to the upstream while nobody uses it.
type Idle = Rc<RefCell<Option<SendRequest<Full<Bytes>>>>>;

/// Starts one in front of an upstream. It lives as long as the process does.
///
/// # Errors
/// When it has no port or no thread.
pub fn start(upstream: SocketAddr) -> anyhow::Result<SocketAddr> {
    let (told, started) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Builder::new().name("bare".to_owned()).spawn(move || {
        let serve = async move {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            // Whoever asked is still there.
            let _ = told.send(listener.local_addr()?);
            let idle = Idle::default();
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let idle = Rc::clone(&idle);
                let service = service_fn(move |request| pass(Rc::clone(&idle), upstream, request));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                // A client that leaves is no concern of the others'.
                spawn_local(async move { drop(connection.await) });
            }
        };
        let ended: anyhow::Result<()> = LocalSet::new().block_on(&runtime, serve);
        ended
    })?;
    started.recv().context("the bare pair does not start")
}

async fn pass(
    idle: Idle,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Incoming>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let taken = idle.borrow_mut().take().filter(|sender| !sender.is_closed());
    let mut sender = match taken {
        Some(sender) => sender,
        None => connect(upstream).await?,
    };
    sender.ready().await?;
    let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
    idle.borrow_mut().replace(sender);
    Ok(answer)
}

async fn connect(upstream: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    spawn_local(async move { drop(connection.await) });
    Ok(sender)
}
