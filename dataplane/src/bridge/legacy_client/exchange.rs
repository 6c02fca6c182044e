//! One request of a legacy client's: sent as a modern one; what the upstream wants to know is asked of the client on the
//! answer's stream, and the request sent again with what it said.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use ostler_core::limits::{BRIDGE_ROUNDS_MAX, SSE_KEEP_ALIVE};
use ostler_mcp::bridge::legacy_client::{InputRequired, InputResponses, Outcome, outcome};
use ostler_mcp::headers::EVENT_STREAM;
use ostler_mcp::{Envelope, Era, Kind, Reason, message, method, splice, sse};
use tokio::time::{Instant, sleep, timeout_at};

use super::super::ask::{self, Asker, invalid, may_be_asked, unbridgeable};
use super::super::era;
use super::super::mirrors::{self, Pages};
use super::super::stream::{Bridged, Writer};
use super::question::Question;
use super::resumption::Resumption;
use super::session::Underway;
use super::{BridgedSession, json, session_over, typed};
use crate::mount::Mount;
use crate::upstream::{Answer, AnswerBody, BodyError, Call, Tail, UpstreamError};

/// A request, and everything it takes to send it again.
struct Exchange {
    mount: Arc<Mount>,
    session: Arc<BridgedSession>,
    asker: Asker,
    /// As the client sent it.
    body: Bytes,
    /// The client's id, raw.
    id: Box<str>,
    underway: Underway,
    rounds: usize,
    deadline: Instant,
}

/// What an upstream's response is to the client.
enum Said {
    /// The response, with the client's id.
    Final(Bytes),
    Asks(InputRequired),
}

/// The answer's stream.
struct Answering {
    exchange: Exchange,
    step: Step,
}

enum Step {
    Reading {
        body: AnswerBody,
        decoder: sse::Decoder,
    },
    /// Written and not yet read.
    Writing {
        events: VecDeque<Bytes>,
        then: Box<Step>,
    },
    Waiting {
        questions: Vec<(String, Question)>,
        resumption: Resumption,
    },
    Over,
}

pub(super) async fn serve(
    session: Arc<BridgedSession>,
    mount: &Arc<Mount>,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
) -> Result<Answer, UpstreamError> {
    let underway = session.begin(envelope)?;
    let exchange = Exchange {
        mount: Arc::clone(mount),
        session,
        asker: Asker::of(call),
        body: call.body.clone(),
        id: envelope.id.map_or("null", |id| id.raw()).into(),
        underway,
        rounds: 0,
        deadline: Instant::now() + call.config.timeouts.total,
    };
    exchange.run().await
}

// === impl Exchange ===

impl Exchange {
    async fn run(mut self) -> Result<Answer, UpstreamError> {
        let answer = self.send(None).await;
        if era::may_be_refusal(&answer, Era::Modern)
            && era::look_again(&self.mount, &self.asker).await == Some(Era::Legacy)
        {
            return Err(session_over());
        }
        let answer = answer?;
        if ask::is_stream(&answer) {
            let step = Step::Reading { body: answer.into_body(), decoder: sse::Decoder::default() };
            return Ok(self.stream(step));
        }
        let response = ask::response(answer).await?;
        match self.judge(response)? {
            Said::Final(response) => Ok(json(response)),
            Said::Asks(required) => {
                let step = self.put_questions(required)?;
                Ok(self.stream(step))
            }
        }
    }

    fn stream(self, step: Step) -> Answer {
        typed(EVENT_STREAM, AnswerBody::Bridged(Bridged::new(Answering { exchange: self, step })))
    }

