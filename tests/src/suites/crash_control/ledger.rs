//! What operators asked for and what they were told: the truth that a store is held to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use ostler_core::digest::Digest;
use serde_json::Value;

/// All requests, by the number that each carries as its message.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    requests: BTreeMap<u64, Request>,
    next: u64,
    /// Fleet → version → (request, digest), as the store was found to hold.
    settled: BTreeMap<String, BTreeMap<u64, (u64, String)>>,
}

#[derive(Debug, Clone)]
struct Request {
    fleet: String,
    text: Digest,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// No answer, so far or for ever.
    Unknown,
    /// Answered with a version of its own.
    Made { version: u64, digest: String },
    /// Answered with the version that was current and has the same content.
    Unchanged { version: u64, digest: String },
    /// Answered with a refusal.
    Refused,
}

/// What a node was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub fleet: String,
    pub epoch: u64,
    pub version: u64,
    pub digest: String,
}

impl Ledger {
    /// Books a request before it is sent.
    pub(super) fn begin(&self, fleet: &str, text: impl FnOnce(u64) -> String) -> (u64, String) {
        let mut books = self.lock();
        books.next += 1;
        let number = books.next;
        let text = text(number);
        let request =
            Request { fleet: fleet.to_owned(), text: Digest::of(text.as_bytes()), outcome: Outcome::Unknown };
        books.requests.insert(number, request);
        (number, text)
    }

    /// Books a rollback: its text is that of the version. `None` when nothing of the fleet is acknowledged.
    pub(super) fn begin_rollback(&self, fleet: &str, draw: impl FnOnce(u64) -> u64) -> Option<(u64, u64)> {
        let mut books = self.lock();
        let made: Vec<_> = books
            .requests
            .values()
            .filter(|request| request.fleet == fleet)
            .filter_map(|request| match request.outcome {
                Outcome::Made { version, .. } => Some((version, request.text)),
                _ => None,
            })
            .collect();
        let place = usize::try_from(draw(made.len() as u64)).ok()?;
        let (version, text) = *made.get(place)?;
        books.next += 1;
        let number = books.next;
        books.requests.insert(number, Request { fleet: fleet.to_owned(), text, outcome: Outcome::Unknown });
        Some((number, version))
    }

    pub(super) fn acknowledge(&self, number: u64, answer: &Value) -> anyhow::Result<()> {
        let version = answer["version"].as_u64().context("an answer without a version")?;
        let digest = answer["digest"].as_str().context("an answer without a digest")?.to_owned();
        let changed = answer["changed"].as_bool().context("an answer without changed")?;
        let outcome =
            if changed { Outcome::Made { version, digest } } else { Outcome::Unchanged { version, digest } };
        self.set(number, outcome)
    }

    pub(super) fn refuse(&self, number: u64) -> anyhow::Result<()> {
        self.set(number, Outcome::Refused)
    }

