//! `ostler connect`: a stdio MCP server for clients that can only start a command. It stands for one mount of a data plane
//! and speaks Streamable HTTP to it, in whichever era its client speaks.
//!
//! Messages pass as they were written: ids, parameters and results are read and never rewritten. Standard output carries
//! messages alone. It must never end because the data plane is gone: whoever waits is told, and the next request tries again.
//!
//! | file | owns |
//! |---|---|
//! | `relay` | lines in: what each is, and who takes care of it |
//! | `in_flight` | the client's requests that wait for an answer |
//! | `exchange` | one request, from its POST to its answer |
//! | `session` | the session of a legacy client, begun again when the data plane has lost it |
//! | `settings` | what the client has set in that session |
//! | `push` | that session's GET stream |
//! | `courier` | the client's notifications and answers, in their order |
//! | `mirrors` | headers that a tool's schema asks for |
//! | `endpoint` | the mount over HTTP: connections, and the patience with a data plane that restarts |
//! | `messages` | the messages of one HTTP answer |
//! | `failure` | why there is no answer, as the answer |
//! | `outbox` | lines out |

mod courier;
mod endpoint;
mod exchange;
mod failure;
mod in_flight;
mod messages;
mod mirrors;
mod outbox;
mod push;
mod relay;
mod session;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use ostler_core::limits::{CONNECT_LINE_BYTES_MAX, CONNECT_STOP_TIMEOUT};
use ostler_core::lines::Lines;
use ostler_core::name::ResourceName;
use ostler_core::signal::Termination;
use tokio::time::timeout;

use crate::client::ServerUrl;
use crate::output::{self, Outcome};
use endpoint::Endpoint;
use outbox::Outbox;
use relay::Relay;

/// Serve one mount on standard input and output, for MCP clients that can only start a command.
///
/// It speaks every protocol revision that the mount does, and ends with its input.
#[derive(Debug, Args)]
pub struct ConnectMountArgs {
    /// Mount to serve
    #[arg(value_name = "MOUNT")]
    pub mount: ResourceName,

    /// Address of the data plane [default: that of the data plane running as this user, else http://127.0.0.1:7400]
    #[arg(long, env = "OSTLER_URL", value_name = "URL")]
    pub url: Option<ServerUrl>,

    /// Authorities (PEM) that an https data plane's certificate must come from [default: the system's]
    #[arg(long, env = "OSTLER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Serves until the input ends, its reader hangs up, or a signal.
///
/// # Errors
/// When the arguments cannot be used, or standard input cannot be read.
pub fn run(args: &ConnectMountArgs) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the command's runtime cannot start; raise the limit of open files")?;
    let served = runtime.block_on(serve(args));
    // A read of standard input that blocks is not waited for.
    runtime.shutdown_background();
    served.map(|()| Outcome::Done)
}

async fn serve(args: &ConnectMountArgs) -> anyhow::Result<()> {
    let mut signals = Termination::watch().context("signals cannot be listened to")?;
    let endpoint = Arc::new(Endpoint::new(args)?);
    let (outbox, written) = Outbox::start(tokio::io::stdout());
    let relay = Relay::start(endpoint, outbox);
    let served = tokio::select! {
        () = signals.asked() => Ok(()),
        () = written.broken() => Ok(()),
        served = relay.serve(Lines::new(tokio::io::stdin(), CONNECT_LINE_BYTES_MAX + 1)) => served.context("standard input cannot be read"),
    };
    let end = async {
        relay.end().await;
        written.finished().await;
    };
    tokio::select! {
        _ = timeout(CONNECT_STOP_TIMEOUT, end) => {}
        () = signals.asked() => {}
    }
    served
}

/// Tells the person who looks for a reason. Standard output is the client's.
fn log(text: &str) {
    output::complain(&format!("ostler connect: {}\n", output::visible(text)));
}
