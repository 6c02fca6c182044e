//! One scrape of a data plane. Values are read from what they describe; a mount that is gone from config is gone here.

use std::collections::BTreeSet;

use ostler_core::build::VERSION;
use ostler_telemetry::metrics::{Exposition, Metric};

use super::Admin;
use crate::apply::generations::FindingKind;
use crate::listener::ListenerState;
use crate::mount::Mount;
use crate::mount::drain::DrainingMount;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::health::State;

pub(super) fn expose(admin: &Admin) -> String {
    let mut exposition = Exposition::new();
    process(admin, &mut exposition);
    config(admin, &mut exposition);
    if let Some(snapshot) = admin.applier.snapshots.load() {
        for mount in snapshot.mounts() {
            expose_mount(mount, &mut exposition);
        }
        expose_draining(admin, &snapshot, &mut exposition);
        for upstream in snapshot.upstreams() {
            expose_upstream(upstream, &snapshot, &mut exposition);
        }
    }
    exposition.finish()
}

fn listeners(admin: &Admin, exposition: &mut Exposition) {
    for reading in admin.applier.listeners.readings() {
        let name = &*reading.name;
        // Its name may stand for a listener of the config again, and its connections are few and soon gone.
        if reading.state == ListenerState::Draining {
            continue;
        }
        let accepting = u8::from(reading.state == ListenerState::Accepting);
        exposition.value(Metric::ListenerAccepting, &[name], accepting);
        if let Some(socket) = &reading.socket {
            exposition.gauge(Metric::ConnectionsOpen, &[name], &socket.metrics.open);
            let refused = &socket.metrics.refused;
            exposition.counter(Metric::RequestsRefused, &[name, "connections"], refused);
        }
    }
}

fn process(admin: &Admin, exposition: &mut Exposition) {
    exposition.value(Metric::BuildInfo, &["dataplane", VERSION], 1);
    for (reason, counter) in admin.pipeline.refusals.all() {
        exposition.counter(Metric::RequestsRefused, &["mcp", reason], counter);
    }
    listeners(admin, exposition);
    let refusals = &admin.refusals;
    for (reason, counter) in
        [("host", &refusals.host), ("origin", &refusals.origin), ("token", &refusals.token)]
    {
        exposition.counter(Metric::RequestsRefused, &["admin", reason], counter);
    }
    exposition.counter(Metric::Panics, &["mcp"], &admin.pipeline.panics);
    exposition.value(Metric::TasksAlive, &["traffic"], admin.pipeline.runtimes.tasks());
    exposition.value(Metric::TasksAlive, &["tracked"], admin.deps.tasks.len());
    exposition.counter(Metric::ClientsStalled, &[], &admin.pipeline.stalled);
    exposition.value(Metric::BufferedBytes, &[], admin.pipeline.budget.used());
    if let Some(dropped) = &admin.log_lines_dropped {
        exposition.value(Metric::LogLinesDropped, &[], dropped());
    }
}

fn config(admin: &Admin, exposition: &mut Exposition) {
    let status = &admin.applier.status;
    let reading = status.read();
    let version =
        |revision: &Option<crate::apply::Revision>| revision.as_ref().map_or(0, |revision| revision.version);
    exposition.value(Metric::ConfigVersionApplied, &[], version(&reading.applied));
    exposition.value(Metric::ConfigVersionDesired, &[], version(&reading.desired));
    if let Some(age) = reading.age {
        exposition.value(Metric::ConfigAge, &[], age.as_secs_f64());
    }
    for (source, result, counter) in status.counts() {
        exposition.counter(Metric::ConfigApplies, &[source, result], counter);
    }
    let keeper = admin.applier.keeper.reading();
    exposition.counter(Metric::ConfigPersistFailures, &[], &admin.applier.keeper.failures);
    exposition.value(Metric::ConfigPersistFailing, &[], u8::from(keeper.alarm.is_some()));
    for kind in FindingKind::ALL {
        let count = keeper.findings.iter().filter(|finding| finding.kind == kind).count();
        exposition.value(Metric::ConfigGenerationFindings, &[kind.as_str()], count);
    }
    if let Some(journal) = &admin.deps.journal {
        exposition.value(Metric::SessionJournalSessions, &[], journal.len());
        exposition.counter(Metric::SessionJournalFailures, &[], journal.failures());
        exposition.value(Metric::SessionJournalFailing, &[], u8::from(journal.is_failing()));
    }
    exposition.value(Metric::KillsUnkept, &[], u8::from(admin.deps.kills.is_unkept()));
    if let Some(audit) = &admin.deps.audit {
        exposition.counter(Metric::AuditRecords, &[], audit.written());
        exposition.counter(Metric::AuditRecordsLost, &[], audit.lost());
        exposition.counter(Metric::AuditFailures, &[], audit.failures());
        exposition.value(Metric::AuditFailing, &[], u8::from(audit.is_failing()));
        exposition.value(Metric::AuditSpoolBytes, &[], audit.bytes());
        exposition.value(Metric::AuditUnsent, &[], audit.unsent());
    }
    exposition.value(Metric::KillSwitches, &[], admin.deps.kills.load().set().switches.len());
    exposition.counter(Metric::ConfigPartsRead, &[], &status.parts_read);
    exposition.counter(Metric::UpstreamsBuilt, &[], &admin.deps.upstreams_built);
    exposition.value(Metric::SnapshotsRetiredAlive, &[], admin.applier.snapshots.retired_alive());
    if let Some(sync) = &admin.sync {
        exposition.value(Metric::ControlConnected, &[], u8::from(sync.connected()));
        exposition.counter(Metric::ControlReconnects, &[], &sync.reconnects);
        exposition.counter(Metric::ControlMessagesIgnored, &[], &sync.ignored);
    }
}

