//! The merged list, page by page. A client that has read a page reads on in the list as it was then, so that it misses nothing
//! and reads nothing twice while members change theirs.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use ostler_core::build;
use ostler_core::limits::{BUNDLE_PAGE_BYTES_MAX, BUNDLE_PAGE_ENTRIES_MAX, BUNDLE_READINGS_MAX};
use ostler_mcp::bridge::{META_SERVER_INFO, Members};
use ostler_mcp::message::json_text;
use ostler_mcp::{Envelope, Reason, message};
use tokio::time::Instant;

use super::catalogue::{Catalogue, Kind, Missing};
use super::fetch::Listed;
use super::sealer::Holder;
use super::{Bundle, Bundled, invalid_params, json};
use crate::bridge::ask::Asker;
use crate::govern::Listing;
use crate::upstream::{Answer, Call, UpstreamError};

/// `_meta` of lists and of what is discovered: members that it is made without.
const META_MISSING: &str = "ostler/missing";

/// Lists that somebody may be reading, the newest last.
#[derive(Default)]
pub(super) struct Readings(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    kept: VecDeque<(u64, Arc<Merged>)>,
}

/// What all members listed.
struct Merged {
    kind: Kind,
    lists: Vec<Arc<Listed>>,
    missing: Vec<Missing>,
}

/// A place in a list: of which, in which member's, behind how many entries of it.
struct Place {
    list: u64,
    member: usize,
    entry: usize,
}

pub(super) async fn serve(
    bundled: &Bundled,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
    kind: Kind,
    holder: &Holder,
) -> Result<Answer, UpstreamError> {
    let id = envelope.id.map_or("null", |id| id.raw());
    let bundle = &bundled.bundle;
    let params = Members::parse_optional(envelope.params, "params").unwrap_or_default();
    let (merged, place) = match params.get("cursor").filter(|cursor| *cursor != "null") {
        None => begin(bundled, call, envelope, kind).await?,
        Some(_) => {
            let place = params.text("cursor").and_then(|cursor| Place::open(bundle, holder, kind, &cursor));
            let found = place.and_then(|place| Some((bundle.readings.find(place.list, kind)?, place)));
            let found = found.filter(|(merged, _)| !merged.has_stopped(bundled));
            let Some(found) = found else {
                let why = "`cursor` is unknown, or too old; list again without it";
                return Ok(invalid_params(id, why));
            };
            found
        }
    };
    let result = merged.page(bundle, holder, place)?;
    Ok(json(StatusCode::OK, message::result(id, &result)))
}

async fn begin(
    bundled: &Bundled,
    call: &Call<'_>,
    envelope: &Envelope<'_>,
    kind: Kind,
) -> Result<(Arc<Merged>, Place), UpstreamError> {
    let capabilities = envelope.meta.client_capabilities.unwrap_or("{}");
    let (lists, missing) = Catalogue::all(bundled, kind, capabilities, &Asker::of(call)).await;
    let bundle = &bundled.bundle;
    bundle.missing.store(missing.len(), Ordering::Relaxed);
    bundle.note_left_out(kind, &lists);
    let merged = Arc::new(Merged { kind, lists, missing });
    let list = bundle.readings.keep(&merged);
    Ok((merged, Place { list, member: 0, entry: 0 }))
}

