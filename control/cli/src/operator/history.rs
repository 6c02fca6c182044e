//! `versions` and `diff`: what a fleet was told, when, by whom, and how two versions differ.

use clap::Args;
use ostler_control::api::types::{DiffResult, VersionList};
use ostler_core::clock::rfc3339;

use super::explain;
use crate::cli::Format;
use crate::client::{Client, ConnectArgs};
use crate::output::{self, Outcome};

/// List the versions of a fleet, newest first.
#[derive(Debug, Args)]
pub struct VersionsArgs {
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: u32,

    /// Only those before this version
    #[arg(long, value_name = "VERSION")]
    pub before: Option<u64>,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Show what changes from one version to another.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Version to start from
    #[arg(value_name = "FROM")]
    pub from: u64,

    /// Version to arrive at
    #[arg(value_name = "TO")]
    pub to: u64,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

pub async fn versions(args: &VersionsArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.connect.reach)?;
    let before = args.before.map(|version| format!("&before={version}")).unwrap_or_default();
    let path = format!("/v1/fleets/{}/versions?limit={}{before}", args.connect.fleet, args.limit);
    let reply =
        client.get::<VersionList>(&path).await.map_err(|error| explain(error, args.connect.output, ""))?;
    if args.connect.output == Format::Json {
        return output::print_answer(&reply.body).map(|()| Outcome::Done);
    }
    let damaged: Vec<_> = reply.value.damaged.iter().map(u64::to_string).collect();
    let rows = reply.value.items.into_iter().map(|version| {
        vec![
            version.version.to_string(),
            rfc3339(version.created_unix_ms),
            version.author,
            output::short(&version.digest).to_owned(),
            version.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            version.message,
        ]
    });
    let mut text = output::table(&["VERSION", "CREATED", "AUTHOR", "DIGEST", "PARENT", "MESSAGE"], rows);
    if !damaged.is_empty() {
        text.push_str(&format!("damaged in the store: {}\n", damaged.join(", ")));
    }
    if let Some(next) = reply.value.next {
        text.push_str(&format!("older ones: ostler versions --before {next}\n"));
    }
    output::print(&text).map(|()| Outcome::Done)
}

pub async fn diff(args: &DiffArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.connect.reach)?;
    let path = format!("/v1/fleets/{}/diff?from={}&to={}", args.connect.fleet, args.from, args.to);
    let reply =
        client.get::<DiffResult>(&path).await.map_err(|error| explain(error, args.connect.output, ""))?;
    match args.connect.output {
        Format::Json => output::print_answer(&reply.body)?,
        Format::Table => output::print(&ostler_config::render::changes(&reply.value.changes))?,
    }
    Ok(Outcome::Done)
}
