//! One request to a child and what becomes of it: a JSON answer when the response comes first, a stream of events when
//! something else does.

use std::sync::Arc;

use bytes::Bytes;
use ostler_core::limits::SSE_KEEP_ALIVE;
use ostler_core::lines::frame;
use ostler_mcp::answer::Said;
use ostler_mcp::{Envelope, Era, method};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::clock::Clock;
use super::errors;
use super::inbound::Inbound;
use super::judge;
use super::keeper::Keeper;
use super::link::{Link, Unsent};
use super::queue::{Item, Receiver, queue};
use super::reply;
use super::rewrite;
use super::routes::{OpenError, Route, Seat};
use crate::govern::Witness;
use crate::upstream::health::Evidence;
use crate::upstream::questions::Silence;
use crate::upstream::settings::Setting;
use crate::upstream::{Answer, Call, Fault, UpstreamError};

/// A request on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    ticket: Ticket,
    items: Receiver,
    clock: Clock,
    /// The client's id, raw.
    id: Arc<str>,
    era: Era,
    events: bool,
    listens: bool,
    discovers: bool,
    /// What is called, from a fixed list of words.
    method: &'static str,
    /// What the child had written when the request was sent.
    heard: u64,
    witness: Option<Witness>,
}

/// What a child said to a request.
#[derive(Debug)]
enum Heard {
    Message(Bytes),
    /// With what it says; nothing follows.
    Response(Bytes, Said),
}

/// A place in the child's table; dropping it gives the place up.
#[derive(Debug)]
struct Ticket {
    link: Arc<Link>,
    /// Keeps the child running until its last answer is out.
    _keeper: Arc<Keeper>,
    number: u64,
    wire_id: String,
    /// In the modern era a client that leaves has cancelled; in the legacy era it has not.
    leaving_cancels: bool,
}

/// Sends the call's request. `events` says whether more than the response is wanted.
///
/// # Errors
/// When there is no child to send it to, or it cannot be sent in time.
pub(super) async fn ask(
    keeper: &Arc<Keeper>,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
    seat: Option<Seat>,
    events: bool,
) -> Result<Exchange, UpstreamError> {
    let Some(id) = &envelope.id else { return Err(errors::invalid_message("a request needs an id")) };
    let listens = envelope.method == method::SUBSCRIPTIONS_LISTEN;
    let discovers = envelope.method == method::SERVER_DISCOVER;
    let clock = if listens { Clock::never() } else { Clock::start(&call.config.timeouts) };
    // A child may end between being found and being told. What it was never told may be told to the next, once.
    for _ in 0..2 {
        let link = clock.within(keeper.link()).await??;
        let (to, items) = queue(&link.host.buffered);
        let id: Arc<str> = id.raw().into();
        let token = envelope.meta.progress_token.map(|token| Arc::from(token.raw()));
        let setting = Setting::of(envelope, &call.body);
        let route = Route { seat, id: Arc::clone(&id), token, events, setting, to };
        let number = match link.routes.open(route.clone()) {
            Ok(number) => number,
            Err(OpenError::Duplicate) => return Err(errors::duplicate_id()),
            Err(OpenError::Closed) => continue,
        };
        let wire_id = link.inbound.wire_id(number, &id);
        let leaving_cancels = call.era == Era::Modern;
        let ticket = Ticket { link, _keeper: Arc::clone(keeper), number, wire_id, leaving_cancels };
        if let Inbound::Session(mailbox) = &ticket.link.inbound
            && events
        {
            for line in mailbox.take_waiting() {
                ticket.link.deliver(number, &route, line);
            }
        }
        // The table alone holds the stream's end from here on.
        drop(route);
        let line = line_of(&ticket.link.inbound, &call.body, envelope, number)?;
        let heard = ticket.link.heard();
        match clock.within(ticket.link.send(line)).await {
            Ok(Ok(())) => {
                let (era, method) = (call.era, method::label(&envelope.method));
                return Ok(Exchange {
                    ticket,
                    items,
                    clock,
                    id,
                    era,
                    events,
                    listens,
                    discovers,
                    method,
                    heard,
                    witness: call.pass.witness(Some(envelope)),
                });
            }
            Ok(Err(Unsent::Closed)) => ticket.done(),
            Ok(Err(Unsent::Full)) => {
                ticket.done();
                return Err(errors::queues_full());
            }
            Err(error) => {
                ticket.done();
                judge::suspect(&ticket.link, heard);
                return Err(error);
            }
        }
    }
    Err(errors::over())
}

fn line_of(
    inbound: &Inbound,
    body: &Bytes,
    envelope: &Envelope<'_>,
    number: u64,
) -> Result<Bytes, UpstreamError> {
    match inbound {
        Inbound::Session(_) => Ok(frame(body)),
        Inbound::Mount(_) | Inbound::Modern => rewrite::request(body, envelope, number)
            .map(|rewritten| frame(&rewritten))
            .map_err(|_| errors::invalid_message("the request's id could not be replaced")),
    }
}

// === impl Exchange ===

