//! `kill`, `resume` and `kills`: stop something in a fleet at once, and let it go on.

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use ostler_control::api::types::{KillList, KillRequest, ResumeRequest};
use ostler_core::clock::rfc3339;
use ostler_policy::kill::Target;
use serde::Serialize;

use super::explain;
use crate::cli::Format;
use crate::client::{Client, ConnectArgs, Reply};
use crate::output::{self, Outcome};

/// Stop a tool, a mount, an identity or a whole fleet on its connected data planes, at once and without a version.
///
/// It holds without control and over restarts, until `ostler resume`.
#[derive(Debug, Args)]
pub struct KillArgs {
    #[command(subcommand)]
    pub what: What,

    /// Why; kept with the switch and shown where it stops something
    #[arg(short = 'm', long, global = true, value_name = "TEXT", default_value = "")]
    pub reason: String,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Let go on what was stopped with `ostler kill`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(subcommand)]
    pub what: Resumed,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Show what is stopped in a fleet.
#[derive(Debug, Args)]
pub struct KillsArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
}

#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// All calls of the fleet.
    All,
    /// All calls to a mount, by whatever door.
    Mount { name: String },
    /// Calls of a tool by its own name.
    Tool {
        name: String,
        /// On this mount alone; on every one without it
        #[arg(long, value_name = "MOUNT")]
        mount: Option<String>,
    },
    /// All calls of a caller, by the governance identity.
    Identity { name: String },
}

#[derive(Debug, Clone, Subcommand)]
pub enum Resumed {
    /// Everything that is stopped, one by one or as a whole.
    Everything,
    #[command(flatten)]
    Target(What),
}

pub async fn kill(args: &KillArgs) -> anyhow::Result<Outcome> {
    let request = KillRequest { target: args.what.clone().into(), reason: args.reason.clone() };
    change(&args.connect, "kill", &request).await
}

pub async fn resume(args: &ResumeArgs) -> anyhow::Result<Outcome> {
    let request = match args.what.clone() {
        Resumed::Everything => ResumeRequest { all: true, target: None },
        Resumed::Target(what) => ResumeRequest { all: false, target: Some(what.into()) },
    };
    change(&args.connect, "resume", &request).await
}

pub async fn kills(args: &KillsArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.connect.reach)?;
    let path = format!("/v1/fleets/{}/kill", args.connect.fleet);
    let reply = client.get::<KillList>(&path).await;
    show(&reply.map_err(|error| explain(error, args.connect.output, ""))?, args.connect.output)
}

async fn change(connect: &ConnectArgs, verb: &str, request: &impl Serialize) -> anyhow::Result<Outcome> {
    let client = Client::new(&connect.reach)?;
    let path = format!("/v1/fleets/{}/{verb}", connect.fleet);
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = Bytes::from(serde_json::to_vec(request)?);
    let reply = client.ask::<KillList>(Method::POST, &path, headers, body).await;
    let reply = reply.map_err(|error| explain(error, connect.output, ""))?;
    if !reply.value.changed {
        output::complain("nothing changed: it is so already\n");
    }
    show(&reply, connect.output)
}

fn show(reply: &Reply<KillList>, format: Format) -> anyhow::Result<Outcome> {
    if format == Format::Json {
        return output::print_answer(&reply.body).map(|()| Outcome::Done);
    }
    let list = &reply.value;
    if list.items.is_empty() {
        let text = format!("fleet {}: nothing is stopped\n", output::visible(&list.fleet));
        return output::print(&text).map(|()| Outcome::Done);
    }
    let rows = list.items.iter().map(|item| {
        vec![item.what.clone(), rfc3339(item.since_unix_ms), item.by.clone(), item.reason.clone()]
    });
    let text = output::table(&["STOPPED", "SINCE", "BY", "REASON"], rows);
    output::print(&text).map(|()| Outcome::Done)
}

// === impl What ===

impl From<What> for Target {
    fn from(what: What) -> Self {
        match what {
            What::All => Self::Fleet,
            What::Mount { name } => Self::Mount { mount: name },
            What::Tool { name, mount } => Self::Tool { tool: name, mount },
            What::Identity { name } => Self::Identity { identity: name },
        }
    }
}
