//! A data plane as a script: it calls a real control and says what a test tells it, right or wrong.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ostler_core::net::Network;
use ostler_core::token::BearerToken;
use ostler_proto::sync::v1::control_message::Message as Heard;
use ostler_proto::sync::v1::node_message::Message as Said;
use ostler_proto::sync::v1::{self as wire, ControlMessage, NodeMessage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::grpc::{PATH, Reader, frame};

type Body = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// A connection to control, for any number of streams.
#[derive(Debug, Clone)]
pub struct Connection {
    sender: SendRequest<Body>,
    addr: SocketAddr,
    token: BearerToken,
}

/// One stream.
#[derive(Debug)]
pub struct ScriptedNode {
    said: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    pub heard: Reader,
}

// === impl Connection ===

impl Connection {
    /// # Panics
    /// When control takes none.
    pub async fn open(network: &impl Network, addr: SocketAddr, token: &BearerToken) -> Self {
        Self::try_open(network, addr, token).await.expect("a connection")
    }

    /// The same, where control may be gone.
    pub async fn try_open(network: &impl Network, addr: SocketAddr, token: &BearerToken) -> Option<Self> {
        let stream = network.connect(&addr.ip().to_string(), addr.port()).await.ok()?;
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) =
            builder.timer(TokioTimer::new()).handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Self { sender, addr, token: token.clone() })
    }

    /// # Panics
    /// When control takes none.
    pub async fn stream(&mut self) -> ScriptedNode {
        self.try_stream("application/grpc").await.expect("a stream")
    }

    /// The same, with the status of a refusal.
    ///
    /// # Errors
    /// The status; nothing where the connection is gone.
    pub async fn try_stream(&mut self, kind: &str) -> Result<ScriptedNode, Option<StatusCode>> {
        let (said, body) = mpsc::channel(64);
        let request = Request::post(format!("http://{}{PATH}", self.addr))
            .header("content-type", kind)
            .header("te", "trailers")
            .header("authorization", self.token.to_header())
            .body(StreamBody::new(ReceiverStream::new(body)))
            .map_err(|_| None)?;
        let response = self.sender.send_request(request).await.map_err(|_| None)?;
        match response.status() {
            StatusCode::OK => Ok(ScriptedNode { said, heard: Reader::new(response.into_body()) }),
            status => Err(Some(status)),
        }
    }

    /// A stream that has introduced itself.
    pub async fn node(&mut self, hello: wire::Hello) -> ScriptedNode {
        let node = self.stream().await;
        node.say(Said::Hello(hello)).await;
        node
    }
}

// === impl ScriptedNode ===

impl ScriptedNode {
    pub async fn say(&self, message: Said) {
        self.say_bytes(frame(&NodeMessage { message: Some(message) })).await;
    }

    /// False when control has ended the stream.
    pub async fn say_bytes(&self, bytes: Bytes) -> bool {
        self.said.send(Ok(Frame::data(bytes))).await.is_ok()
    }

    /// The next message, or nothing when control has ended the stream.
    pub async fn hear(&mut self) -> Option<Heard> {
        self.heard.next::<ControlMessage>().await.and_then(|message| message.message)
    }

    /// The next message, which must be a snapshot.
    ///
    /// # Panics
    /// When it is not.
    pub async fn snapshot(&mut self) -> wire::Snapshot {
        match self.hear().await {
            Some(Heard::Snapshot(snapshot)) => snapshot,
            other => panic!("no snapshot but {other:?} {:?}", self.heard.ended),
        }
    }

    /// Answers a snapshot.
    pub async fn ack(&self, snapshot: &wire::Snapshot, stage: wire::ack::Stage) {
        self.say(Said::Ack(wire::Ack {
            nonce: snapshot.nonce.clone(),
            revision: snapshot.revision.clone(),
            stage: stage.into(),
            mounts: Vec::new(),
        }))
        .await;
    }

    /// How control ended the stream: `grpc-status` and `grpc-message`.
    ///
    /// # Panics
    /// When it has more to say.
    pub async fn refusal(&mut self) -> (String, String) {
        match self.hear().await {
            None => self.heard.ended.clone().unwrap_or_default(),
            Some(more) => panic!("no end but {more:?}"),
        }
    }
}

/// What a data plane that holds nothing says first.
pub fn hello(node: &str) -> wire::Hello {
    wire::Hello {
        node: node.to_owned(),
        fleet: "default".to_owned(),
        build: ostler_core::build::VERSION.to_owned(),
        capabilities: vec!["parts.v1".to_owned()],
        ..wire::Hello::default()
    }
}