impl Exchange {
    /// The response alone; whatever else comes first is passed over.
    pub(super) async fn response(mut self) -> Result<(Bytes, Said), UpstreamError> {
        loop {
            match self.next().await? {
                Heard::Message(_) => self.clock.heard(),
                Heard::Response(line, said) => return Ok((line, said)),
            }
        }
    }

    /// The answer: JSON if the response comes first and soon, else events.
    pub(super) async fn answer(mut self) -> Result<Answer, UpstreamError> {
        if !self.events {
            let (era, discovers) = (self.era, self.discovers);
            return self.response().await.map(|(line, said)| reply::response(line, said, era, discovers));
        }
        let first = tokio::select! {
            biased;
            heard = self.next() => match heard? {
                Heard::Response(line, said) => return Ok(reply::response(line, said, self.era, self.discovers)),
                Heard::Message(first) => Some(first),
            },
            // Something between here and the client may take silence for the end.
            () = sleep(SSE_KEEP_ALIVE) => None,
        };
        let (out, events) = mpsc::channel(1);
        let answer = match &first {
            Some(_) => reply::events(events),
            None => reply::silent_events(events),
        };
        let tasks = self.ticket.link.host.deps.tasks.clone();
        tasks.spawn("stdio_answer", self.stream(first, out));
        Ok(answer)
    }

    /// What the child says to the request. Cancelling it loses nothing.
    async fn next(&mut self) -> Result<Heard, UpstreamError> {
        let item = loop {
            match self.clock.within(self.items.next()).await {
                Err(_) if self.waits_for_client() => {}
                item => break item,
            }
        };
        match item {
            Ok(Some(Item::Message(line))) => Ok(Heard::Message(line)),
            Ok(Some(Item::Response(line, said))) => {
                if let Some(witness) = &self.witness {
                    witness.said(said);
                }
                Ok(Heard::Response(line, said))
            }
            Ok(Some(Item::Failed(error))) => Err(self.failed(*error)),
            Ok(None) => Err(self.failed(errors::cut())),
            Err(error) => {
                self.time_out();
                Err(self.failed(error))
            }
        }
    }

    fn failed(&self, error: UpstreamError) -> UpstreamError {
        if let Some(witness) = &self.witness {
            witness.failed(error.reason);
        }
        error.after_sending(self.method)
    }

    /// Whether the child's silence is not its own: it waits for an answer, or has been given one not long ago.
    fn waits_for_client(&mut self) -> bool {
        match self.ticket.link.questions.silence(self.ticket.number) {
            Silence::Waits => self.clock.excuse(Instant::now()),
            Silence::Since(answered) => self.clock.excuse(answered),
            Silence::Counts => false,
        }
    }

    fn time_out(&self) {
        self.ticket.time_out();
        judge::suspect(&self.ticket.link, self.heard);
    }

    /// Writes events until the response, or until the client leaves.
    async fn stream(mut self, first: Option<Bytes>, out: mpsc::Sender<Bytes>) {
        let mut event = match &first {
            Some(line) => reply::event(line),
            None => reply::keep_alive(),
        };
        let mut silent = first.is_none();
        loop {
            if !silent {
                self.clock.heard();
            }
            if !self.write(&out, event).await {
                return;
            }
            let heard = tokio::select! {
                biased;
                () = out.closed() => return,
                heard = self.next() => heard,
                () = sleep(SSE_KEEP_ALIVE) => {
                    (event, silent) = (reply::keep_alive(), true);
                    continue;
                }
            };
            silent = false;
            event = match heard {
                Ok(Heard::Message(line)) => reply::event(&line),
                Ok(Heard::Response(line, _)) => {
                    self.ticket.link.host.health.record(Evidence::Answered);
                    self.write(&out, reply::event(&line)).await;
                    return;
                }
                // A subscription that its server has torn down said so with its last message.
                Err(_) if self.listens => return,
                Err(error) => {
                    if let Fault::Upstream(what) = error.fault {
                        self.ticket.link.host.health.record(Evidence::Failed(what));
                    }
                    return self.write_error(&out, &error).await;
                }
            };
        }
    }

    /// False when the client has left, or takes longer than the call may.
    async fn write(&self, out: &mpsc::Sender<Bytes>, event: Bytes) -> bool {
        match self.clock.within(out.send(event)).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.ticket.time_out();
                false
            }
        }
    }

    async fn write_error(&self, out: &mpsc::Sender<Bytes>, error: &UpstreamError) {
        let event = reply::error_event(&self.id, error, &self.ticket.link.host.name);
        // The call's time may be what is up; a client that does not read the end gets none.
        let grace = ostler_core::limits::CHILD_STOP_GRACE;
        let _ = tokio::time::timeout(grace, out.send(event)).await;
    }
}

// === impl Ticket ===

impl Ticket {
    /// The child was never told of the request.
    fn done(&self) {
        self.link.routes.take(self.number);
    }

    fn time_out(&self) {
        if self.link.routes.take(self.number).is_some() {
            self.link.cancel(&self.wire_id, "timed out");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.link.questions.forget(self.number);
        if self.link.routes.take(self.number).is_some() && self.leaving_cancels {
            self.link.cancel(&self.wire_id, "client left");
        }
    }
}