/// Members that something is made without, as `_meta` says it.
pub(super) fn missing_json(missing: &[Missing]) -> String {
    let each = missing.iter().map(|Missing { mount, reason }| {
        format!(r#"{{"mount":{},"reason":"{reason}"}}"#, json_text(mount.as_str()))
    });
    format!("[{}]", each.collect::<Vec<_>>().join(","))
}

/// `_meta` of a result of the bundle's own.
pub(super) fn meta(bundle: &Bundle, missing: &[Missing]) -> String {
    let mut meta = Members::default();
    let name = json_text(bundle.name.as_str());
    meta.set(META_SERVER_INFO, format!(r#"{{"name":{name},"version":{}}}"#, json_text(build::VERSION)));
    if !missing.is_empty() {
        meta.set(META_MISSING, missing_json(missing));
    }
    meta.to_json()
}

/// For how long a result of these lists holds, in milliseconds.
pub(super) fn ttl_ms(lists: &[Arc<Listed>], missing: &[Missing]) -> u128 {
    let now = Instant::now();
    let left = lists.iter().map(|list| list.fresh_until.saturating_duration_since(now).as_millis()).min();
    // Who is missing may be back at any time.
    if missing.is_empty() { left.unwrap_or_default() } else { 0 }
}

// === impl Merged ===

impl Merged {
    /// Whether a member that is listed has been stopped since.
    fn has_stopped(&self, bundled: &Bundled) -> bool {
        let mut members = self.lists.iter().filter_map(|list| bundled.member(&list.mount));
        members.any(|member| member.is_stopped())
    }

    fn is_same(&self, other: &Self) -> bool {
        let lists = |merged: &Self| merged.lists.iter().map(Arc::as_ptr).collect::<Vec<_>>();
        self.kind == other.kind && self.missing == other.missing && lists(self) == lists(other)
    }

    /// The page that begins there.
    fn page(&self, bundle: &Bundle, holder: &Holder, mut place: Place) -> Result<String, UpstreamError> {
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        let next = loop {
            let Some(list) = self.lists.get(place.member) else { break None };
            let Some(entry) = list.entries.get(place.entry) else {
                place = Place { member: place.member + 1, entry: 0, ..place };
                continue;
            };
            if entries.len() >= BUNDLE_PAGE_ENTRIES_MAX || bytes >= BUNDLE_PAGE_BYTES_MAX {
                break Some(place);
            }
            bytes += entry.len();
            entries.push(&**entry);
            place.entry += 1;
        };
        let mut result = Members::default();
        result.set(self.kind.key(), format!("[{}]", entries.join(",")));
        if let Some(next) = next {
            result.set("nextCursor", json_text(&next.seal(bundle, holder, self.kind)?));
        }
        result.set("resultType", r#""complete""#);
        result.set("ttlMs", ttl_ms(&self.lists, &self.missing).to_string());
        result.set("cacheScope", r#""private""#);
        result.set("_meta", meta(bundle, &self.missing));
        Ok(result.to_json())
    }
}

// === impl Place ===

impl Place {
    fn seal(&self, bundle: &Bundle, holder: &Holder, kind: Kind) -> Result<String, UpstreamError> {
        let Self { list, member, entry } = self;
        bundle.seal(holder, kind.method().as_bytes(), &format!("{list} {member} {entry}"))
    }

    fn open(bundle: &Bundle, holder: &Holder, kind: Kind, cursor: &str) -> Option<Self> {
        let opened = bundle.open(holder, kind.method().as_bytes(), cursor)?;
        let mut numbers = opened.split(' ');
        let list = numbers.next()?.parse().ok()?;
        let member = numbers.next()?.parse().ok()?;
        let entry = numbers.next()?.parse().ok()?;
        Some(Self { list, member, entry })
    }
}

// === impl Readings ===

impl Readings {
    /// Keeps a list for those who read on, if it has more than a page.
    fn keep(&self, merged: &Arc<Merged>) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Most who begin at the same time read the same.
        if let Some((number, _)) = state.kept.iter().find(|(_, kept)| kept.is_same(merged)) {
            return *number;
        }
        state.next += 1;
        let number = state.next;
        let entries = merged.lists.iter().flat_map(|list| &list.entries);
        let bytes: usize = entries.clone().map(|entry| entry.len()).sum();
        if entries.count() > BUNDLE_PAGE_ENTRIES_MAX || bytes > BUNDLE_PAGE_BYTES_MAX {
            if state.kept.len() >= BUNDLE_READINGS_MAX {
                state.kept.pop_front();
            }
            state.kept.push_back((number, Arc::clone(merged)));
        }
        number
    }

    fn find(&self, number: u64, kind: Kind) -> Option<Arc<Merged>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.kept.iter().find(|(kept, merged)| *kept == number && merged.kind == kind);
        found.map(|(_, merged)| Arc::clone(merged))
    }
}

impl Bundle {
    fn note_left_out(&self, kind: Kind, lists: &[Arc<Listed>]) {
        let [tools, prompts] = &self.left_out;
        let counted = match kind {
            Kind::List(Listing::Tools) => tools,
            Kind::List(Listing::Prompts) => prompts,
            _ => return,
        };
        counted.store(lists.iter().map(|list| list.left_out).sum(), Ordering::Relaxed);
    }
}

/// No member can be asked.
pub(super) fn nobody(missing: &[Missing]) -> UpstreamError {
    let names: Vec<_> = missing.iter().map(|missing| missing.mount.as_str()).collect();
    let detail = format!("no mount of the bundle answers ({}); try again later", names.join(", "));
    UpstreamError::new(Reason::UpstreamUnavailable, detail)
}
