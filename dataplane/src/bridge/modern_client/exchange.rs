//! One request of a modern client's in a session that the data plane holds: its answer completed with what the era wants, its
//! progress under the client's own token, and a question of the server's handed to the client with the call parked.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use ostler_core::limits::SSE_KEEP_ALIVE;
use ostler_mcp::bridge::legacy_client::{InputRequest, InputResponses};
use ostler_mcp::bridge::modern_client::{self, Request};
use ostler_mcp::bridge::{BridgeError, Members};
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, Era, Kind, error, message, method, sse};
use tokio::time::{Instant, timeout_at};

use super::parked::{self, Parked, Question};
use super::pool::Lease;
use super::pooled::response_to;
use super::{MayBeRefusal, json, level, typed};
use crate::bridge::ask::{self, Asker, invalid, unbridgeable};
use crate::bridge::stream::{Bridged, Writer};
use crate::bridge::{era, mirrors};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, BodyError, Tail, UpstreamError};

/// A request under way at the upstream. Dropped before its end, it is cancelled there: a client of this era that leaves
/// wants it no more.
pub(super) struct Upward {
    mount: Arc<Mount>,
    asker: Asker,
    lease: Arc<Lease>,
    /// Its id there, and its progress token.
    number: u64,
    is_over: bool,
}

/// Whom it is for.
struct Client {
    /// Raw.
    id: String,
    request: Request,
    /// How long the call may wait for its answers.
    patience: Duration,
}

/// The answer: one message if that is the first there is to say, else a stream.
struct Answering {
    upward: Option<Upward>,
    client: Client,
    body: AnswerBody,
    decoder: sse::Decoder,
    /// What the server has asked and is not told yet.
    questions: Vec<Question>,
    /// Until when its head waits for the first message, whose status it has.
    head_until: Option<Instant>,
    /// Said before it was clear that it is a stream.
    first: Option<Bytes>,
}

/// What becomes of a message on the answer's stream.
enum Step {
    Say(Bytes),
    Last(Response),
    Nothing,
}

/// The response to the client, with the status that it has in the era.
struct Response {
    body: Vec<u8>,
    status: StatusCode,
}

/// What a server may ask back about (2026-07-28, multi round-trip requests).
const ASKABLE: [&str; 3] = [method::TOOLS_CALL, method::PROMPTS_GET, method::RESOURCES_READ];

pub(super) async fn serve(
    mount: &Arc<Mount>,
    asker: Asker,
    id: &str,
    mut request: Request,
    total: Duration,
) -> Result<Answer, UpstreamError> {
    let responses = request.responses.take();
    let client = Client { id: id.to_owned(), request, patience: total };
    match responses {
        Some(InputResponses { results, state: Some(state) }) => {
            resume(mount, asker, client, &state, &results).await
        }
        // Answers without a state answer nothing that we have asked.
        Some(InputResponses { state: None, .. }) | None => begin(mount, asker, client).await,
    }
}

async fn begin(mount: &Arc<Mount>, asker: Asker, client: Client) -> Result<Answer, UpstreamError> {
    let request = &client.request;
    let write = |number| request.legacy(number).map_err(|_| unbridgeable("the request"));
    let pool = &mount.runtime.pool;
    let sent = pool.send(mount, &asker, &request.capabilities, request.log_level.as_deref(), write).await?;
    let (answer, mut upward) = sent;
    if !ask::is_stream(&answer) {
        let answer = Ok(answer);
        let may_be_refusal = era::may_be_refusal(&answer, Era::Legacy);
        let response = ask::response(answer?).await?;
        upward.is_over = true;
        let mut answer = upward.response(&client, &response)?.into_answer();
        if may_be_refusal {
            answer.extensions_mut().insert(MayBeRefusal);
        }
        return Ok(answer);
    }
    Answering::new(upward, client, answer.into_body(), sse::Decoder::default(), Vec::new()).answer().await
}

/// Goes on with a parked call: tells its server what the client has said, and asks again for what it has not.
async fn resume(
    mount: &Arc<Mount>,
    asker: Asker,
    client: Client,
    state: &str,
    results: &[(String, String)],
) -> Result<Answer, UpstreamError> {
    let state: String = serde_json::from_str(state).map_err(|_| unbridgeable("`requestState`"))?;
    let mut parked = mount
        .runtime
        .pool
        .parked
        .unpark(&state, parked::digest(&client.request, asker.pass().principal()))?;
    parked.upward.asker = asker;
    let mut open = Vec::new();
    for question in parked.questions {
        let told = results.iter().find(|(key, _)| *key == question.request.key);
        match told {
            Some((_, result)) => parked.upward.tell(&response_to(&question.id, result)).await?,
            None => open.push(question),
        }
    }
    parked.body.touch();
    Answering::new(parked.upward, client, parked.body, parked.decoder, open).answer().await
}

// === impl Upward ===

