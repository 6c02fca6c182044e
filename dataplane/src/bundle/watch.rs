//! What changes in the members' lists, listened to once for all clients of a bundle, and only while one of them listens. What a
//! member has changed is forgotten here before anybody hears of it, so that whoever asks again is told the new.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use ostler_core::limits::LISTEN_RETRY;
use ostler_core::name::ResourceName;
use ostler_mcp::{Envelope, method, sse};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Bundle;
use super::catalogue::Kind;
use super::listen;
use super::member;
use crate::bridge::ask::Asker;
use crate::govern::Listing;
use crate::mount::Mount;
use crate::upstream::{AnswerBody, UpstreamError};

/// How often each of the lists has changed.
pub(super) type Changes = [u64; 3];

/// A list that clients can listen to: how they ask for it, how they are told, and what is asked for anew.
pub(super) const LISTS: [(&str, &str, &[Kind]); 3] = [
    ("toolsListChanged", method::NOTIFICATIONS_TOOLS_LIST_CHANGED, &[Kind::List(Listing::Tools)]),
    ("promptsListChanged", method::NOTIFICATIONS_PROMPTS_LIST_CHANGED, &[Kind::List(Listing::Prompts)]),
    (
        "resourcesListChanged",
        method::NOTIFICATIONS_RESOURCES_LIST_CHANGED,
        &[Kind::List(Listing::Resources), Kind::List(Listing::Templates)],
    ),
];

/// The listening of one bundle.
#[derive(Default)]
pub(super) struct Watching {
    changes: watch::Sender<Changes>,
    listeners: AtomicUsize,
    /// Of the task that listens.
    stop: Mutex<CancellationToken>,
}

/// One client that listens.
pub(super) struct Listener {
    bundle: Arc<Bundle>,
    pub(super) changes: watch::Receiver<Changes>,
}

// === impl Watching ===

impl Watching {
    /// Begins to listen, on the worker of the first client.
    pub(super) fn listen(bundle: &Arc<Bundle>, asker: &Asker) -> Listener {
        let watching = &bundle.watching;
        let changes = watching.changes.subscribe();
        if watching.listeners.fetch_add(1, Ordering::AcqRel) == 0 {
            let stop = CancellationToken::new();
            *watching.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop.clone();
            let (kept, asker) = (Arc::clone(bundle), asker.for_all());
            bundle.tasks.spawn_until_stopped("listen to members", async move {
                tokio::select! {
                    () = follow_all(&kept, &asker) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Listener { bundle: Arc::clone(bundle), changes }
    }

    pub(super) fn all_changed(&self) {
        self.changes.send_modify(|changes| changes.iter_mut().for_each(|count| *count += 1));
    }

    fn changed(&self, list: usize) {
        self.changes.send_modify(|changes| {
            if let Some(count) = changes.get_mut(list) {
                *count += 1;
            }
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let watching = &self.bundle.watching;
        if watching.listeners.fetch_sub(1, Ordering::AcqRel) == 1 {
            watching.stop.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        }
    }
}

async fn follow_all(bundle: &Arc<Bundle>, asker: &Asker) {
    let mut members = bundle.members.subscribe();
    loop {
        let now = members.borrow_and_update().clone();
        let each = now.iter().map(|member| follow(bundle, member, asker));
        tokio::select! {
            _ = join_all(each) => std::future::pending().await,
            changed = members.changed() => if changed.is_err() { return },
        }
    }
}

/// Listens to one member for as long as it is one. That it cannot be reached any more, or again, changes the lists too, and so does that an
/// operator stops it, or lets it go on.
async fn follow(bundle: &Arc<Bundle>, member: &Arc<Mount>, asker: &Asker) {
    let (mut was_lost, mut is_silent) = (false, false);
    loop {
        let (ending, mut stops) = (member.runtime.streams.ending(), member.kills.changes());
        let is_lost = match member.is_stopped() {
            true => true,
            false if is_silent => false,
            false => match open(bundle, member, asker).await {
                Ok(Some((body, place))) => {
                    if std::mem::take(&mut was_lost) {
                        all_of(bundle, member.name());
                    }
                    tokio::select! {
                        () = hear(bundle, member.name(), body) => {}
                        () = ending.cancelled() => {}
                    }
                    drop(place);
                    member.is_stopped()
                }
                // It says nothing unasked.
                Ok(None) => {
                    is_silent = true;
                    false
                }
                Err(_) => true,
            },
        };
        if is_lost != was_lost {
            was_lost = is_lost;
            all_of(bundle, member.name());
        }
        tokio::select! {
            () = sleep(LISTEN_RETRY), if !is_silent => {}
            changed = stops.changed() => if changed.is_err() { return },
        }
    }
}

async fn open(
    bundle: &Arc<Bundle>,
    member: &Arc<Mount>,
    asker: &Asker,
) -> Result<Option<(AnswerBody, member::Place)>, UpstreamError> {
    let wanted = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}"#;
    let outgoing = listen::to_member(asker, listen::request("{}", wanted), asker.pass().own())?;
    let (answer, place) = member::call(bundle, member, outgoing).await?;
    let is_stream = member::is_stream(&answer);
    Ok(is_stream.then(|| (answer.into_body(), place)))
}

/// Takes in what a member says, to the end of its stream.
async fn hear(bundle: &Arc<Bundle>, member: &ResourceName, mut body: AnswerBody) {
    let mut decoder = sse::Decoder::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        decoder.push(data);
        loop {
            let Ok(event) = decoder.next_event() else { return };
            let Some(event) = event else { break };
            let Some(Ok(envelope)) = event.message().map(Envelope::scan) else { continue };
            if envelope.is_response() {
                return;
            }
            let found = LISTS.iter().enumerate().find(|(_, (_, told, _))| *told == envelope.method);
            if let Some((list, (_, _, kinds))) = found {
                bundle.catalogue.forget(member, kinds);
                bundle.watching.changed(list);
            }
        }
    }
}

fn all_of(bundle: &Bundle, member: &ResourceName) {
    bundle.catalogue.forget(member, &Kind::ALL);
    bundle.watching.all_changed();
}