    /// Sends the request, the first time or again.
    async fn send(&mut self, responses: Option<&InputResponses>) -> Result<Answer, UpstreamError> {
        let body = self.body.clone();
        let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the message"))?;
        // An id is used once; the client's own comes back in the end.
        let id = match responses {
            None => self.id.to_string(),
            Some(_) => format!("\"ostler-{}\"", self.session.number()),
        };
        let message = self.session.caller().request(&id, &envelope, responses);
        let message = message.map_err(|_| unbridgeable("the message"))?;
        let wanted = mirrors::of(&self.mount, &envelope);
        let cancelled = self.underway.cancelled.clone();
        let answer = tokio::select! {
            answer = self.asker.send(&self.mount, message.clone(), &wanted) => answer?,
            () = cancelled.cancelled() => return Err(cancelled_by_client()),
        };
        if envelope.method != method::TOOLS_CALL || !mirrors::are_missed(&answer) {
            return Ok(answer);
        }
        // The upstream has refused it unexecuted, because of headers that only the tool's schema tells of.
        let wanted = mirrors::learn(&self.mount, envelope.name.as_deref().unwrap_or_default(), self).await?;
        self.asker.send(&self.mount, message, &wanted).await
    }

    fn judge(&self, response: Bytes) -> Result<Said, UpstreamError> {
        let envelope = Envelope::scan(&response).map_err(|_| invalid("it is no message"))?;
        if let Some(result) = envelope.result {
            let asked = outcome(result, envelope.result_type.as_deref())
                .map_err(|error| invalid(&error.to_string()))?;
            if let Outcome::InputRequired(required) = asked {
                return Ok(Said::Asks(required));
            }
            let request = Envelope::scan(&self.body).map_err(|_| unbridgeable("the message"))?;
            if request.method == method::TOOLS_LIST
                && let Some(kept) = mirrors::without_unusable(&self.mount, result)
            {
                return Ok(Said::Final(message::result(&self.id, &kept).into()));
            }
        }
        match envelope.id {
            Some(id) if id.raw() == &*self.id => Ok(Said::Final(response)),
            Some(id) => {
                let own = splice(&response, &[(id.range(), self.id.as_bytes())]);
                own.map(|own| Said::Final(own.into())).map_err(|_| invalid("its id cannot be replaced"))
            }
            // Servers answer without an id what they could not read.
            None => {
                let error = envelope.error.ok_or_else(|| invalid("it has no id"))?;
                Ok(Said::Final(error_response(&self.id, error)))
            }
        }
    }

    /// Writes the upstream's questions to the client.
    fn put_questions(&mut self, required: InputRequired) -> Result<Step, UpstreamError> {
        let resumption = Resumption {
            mount: Arc::clone(&self.mount),
            session: Arc::clone(&self.session),
            asker: self.asker.clone(),
            body: self.body.clone(),
            state: required.state,
        };
        self.rounds += 1;
        if self.rounds > BRIDGE_ROUNDS_MAX {
            return Err(invalid("it asks again and again"));
        }
        if !may_be_asked(&required.requests) {
            return Err(invalid("it asks too much at once"));
        }
        let caller = self.session.caller();
        let (mut questions, mut events) = (Vec::new(), VecDeque::new());
        for request in required.requests {
            if !caller.can_answer(&request.method) {
                return Err(invalid("it asks for what the client has not declared"));
            }
            let question = self.session.question();
            let id = question.number().to_string();
            let body = match &request.params {
                Some(params) => message::request(&id, &request.method, params),
                None => message::bare_request(&id, &request.method),
            };
            events.push_back(event(&body));
            questions.push((request.key, question));
        }
        let then = Box::new(Step::Waiting { questions, resumption });
        Ok(Step::Writing { events, then })
    }
}

impl Pages for Exchange {
    async fn page(&self, cursor: Option<&str>) -> Result<Bytes, UpstreamError> {
        let list = self.session.caller().list_tools("\"ostler-tools\"", cursor);
        let list = list.map_err(|_| unbridgeable("a list of tools"))?;
        ask::response(self.asker.send(&self.mount, list, &[]).await?).await
    }
}

// === impl Answering ===

impl Writer for Answering {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match self.step().await {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) if matches!(self.step, Step::Over) => return None,
                Ok(None) => {}
                Err(error) => {
                    let ids = vec![self.exchange.id.clone()];
                    return Some(Err(BodyError { error, tail: Tail::Events { close: b"", ids } }));
                }
            }
        }
    }
}

