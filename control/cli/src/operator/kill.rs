//! `kill`, `resume` and `kills`: stop something in a fleet at once, and let it go on.

use bytes::Bytes;
use clap::Args;
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
    #[command(flatten)]
    pub what: WhatArgs,

    /// Why; kept with the switch and told to callers that it stops
    #[arg(short = 'm', long, value_name = "TEXT", default_value = "")]
    pub reason: String,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Let go on what was stopped with `ostler kill`: what is named as it was then, or everything.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub what: WhatArgs,

    /// Everything that is stopped, one by one or as a whole
    #[arg(long, conflicts_with_all = ["all", "mount", "tool", "identity"])]
    pub everything: bool,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Show what is stopped in a fleet.
#[derive(Debug, Args)]
pub struct KillsArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// One of them; a tool may be that of one mount.
#[derive(Debug, Clone, Default, Args)]
pub struct WhatArgs {
    /// All calls of the fleet
    #[arg(long, conflicts_with_all = ["mount", "tool", "identity"])]
    pub all: bool,

    /// All calls to this mount, by whatever door; with --tool, that tool on this mount alone
    #[arg(long, value_name = "MOUNT", conflicts_with = "identity")]
    pub mount: Option<String>,

    /// Calls of this tool, by its own name
    #[arg(long, value_name = "TOOL", conflicts_with = "identity")]
    pub tool: Option<String>,

    /// All calls of this caller, by the governance identity
    #[arg(long, value_name = "IDENTITY")]
    pub identity: Option<String>,
}

pub async fn kill(args: &KillArgs) -> anyhow::Result<Outcome> {
    let request = KillRequest { target: args.what.target()?, reason: args.reason.clone() };
    change(&args.connect, "kill", &request).await
}

pub async fn resume(args: &ResumeArgs) -> anyhow::Result<Outcome> {
    let request = match args.everything {
        true => ResumeRequest { all: true, target: None },
        false => ResumeRequest { all: false, target: Some(args.what.target()?) },
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

// === impl WhatArgs ===

impl WhatArgs {
    fn target(&self) -> anyhow::Result<Target> {
        match (self.all, self.tool.clone(), self.mount.clone(), self.identity.clone()) {
            (true, ..) => Ok(Target::Fleet),
            (_, Some(tool), mount, _) => Ok(Target::Tool { tool, mount }),
            (_, None, Some(mount), _) => Ok(Target::Mount { mount }),
            (_, None, None, Some(identity)) => Ok(Target::Identity { identity }),
            (false, None, None, None) => {
                anyhow::bail!("nothing is named; say --tool, --mount, --identity or --all")
            }
        }
    }
}