    /// Holds heads against what was acknowledged.
    pub(super) fn at_least<'a>(&self, heads: impl Iterator<Item = (&'a str, u64)>) -> anyhow::Result<()> {
        let heads: BTreeMap<_, _> = heads.collect();
        for (number, request) in &self.lock().requests {
            if let Outcome::Made { version, .. } | Outcome::Unchanged { version, .. } = request.outcome {
                let head = heads.get(request.fleet.as_str()).copied().unwrap_or(0);
                ensure!(
                    head >= version,
                    "request {number} was acknowledged as version {version} of fleet {}, which is at {head}",
                    request.fleet
                );
            }
        }
        Ok(())
    }

    /// Holds the whole list of a fleet's versions, oldest first, against the books; returns the first version that was
    /// not looked at before.
    pub(super) fn settle(&self, fleet: &str, items: &[Value], epoch: Option<u64>) -> anyhow::Result<u64> {
        let mut books = self.lock();
        let known = books.settled.get(fleet).map_or(0, |settled| settled.len() as u64);
        let mut settled = BTreeMap::new();
        let mut requests = BTreeSet::new();
        for (place, item) in (1_u64..).zip(items) {
            let version = item["version"].as_u64().context("no version")?;
            ensure!(version == place, "fleet {fleet}: version {place} is missing before {version}");
            ensure!(epoch.is_none_or(|epoch| item["epoch"] == epoch), "fleet {fleet}: another epoch: {item}");
            ensure!(item["author"] == "operator", "fleet {fleet}: another author: {item}");
            let digest = item["digest"].as_str().context("no digest")?.to_owned();
            let number: u64 = item["message"].as_str().context("no message")?.parse()?;
            ensure!(requests.insert(number), "fleet {fleet}: request {number} was made twice");
            let request = books.requests.get(&number).with_context(|| format!("nobody asked for {item}"))?;
            ensure!(request.fleet == fleet, "fleet {fleet} has a version of fleet {}", request.fleet);
            match &request.outcome {
                Outcome::Made { version: told, digest: digest_told } => ensure!(
                    (*told, digest_told) == (version, &digest),
                    "request {number} was acknowledged as version {told}, {digest_told}, and is {item}"
                ),
                Outcome::Unknown => {}
                other => anyhow::bail!("request {number} was answered with {other:?}, and is {item}"),
            }
            settled.insert(version, (number, digest));
        }
        for (number, request) in books.requests.iter().filter(|(_, request)| request.fleet == fleet) {
            match &request.outcome {
                Outcome::Made { version, .. } => ensure!(
                    settled.get(version).is_some_and(|(of, _)| of == number),
                    "version {version} of fleet {fleet} was acknowledged to request {number} and is gone"
                ),
                Outcome::Unchanged { version, digest } => ensure!(
                    settled.get(version).is_some_and(|(_, held)| held == digest),
                    "version {version} of fleet {fleet} was current for request {number} and is gone"
                ),
                Outcome::Unknown | Outcome::Refused => {}
            }
        }
        if let Some(before) = books.settled.get(fleet) {
            ensure!(
                before.iter().all(|(version, held)| settled.get(version) == Some(held)),
                "fleet {fleet}: what stood there once is not there any more"
            );
        }
        books.settled.insert(fleet.to_owned(), settled);
        Ok(known + 1)
    }

    pub(super) fn compare_text(&self, fleet: &str, version: u64, text: &str) -> anyhow::Result<()> {
        let books = self.lock();
        let (number, _) =
            books.settled.get(fleet).and_then(|settled| settled.get(&version)).context("not settled")?;
        let request = books.requests.get(number).context("no request")?;
        ensure!(
            request.text == Digest::of(text.as_bytes()),
            "version {version} of fleet {fleet} has another text than request {number}"
        );
        Ok(())
    }

    /// Whatever a node was given must be in the store.
    pub(super) fn compare_seen(&self, seen: &BTreeSet<Seen>) -> anyhow::Result<()> {
        let books = self.lock();
        for seen in seen {
            let held = books.settled.get(&seen.fleet).and_then(|settled| settled.get(&seen.version));
            ensure!(
                held.is_some_and(|(_, digest)| *digest == seen.digest),
                "a node was given {seen:?}, which the store does not have"
            );
        }
        Ok(())
    }

    /// Acknowledged; kept and dropped without an answer.
    pub(super) fn totals(&self) -> (usize, usize, usize) {
        let books = self.lock();
        let kept: BTreeSet<u64> =
            books.settled.values().flat_map(|settled| settled.values().map(|(number, _)| *number)).collect();
        let unknown: Vec<_> = books
            .requests
            .iter()
            .filter(|(_, request)| request.outcome == Outcome::Unknown)
            .map(|(number, _)| kept.contains(number))
            .collect();
        let acknowledged = books
            .requests
            .values()
            .filter(|request| matches!(request.outcome, Outcome::Made { .. } | Outcome::Unchanged { .. }));
        let survived = unknown.iter().filter(|kept| **kept).count();
        (acknowledged.count(), survived, unknown.len() - survived)
    }

    fn set(&self, number: u64, outcome: Outcome) -> anyhow::Result<()> {
        self.lock().requests.get_mut(&number).context("no request")?.outcome = outcome;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
