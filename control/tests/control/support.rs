//! A running control process, an HTTP client for its API, and a scripted data plane.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ostler_control::api::types::{ApplyResult, NodeInfo, NodeList, NodeState, Problem};
use ostler_control::{Control, ControlOptions, RunningControl, StartError};
use ostler_core::clock::WallClock;
use ostler_core::name::FleetName;
use ostler_core::rng::Jitter;
use ostler_core::token::BearerToken;
use ostler_proto::sync::v1 as wire;
use ostler_proto::sync::v1::sync_client::SyncClient;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Longer than anything here should take, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub folder: TempDir,
    pub control: RunningControl,
    pub clock: WallClock,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub fn fleet() -> FleetName {
    FleetName::parse("default").unwrap()
}

/// One upstream; another port is another config.
pub fn config(port: u16) -> String {
    format!("version: 1\nupstreams:\n  demo:\n    http: {{ url: \"http://127.0.0.1:{port}/mcp\" }}\n")
}

pub fn options(folder: &TempDir, clock: &WallClock) -> ControlOptions {
    let mut options = ControlOptions::new(folder.path().join("state"), fleet());
    options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    options.sync_listen = options.listen;
    options.clock = clock.clone();
    options.jitter = Jitter::from_seed(7);
    options
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ControlOptions, &TempDir)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = WallClock::manual(1_000_000);
        let mut options = options(&folder, &clock);
        change(&mut options, &folder);
        let control = Control::start(options).await.unwrap();
        Self { folder, control, clock }
    }

    /// Ends the process in order and starts another on the same folder.
    pub async fn restart(self) -> Self {
        let Self { folder, control, clock } = self;
        control.shutdown().await;
        let control = Control::start(options(&folder, &clock)).await.unwrap();
        Self { folder, control, clock }
    }

    pub async fn try_second(&self) -> Result<RunningControl, StartError> {
        Control::start(options(&self.folder, &self.clock)).await
    }

    pub async fn api(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let token = self.control.operator_token.to_header();
        let mut with_token = vec![("authorization", token.as_str())];
        with_token.extend_from_slice(headers);
        call(self.control.api_addr, method, path, &with_token, body.into()).await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.api(Method::GET, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    pub async fn put(&self, text: impl Into<Bytes>) -> ApplyResult {
        let answer = self.api(Method::PUT, "/v1/fleets/default/config", &[], text).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    pub async fn nodes(&self) -> NodeList {
        self.get("/v1/fleets/default/nodes").await
    }

    /// Asks until the node is in the state: what a node says and what the API shows are two connections.
    pub async fn node_in(&self, name: &str, state: NodeState) -> NodeInfo {
        let mut last = None;
        let wanted = async {
            loop {
                let node = self.nodes().await.items.into_iter().find(|node| node.node == name);
                match node {
                    Some(node) if node.state == state => return node,
                    other => last = other,
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wanted).await;
        found.unwrap_or_else(|_| panic!("node {name} never became {state}; last seen: {last:?}"))
    }

    pub async fn metric(&self, line_start: &str) -> Option<u64> {
        let answer = call(self.control.api_addr, Method::GET, "/metrics", &[], Bytes::new()).await;
        let text = answer.text();
        let line = text.lines().find(|line| line.starts_with(line_start))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem: Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own. `Host` is the address unless the headers name another.
pub async fn call(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", addr.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    driver.abort();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// A scripted data plane.
pub struct Node {
    outgoing: mpsc::Sender<wire::NodeMessage>,
    incoming: tonic::Streaming<wire::ControlMessage>,
}

static NODES: AtomicU64 = AtomicU64::new(1);

pub fn unique_node() -> String {
    format!("node-{}", NODES.fetch_add(1, Ordering::Relaxed))
}

pub fn hello(node: &str, held: Option<wire::Revision>) -> wire::Hello {
    wire::Hello {
        node: node.to_owned(),
        fleet: "default".to_owned(),
        build: "0.1.0".to_owned(),
        capabilities: vec!["parts.v1".to_owned(), "something.newer".to_owned()],
        held,
        ..wire::Hello::default()
    }
}

pub fn revision(of: &ApplyResult) -> wire::Revision {
    wire::Revision {
        source: "control".to_owned(),
        epoch: of.epoch,
        version: of.version,
        digest: of.digest.clone(),
    }
}

impl Node {
    pub async fn connect(world: &World, hello: wire::Hello) -> Self {
        let mut node = Self::open(world.control.sync_addr, Some(&world.control.node_token)).await.unwrap();
        node.say(wire::node_message::Message::Hello(hello)).await;
        node
    }

    pub async fn open(addr: SocketAddr, token: Option<&BearerToken>) -> Result<Self, tonic::Status> {
        let channel =
            tonic::transport::Endpoint::try_from(format!("http://{addr}")).unwrap().connect().await.unwrap();
        let (outgoing, messages) = mpsc::channel(16);
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token.to_header().parse().unwrap());
        }
        let incoming = SyncClient::new(channel).stream(request).await?.into_inner();
        Ok(Self { outgoing, incoming })
    }

    pub async fn say(&mut self, message: wire::node_message::Message) {
        self.outgoing.send(wire::NodeMessage { message: Some(message) }).await.unwrap();
    }

    /// The next message, or how the stream ended.
    pub async fn hear(&mut self) -> Result<Option<wire::control_message::Message>, tonic::Status> {
        let message =
            tokio::time::timeout(PATIENCE, self.incoming.message()).await.expect("control said nothing")?;
        Ok(message.map(|message| message.message.unwrap()))
    }

    pub async fn snapshot(&mut self) -> wire::Snapshot {
        match self.hear().await {
            Ok(Some(wire::control_message::Message::Snapshot(snapshot))) => snapshot,
            other => panic!("a snapshot was expected, not {other:?}"),
        }
    }

    pub async fn unchanged(&mut self) -> wire::Revision {
        match self.hear().await {
            Ok(Some(wire::control_message::Message::Unchanged(unchanged))) => unchanged.revision.unwrap(),
            other => panic!("unchanged was expected, not {other:?}"),
        }
    }

    pub async fn ack(&mut self, snapshot: &wire::Snapshot, stage: wire::ack::Stage) {
        self.ack_as(&snapshot.nonce, snapshot.revision.clone(), stage).await;
    }

    pub async fn ack_as(&mut self, nonce: &str, revision: Option<wire::Revision>, stage: wire::ack::Stage) {
        let mounts = vec![wire::MountStatus {
            name: "demo".to_owned(),
            upstream: "demo".to_owned(),
            state: "ready".to_owned(),
            since_unix_ms: 5,
            ..wire::MountStatus::default()
        }];
        let ack = wire::Ack { nonce: nonce.to_owned(), revision, stage: stage.into(), mounts };
        self.say(wire::node_message::Message::Ack(ack)).await;
    }

    pub async fn nack(&mut self, snapshot: &wire::Snapshot, diagnostics: usize) {
        let diagnostic = |line| wire::Diagnostic {
            code: "OST0401".to_owned(),
            severity: "error".to_owned(),
            path: "upstreams.demo".to_owned(),
            line,
            message: "command is not allowed here".to_owned(),
            help: "start the data plane with --allow-command".to_owned(),
            ..wire::Diagnostic::default()
        };
        let nack = wire::Nack {
            nonce: snapshot.nonce.clone(),
            revision: snapshot.revision.clone(),
            code: "not_allowed_here".to_owned(),
            message: "refused".to_owned(),
            diagnostics: (0..u32::try_from(diagnostics).unwrap()).map(diagnostic).collect(),
        };
        self.say(wire::node_message::Message::Nack(nack)).await;
    }
}
