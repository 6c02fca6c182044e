//! A data plane as a process: log, runtime, signals, and the way out.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use ostler_config::ProcessLookup;
use ostler_core::clock::WallClock;
use ostler_core::limits::STATUS_LINE_INTERVAL;
use ostler_core::name::NodeName;
use ostler_core::net::SystemNetwork;
use ostler_core::rng::Jitter;
use ostler_core::signal::{Hangups, Termination};
use ostler_core::state_dir::StateDir;
use ostler_core::supervisor::Supervisor;
use ostler_core::{health, parent, token};
use ostler_telemetry::log::{self, Log, LogOptions};

use crate::apply::Allowed;
use crate::args::{self, DataplaneArgs};
use crate::assembly::DataPlane;
use crate::options::{ConfigFrom, Options};
use crate::sync::SyncOptions;

/// Runs a data plane until it is told to stop. Blocks; builds its own runtime and installs the process's log.
///
/// # Errors
/// Whatever keeps it from starting, in one sentence that names the object and the next step.
pub fn run(args: DataplaneArgs) -> anyhow::Result<()> {
    if args.health {
        // A listener for metrics alone never has TLS.
        return Ok(health::check(&state_dir(&args), &["metrics", "admin"])?);
    }
    let log = log::init(&LogOptions {
        format: args.log_format,
        levels: args.log_level.clone(),
        color: log::color_wanted(),
    })?;
    // One thread for everything that is not traffic: sync, apply, probes, admin.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("the runtime cannot start")?;
    let options = options(&args, &log)?;
    raise_file_limit();
    let ended = runtime.block_on(async {
        let hangups = Hangups::listen().context("signals cannot be watched")?;
        let mut termination = Termination::watch().context("signals cannot be watched")?;
        let dataplane = tokio::select! {
            started = DataPlane::start(options) => started?,
            () = termination.asked() => return Ok(()),
        };
        dataplane.guard_children();
        tracing::info!(mcp = %dataplane.mcp_addr(), admin = %dataplane.admin_addr(), "data plane is serving");
        let supervisor = Supervisor::from_env();
        // What is found goes the way of any change; the status line tells of it.
        let reload = || {
            supervisor.reloading();
            dataplane.reload();
            supervisor.ready(&dataplane.summary());
        };
        tokio::select! {
            () = until_stopped(&mut termination, args.exit_with_parent) => {}
            () = hangups.at_each(reload) => {}
            () = supervised(&supervisor, &dataplane) => {}
        }
        tracing::info!("stopping: finishing what is in flight; a second signal ends it at once");
        supervisor.stopping("finishing what is in flight");
        dataplane.shutdown_unless(termination.asked()).await;
        Ok(())
    });
    // A read of standard input that nobody ends would otherwise be waited for.
    runtime.shutdown_background();
    ended
}

/// Connections are files: takes as many as the system gives without asking anybody.
#[cfg(unix)]
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit on open files could not be raised; it bounds the connections");
    }
}

#[cfg(not(unix))]
fn raise_file_limit() {}

fn options(args: &DataplaneArgs, log: &Log) -> anyhow::Result<Options> {
    let state_dir = state_dir(args);
    let trusted = args.trusts_config();
    Ok(Options {
        clock: WallClock::system(),
        network: Arc::new(SystemNetwork),
        seed: Jitter::from_entropy().below(u64::MAX),
        listen: args.listen,
        admin_listen: args.admin_listen,
        metrics_listen: args.metrics_listen,
        token_file: args.token_file.clone(),
        allow_hosts: args.allow_hosts.clone(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        fleet: args.fleet.clone(),
        config: config_from(args, &state_dir)?,
        allowed: Allowed {
            commands: args::globs(args.allow_commands.as_deref(), trusted).context("--allow-command")?,
            references: args::globs(args.allow_refs.as_deref(), trusted).context("--allow-ref")?,
            listeners: args::globs(args.allow_listen.as_deref(), trusted).context("--allow-listen")?,
        },
        lookup: Box::new(ProcessLookup),
        settle: args.settle,
        workers: usize::from(args.workers),
        buffer_bytes: args.buffer_bytes,
        log_lines_dropped: Some(Box::new(log.counter())),
        access: log.access(),
        state_dir,
    })
}

fn state_dir(args: &DataplaneArgs) -> PathBuf {
    args.state_dir.clone().unwrap_or_else(|| StateDir::default_for("dataplane"))
}

fn config_from(args: &DataplaneArgs, state_dir: &std::path::Path) -> anyhow::Result<ConfigFrom> {
    if let Some(file) = &args.config {
        return Ok(ConfigFrom::File(file.clone()));
    }
    let control = args.control.clone().context("neither --control nor --config was given")?;
    let scheme = control.scheme_str().unwrap_or_default();
    anyhow::ensure!(
        control.authority().is_some() && matches!(scheme, "http" | "https"),
        "control address {control} is not usable; write it as http://host:port"
    );
    let loopback = control.host().is_some_and(is_loopback);
    anyhow::ensure!(
        scheme == "https" || loopback,
        "control address {control} would send the node token unencrypted; use https, or a loopback address"
    );
    let token_file: PathBuf = args.node_token_file.clone().unwrap_or_else(|| state_dir.join("node.token"));
    let token = token::load(&token_file)
        .context("control wants a node token; copy its node.token and name it with --node-token-file")?;
    Ok(ConfigFrom::Control(SyncOptions {
        control,
        token,
        ca: args.control_ca.clone(),
        node: args.node.clone().map_or_else(host_name, Ok)?,
        fleet: args.fleet.clone(),
        labels: args.label_map(),
    }))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn host_name() -> anyhow::Result<NodeName> {
    let name = system_host_name().unwrap_or_else(|| "node".to_owned());
    NodeName::parse(&name).context("the host's name is no node name; choose one with --node")
}

#[cfg(unix)]
fn system_host_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

#[cfg(not(unix))]
fn system_host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Waits for Ctrl-C, SIGTERM, or the end of the parent.
async fn until_stopped(termination: &mut Termination, with_parent: bool) {
    tokio::select! {
        () = termination.asked() => {}
        () = parent::gone(), if with_parent => {}
    }
}

/// Tells the service manager that the process serves, what it serves, and that it lives. Never returns.
///
/// A process is ready once its listeners accept, though it may wait for a first config: that is what `/readyz` tells those
/// who send requests, and a unit that is not active would only be started again.
async fn supervised(supervisor: &Supervisor, dataplane: &DataPlane) {
    let liveness = dataplane.liveness();
    let mut said = dataplane.summary();
    supervisor.ready(&said);
    let statuses = async {
        loop {
            tokio::time::sleep(STATUS_LINE_INTERVAL).await;
            let now = dataplane.summary();
            if now != said {
                supervisor.status(&now);
                said = now;
            }
        }
    };
    tokio::join!(statuses, supervisor.watch(|| liveness.check()));
}
