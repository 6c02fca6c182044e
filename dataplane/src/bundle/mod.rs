//! Bundles: several mounts at one endpoint. A bundle is a mount whose upstream is other mounts. It speaks the modern era alone;
//! what stands before it makes legacy clients out of it, and what stands before each member speaks to that one in its own era
//! (`crate::bridge`). So eras mix inside a bundle, and there is one way through it.
//!
//! | file | owns |
//! |---|---|
//! | `names` | what the things of a mount are called in a bundle, both ways |
//! | `route` | one call: its member, and the message as that one knows it |
//! | `member` | one call of one member: admission, era, health |
//! | `answer` | a member's answer as the bundle says it |
//! | `catalogue` | the members' lists: asked for at once, kept for a moment |
//! | `fetch` | one member's list, all of its pages |
//! | `reading` | the merged list, page by page |
//! | `discover` | what all of them together can do |
//! | `sealer` | what clients keep for us |
//! | `listen` | a client's subscription |
//! | `watch` | what changes in the members' lists, for all clients of the bundle |
//!
//! It must never ask more than one member on behalf of a call, and never let one that is dead or slow keep the others from
//! being listed.

mod answer;
mod catalogue;
mod discover;
mod fetch;
mod listen;
mod member;
mod names;
mod reading;
mod route;
mod sealer;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use ostler_core::name::ResourceName;
use ostler_core::tasks::Tasks;
use ostler_mcp::headers::JSON;
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, Era, Kind, Reason, error, message, method};
use ostler_telemetry::text::bounded;
use tokio::sync::watch as cell;

use crate::bridge::ask::unbridgeable;
use crate::deps::Deps;
use crate::govern::{Governance, Pass};
use crate::mount::Mount;
use crate::prober::Prober;
use crate::upstream::demands::{self, Behind};
use crate::upstream::health::{Reading, State};
use crate::upstream::{Answer, AnswerBody, Call, Cause, UpstreamError, Verb};
use catalogue::Catalogue;
use reading::Readings;
use sealer::{Holder, Sealer};
use watch::Watching;

/// What a bundle keeps from snapshot to snapshot.
pub struct Bundle {
    name: ResourceName,
    tasks: Tasks,
    sealer: Sealer,
    prober: OnceLock<Prober>,
    rules: OnceLock<Rules>,
    /// As the newest snapshot has them, for what outlives a request.
    members: cell::Sender<Members>,
    catalogue: Catalogue,
    readings: Readings,
    watching: Watching,
    /// Members that the last list was made without.
    missing: AtomicUsize,
    /// Tools, and prompts, that their last lists left out.
    left_out: [AtomicUsize; 2],
}

/// A bundle as one snapshot sees it.
#[derive(Debug)]
pub struct Bundled {
    pub bundle: Arc<Bundle>,
    /// In the order of its lists.
    pub members: Members,
    /// The same by name, so that a call costs the same among few and many.
    by_name: HashMap<String, Arc<Mount>>,
}

type Members = Arc<[Arc<Mount>]>;
/// What governs, from one change of the rules to the next.
type Rules = cell::Receiver<Option<Arc<Governance>>>;

/// Serves a call of a bundle.
///
/// # Errors
/// What the member could not do, or the caller did wrong.
pub async fn serve(bundled: &Bundled, call: Call<'_>) -> Result<Answer, UpstreamError> {
    let (Verb::Post, Some(envelope)) = (call.verb, call.envelope) else {
        return match call.era {
            Era::Legacy => Err(session_required()),
            Era::Modern => Ok(bare(StatusCode::METHOD_NOT_ALLOWED)),
        };
    };
    match envelope.kind {
        Kind::Request if call.era == Era::Modern => {}
        Kind::Request | Kind::Batch => return Err(session_required()),
        // What it tells of is told by closing a stream, in this era over HTTP.
        Kind::Notification | Kind::Response { .. } => return Ok(bare(StatusCode::ACCEPTED)),
    }
    demands::judge(envelope, Behind::LegacyServer)?;
    let holder = Holder::of(call.pass.principal());
    match &*envelope.method {
        method::SERVER_DISCOVER => discover::serve(bundled, &call, envelope).await,
        method::SUBSCRIPTIONS_LISTEN => listen::open(bundled, &call, envelope, &holder).await,
        method::TOOLS_CALL
        | method::PROMPTS_GET
        | method::RESOURCES_READ
        | method::COMPLETION_COMPLETE
        | method::TASKS_GET
        | method::TASKS_UPDATE
        | method::TASKS_CANCEL => route::serve(bundled, &call, envelope, holder).await,
        other => match catalogue::Kind::listed_by(other) {
            Some(kind) => reading::serve(bundled, &call, envelope, kind, &holder).await,
            None => {
                let detail = format!("bundles do not carry `{}`", bounded(other));
                Err(UpstreamError::new(Reason::MethodNotFound, detail))
            }
        },
    }
}

