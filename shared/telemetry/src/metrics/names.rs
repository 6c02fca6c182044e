//! Every metric of the product, in one table: name, kind, labels, meaning. Label values come from config or from a
//! fixed list of words, never from a client's string.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What a metric is.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($variant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// A metric, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $variant,)*
        }

        impl Metric {
            /// All of them, in the order of the reference.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant,)*];

            pub fn definition(self) -> Definition {
                match self {
                    $(Metric::$variant => Definition {
                        name: $name,
                        kind: Kind::$kind,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

metrics! {
    // Both planes.
    BuildInfo: Gauge "ostler_build_info" ["process", "version"] "1, labelled with the process (control or dataplane) and its version.";
    SeriesDropped: Counter "ostler_metrics_series_dropped_total" ["metric"] "Series left out of this scrape because their metric reached its limit.";
    LogLinesDropped: Counter "ostler_log_lines_dropped_total" [] "Log lines lost because their reader did not keep up.";
    RequestsRefused: Counter "ostler_requests_refused_total" ["listener", "reason"] "Requests turned away before they reached a handler: token missing or wrong, Host or Origin foreign, too large, overloaded.";
    Panics: Counter "ostler_panics_total" ["listener"] "Requests that ended in a panic; each was answered with 500.";

    // Data plane: traffic per mount.
    Requests: Counter "ostler_mount_requests_total" ["mount", "upstream", "outcome"] "Requests answered, by outcome: ok, jsonrpc_error, or the reason of Ostler's own error. What is denied of a batch counts message by message, beside the rest of it.";
    RequestDuration: Histogram "ostler_mount_request_duration_seconds" ["mount", "upstream"] "From the request's head to the head of its answer.";
    MountInFlight: Gauge "ostler_mount_in_flight" ["mount", "upstream"] "Requests and streams under way.";
    MountUpdatesWithheld: Counter "ostler_mount_updates_withheld_total" ["mount", "upstream"] "Notifications of changed resources that were kept from clients who may not subscribe to them any more.";
    MountSessions: Gauge "ostler_mount_sessions" ["mount", "upstream"] "Legacy sessions held.";
    MountSessionsRestored: Counter "ostler_mount_sessions_restored_total" ["mount", "upstream"] "Legacy sessions of an earlier process that went on in this one.";
    MountPooledSessions: Gauge "ostler_mount_pooled_sessions" ["mount", "upstream"] "Sessions held at a legacy upstream for clients that have none.";
    MountParkedCalls: Gauge "ostler_mount_parked_calls" ["mount", "upstream"] "Calls that wait for what their server has asked of a client.";
    MountState: Gauge "ostler_mount_state" ["mount", "upstream", "state"] "1 for the state the mount is in, 0 for the others.";

    MountsDraining: Gauge "ostler_mounts_draining" [] "Mounts that config removed or gave another upstream and that still finish requests.";

    BundleMembersMissing: Gauge "ostler_bundle_members_missing" ["bundle"] "Mounts of the bundle that its last list was made without.";
    BundleNamesLeftOut: Gauge "ostler_bundle_names_left_out" ["bundle"] "Tools and prompts left out of the bundle's last lists because their names are too long there.";

    // Data plane: per upstream.
    UpstreamInFlight: Gauge "ostler_upstream_in_flight" ["upstream"] "Requests under way to the upstream.";
    UpstreamLimit: Gauge "ostler_upstream_in_flight_limit" ["upstream"] "Requests allowed to be under way to the upstream.";
    UpstreamEndpointsHealthy: Gauge "ostler_upstream_endpoints_healthy" ["upstream"] "Endpoints believed to answer.";
    UpstreamBreaker: Gauge "ostler_upstream_breaker_open" ["upstream"] "1 while calls fail fast without being sent.";
    UpstreamConnects: Counter "ostler_upstream_connects_total" ["upstream", "result"] "Connections opened, by result: ok, failed.";
    UpstreamTokens: Counter "ostler_upstream_token_fetches_total" ["upstream", "result"] "Fetches of the data plane's own token for the upstream, by result: ok, failed. Upstreams of one client share them.";
    UpstreamChildren: Gauge "ostler_upstream_children" ["upstream"] "stdio children running.";
    UpstreamChildrenLimit: Gauge "ostler_upstream_children_limit" ["upstream"] "stdio children allowed to run.";
    UpstreamChildStarts: Counter "ostler_upstream_child_starts_total" ["upstream"] "stdio children started, or tried to be.";
    UpstreamChildLines: Counter "ostler_upstream_child_lines_total" ["upstream", "stream"] "Lines read from stdio children, by stream: stdout, stderr.";
    UpstreamChildPauses: Counter "ostler_upstream_child_pauses_total" ["upstream"] "Times a stdio child was not read for a while because it wrote more than it may that nobody had asked for.";
    UpstreamStderrLinesDropped: Counter "ostler_upstream_stderr_lines_dropped_total" ["upstream"] "Lines of stdio children's stderr left out of the log because there were too many.";
    UpstreamBufferedBytes: Gauge "ostler_upstream_buffered_bytes" ["upstream"] "Messages of stdio children that wait for clients to read them.";
    UpstreamMessagesDropped: Counter "ostler_upstream_messages_dropped_total" ["upstream"] "Messages of stdio children that no client was there to take.";
    UpstreamChildExits: Counter "ostler_upstream_child_exits_total" ["upstream"] "stdio children that ended without being asked to.";
    UpstreamSessionsReopened: Counter "ostler_upstream_sessions_reopened_total" ["upstream"] "Sessions that the upstream had lost, and was made to open again.";
    UpstreamProbes: Counter "ostler_upstream_probes_total" ["upstream", "result"] "Health probes, by result: alive, dead.";

    // Data plane: config and process.
    ConfigVersionApplied: Gauge "ostler_config_version_applied" [] "Version being served; 0 when there is none.";
    ConfigVersionDesired: Gauge "ostler_config_version_desired" [] "Newest version offered by the source; 0 when there is none.";
    ConfigAge: Gauge "ostler_config_age_seconds" [] "Since the source last confirmed what is being served: a stream to control does so every ten seconds, a file when it is read.";
    ConfigApplies: Counter "ostler_config_applies_total" ["source", "result"] "Candidates judged, by source (stream, file, disk, last_resort) and result (applied, unchanged, rejected).";
    ConfigPersistFailures: Counter "ostler_config_persist_failures_total" [] "Times the last-known-good config, or the mark of an attempt, could not be written.";
    ConfigPersistFailing: Gauge "ostler_config_persist_failing" [] "1 while the disk does not take the last-known-good config; what is served does not depend on it, a restart would.";
    SessionJournalSessions: Gauge "ostler_session_journal_sessions" [] "Legacy sessions that a restart would find.";
    SessionJournalFailures: Counter "ostler_session_journal_failures_total" [] "Times the session journal could not be written.";
    SessionJournalFailing: Gauge "ostler_session_journal_failing" [] "1 while the disk does not take the session journal; sessions go on, and those that began meanwhile would not survive a restart.";
    AuditRecords: Counter "ostler_audit_records_total" [] "Audit records that have come to the disk.";
    AuditRecordsLost: Counter "ostler_audit_records_lost_total" [] "Audit records that nobody waited for and that are nowhere: the queue was full, or the disk took nothing.";
    AuditFailures: Counter "ostler_audit_failures_total" [] "Times the audit spool could not be written.";
    AuditFailing: Gauge "ostler_audit_failing" [] "1 while the disk does not take audit records; calls whose records must be durable are denied with audit_unavailable.";
    AuditSpoolBytes: Gauge "ostler_audit_spool_bytes" [] "Files of the audit spool.";
    KillsUnkept: Gauge "ostler_kill_switches_persist_failing" [] "1 while kill switches hold that could not be written down: a restart without control would not know them.";
    AuditUnsent: Gauge "ostler_audit_records_unsent" [] "Audit records that control has not acknowledged.";
    KillSwitches: Gauge "ostler_kill_switches" [] "Kill switches that are on.";
    ConfigGenerationFindings: Gauge "ostler_config_generation_findings" ["kind"] "Files of the last-known-good config that were not as they should be at start, by kind: damaged, later_format, crash_looping and rejected are not used; suspicious and exposed are.";
    ConfigPartsRead: Counter "ostler_config_parts_read_total" [] "Parts of candidates that were read and judged; what a config has in common with the one before it is not.";
    UpstreamsBuilt: Counter "ostler_config_upstreams_built_total" [] "Upstreams built anew, with connections, sessions and health of their own, because config changed what they are.";
    SnapshotsRetiredAlive: Gauge "ostler_snapshots_retired_alive" [] "Snapshots replaced but still pinned by a request.";
    ControlConnected: Gauge "ostler_control_connected" [] "1 while the stream to control is up.";
    ControlReconnects: Counter "ostler_control_reconnects_total" [] "Streams to control that ended.";
    ControlMessagesIgnored: Counter "ostler_control_messages_ignored_total" [] "Messages of control that this build does not know, or that confirm what is not served.";
    ConnectionsOpen: Gauge "ostler_connections_open" ["listener"] "Client connections open.";
    ListenerAccepting: Gauge "ostler_listener_accepting" ["listener"] "1 while every traffic worker accepts connections on the listener.";
    TasksAlive: Gauge "ostler_tasks_alive" ["group"] "Tasks alive: traffic (all on the traffic workers' runtimes) and tracked (what is waited for at the end, on any runtime).";
    ClientsStalled: Counter "ostler_clients_stalled_total" [] "Client connections, and single HTTP/2 streams, cut because nothing of what was written to them was read for too long.";
    BufferedBytes: Gauge "ostler_buffered_bytes" [] "Request bodies held in memory.";

    // Control.
    ControlNodes: Gauge "ostler_control_nodes" ["fleet", "state"] "Data planes known, by state.";
    ControlVersion: Gauge "ostler_control_version" ["fleet"] "Newest version of the fleet.";
    ControlApplies: Counter "ostler_control_applies_total" ["source", "result"] "Candidates judged, by source (api, file, rollback) and result (applied, unchanged, dry_run, rejected, conflict, failed).";
    ControlStreams: Gauge "ostler_control_streams" [] "Sync streams open.";
    ControlPushes: Counter "ostler_control_pushes_total" ["result"] "Answers to what a node holds: snapshot, unchanged, ahead.";
    ControlAcks: Counter "ostler_control_acks_total" ["stage"] "Acknowledgements received, by stage: applied, healthy, rejected; ignored ones answered nothing that their stream had sent.";
    ControlBackups: Counter "ostler_control_backups_total" ["result"] "Backups asked for through the API, by result: taken, refused (another was being taken), slow_client (cut off, it took too little), broken_off (the client left or control stopped), failed (the store).";
    ControlStoreQueue: Gauge "ostler_control_store_queue" [] "Commands waiting for the store thread.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_prefixed_and_carry_their_unit() {
        let mut seen = BTreeSet::new();
        for metric in Metric::ALL {
            let definition = metric.definition();
            assert!(seen.insert(definition.name), "{} stands twice", definition.name);
            assert!(definition.name.starts_with("ostler_"));
            assert_eq!(
                definition.name.ends_with("_total"),
                definition.kind == Kind::Counter,
                "{}",
                definition.name
            );
        }
    }
}
