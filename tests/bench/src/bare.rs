//! The least that a proxy on hyper can be: whole requests go to the upstream as they came, whole answers come back, and nothing is looked
//! at, counted or logged. What a data plane costs beyond it is what it does for a call.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

type Body = Full<Bytes>;
/// Connections to the upstream that nobody uses just now.
type Idle = Rc<RefCell<Vec<SendRequest<Body>>>>;

/// Until it is killed, on one thread.
pub(crate) fn serve(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let idle = Idle::default();
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let idle = Rc::clone(&idle);
            let service = service_fn(move |request| forward(request, upstream, Rc::clone(&idle)));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
            // Whatever went wrong, its client sees the connection end.
            spawn_local(async move { drop(connection.await) });
        }
    }))
}

async fn forward(
    request: Request<Incoming>,
    upstream: SocketAddr,
    idle: Idle,
) -> anyhow::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    let kept = idle.borrow_mut().pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(upstream).await?,
    };
    connection.ready().await?;
    let (head, body) = connection.send_request(request).await?.into_parts();
    let answer = Response::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    idle.borrow_mut().push(connection);
    Ok(answer)
}

async fn connect(upstream: SocketAddr) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(async move { drop(connection.await) });
    Ok(sender)
}
