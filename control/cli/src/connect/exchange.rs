//! One request of the client, from its POST to its answer: every message on the way is passed on, and where no answer comes,
//! an error takes its place, once.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use ostler_core::limits::{CONNECT_RESUMES_MAX, CONNECT_RETRY_CAP};
use ostler_mcp::method;
use tokio::time::sleep;

use super::endpoint::{Endpoint, Reply};
use super::failure::Failure;
use super::in_flight::Ticket;
use super::messages::{Messages, ReadError, answers};
use super::mirrors::Mirrors;
use super::outbox::Outbox;
use super::session::{Hold, Session};
use super::settings::Setting;

/// What every request needs.
#[derive(Debug, Clone)]
pub struct Context {
    pub endpoint: Arc<Endpoint>,
    pub session: Arc<Session>,
    pub mirrors: Arc<Mirrors>,
    pub outbox: Outbox,
}

/// A request as it was read.
#[derive(Debug)]
pub struct Ask {
    pub body: Bytes,
    /// Raw.
    pub id: String,
    pub method: String,
    pub way: Way,
    pub ticket: Ticket,
}

/// How it is sent.
#[derive(Debug)]
pub enum Way {
    /// It begins the session; what follows waits for it.
    Initialize(Hold),
    /// In the session.
    Session,
    /// By itself, with the headers that mirror it (2026-07-28).
    Modern(HeaderMap),
}

// === impl Context ===

impl Context {
    /// Serves one request. A modern one that is called off is closed, which is how its era cancels; a legacy one goes on
    /// until the server ends it.
    pub async fn serve(self, ask: Ask) {
        let Ask { body, id, method, way, ticket } = ask;
        let answered = match way {
            Way::Initialize(hold) => self.initialize(body, ticket.id(), hold).await,
            Way::Session => self.in_session(body, &ticket).await,
            Way::Modern(headers) => {
                tokio::select! {
                    biased;
                    () = ticket.called_off() => Ok(()),
                    answered = self.modern(headers, body, &method, &ticket) => answered,
                }
            }
        };
        if let Err(failure) = answered
            && !ticket.is_called_off()
        {
            self.outbox.send(&failure.answer(&self.endpoint, &id, &method)).await;
        }
    }

    async fn initialize(&self, body: Bytes, id: &str, hold: Hold) -> Result<(), Failure> {
        let reply = self.endpoint.post(HeaderMap::new(), body.clone()).await.map_err(Failure::Send)?;
        let reply = successful(reply).await?;
        let mut messages = Messages::of(&reply.headers, reply.body);
        while let Some(message) = messages.next().await.map_err(Failure::Read)? {
            let is_answer = answers(&message, id);
            if is_answer {
                self.session.begin(&body, id, &reply.headers, &message);
            }
            self.outbox.send(&message).await;
            if is_answer {
                drop(hold);
                return self.rest(messages).await;
            }
        }
        Err(Failure::Unanswered)
    }

    async fn modern(
        &self,
        headers: HeaderMap,
        body: Bytes,
        asked: &str,
        ticket: &Ticket,
    ) -> Result<(), Failure> {
        let reply = self.endpoint.post(headers, body).await.map_err(Failure::Send)?;
        let reply = successful(reply).await?;
        let hears = |answer: &[u8]| {
            if asked == method::TOOLS_LIST {
                self.mirrors.learn(answer);
            }
        };
        let mut messages = Messages::of(&reply.headers, reply.body);
        match self.until_answer(&mut messages, ticket, hears).await.map_err(Failure::Read)? {
            true => self.rest(messages).await,
            false => Err(Failure::Unanswered),
        }
    }

    /// A server may close the stream of an answer and have it taken up again (2025-11-25 transports, "Resumability").
    async fn in_session(&self, body: Bytes, ticket: &Ticket) -> Result<(), Failure> {
        self.session.announced().await;
        let setting = Setting::of(&body);
        let hears = |answer: &[u8]| {
            if let Some(setting) = &setting {
                self.session.settings().answered(setting, answer);
            }
        };
        let mut reply = self.session.request(body).await?;
        let mut last_event_id = None;
        let mut resumes = 0;
        loop {
            let mut messages = Messages::of(&reply.headers, reply.body);
            let passed = self.until_answer(&mut messages, ticket, hears).await;
            if matches!(passed, Ok(true)) {
                return self.rest(messages).await;
            }
            if let Some(id) = messages.last_event_id() {
                last_event_id = Some(id.to_owned());
                resumes = 0;
            }
            let gone = match passed {
                Err(error) => Failure::Read(error),
                Ok(_) => Failure::Unanswered,
            };
            let Some(id) = last_event_id.as_deref().filter(|_| resumes < CONNECT_RESUMES_MAX) else {
                return Err(gone);
            };
            if ticket.is_called_off() || matches!(gone, Failure::Read(ReadError::TooLong)) {
                return Err(gone);
            }
            resumes += 1;
            sleep(messages.retry().unwrap_or(CONNECT_RETRY_CAP)).await;
            reply = self.session.listen(Some(id)).await.map_err(|_| gone)?;
        }
    }

    /// Passes messages on until the answer was one of them; whether it was. Who calls a request off gets none. `hears` is told of
    /// the answer before the client is.
    async fn until_answer(
        &self,
        messages: &mut Messages,
        ticket: &Ticket,
        hears: impl Fn(&[u8]),
    ) -> Result<bool, ReadError> {
        while let Some(message) = messages.next().await? {
            let answered = answers(&message, ticket.id());
            if answered {
                hears(&message);
            }
            if !(answered && ticket.is_called_off()) {
                self.outbox.send(&message).await;
            }
            if answered {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What comes behind an answer is passed on too, and lets its connection serve the next request.
    async fn rest(&self, mut messages: Messages) -> Result<(), Failure> {
        while let Ok(Some(message)) = messages.next().await {
            self.outbox.send(&message).await;
        }
        Ok(())
    }
}

async fn successful(reply: Reply) -> Result<Reply, Failure> {
    if reply.status.is_success() { Ok(reply) } else { Err(Failure::of(reply, false).await) }
}
