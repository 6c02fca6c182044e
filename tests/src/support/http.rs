//! A plain HTTP/1.1 client that does what it is told, right or wrong.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Ask {
    addr: SocketAddr,
    builder: Vec<(String, String)>,
    method: &'static str,
    path: String,
    body: Bytes,
    receive_bytes: Option<u32>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn new(addr: SocketAddr, method: &'static str, path: &str) -> Self {
        let builder = vec![("host".to_owned(), addr.to_string())];
        Self { addr, builder, method, path: path.to_owned(), body: Bytes::new(), receive_bytes: None }
    }

    /// A JSON-RPC message as an MCP client posts it.
    pub fn mcp(addr: SocketAddr, path: &str, message: &Value) -> Self {
        Self::new(addr, "POST", path)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string())
    }

    /// Adds a header, or replaces `host`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" {
            self.builder.retain(|(name, _)| name != "host");
        }
        self.builder.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Lets the system hold no more than this of an answer that is not read. Left to itself it may hold 32 MiB.
    #[must_use]
    pub fn receiving(mut self, bytes: u32) -> Self {
        self.receive_bytes = Some(bytes);
        self
    }

    /// Sends on a connection of its own and returns when the head is there.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn open(self) -> Response<Incoming> {
        let stream = connect(self.addr, self.receive_bytes).await.expect("no connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("no handshake");
        tokio::spawn(connection);
        sender.send_request(self.request()).await.expect("no answer")
    }

    fn request(self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.builder {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body)).expect("bad request")
    }

    /// The same for a server that may be gone, or go.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn try_send(self) -> anyhow::Result<Answer> {
        let stream = connect(self.addr, self.receive_bytes).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (head, body) = sender.send_request(self.request()).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends and reads the whole answer.
    ///
    /// # Panics
    /// When there is none, or it breaks off.
    pub async fn send(self) -> Answer {
        let response = tokio::time::timeout(super::PATIENCE, self.open()).await.expect("no answer in time");
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(super::PATIENCE, body.collect()).await.expect("answer has no end");
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.expect("answer broke off").to_bytes(),
        }
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What is written leaves at once: a body in two pieces is not to wait for the first to be acknowledged.
async fn connect(addr: SocketAddr, receive_bytes: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
