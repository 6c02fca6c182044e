//! What a bridged session holds between its client's requests. All of it is bounded, and goes with the session.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use ostler_core::limits::{BRIDGED_CALLS_MAX, BRIDGED_SUBSCRIPTIONS_MAX};
use ostler_core::rng::Jitter;
use ostler_mcp::bridge::Members;
use ostler_mcp::bridge::legacy_client::Caller;
use ostler_mcp::{Envelope, Kind, Reason, error, message, method};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::ask::unbridgeable;
use super::question::Question;
use super::{bare, exchange, json, push};
use crate::bundle;
use crate::mount::Mount;
use crate::mount::greeting;
use crate::mount::session::{BridgedMemo, Changed};
use crate::upstream::{Answer, Call, UpstreamError, Verb};

/// A session of a legacy client on an upstream that has none.
pub struct BridgedSession {
    state: Mutex<State>,
    /// The server says unasked what changes: there is something to listen to.
    pushes: bool,
    /// A GET stream is open.
    listening: AtomicBool,
    /// Grows when what is listened to changes.
    subscribed: watch::Sender<u64>,
    next: AtomicU64,
    ended: CancellationToken,
    /// The client's message; nothing where it is too large to be kept.
    initialize: Option<Bytes>,
    changed: Changed,
}

struct State {
    caller: Caller,
    subscriptions: BTreeSet<String>,
    /// Calls under way, by canonical id.
    calls: HashMap<String, CancellationToken>,
    /// Requests of the server's that wait for the client, by our number.
    questions: HashMap<u64, oneshot::Sender<Bytes>>,
}

/// A call under way; taken out when it is dropped.
pub(super) struct Underway {
    session: Arc<BridgedSession>,
    id: String,
    pub(super) cancelled: CancellationToken,
}

/// The one GET stream.
pub(super) struct Listening(Arc<BridgedSession>);

// === impl BridgedSession ===

impl BridgedSession {
    /// `initialized` is the result that the client is given, and `initialize` what it has sent.
    pub(super) fn new(caller: Caller, initialized: &str, initialize: &Bytes) -> Self {
        Self::with(caller, BTreeSet::new(), pushes(initialized), 1, initialize)
    }

    /// As it was before this process was started; nothing where that makes no session.
    pub(in crate::bridge) fn restore(memo: &BridgedMemo) -> Option<Self> {
        let initialize = Bytes::copy_from_slice(memo.initialize.as_bytes());
        let mut caller = Caller::of_initialize(Envelope::scan(&initialize).ok()?.params).ok()?;
        caller.log_level = memo.log_level.clone();
        let subscriptions = memo.subscriptions.iter().take(BRIDGED_SUBSCRIPTIONS_MAX).cloned().collect();
        // The client may answer late what the process before has asked.
        let first = Jitter::from_entropy().below(1 << 30) << 20;
        Some(Self::with(caller, subscriptions, memo.pushes, first, &initialize))
    }

    fn with(
        caller: Caller,
        subscriptions: BTreeSet<String>,
        pushes: bool,
        first: u64,
        initialize: &Bytes,
    ) -> Self {
        let state = State { caller, subscriptions, calls: HashMap::new(), questions: HashMap::new() };
        Self {
            state: Mutex::new(state),
            pushes,
            listening: AtomicBool::new(false),
            subscribed: watch::Sender::new(0),
            next: AtomicU64::new(first),
            ended: CancellationToken::new(),
            initialize: greeting::kept(initialize),
            changed: Changed::default(),
        }
    }

    /// What it takes to restore it; nothing where its `initialize` is too large to be kept.
    pub fn memo(&self) -> Option<BridgedMemo> {
        let initialize = std::str::from_utf8(self.initialize.as_ref()?).ok()?.to_owned();
        let state = self.lock();
        Some(BridgedMemo {
            initialize,
            log_level: state.caller.log_level.clone(),
            subscriptions: state.subscriptions.iter().cloned().collect(),
            pushes: self.pushes,
        })
    }