/// A removed mount is shown until its last request has ended. One that has another upstream now is that one.
fn expose_draining(admin: &Admin, snapshot: &Snapshot, exposition: &mut Exposition) {
    let draining = admin.applier.draining.list();
    exposition.value(Metric::MountsDraining, &[], draining.len());
    let mut shown = BTreeSet::new();
    for DrainingMount { mount, .. } in &draining {
        let (name, upstream) = (mount.name().as_str(), mount.upstream.name.as_str());
        if snapshot.mount(name).is_some() || !shown.insert((name, upstream)) {
            continue;
        }
        mount.runtime.metrics.expose(exposition, name, upstream);
        for state in State::ALL {
            let value = u8::from(state == State::Draining);
            exposition.value(Metric::MountState, &[name, upstream, state.as_str()], value);
        }
    }
}

fn expose_mount(mount: &Mount, exposition: &mut Exposition) {
    let (name, upstream) = (mount.name().as_str(), mount.upstream.name.as_str());
    mount.runtime.metrics.expose(exposition, name, upstream);
    exposition.value(Metric::MountSessions, &[name, upstream], mount.runtime.session_count());
    let restored = &mount.runtime.sessions.restored;
    exposition.counter(Metric::MountSessionsRestored, &[name, upstream], restored);
    let pool = &mount.runtime.pool;
    exposition.value(Metric::MountPooledSessions, &[name, upstream], pool.len());
    exposition.value(Metric::MountParkedCalls, &[name, upstream], pool.parked());
    if let Some(bundled) = &mount.bundled {
        exposition.value(Metric::BundleMembersMissing, &[name], bundled.bundle.missing());
        exposition.value(Metric::BundleNamesLeftOut, &[name], bundled.bundle.left_out());
    }
    let now = mount.reading().state;
    for state in State::ALL {
        exposition.value(Metric::MountState, &[name, upstream, state.as_str()], u8::from(state == now));
    }
}

fn expose_upstream(upstream: &Upstream, snapshot: &Snapshot, exposition: &mut Exposition) {
    let name = upstream.name.as_str();
    let down = upstream.health.is_down();
    exposition.gauge(Metric::UpstreamInFlight, &[name], &upstream.metrics.in_flight);
    if let Some(config) = snapshot.compiled.upstreams.get(&upstream.name) {
        exposition.value(Metric::UpstreamLimit, &[name], config.limits.in_flight);
    }
    exposition.value(Metric::UpstreamEndpointsHealthy, &[name], u8::from(!down));
    exposition.value(Metric::UpstreamBreaker, &[name], u8::from(down));
    match upstream.children() {
        Some(children) => {
            exposition.value(Metric::UpstreamChildren, &[name], children.running);
            exposition.value(Metric::UpstreamChildrenLimit, &[name], children.allowed);
            exposition.value(Metric::UpstreamChildStarts, &[name], children.starts);
            exposition.value(Metric::UpstreamChildLines, &[name, "stdout"], children.lines_read);
            exposition.value(Metric::UpstreamChildLines, &[name, "stderr"], children.stderr_lines_read);
            exposition.value(Metric::UpstreamChildPauses, &[name], children.pauses);
            exposition.value(Metric::UpstreamStderrLinesDropped, &[name], children.stderr_lines_dropped);
            exposition.value(Metric::UpstreamBufferedBytes, &[name], children.buffered_bytes);
            exposition.value(Metric::UpstreamChildExits, &[name], children.unexpected_exits);
            exposition.value(Metric::UpstreamMessagesDropped, &[name], children.dropped_messages);
        }
        None => {
            let metrics = &upstream.metrics;
            exposition.counter(Metric::UpstreamConnects, &[name, "ok"], &metrics.connects_ok);
            exposition.counter(Metric::UpstreamConnects, &[name, "failed"], &metrics.connects_failed);
            if let Some(credential) = upstream.credential() {
                exposition.counter(Metric::UpstreamTokens, &[name, "ok"], &credential.fetched);
                exposition.counter(Metric::UpstreamTokens, &[name, "failed"], &credential.failed);
            }
            exposition.counter(Metric::UpstreamSessionsReopened, &[name], &metrics.sessions_reopened);
            exposition.counter(Metric::UpstreamProbes, &[name, "alive"], &metrics.probes_alive);
            exposition.counter(Metric::UpstreamProbes, &[name, "dead"], &metrics.probes_dead);
        }
    }
}