impl Upward {
    pub(super) fn new(mount: &Arc<Mount>, asker: &Asker, lease: Lease, number: u64) -> Self {
        let (mount, asker, lease) = (Arc::clone(mount), asker.clone(), Arc::new(lease));
        Self { mount, asker, lease, number, is_over: false }
    }

    /// The session that it is under way in.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whom it is for.
    pub(super) fn principal(&self) -> Option<(&str, &str)> {
        self.asker.pass().principal()
    }

    /// There is nothing left to cancel.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }

    /// Sends a message that is no request.
    async fn tell(&self, body: &[u8]) -> Result<(), UpstreamError> {
        let table = &self.mount.runtime.pool.table;
        self.lease.send(table, &self.mount, &self.asker, body.to_vec()).await.map(drop)
    }

    /// The response as the client's own.
    fn response(&self, client: &Client, response: &[u8]) -> Result<Response, UpstreamError> {
        let malformed = |error: BridgeError| invalid(&error.to_string());
        let envelope = Envelope::scan(response).map_err(|_| invalid("it is no message"))?;
        if let Some(result) = envelope.result {
            if client.request.method == method::TOOLS_LIST {
                mirrors::note(&self.mount, response);
            }
            let server = self.lease.server();
            let result = modern_client::result(&client.request.method, result, server.as_deref());
            return Ok(Response::ok(message::result(&client.id, &result.map_err(malformed)?)));
        }
        let error = envelope.error.ok_or_else(|| invalid("it is no response"))?;
        let error = modern_client::error(error, envelope.error_code).map_err(malformed)?;
        let status = match envelope.error_code {
            Some(code) if code == i64::from(error::METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        Ok(Response { body: message::error(&client.id, &error), status })
    }
}

// === impl Response ===

impl Response {
    fn ok(body: Vec<u8>) -> Self {
        Self { body, status: StatusCode::OK }
    }

    fn into_answer(self) -> Answer {
        json(self.status, self.body)
    }
}

impl Drop for Upward {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (mount, asker, lease, number) =
            (Arc::clone(&self.mount), self.asker.clone(), Arc::clone(&self.lease), self.number);
        // The server may be at it still.
        lease.spoil();
        let tasks = self.mount.upstream.tasks();
        tasks.spawn_until_stopped("cancel upstream", async move {
            let body = message::cancelled(&number.to_string(), "the client has left");
            // Nobody waits for what comes of it.
            let _ = lease.send(&mount.runtime.pool.table, &mount, &asker, body).await;
        });
    }
}

// === impl Answering ===

impl Writer for Answering {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            match self.step().await {
                Ok(Step::Say(event)) => return Some(Ok(event)),
                Ok(Step::Last(response)) => {
                    self.upward = None;
                    return Some(Ok(event(&response.body)));
                }
                Ok(Step::Nothing) if self.upward.is_none() => return None,
                Ok(Step::Nothing) => {}
                Err(error) => {
                    self.upward = None;
                    let ids = vec![self.client.id.as_str().into()];
                    return Some(Err(BodyError { error, tail: Tail::Events { close: b"", ids } }));
                }
            }
        }
    }
}

impl Answering {
    fn new(
        upward: Upward,
        client: Client,
        body: AnswerBody,
        decoder: sse::Decoder,
        questions: Vec<Question>,
    ) -> Self {
        let head_until = Some(Instant::now() + SSE_KEEP_ALIVE);
        Self { upward: Some(upward), client, body, decoder, questions, head_until, first: None }
    }

    /// The answer with its head, which is told as soon as it is clear what the answer is.
    async fn answer(mut self) -> Result<Answer, UpstreamError> {
        loop {
            match self.step().await? {
                Step::Last(response) => return Ok(response.into_answer()),
                Step::Say(first) => {
                    (self.head_until, self.first) = (None, Some(first));
                    return Ok(typed(EVENT_STREAM, AnswerBody::Bridged(Bridged::new(self))));
                }
                Step::Nothing => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Step, UpstreamError> {
        if self.upward.is_none() {
            return Ok(Step::Nothing);
        }
        let event = self.decoder.next_event().map_err(|_| invalid("an event is too large"))?;
        if let Some(event) = event {
            return self.heard(event).await;
        }
        let frame = match (self.questions.is_empty(), self.head_until) {
            (true, None) => self.body.frame().await,
            (true, Some(until)) => match timeout_at(until, self.body.frame()).await {
                Ok(frame) => frame,
                // Something between here and the client may take silence for the end.
                Err(_) => return Ok(Step::Say(Bytes::from_static(sse::KEEP_ALIVE))),
            },
            // What it has asked in one breath is asked in one.
            (false, _) => match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => return self.park(),
            },
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.decoder.push(data);
                }
                Ok(Step::Nothing)
            }
            Some(Err(broken)) => Err(broken.error),
            None => Err(invalid("it ends without the response")),
        }
    }

