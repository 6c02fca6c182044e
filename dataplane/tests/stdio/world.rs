//! One stdio upstream in front of the fake server, and a client that says what HTTP would say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use ostler_config::{
    CompiledUpstream, Limits, ProtocolPin, SecretString, Share, StdioTransport, Timeouts, Transport,
};
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_core::net::SystemNetwork;
use ostler_dataplane::Deps;
use ostler_dataplane::govern::{Asking, Governance, Permit, Way};
use ostler_dataplane::mount::session::SessionTable;
use ostler_dataplane::pipeline::RequestIds;
use ostler_dataplane::upstream::health::State;
use ostler_dataplane::upstream::{Answer, AnswerBody, Call, Children, Upstream, UpstreamError, Verb};
use ostler_mcp::{Envelope, Era, sse};
use ostler_policy::Caller;
use serde_json::{Value, json};

use crate::fake;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: &str = "application/json, text/event-stream";

pub struct World {
    pub upstream: Upstream,
    pub sessions: Arc<SessionTable>,
    pub config: CompiledUpstream,
    pub deps: Deps,
}

/// A client of the upstream.
pub struct Client<'w> {
    world: &'w World,
    pub era: Era,
    pub session: Option<String>,
    pub accept: &'static str,
}

/// An answer that is read event by event.
pub struct Events {
    body: AnswerBody,
    decoder: sse::Decoder,
}

/// A server of the fake kind.
pub fn fake_transport() -> StdioTransport {
    let command = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    StdioTransport {
        command,
        args: fake::ARGS.iter().map(|arg| SecretString::new((*arg).to_owned())).collect(),
        env: vec![(fake::ROLE.to_owned(), SecretString::new("1".to_owned()))],
        cwd: None,
        share: Share::Session,
        warm: false,
        secrets: Vec::new(),
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(fake_transport(), Timeouts::default())
    }

    pub fn shared() -> Self {
        Self::with(StdioTransport { share: Share::Mount, ..fake_transport() }, Timeouts::default())
    }

    pub fn with(transport: StdioTransport, timeouts: Timeouts) -> Self {
        let deps = Deps::new(WallClock::system(), Arc::new(SystemNetwork), 1, 7);
        let name = ResourceName::parse("fake").unwrap();
        let config = CompiledUpstream {
            name,
            transport: Transport::Stdio(transport),
            protocol: ProtocolPin::Auto,
            timeouts,
            limits: Limits::default(),
            unresolved: None,
            part: Digest::of(b"part"),
            identity: Digest::of(b"identity"),
            constant: None,
        };
        let upstream = Upstream::new(&config, &deps);
        Self { upstream, sessions: Arc::new(SessionTable::new(WallClock::system())), config, deps }
    }

    pub fn counts(&self) -> Children {
        self.upstream.children().expect("a stdio upstream")
    }

    /// State and reason.
    pub fn health(&self) -> (State, &'static str) {
        let reading = self.upstream.health.reading();
        (reading.state, reading.reason.as_str())
    }

    pub fn modern(&self) -> Client<'_> {
        Client { world: self, era: Era::Modern, session: None, accept: BOTH }
    }

    /// A legacy client before `initialize`.
    pub fn stranger(&self) -> Client<'_> {
        Client { world: self, era: Era::Legacy, session: None, accept: BOTH }
    }

    /// A legacy client with a session.
    pub async fn legacy(&self) -> Client<'_> {
        let mut client = self.stranger();
        client.initialize().await.unwrap();
        client
    }

    /// Waits until as many children are left.
    pub async fn until_children(&self, count: usize) {
        until(|| self.counts().running == count).await;
    }

    pub async fn shutdown(&self) {
        within(self.upstream.shutdown(Duration::from_secs(10))).await;
        assert_eq!(self.counts().running, 0);
        assert!(within(self.deps.tasks.shutdown(Duration::from_secs(5))).await, "tasks are left");
    }
}

