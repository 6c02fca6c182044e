//! The control process as a command: from flags to a running process, and from a signal to an orderly end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ostler_core::clock::WallClock;
use ostler_core::limits::VERSIONS_KEPT_MAX;
use ostler_core::net::SystemNetwork;
use ostler_core::parent;
use ostler_core::rng::Jitter;
use ostler_core::signal::Hangups;
use ostler_core::state_dir::StateDir;
use ostler_telemetry::log::{self, LogOptions};
use ostler_tls::ServerTls;
use tokio::runtime::Runtime;

use crate::args::ControlArgs;
use crate::control::{Control, ControlOptions};

/// Threads of the control process: none of its work is on the path of a request.
const WORKERS: usize = 2;
/// A read of standard input cannot be called off; the process does not wait for it.
const RUNTIME_DEADLINE: Duration = Duration::from_millis(100);

/// Runs until a signal, or until the parent is gone. Blocks; brings its own runtime and log.
///
/// # Errors
/// One sentence that names the object and the next step.
pub fn run(args: ControlArgs) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let result = serve(&runtime, args);
    runtime.shutdown_timeout(RUNTIME_DEADLINE);
    result
}

/// Threads for one process or one command.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("control's threads cannot be started; raise the limit of threads")
}

fn serve(runtime: &Runtime, args: ControlArgs) -> anyhow::Result<()> {
    let log = log::init(&LogOptions {
        format: args.log_format,
        levels: args.log_level.clone(),
        color: ostler_telemetry::log::color_wanted(),
    })
    .map_err(whole)?;
    let exit_with_parent = args.exit_with_parent;
    let mut options = options(args)?;
    options.log_lines_dropped = Arc::new(log.counter());
    runtime.block_on(async {
        // Asked for first, so that a signal during start is not lost.
        let hangups = Hangups::listen().context("signals cannot be listened to")?;
        let ended = ended(exit_with_parent)?;
        let running = Control::start(options).await.map_err(whole)?;
        tracing::info!(
            api = %running.api_addr, sync = %running.sync_addr, metrics = ?running.metrics_addr,
            "control is running"
        );
        let reason = tokio::select! {
            reason = ended => reason,
            () = hangups.at_each(|| running.reload()) => "signals ended",
        };
        tracing::info!(reason, "control is shutting down");
        running.shutdown().await;
        anyhow::Ok(())
    })
}

fn options(args: ControlArgs) -> anyhow::Result<ControlOptions> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(ServerTls::load(certificate, key).map_err(whole)?),
        (None, None) => None,
        _ => anyhow::bail!("TLS needs both --tls-cert and --tls-key"),
    };
    Ok(ControlOptions {
        state_dir: args.state_dir.unwrap_or_else(|| StateDir::default_for("control")),
        listen: args.listen,
        sync_listen: args.sync_listen,
        metrics_listen: args.metrics_listen,
        token_file: args.token_file,
        node_token_file: args.node_token_file,
        tls,
        config: args.config,
        fleet: args.fleet,
        allow_hosts: args.allow_hosts,
        clock: WallClock::system(),
        network: Arc::new(SystemNetwork),
        jitter: Jitter::from_entropy(),
        versions_kept_max: VERSIONS_KEPT_MAX,
        log_lines_dropped: Arc::new(|| 0),
    })
}

/// The sentence without its chain of sources, which it has told already.
pub(crate) fn whole(error: impl std::error::Error) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// Resolves, with the reason, when the process should end.
fn ended(exit_with_parent: bool) -> anyhow::Result<impl Future<Output = &'static str>> {
    let signals = signals().context("signals cannot be listened to")?;
    Ok(async move {
        tokio::select! {
            signal = signals => signal,
            () = parent::gone(), if exit_with_parent => "the parent is gone",
        }
    })
}

#[cfg(unix)]
fn signals() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "interrupt",
            _ = terminate.recv() => "terminate",
        }
    })
}

#[cfg(not(unix))]
fn signals() -> std::io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        // When it cannot be listened to, the process can still be killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "interrupt"
    })
}
