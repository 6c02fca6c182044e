//! The control process as a command: from flags to a running process, and from a signal to an orderly end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ostler_core::clock::WallClock;
use ostler_core::limits::VERSIONS_KEPT_MAX;
use ostler_core::net::SystemNetwork;
use ostler_core::rng::Jitter;
use ostler_core::signal::{Hangups, Termination};
use ostler_core::state_dir::StateDir;
use ostler_core::supervisor::Supervisor;
use ostler_core::{health, parent};
use ostler_telemetry::log::{self, LogOptions};
use ostler_tls::ServerTls;
use tokio::runtime::Runtime;

use crate::args::ControlArgs;
use crate::control::{Control, ControlOptions, RunningControl};

/// Threads of the control process: none of its work is on the path of a request.
const WORKERS: usize = 2;
/// A read of standard input cannot be called off; the process does not wait for it.
const RUNTIME_DEADLINE: Duration = Duration::from_millis(100);

/// Runs until a signal, or until the parent is gone. Blocks; brings its own runtime and log.
///
/// # Errors
/// One sentence that names the object and the next step.
pub fn run(args: ControlArgs) -> anyhow::Result<()> {
    if args.health {
        let state_dir = args.state_dir.clone().unwrap_or_else(|| StateDir::default_for("control"));
        // A listener for metrics alone never has TLS.
        return Ok(health::check(&state_dir, &["metrics", "api"])?);
    }
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
        let mut termination = Termination::watch().context("signals cannot be listened to")?;
        let running = tokio::select! {
            started = Control::start(options) => started.map_err(whole)?,
            () = termination.asked() => return Ok(()),
        };
        tracing::info!(
            api = %running.api_addr, sync = %running.sync_addr, metrics = ?running.metrics_addr,
            "control is running"
        );
        let supervisor = Supervisor::from_env();
        let reload = || {
            supervisor.reloading();
            running.reload();
            supervisor.ready(&summary(&running));
        };
        let reason = tokio::select! {
            reason = until_ended(&mut termination, exit_with_parent) => reason,
            () = hangups.at_each(reload) => "signals ended",
            never = supervised(&supervisor, &running) => match never {},
        };
        tracing::info!(reason, "control is shutting down; a second signal ends it at once");
        supervisor.stopping("sending data planes away");
        tokio::select! {
            () = running.shutdown() => {}
            () = termination.asked() => {}
        }
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

/// Waits for Ctrl-C, SIGTERM, or the end of the parent, and says which.
async fn until_ended(termination: &mut Termination, with_parent: bool) -> &'static str {
    tokio::select! {
        () = termination.asked() => "signal",
        () = parent::gone(), if with_parent => "the parent is gone",
    }
}

/// Tells the service manager that the process serves and that it lives. Never returns.
async fn supervised(supervisor: &Supervisor, running: &RunningControl) -> Infallible {
    supervisor.ready(&summary(running));
    supervisor.watch(|| running.alive()).await;
    std::future::pending().await
}

fn summary(running: &RunningControl) -> String {
    format!("api on {}, data planes on {}", running.api_addr, running.sync_addr)
}
