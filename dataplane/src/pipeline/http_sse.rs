//! The stages of HTTP+SSE (2024-11-05 transports), which answers a message somewhere else than where it came. A request
//! whose envelope was accepted is answered with 202, and everything after on its client's stream, refusals too: SDKs of that
//! time take no error of a POST for an answer to what it brought.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use hyper::body::Incoming;
use ostler_core::limits::UPSTREAM_STREAMS_MAX;
use ostler_mcp::headers::{EVENT_STREAM, MCP_SESSION_ID};
use ostler_mcp::{Envelope, Era, Kind, Reason, method};
use ostler_policy::Caller;

use super::audit::{self, Record};
use super::body::Buffered;
use super::head::{Head, unambiguous};
use super::refuse::{self, Asked, Refusal};
use super::{Ends, Pipeline, RequestId, Routed, Served, Shared, authn, permit};
use crate::bridge::Origin;
use crate::govern::Asking;
use crate::http_sse::{self, Channel};
use crate::listener::Entrance;
use crate::mount::bodies::Bodies;
use crate::mount::streams::{StreamEnd, StreamEnds};
use crate::scanning;
use crate::upstream::{Answer, Call, Cause, UpstreamError, Verb};

/// A message that may be sent.
struct Judged<'b> {
    body: Buffered<&'b Bodies>,
    channel: Arc<Channel>,
    caller: Caller,
    is_request: bool,
}

/// A message on its way, and whom it is for.
struct Conversation {
    shared: Arc<Shared>,
    worker: usize,
    origin: Origin,
    channel: Arc<Channel>,
    routed: Routed,
}

impl Pipeline {
    /// Opens a client's stream. It is had whatever the upstream's state, since messages are judged one by one.
    pub(super) fn open_stream<F: Future<Output = StreamEnd> + Send + 'static>(
        &self,
        headers: &HeaderMap,
        routed: &Routed,
        entrance: &Entrance,
        unwelcome: impl FnOnce(Option<&str>) -> F,
        mut record: Record,
    ) -> Served {
        record.message(None, Era::Legacy);
        let mount = &routed.mount;
        let full = |detail: String| {
            Refusal::new(Reason::Overloaded, detail).retry_after(std::time::Duration::from_secs(1))
        };
        let Some(place) = mount.upstream.admit(&mount.upstream_config, true) else {
            let detail = format!(
                "upstream has {UPSTREAM_STREAMS_MAX} streams open, as many as it may; close some or try again"
            );
            return refuse::mount(full(detail), routed, &Asked::Nothing, record);
        };
        record.hold(Some(place));
        let origin = Origin::new(self.worker, &routed.caller, headers).copied();
        let asker = origin.asks(routed.snapshot.governance().own());
        let ending = StreamEnds::of(mount.runtime.streams.ending(), entrance.ending());
        let named = |id: &str| authn::in_session(routed, Some(id), None);
        let unwelcome = |id: &str| unwelcome(named(id).ok().as_ref().and_then(Caller::identity));
        match http_sse::open(mount, asker, ending, unwelcome) {
            Ok((answer, channel, ended)) => {
                record.watch_end(self.aftermath(routed, true));
                let caller = named(channel.id());
                let views =
                    |caller| routed.snapshot.governance().views(mount, caller, self.shared.snapshots.rules());
                let hears = caller.as_ref().unwrap_or(&routed.caller).clone();
                record.watch_updates(mount, Some(hears), self.shared.snapshots.rules());
                // Whose messages are refused is shown nothing.
                record.watch_rules(caller.ok().map(views));
                audit::track_while(answer, record, StreamEnd::told(ended))
            }
            Err(error) => refuse::mount(full(error.to_string()), routed, &Asked::Nothing, record),
        }
    }

    /// Takes a message. What it is answered with goes to its client's stream.
    pub(super) async fn take_message(
        &self,
        head: Parts,
        incoming: Incoming,
        id: Box<str>,
        routed: Routed,
        mut record: Record,
    ) -> Served {
        let mount = Arc::clone(&routed.mount);
        let bodies = &mount.runtime.bodies;
        let judged = match self.judge(&head.headers, incoming, &id, bodies, &routed, &mut record).await {
            Ok(judged) => judged,
            Err((refusal, asked)) => return refuse::mount(refusal, &routed, &asked, record),
        };
        let Judged { body, channel, caller, is_request } = judged;
        let routed = Routed { caller, ..routed };
        let body = body.keep(bodies);
        let conversation = Conversation {
            shared: Arc::clone(&self.shared),
            worker: self.worker,
            origin: Origin::new(self.worker, &routed.caller, &head.headers),
            channel: Arc::clone(&channel),
            routed,
        };
        let over = channel.over().clone();
        let conversation = channel.calls.track_future(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = conversation.hold(body, record) => {}
            }
        });
        if is_request {
            mount.upstream.tasks().spawn_until_stopped("http_sse call", conversation);
        } else {
            // What follows it may rest on it.
            Box::pin(conversation).await;
        }
        refuse::accepted()
    }

    /// The stages before admission.
    async fn judge<'b>(
        &self,
        headers: &HeaderMap,
        incoming: Incoming,
        id: &str,
        bodies: &'b Bodies,
        routed: &Routed,
        record: &mut Record,
    ) -> Result<Judged<'b>, (Refusal, Asked)> {
        let body = self.read_body(&Head::of(headers), incoming, Verb::Post, bodies).await;
        let body = body.map_err(|refusal| (refusal, Asked::Nothing))?;
        let envelope = self.scan(&body.bytes, bodies).await.map_err(|error| {
            self.shared.refusals.malformed.increment();
            let asked = error.id.as_deref().map_or(Asked::Nothing, |id| Asked::One(id.to_owned()));
            (Refusal::malformed(&error), asked)
        })?;
        let refused = |refusal| (refusal, Asked::of(&envelope));
        unambiguous(headers).map_err(refused)?;
        record.message(Some(&envelope), Era::Legacy);
        if envelope.kind == Kind::Batch {
            let detail = "HTTP+SSE takes one message a POST; send each on its own";
            return Err(refused(Refusal::new(Reason::InvalidRequest, detail)));
        }
        let channel = routed.mount.runtime.channels.get(id, &routed.caller);
        let open = channel.filter(|channel| !channel.is_closing() || !envelope.is_request());
        let channel = open.ok_or_else(|| {
            let detail = "no stream of this mount has this address; open another with GET /sse/<mount>";
            refused(Refusal::new(Reason::SessionNotFound, detail))
        })?;
        let caller = authn::in_session(routed, Some(id), Some(&envelope)).map_err(refused)?;
        let is_request = envelope.is_request();
        drop(envelope);
        Ok(Judged { body, channel, caller, is_request })
    }
}