    async fn heard(&mut self, heard: sse::Event) -> Result<Step, UpstreamError> {
        let Some(data) = heard.data.as_ref().filter(|_| heard.message().is_some()) else {
            // Ids to resume from are the data plane's own concern.
            let says_something = heard.is_keep_alive() && self.head_until.is_none();
            return Ok(if says_something { Step::Say(heard.raw) } else { Step::Nothing });
        };
        let envelope = Envelope::scan(data).map_err(|_| invalid("an event is no message"))?;
        match envelope.kind {
            Kind::Notification => {
                Ok(self.notified(&envelope).map_or(Step::Nothing, |said| Step::Say(event(&said))))
            }
            Kind::Request => self.asked(&envelope).await.map(|()| Step::Nothing),
            Kind::Response { .. } => {
                let Some(upward) = &mut self.upward else { return Ok(Step::Nothing) };
                upward.is_over = true;
                Ok(Step::Last(upward.response(&self.client, data)?))
            }
            Kind::Batch => Err(invalid("an event is a batch")),
        }
    }

    /// What of a server's notifications belongs on the stream of a request. The session is shared, and a server may say on one
    /// request's stream what is about another's.
    fn notified(&self, envelope: &Envelope<'_>) -> Option<Vec<u8>> {
        let upward = self.upward.as_ref()?;
        let params = || Members::parse_optional(envelope.params, "params").ok();
        match &*envelope.method {
            method::NOTIFICATIONS_PROGRESS => {
                let token = self.client.request.progress_token.as_deref()?;
                // Some servers make texts of numbers.
                let of = envelope.progress_token?.raw().trim_matches('"').parse();
                if of != Ok(upward.number) {
                    return None;
                }
                let mut params = params()?;
                params.set("progressToken", token);
                Some(message::notification(&envelope.method, Some(&params.to_json())))
            }
            method::NOTIFICATIONS_MESSAGE if upward.lease.tells_calls_apart() => {
                let level = params()?.text("level");
                let wanted = self.client.request.log_level.as_deref();
                level::is_wanted(wanted, level.as_deref())
                    .then(|| message::notification(&envelope.method, envelope.params))
            }
            // Of subscriptions, which this is none of, or a line that may be about anybody's call.
            _ => None,
        }
    }

    /// A request of the server's: kept for the client, or refused in its place.
    async fn asked(&mut self, envelope: &Envelope<'_>) -> Result<(), UpstreamError> {
        let Some(upward) = &self.upward else { return Ok(()) };
        let id = envelope.id.map_or("null", |id| id.raw());
        let declared = match &*envelope.method {
            method::PING => return upward.tell(&response_to(id, "{}")).await,
            method::ELICITATION_CREATE => "elicitation",
            method::ROOTS_LIST => "roots",
            method::SAMPLING_CREATE_MESSAGE => "sampling",
            _ => "",
        };
        let capabilities =
            Members::parse(&self.client.request.capabilities, "capabilities").unwrap_or_default();
        let may_ask = ASKABLE.contains(&&*self.client.request.method);
        if !may_ask || capabilities.get(declared).is_none() {
            let why = format!(
                r#"{{"code":{},"message":"the client cannot be asked this now"}}"#,
                error::METHOD_NOT_FOUND
            );
            return upward.tell(&message::error(id, &why)).await;
        }
        let request = InputRequest {
            key: format!("request-{}", upward.lease.number()),
            method: envelope.method.clone().into_owned(),
            params: envelope.params.map(str::to_owned),
        };
        let asked = self.questions.iter().map(|question| &question.request).chain([&request]);
        if !ask::may_be_asked(asked) {
            return Err(invalid("it asks too much at once"));
        }
        self.questions.push(Question { request, id: id.to_owned() });
        Ok(())
    }

    /// Hands the server's questions to the client, and the call to whoever comes back with the answers.
    fn park(&mut self) -> Result<Step, UpstreamError> {
        let Some(upward) = self.upward.take() else { return Ok(Step::Nothing) };
        let mount = Arc::clone(&upward.mount);
        let asked: Vec<_> = self.questions.iter().map(|question| question.request.clone()).collect();
        let digest = parked::digest(&self.client.request, upward.asker.pass().principal());
        let parked = Parked {
            upward,
            body: std::mem::replace(&mut self.body, AnswerBody::Empty),
            decoder: std::mem::take(&mut self.decoder),
            questions: std::mem::take(&mut self.questions),
            digest,
            deadline: Instant::now() + self.client.patience,
        };
        let state = mount.runtime.pool.parked.park(parked)?;
        let result = modern_client::input_required(&asked, &state);
        Ok(Step::Last(Response::ok(message::result(&self.client.id, &result))))
    }
}

fn event(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + "event: message\ndata: \n\n".len());
    sse::encode_message(&mut event, message, None);
    event.freeze()
}