/// Asks the member's gate whether its caller may subscribe to a resource, as the bundle names it. What leads to none is nobody's to deny.
///
/// # Errors
/// The denial, as the caller is told.
pub async fn may_subscribe(bundled: &Bundled, pass: &Pass, uri: &str) -> Result<(), UpstreamError> {
    let Some((member, bare)) = bundled.origin(false, uri) else { return Ok(()) };
    let params = format!(r#"{{"uri":{}}}"#, json_text(&bare));
    let body = Bytes::from(message::request("0", method::RESOURCES_SUBSCRIBE, &params));
    let envelope = Envelope::scan(&body).map_err(|_| unbridgeable("the subscription"))?;
    pass.ask(member, &envelope, &body).await.map(drop)
}

/// The call will not be made again by which its `requestState` was to go on: a member that holds it lets go of it.
pub fn abandon(bundled: &Bundled, call: &Envelope<'_>, principal: Option<(&str, &str)>) {
    if let Some((member, state)) = route::held(bundled, call, &Holder::of(principal)) {
        member.runtime.pool.abandon(&state);
    }
}

// === impl Bundle ===

impl Bundle {
    /// Built without asking anybody anything.
    pub fn new(name: ResourceName, deps: &Deps) -> Self {
        Self {
            name,
            tasks: deps.tasks.clone(),
            sealer: Sealer::default(),
            prober: OnceLock::new(),
            rules: OnceLock::new(),
            members: cell::Sender::new(Arc::default()),
            catalogue: Catalogue::default(),
            readings: Readings::default(),
            watching: Watching::default(),
            missing: AtomicUsize::new(0),
            left_out: Default::default(),
        }
    }

    /// Makes the members of a new snapshot those that are listened to, by the rules that are told of. Clients hear that their lists have
    /// changed if one came, went, or is another.
    pub fn adopt(&self, members: &Members, prober: &Prober, rules: impl FnOnce() -> Rules) {
        let _ = self.prober.set(prober.clone());
        let _ = self.rules.get_or_init(rules);
        let before = self.members.borrow().clone();
        if Arc::ptr_eq(&before, members) {
            return;
        }
        let runtimes =
            |members: &Members| members.iter().map(|it| Arc::as_ptr(&it.runtime)).collect::<Vec<_>>();
        let is_first = before.is_empty();
        let has_changed = runtimes(&before) != runtimes(members);
        self.members.send_replace(Arc::clone(members));
        if has_changed && !is_first {
            self.catalogue.forget_all();
            self.watching.all_changed();
        }
    }

    /// Members that the last list was made without.
    pub fn missing(&self) -> usize {
        self.missing.load(Ordering::Relaxed)
    }

    /// Names that the last lists left out because they are too long.
    pub fn left_out(&self) -> usize {
        self.left_out.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn seal(&self, holder: &Holder, purpose: &[u8], value: &str) -> Result<String, UpstreamError> {
        let sealed = self.sealer.seal(&holder.place(self.name.as_str(), purpose), value);
        sealed.map_err(|error| UpstreamError::new(Reason::InternalError, error.to_string()))
    }

    fn open(&self, holder: &Holder, purpose: &[u8], sealed: &str) -> Option<String> {
        self.sealer.open(&holder.place(self.name.as_str(), purpose), sealed)
    }

    /// A task's id in the bundle.
    fn task_id(&self, holder: &Holder, member: &ResourceName, id: &str) -> Result<String, UpstreamError> {
        self.seal(holder, b"task", &format!("{member}/{id}"))
    }

    /// The member, and the task's id there.
    fn task(&self, holder: &Holder, sealed: &str) -> Option<(String, String)> {
        let opened = self.open(holder, b"task", sealed)?;
        opened.split_once('/').map(|(member, id)| (member.to_owned(), id.to_owned()))
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Bundled ===

impl Bundled {
    pub fn new(bundle: Arc<Bundle>, members: Members) -> Self {
        let by_name = members.iter().map(|member| (member.name().to_string(), Arc::clone(member))).collect();
        Self { bundle, members, by_name }
    }

    fn member(&self, name: &str) -> Option<&Arc<Mount>> {
        self.by_name.get(name)
    }

    /// Whose a thing of the bundle is, and what it is called there: a tool or prompt by its name, a resource by its URI.
    pub(crate) fn origin(&self, is_named: bool, name: &str) -> Option<(&Arc<Mount>, String)> {
        let (member, bare) = match is_named {
            true => names::split(name).map(|(member, bare)| (member, bare.to_owned()))?,
            false => names::without_mount(name)?,
        };
        Some((self.member(member)?, bare))
    }

    /// The bundle's health: down when all of its members are, degraded when one is.
    pub fn reading(&self, own: Reading) -> Reading {
        let is_down = |member: &&Arc<Mount>| member.reading().state == State::Down;
        let down = self.members.iter().filter(is_down).count();
        let (state, reason) = match down {
            0 => (own.state, own.reason),
            down if down == self.members.len() => (State::Down, Cause::MembersDown),
            _ => (State::Degraded, Cause::MembersDown),
        };
        Reading { state, reason, ..own }
    }
}

fn session_required() -> UpstreamError {
    UpstreamError::new(
        Reason::SessionRequired,
        "send `initialize` first, and its session id with every request",
    )
}

/// One message.
fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    answer
}

fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Empty);
    *answer.status_mut() = status;
    answer
}

/// A call whose parameters lead nowhere.
fn invalid_params(id: &str, why: &str) -> Answer {
    let error = format!(r#"{{"code":{},"message":{}}}"#, error::INVALID_PARAMS, json_text(why));
    json(StatusCode::OK, message::error(id, &error))
}