impl Client<'_> {
    /// Starts a session; returns the answer.
    pub async fn initialize(&mut self) -> Result<Value, UpstreamError> {
        let body = json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"},
        }});
        let answer = self.post(&body.to_string()).await?;
        let id = answer.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        self.session = id;
        let answer = json_of(answer).await;
        if self.session.is_some() {
            let done = self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await?;
            assert_eq!(done.status(), 202);
        }
        Ok(answer)
    }

    pub async fn post(&self, body: &str) -> Result<Answer, UpstreamError> {
        self.send(Verb::Post, body).await
    }

    pub async fn send(&self, verb: Verb, body: &str) -> Result<Answer, UpstreamError> {
        let world = self.world;
        let envelope = (verb == Verb::Post).then(|| Envelope::scan(body.as_bytes()).unwrap());
        let headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static(self.accept))]);
        let nobody = Caller::default();
        let session = self
            .session
            .as_deref()
            .map(|id| world.sessions.get(id, &nobody).expect("the mount knows the session"));
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let permit = permit(envelope.as_ref(), &bytes).await;
        let call = Call {
            verb,
            worker: 0,
            caller: &nobody,
            headers: &headers,
            body: bytes,
            envelope: envelope.as_ref(),
            era: self.era,
            session,
            sessions: &world.sessions,
            config: &world.config,
            pass: permit.pass(),
        };
        within(world.upstream.call(call)).await
    }

    /// What each request of the client's era says of itself.
    pub fn meta(&self) -> Value {
        match self.era {
            Era::Legacy => json!({}),
            Era::Modern => {
                json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}})
            }
        }
    }

    /// Calls a tool; the progress token is the id.
    pub async fn call(&self, id: Value, tool: &str, arguments: Value) -> Result<Answer, UpstreamError> {
        let mut meta = self.meta();
        meta["progressToken"] = id.clone();
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string())
            .await
    }

    /// Calls a tool that answers with JSON and returns its result.
    pub async fn result(&self, tool: &str, arguments: Value) -> Value {
        let id = json!(format!("result of {tool}"));
        let answer = json_of(self.call(id.clone(), tool, arguments).await.unwrap()).await;
        assert_eq!(answer["id"], id);
        answer["result"].clone()
    }

    /// The same, waiting out the backoff after a child's end.
    pub async fn result_at_last(&self, tool: &str) -> Value {
        within(async {
            loop {
                match self.call(json!("again"), tool, json!({})).await {
                    Ok(answer) => return json_of(answer).await["result"].clone(),
                    Err(error) => {
                        tokio::time::sleep(error.retry_after.expect("it says when to come back")).await;
                    }
                }
            }
        })
        .await
    }

    pub async fn open_stream(&self) -> Events {
        Events::of(self.send(Verb::Get, "").await.unwrap())
    }
}

impl Events {
    pub fn of(answer: Answer) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        Self { body: answer.into_body(), decoder: sse::Decoder::default() }
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        within(async {
            loop {
                if let Some(event) = self.decoder.next_event().unwrap() {
                    return Some(
                        serde_json::from_slice(event.message().expect("an event has a message")).unwrap(),
                    );
                }
                let frame = self.body.frame().await?.unwrap();
                self.decoder.push(&frame.into_data().unwrap());
            }
        })
        .await
    }

    /// All that is left.
    pub async fn rest(mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }
}

pub async fn json_of(answer: Answer) -> Value {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    serde_json::from_slice(&within(answer.into_body().collect()).await.unwrap().to_bytes()).unwrap()
}

/// The work's output, or the test has hung.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

/// Whether a process runs; one that nobody has reaped yet does not.
pub fn is_alive(pid: &Value) -> bool {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok() && !is_zombie
}

/// Waits until the process is gone: a signal is on its way when the sender returns, not at its end.
pub async fn until_gone(pid: &Value) {
    until(|| !is_alive(pid)).await;
}

/// Moves the clock alone; nothing sleeps.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until something is so.
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn kill(pid: &Value) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Leave to send, of nobody who governs.
pub async fn permit(envelope: Option<&Envelope<'_>>, body: &Bytes) -> Permit {
    let asking = Asking {
        caller: &ostler_policy::Caller::default(),
        request_id: RequestIds::from_entropy().next(),
        way: Way { mount: "up", upstream: Some("up"), offered: None },
        envelope,
        body,
        session: None,
    };
    Arc::new(Governance::default()).ask(asking).await.unwrap()
}
