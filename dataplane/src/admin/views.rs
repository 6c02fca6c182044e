//! The admin port's JSON: mounts as they are, config as applied and as desired. Never a header's value, never a
//! resolved reference.

use serde::Serialize;

use super::Admin;
use crate::apply::{KeeperReading, LastRejection, Revision};

/// Body of `/mounts`.
#[derive(Debug, Serialize)]
pub(super) struct Mounts<'a> {
    mounts: Vec<MountView<'a>>,
}

#[derive(Debug, Serialize)]
struct MountView<'a> {
    name: String,
    path: String,
    upstream: String,
    transport: &'a str,
    state: &'a str,
    reason: &'a str,
    since_unix_ms: u64,
    next_probe_unix_ms: Option<u64>,
    /// `legacy`, `modern`, or nothing while it is not known.
    era: Option<&'a str>,
    sessions: usize,
    in_flight: i64,
}

/// Body of `/config`.
#[derive(Debug, Serialize)]
pub(super) struct Config {
    applied: Option<Revision>,
    desired: Option<Revision>,
    /// Newest revision that lived through its settle time here.
    healthy: Option<Revision>,
    source: Option<&'static str>,
    connected_to_control: Option<bool>,
    applied_unix_ms: Option<u64>,
    /// Since the source last confirmed what is served.
    age_ms: Option<u64>,
    last_rejection: Option<LastRejection>,
    /// What is on disk, what is wrong there, and whether it can be written to.
    last_known_good: KeeperReading,
}

pub(super) fn mounts(admin: &Admin) -> Mounts<'static> {
    let snapshot = admin.applier.snapshots.load();
    let mounts = snapshot.iter().flat_map(|snapshot| snapshot.mounts()).map(|mount| {
        let reading = mount.reading();
        MountView {
            name: mount.name().to_string(),
            path: format!("/mcp/{}", mount.name()),
            upstream: mount.upstream.name.to_string(),
            transport: if mount.upstream.is_probed() { "http" } else { "stdio" },
            state: reading.state.as_str(),
            reason: reading.reason.as_str(),
            since_unix_ms: reading.since_unix_ms,
            next_probe_unix_ms: reading.next_probe_unix_ms,
            era: reading.era.map(ostler_mcp::Era::as_str),
            sessions: mount.runtime.sessions.len(),
            in_flight: mount.runtime.metrics.in_flight.get(),
        }
    });
    Mounts { mounts: mounts.collect() }
}

pub(super) fn config(admin: &Admin) -> Config {
    let reading = admin.applier.status.read();
    let now = admin.deps.clock.unix_ms();
    let source = reading.applied.as_ref().map(|applied| match applied.source {
        crate::apply::Source::Control => "control",
        crate::apply::Source::File => "file",
    });
    Config {
        source,
        connected_to_control: admin.sync.as_ref().map(|sync| sync.connected()),
        applied_unix_ms: reading.applied.is_some().then_some(reading.applied_unix_ms),
        age_ms: reading.age_ms(now),
        applied: reading.applied,
        desired: reading.desired,
        healthy: reading.healthy,
        last_rejection: reading.rejection,
        last_known_good: admin.applier.keeper.reading(),
    }
}
