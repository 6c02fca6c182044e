//! What control counts. Label values come from fixed words here, and from fleet names that the store accepted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ostler_core::build::VERSION;
use ostler_telemetry::metrics::{Exposition, Gauge, Metric};

use crate::api::types::NodeState;
use crate::distribution::Hub;
use crate::fleet::Registry;
use crate::store::Store;

/// Everything counted since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    /// (listener, reason)
    pub refused: Tally,
    /// (listener, "")
    pub panics: Tally,
    /// (source, result)
    pub applies: Tally,
    /// (result, "")
    pub pushes: Tally,
    /// (stage, "")
    pub acks: Tally,
    pub streams: Gauge,
    /// (result, "")
    pub backups: Tally,
}

/// Counts by one or two fixed words. Not for the path of a request that succeeds.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Tally {
    pub fn add(&self, first: &'static str, second: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((first, second)).or_default() += 1;
    }

    pub fn get(&self, first: &str, second: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().find(|((a, b), _)| *a == first && *b == second).map_or(0, |(_, count)| *count)
    }

    fn all(&self) -> Vec<((&'static str, &'static str), u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(words, count)| (*words, *count)).collect()
    }
}

/// One scrape.
pub fn render(
    counters: &Counters,
    hub: &Hub,
    registry: &Registry,
    store: &Store,
    log_lines_dropped: u64,
) -> String {
    let mut out = Exposition::new();
    out.value(Metric::BuildInfo, &["control", VERSION], 1);
    out.value(Metric::LogLinesDropped, &[], log_lines_dropped);
    for ((listener, reason), count) in counters.refused.all() {
        out.value(Metric::RequestsRefused, &[listener, reason], count);
    }
    for ((listener, _), count) in counters.panics.all() {
        out.value(Metric::Panics, &[listener], count);
    }
    for ((source, result), count) in counters.applies.all() {
        out.value(Metric::ControlApplies, &[source, result], count);
    }
    for ((result, _), count) in counters.pushes.all() {
        out.value(Metric::ControlPushes, &[result], count);
    }
    for ((stage, _), count) in counters.acks.all() {
        out.value(Metric::ControlAcks, &[stage], count);
    }
    for ((result, _), count) in counters.backups.all() {
        out.value(Metric::ControlBackups, &[result], count);
    }
    out.gauge(Metric::ControlStreams, &[], &counters.streams);
    out.value(Metric::ControlStoreQueue, &[], store.queued());
    for (fleet, revision) in hub.all() {
        out.value(Metric::ControlVersion, &[fleet.as_str()], revision.version);
    }
    for (fleet, states) in registry.counts(hub) {
        for state in NodeState::ALL {
            let count = states.get(&state).copied().unwrap_or(0);
            out.value(Metric::ControlNodes, &[fleet.as_str(), state.as_str()], count);
        }
    }
    out.finish()
}