impl Answering {
    /// One step on; events to write, if it has any.
    async fn step(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let cancelled = self.exchange.underway.cancelled.clone();
        match &mut self.step {
            Step::Over => Ok(None),
            Step::Writing { events, then } => match events.pop_front() {
                Some(event) => Ok(Some(event)),
                None => {
                    self.step = std::mem::replace(then, Step::Over);
                    Ok(None)
                }
            },
            Step::Reading { body, decoder } => {
                let event = decoder.next_event().map_err(|_| invalid("an event is too large"))?;
                if let Some(event) = event {
                    return self.heard(event);
                }
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = cancelled.cancelled() => return self.cancelled(),
                };
                match frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            decoder.push(data);
                        }
                        Ok(None)
                    }
                    Some(Err(broken)) => Err(broken.error),
                    None => Err(invalid("it ends without the response")),
                }
            }
            Step::Waiting { questions, resumption } => {
                let deadline = self.exchange.deadline;
                let answered = join_all(questions.iter_mut().map(|(_, question)| question.answered()));
                tokio::select! {
                    biased;
                    // The end of the session ends both.
                    () = cancelled.cancelled() => return self.cancelled(),
                    answered = timeout_at(deadline, answered) => drop(answered.map_err(|_| unanswered())?),
                    () = sleep(SSE_KEEP_ALIVE) => return Ok(Some(Bytes::from_static(sse::KEEP_ALIVE))),
                };
                let mut responses = InputResponses { results: Vec::new(), state: resumption.state.clone() };
                for (key, question) in questions.iter() {
                    let answer = question.answer().ok_or_else(unanswered)?;
                    let envelope = Envelope::scan(answer).map_err(|_| unbridgeable("the client's answer"))?;
                    match (envelope.result, envelope.error) {
                        (Some(result), _) => responses.results.push((key.clone(), result.to_owned())),
                        (None, Some(error)) => {
                            // The upstream has no word for it, and a legacy server would have failed its call.
                            let response = error_response(&self.exchange.id, error);
                            self.step = Step::Over;
                            return Ok(Some(event(&response)));
                        }
                        (None, None) => return Err(unbridgeable("the client's answer")),
                    }
                }
                self.again(responses).await.map(|()| None)
            }
        }
    }

    /// An event of the upstream's.
    fn heard(&mut self, heard: sse::Event) -> Result<Option<Bytes>, UpstreamError> {
        let Some(data) = heard.data.clone().filter(|_| heard.message().is_some()) else {
            return Ok(Some(heard.raw));
        };
        let envelope = Envelope::scan(&data).map_err(|_| invalid("an event is no message"))?;
        match envelope.kind {
            Kind::Notification => Ok(Some(heard.raw)),
            Kind::Response { .. } => self.responded(data),
            Kind::Request | Kind::Batch => Err(invalid("a server of its era sends no requests")),
        }
    }

    fn responded(&mut self, response: Bytes) -> Result<Option<Bytes>, UpstreamError> {
        match self.exchange.judge(response)? {
            Said::Final(response) => {
                self.step = Step::Over;
                Ok(Some(event(&response)))
            }
            Said::Asks(required) => {
                self.step = self.exchange.put_questions(required)?;
                Ok(None)
            }
        }
    }

    async fn again(&mut self, responses: InputResponses) -> Result<(), UpstreamError> {
        let answer = self.exchange.send(Some(&responses)).await?;
        if ask::is_stream(&answer) {
            self.step = Step::Reading { body: answer.into_body(), decoder: sse::Decoder::default() };
            return Ok(());
        }
        let response = ask::response(answer).await?;
        if let Some(last) = self.responded(response)? {
            self.step = Step::Writing { events: VecDeque::from([last]), then: Box::new(Step::Over) };
        }
        Ok(())
    }

    /// The client wants no answer any more, and must not be sent one (2025-11-25, cancellation).
    fn cancelled(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        self.step = Step::Over;
        Ok(None)
    }
}

fn event(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + "event: message\ndata: \n\n".len());
    sse::encode_message(&mut event, message, None);
    event.freeze()
}

fn error_response(id: &str, raw: &str) -> Bytes {
    Bytes::from(message::error(id, raw))
}

fn unanswered() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamTimeout,
        "the client did not answer what the upstream wants to know within `timeouts.total`; answer its requests",
    )
}

fn cancelled_by_client() -> UpstreamError {
    UpstreamError::new(Reason::InvalidRequest, "the client cancelled the request")
}
