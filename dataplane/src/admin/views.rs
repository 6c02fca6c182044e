//! The admin port's JSON: mounts as they are, config as applied and as desired. Never a header's value, never a
//! resolved reference.

use std::net::SocketAddr;

use serde::Serialize;

use super::Admin;
use crate::apply::{KeeperReading, LastRejection, Revision};
use crate::mount::Mount;
use crate::upstream::health::Reading;

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

/// Body of `/listeners`.
#[derive(Debug, Serialize)]
pub(super) struct Listeners {
    listeners: Vec<ListenerView>,
}

#[derive(Debug, Serialize)]
struct ListenerView {
    name: String,
    address: SocketAddr,
    /// `flags` or `config`.
    from: &'static str,
    state: &'static str,
    /// Why it is `unbound`: a stable word, and a sentence.
    reason: Option<&'static str>,
    detail: Option<String>,
    tls: bool,
    /// Those that it serves, if not all.
    mounts: Option<Vec<String>>,
    connections: i64,
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
    let served = snapshot.iter().flat_map(|snapshot| snapshot.mounts());
    let served =
        served.map(|mount| mount_view(mount, mount.reading(), mount.runtime.metrics.in_flight.get()));
    let draining = admin.applier.draining.list().into_iter().map(|draining| {
        let in_flight = i64::try_from(draining.in_flight()).unwrap_or(i64::MAX);
        mount_view(&draining.mount, draining.reading(), in_flight)
    });
    Mounts { mounts: served.chain(draining).collect() }
}

fn mount_view(mount: &Mount, reading: Reading, in_flight: i64) -> MountView<'static> {
    MountView {
        name: mount.name().to_string(),
        path: format!("/mcp/{}", mount.name()),
        upstream: mount.upstream.name.to_string(),
        transport: mount.upstream.transport(),
        state: reading.state.as_str(),
        reason: reading.reason.as_str(),
        since_unix_ms: reading.since_unix_ms,
        next_probe_unix_ms: reading.next_probe_unix_ms,
        era: reading.era.map(ostler_mcp::Era::as_str),
        sessions: mount.runtime.session_count(),
        in_flight,
    }
}

pub(super) fn listeners(admin: &Admin) -> Listeners {
    let snapshot = admin.applier.snapshots.load();
    let readings = admin.applier.listeners.readings().into_iter();
    let listeners = readings.map(|reading| {
        let fixed = reading.socket.as_ref().and_then(|socket| socket.bootstrap());
        let configured = snapshot.as_ref().and_then(|snapshot| snapshot.listener(reading.addr));
        let view = fixed.or(configured);
        let mounts = view.and_then(|view| view.mounts());
        ListenerView {
            name: reading.name.to_string(),
            address: reading.addr,
            from: if fixed.is_some() { "flags" } else { "config" },
            state: reading.state.as_str(),
            reason: reading.unbound.as_ref().map(|unbound| unbound.reason),
            detail: reading.unbound.as_ref().map(|unbound| unbound.detail.clone()),
            tls: view.is_some_and(|view| view.is_encrypted()),
            mounts: mounts.map(|mounts| mounts.map(ToString::to_string).collect()),
            connections: reading.socket.as_ref().map_or(0, |socket| socket.metrics.open.get()),
        }
    });
    Listeners { listeners: listeners.collect() }
}

pub(super) fn config(admin: &Admin) -> Config {
    let reading = admin.applier.status.read();
    let source = reading.applied.as_ref().map(|applied| match applied.source {
        crate::apply::Source::Control => "control",
        crate::apply::Source::File => "file",
    });
    Config {
        source,
        connected_to_control: admin.sync.as_ref().map(|sync| sync.connected()),
        applied_unix_ms: reading.applied.is_some().then_some(reading.applied_unix_ms),
        age_ms: reading.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        applied: reading.applied,
        desired: reading.desired,
        healthy: reading.healthy,
        last_rejection: reading.rejection,
        last_known_good: admin.applier.keeper.reading(),
    }
}