    /// Tells when its memo changes.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    /// Ends what it has under way, and its stream.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Serves a call that names this session.
    pub(in crate::bridge) async fn serve(
        self: Arc<Self>,
        mount: &Arc<Mount>,
        call: Call<'_>,
    ) -> Result<Answer, UpstreamError> {
        match (call.verb, call.envelope) {
            (Verb::Get, _) => push::open(&self, mount, &call),
            (Verb::Delete, _) => {
                if let Some(session) = &call.session {
                    call.sessions.remove(session);
                }
                self.end();
                Ok(bare(StatusCode::NO_CONTENT))
            }
            (Verb::Post, Some(envelope)) => match envelope.kind {
                Kind::Request => {
                    let answer = Arc::clone(&self).request(mount, &call, envelope).await;
                    if answer.as_ref().is_err_and(|error| error.reason == Reason::SessionNotFound)
                        && let Some(session) = &call.session
                    {
                        call.sessions.remove(session);
                        self.end();
                    }
                    answer
                }
                Kind::Notification => {
                    self.hear(envelope);
                    Ok(bare(StatusCode::ACCEPTED))
                }
                Kind::Response { .. } => {
                    self.answered(envelope, &call.body);
                    Ok(bare(StatusCode::ACCEPTED))
                }
                Kind::Batch => Err(unbridgeable("a batch")),
            },
            (Verb::Post, None) => Err(unbridgeable("an empty body")),
        }
    }

    async fn request(
        self: Arc<Self>,
        mount: &Arc<Mount>,
        call: &Call<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Answer, UpstreamError> {
        let id = envelope.id.map_or("null", |id| id.raw());
        let done = || Ok(json(message::result(id, "{}")));
        match &*envelope.method {
            method::PING => done(),
            method::LOGGING_SET_LEVEL => {
                let params = Members::parse_optional(envelope.params, "params").ok();
                let level = params.and_then(|params| params.text("level"));
                self.lock().caller.log_level = Some(level.ok_or_else(|| unbridgeable("the level"))?);
                self.changed.tell();
                done()
            }
            method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
                let uri =
                    envelope.uri.as_deref().ok_or_else(|| unbridgeable("a subscription without `uri`"))?;
                let is_on = envelope.method == method::RESOURCES_SUBSCRIBE;
                // A mount's own gate has judged it.
                if let Some(bundled) = mount.bundled.as_ref().filter(|_| is_on) {
                    Box::pin(bundle::may_subscribe(bundled, call.pass, uri)).await?;
                }
                self.subscribe(uri, is_on)?;
                done()
            }
            method::INITIALIZE => Err(UpstreamError::new(
                Reason::InvalidRequest,
                "the session is initialized already; send `initialize` without its id to begin another",
            )),
            // Tasks of 2025-11-25 are not those of the extension, and were not offered.
            method::TASKS_CANCEL | method::TASKS_GET | method::TASKS_LIST | method::TASKS_RESULT => {
                let why = format!(
                    r#"{{"code":{},"message":"tasks cannot be carried between protocol eras"}}"#,
                    error::METHOD_NOT_FOUND
                );
                Ok(json(message::error(id, &why)))
            }
            _ => exchange::serve(self, mount, call, envelope).await,
        }
    }

    fn hear(&self, envelope: &Envelope<'_>) {
        if envelope.method != method::NOTIFICATIONS_CANCELLED {
            // That it is initialized, that its roots changed, how far it is: an upstream without sessions asks when it
            // wants to know.
            return;
        }
        if let Some(id) = envelope.request_id
            && let Some(call) = self.lock().calls.get(&*id.canonical())
        {
            call.cancel();
        }
    }

