//! Control as a script: it takes the calls of real data planes and says what a test tells it, right or wrong.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ostler_core::net::{Listener, Network};
use ostler_dataplane::ConfigFrom;
use ostler_proto::sync::v1::control_message::Message as Said;
use ostler_proto::sync::v1::node_message::Message as Heard;
use ostler_proto::sync::v1::{self as wire, ControlMessage, NodeMessage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::grpc::{Reader, frame};
use super::world;

/// Takes calls; hands each to the test, with what the data plane says, or deaf to it.
#[derive(Debug)]
pub struct ScriptedControl {
    pub addr: SocketAddr,
    streams: mpsc::Receiver<NodeStream>,
    accept: JoinHandle<()>,
}

/// One call of a data plane.
#[derive(Debug)]
pub struct NodeStream {
    heard: mpsc::Receiver<NodeMessage>,
    said: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
}

type Body = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

// === impl ScriptedControl ===

impl ScriptedControl {
    /// Listens there.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start(network: &impl Network, addr: SocketAddr) -> Self {
        Self::listen(network, addr, true)
    }

    /// The same, but reads nothing of what data planes say.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start_deaf(network: &impl Network, addr: SocketAddr) -> Self {
        Self::listen(network, addr, false)
    }

    fn listen(network: &impl Network, addr: SocketAddr, reads: bool) -> Self {
        let listener = network.bind(addr).expect("an address");
        let addr = listener.local_addr().expect("an address");
        let (sender, streams) = mpsc::channel(1_024);
        Self { addr, streams, accept: tokio::spawn(accept(listener, sender, reads)) }
    }

    /// How a data plane follows it.
    pub fn followed(&self, dir: &Path, node: &str) -> ConfigFrom {
        let token = dir.join("node.token");
        ostler_core::token::load_or_create(&token).expect("a token");
        world::following(self.addr, &token, node)
    }

    /// The next call.
    ///
    /// # Panics
    /// When nobody calls any more.
    pub async fn call(&mut self) -> NodeStream {
        self.streams.recv().await.expect("a call")
    }
}

impl Drop for ScriptedControl {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: Listener, streams: mpsc::Sender<NodeStream>, reads: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        let streams = streams.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(streams.clone(), request, reads));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    streams: mpsc::Sender<NodeStream>,
    request: Request<Incoming>,
    reads: bool,
) -> Result<Response<Body>, Infallible> {
    let (sender, heard) = mpsc::channel(1_024);
    let (said, body) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut reader = Reader::new(request.into_body());
        if !reads {
            return sender.closed().await;
        }
        while let Some(message) = reader.next().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let _ = streams.send(NodeStream { heard, said }).await;
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(body)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

// === impl NodeStream ===

impl NodeStream {
    /// The first message.
    ///
    /// # Panics
    /// When it is no hello.
    pub async fn hello(&mut self) -> wire::Hello {
        match self.hear().await {
            Some(Heard::Hello(hello)) => hello,
            other => panic!("no hello but {other:?}"),
        }
    }

    pub async fn say(&self, message: Said) {
        self.say_bytes(frame(&ControlMessage { message: Some(message) })).await;
    }

    pub async fn say_bytes(&self, bytes: Bytes) {
        // A data plane that has hung up hears nothing.
        let _ = self.said.send(Ok(Frame::data(bytes))).await;
    }

    /// Ends the stream as gRPC ends one.
    pub async fn end(&self) {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(0))]);
        let _ = self.said.send(Ok(Frame::trailers(trailers))).await;
    }

    /// The next message, or nothing when the data plane has left. Audit records are passed over, as by a control that is older
    /// than they are.
    pub async fn hear(&mut self) -> Option<Heard> {
        loop {
            match self.heard.recv().await?.message {
                Some(Heard::Audit(_)) => {}
                message => return message,
            }
        }
    }

    /// The next ack or nack.
    ///
    /// # Panics
    /// When the data plane leaves instead.
    pub async fn answer(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Some(Heard::Status(_)) => {}
                Some(answer) => return answer,
                None => panic!("the data plane left without an answer"),
            }
        }
    }

    /// The next answer, which must be a nack.
    ///
    /// # Panics
    /// When it is not.
    pub async fn nack(&mut self) -> wire::Nack {
        match self.answer().await {
            Heard::Nack(nack) => nack,
            other => panic!("no nack but {other:?}"),
        }
    }

    /// The next answer, which must be an ack.
    ///
    /// # Panics
    /// When it is not.
    pub async fn ack(&mut self) -> wire::Ack {
        match self.answer().await {
            Heard::Ack(ack) => ack,
            other => panic!("no ack but {other:?}"),
        }
    }
}

/// A config as control would send it.
///
/// # Panics
/// When the text is no config.
pub fn snapshot(nonce: &str, epoch: u64, version: u64, text: &str) -> wire::Snapshot {
    let judged = ostler_config::judge_text(text.as_bytes()).expect("a config");
    let parts = judged.config.parts().iter().map(|part| wire::Part {
        kind: part.kind.as_str().to_owned(),
        name: part.name.clone(),
        sha256: part.sha256.as_bytes().to_vec().into(),
        bytes: part.bytes.clone(),
    });
    wire::Snapshot {
        nonce: nonce.to_owned(),
        revision: Some(wire::Revision {
            source: "control".to_owned(),
            epoch,
            version,
            digest: judged.config.digest().to_hex(),
        }),
        fleet: "default".to_owned(),
        control_build: ostler_core::build::VERSION.to_owned(),
        required_capabilities: vec!["parts.v1".to_owned()],
        parts: parts.collect(),
        ..wire::Snapshot::default()
    }
}