// === impl Conversation ===

impl Conversation {
    /// Sends the message and puts what comes of it on the stream.
    async fn hold(self, body: Buffered<Arc<Bodies>>, mut record: Record) {
        // It was scanned before; only its bytes could be kept.
        let Ok(envelope) = scanning::scan(&body.bytes).await else { return };
        let request_id = record.id();
        let greets = envelope.method == method::INITIALIZE;
        let mount = &self.routed.mount;
        let served = match self.send(&envelope, &body.bytes, &mut record).await {
            Ok((answer, ends)) => {
                if self.is_lost(&answer) {
                    // The client has to begin anew, and only the end of its stream tells it so.
                    return self.channel.over().cancel();
                }
                if greets {
                    self.began(&answer);
                }
                self.track(answer, ends, record)
            }
            Err(refusal) => refuse::mount(refusal, &self.routed, &Asked::of(&envelope), record),
        };
        let is_stream = {
            let media = served.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            media.is_some_and(|media| media.starts_with(EVENT_STREAM))
        };
        let hears = |response: &Envelope<'_>| {
            if greets {
                self.channel.agreed(response);
            }
        };
        let asked = envelope.id.as_ref().filter(|_| envelope.is_request()).map(|id| id.raw());
        // What its client does not read stays among the mount's calls: their limit is what bounds it.
        let mut body = served.into_body();
        body.linger();
        let relayed = http_sse::relay(&mut body, is_stream, &self.channel, asked, hears).await;
        let Ok(relayed) = relayed else { return };
        if envelope.is_request() && !relayed.answered {
            let error = relayed.broken.unwrap_or_else(unanswered);
            let refusal = Refusal::upstream(error, false);
            let error = refusal.events(&Asked::of(&envelope).ids(), mount, request_id);
            // Nobody is left to tell where it has ended.
            let _ = self.channel.put(error.freeze()).await;
        }
        if envelope.method == method::NOTIFICATIONS_INITIALIZED && self.channel.claim_push() {
            self.listen(request_id);
        }
    }

    async fn send(
        &self,
        envelope: &Envelope<'_>,
        body: &Bytes,
        record: &mut Record,
    ) -> Result<(Answer, Ends), Refusal> {
        let session = self.channel.session();
        let (worker, caller) = (self.worker, &self.routed.caller);
        let asked = permit(worker, &self.routed, caller, Some(envelope), body, session.as_deref(), record);
        // No batches come this way.
        let (pass, _) = asked.await?;
        let mount = &self.routed.mount;
        let call = Call {
            verb: Verb::Post,
            worker: self.worker,
            caller: &self.routed.caller,
            headers: &self.origin.legacy_headers(self.channel.revision()),
            body: body.clone(),
            envelope: Some(envelope),
            era: Era::Legacy,
            session,
            sessions: mount.runtime.channels.sessions(),
            config: &mount.upstream_config,
            pass: &pass,
        };
        self.shared.call(call, &self.routed, record).await
    }

    fn track(&self, answer: Answer, ends: Ends, mut record: Record) -> Served {
        if answer.body().is_at_hand() {
            return audit::track(answer, record);
        }
        record.watch_end(super::aftermath::Aftermath {
            shared: Arc::clone(&self.shared),
            mount: Arc::clone(&self.routed.mount),
            is_push: false,
        });
        let runtime = &self.routed.mount.runtime;
        match ends {
            Ends::Within(limit) => audit::track_until(answer, record, limit, runtime.cut.clone()),
            Ends::WithMount => {
                let ends = StreamEnds::of(runtime.streams.ending(), self.channel.over().clone());
                audit::track_while(answer, record, ends.or(pending()))
            }
        }
    }

    /// Whether the upstream does not know the session any more (2025-11-25 transports, "Session Management").
    fn is_lost(&self, answer: &Answer) -> bool {
        answer.status() == http::StatusCode::NOT_FOUND
            && answer.body().is_empty()
            && self.channel.session().is_some()
    }

    /// Goes on in the session that the answer to `initialize` named.
    fn began(&self, answer: &Answer) {
        let sessions = self.routed.mount.runtime.channels.sessions();
        let id = answer.headers().get(MCP_SESSION_ID).and_then(|id| id.to_str().ok());
        if let Some(session) = id.and_then(|id| sessions.get(id, &self.routed.caller)) {
            self.channel.began(Some(session));
        }
    }

    /// Listens to what the upstream says unasked, with leave as for the stream of a session: members of a bundle ask whose it is.
    fn listen(&self, request_id: RequestId) {
        let (mount, channel) = (Arc::clone(&self.routed.mount), Arc::clone(&self.channel));
        let governance = Arc::clone(self.routed.snapshot.governance());
        let (origin, caller) = (self.origin.clone(), self.routed.caller.clone());
        self.routed.mount.upstream.tasks().spawn_until_stopped("http_sse push", async move {
            let hushed = channel.hushed().clone();
            let listens = async {
                let (session, nothing) = (channel.session(), Bytes::new());
                let asking = Asking {
                    caller: &caller,
                    request_id,
                    way: (&*mount).into(),
                    envelope: None,
                    body: &nothing,
                    session: session.as_ref().and_then(|session| session.id().to_str().ok()),
                };
                // What is refused here is stopped, and its stream ends.
                let Ok(permit) = governance.ask(asking).await else { return };
                http_sse::push(mount, channel, origin.asks(permit.pass().clone())).await;
            };
            tokio::select! {
                biased;
                () = hushed.cancelled() => {}
                () = listens => {}
            }
        });
    }
}

fn unanswered() -> UpstreamError {
    UpstreamError::new(
        Reason::UpstreamInvalidResponse,
        "upstream's answer ended without the response to this request; look at its log",
    )
    .doubt(Cause::InvalidAnswer)
}