    pub(super) fn answered(&self, envelope: &Envelope<'_>, body: &Bytes) {
        let number = envelope.id.and_then(|id| id.as_u64());
        if let Some(question) = number.and_then(|number| self.lock().questions.remove(&number)) {
            // Whoever asked may have given up.
            let _ = question.send(body.clone());
        }
    }

    fn subscribe(&self, uri: &str, on: bool) -> Result<(), UpstreamError> {
        let mut state = self.lock();
        let changed = match on {
            true if state.subscriptions.len() >= BRIDGED_SUBSCRIPTIONS_MAX => {
                return Err(UpstreamError::new(
                    Reason::Overloaded,
                    format!(
                        "a session subscribes to at most {BRIDGED_SUBSCRIPTIONS_MAX} resources; end some"
                    ),
                ));
            }
            true => state.subscriptions.insert(uri.to_owned()),
            false => state.subscriptions.remove(uri),
        };
        drop(state);
        if changed {
            self.subscribed.send_modify(|number| *number += 1);
            self.changed.tell();
        }
        Ok(())
    }

    /// What the client is, and has set, now.
    pub(super) fn caller(&self) -> Caller {
        self.lock().caller.clone()
    }

    pub(super) fn subscriptions(&self) -> Vec<String> {
        self.lock().subscriptions.iter().cloned().collect()
    }

    pub(super) fn watch_subscriptions(&self) -> watch::Receiver<u64> {
        self.subscribed.subscribe()
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    pub(super) fn pushes(&self) -> bool {
        self.pushes
    }

    /// A number that no other message of ours in this session has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a call, so that the client can cancel it.
    ///
    /// # Errors
    /// When there are too many, or one has this id.
    pub(super) fn begin(self: &Arc<Self>, envelope: &Envelope<'_>) -> Result<Underway, UpstreamError> {
        let id = envelope.id.map(|id| id.canonical().into_owned()).unwrap_or_default();
        let mut state = self.lock();
        if state.calls.contains_key(&id) {
            return Err(UpstreamError::new(
                Reason::InvalidRequest,
                "a request with this id is under way in the session; use another id",
            ));
        }
        if state.calls.len() >= BRIDGED_CALLS_MAX {
            return Err(UpstreamError::new(
                Reason::Overloaded,
                format!("a session has at most {BRIDGED_CALLS_MAX} calls under way; wait for some"),
            ));
        }
        // What a session has begun does not outlive it.
        let cancelled = self.ended.child_token();
        state.calls.insert(id.clone(), cancelled.clone());
        Ok(Underway { session: Arc::clone(self), id, cancelled })
    }

    pub(super) fn question(self: &Arc<Self>) -> Question {
        let number = self.number();
        let (to, answer) = oneshot::channel();
        self.lock().questions.insert(number, to);
        Question::new(self, number, answer)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget_question(&self, number: u64) {
        self.lock().questions.remove(&number);
    }

    /// `None` while another GET stream is open.
    pub(super) fn listen(self: &Arc<Self>) -> Option<Listening> {
        let taken = self.listening.swap(true, Ordering::AcqRel);
        (!taken).then(|| Listening(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BridgedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgedSession").finish_non_exhaustive()
    }
}

// === impl Underway ===

impl Drop for Underway {
    fn drop(&mut self) {
        self.session.lock().calls.remove(&self.id);
    }
}

// === impl Listening ===

impl Listening {
    pub(super) fn session(&self) -> &Arc<BridgedSession> {
        &self.0
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.store(false, Ordering::Release);
    }
}

/// Whether the capabilities that a client was told of have something that comes unasked.
fn pushes(initialized: &str) -> bool {
    let Ok(result) = serde_json::from_str::<serde_json::Value>(initialized) else { return false };
    let says = |pointer: &str| result.pointer(pointer).and_then(serde_json::Value::as_bool) == Some(true);
    ["tools/listChanged", "prompts/listChanged", "resources/listChanged", "resources/subscribe"]
        .iter()
        .any(|capability| says(&format!("/capabilities/{capability}")))
}
