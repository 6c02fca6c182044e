//! `apply` and `rollback`: make a version, and see it arrive.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method};
use ostler_config::{UpstreamTransport, judge_text, render};
use ostler_control::api::types::{ApplyResult, RollbackRequest};

use super::explain;
use super::wait::{Goal, wait};
use crate::cli::Format;
use crate::client::{Client, ConnectArgs, Reply, query_value};
use crate::output::{self, Outcome};
use crate::validate::Document;

/// Make a config the newest version of a fleet.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Config file, YAML or JSON; - for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: PathBuf,

    /// Refuse unless this version is the current one; 0 when there must be none
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,

    /// Why this change is made; kept with the version
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub message: Option<String>,

    /// Judge and compare, change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,

    #[command(flatten)]
    pub wait: WaitArgs,

    /// With --wait: fail unless every mount becomes ready; a stdio mount that nobody used yet may be pending
    #[arg(long, requires = "wait")]
    pub require_ready: bool,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Make the content of an older version the newest version of a fleet.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Version to go back to
    #[arg(value_name = "VERSION")]
    pub version: u64,

    /// Refuse unless this version is the current one
    #[arg(long, value_name = "VERSION")]
    pub if_version: Option<u64>,

    /// Why this change is made; kept with the version
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub message: Option<String>,

    #[command(flatten)]
    pub wait: WaitArgs,

    #[command(flatten)]
    pub connect: ConnectArgs,
}

#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Return when every connected node is healthy on the version, or fail with the reason why one is not
    #[arg(long)]
    pub wait: bool,

    /// With --wait: fail after this time
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

pub async fn apply(args: &ApplyArgs) -> anyhow::Result<Outcome> {
    let document = Document::read(&args.file)?;
    let client = Client::new(&args.connect.reach)?;
    let mut headers = HeaderMap::new();
    if let Some(media_type) = media_type(&args.file) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    if let Some(version) = args.if_version {
        headers.insert(IF_MATCH, HeaderValue::from_str(&format!("\"{version}\""))?);
    }
    let mut path = format!("/v1/fleets/{}/config?dry_run={}", args.connect.fleet, args.dry_run);
    if let Some(message) = &args.message {
        path.push_str("&message=");
        path.push_str(&query_value(message));
    }
    let body = Bytes::from(document.text);
    let reply = client.ask::<ApplyResult>(Method::PUT, &path, headers, body.clone()).await;
    let reply = reply.map_err(|error| explain(error, args.connect.output, &document.name))?;
    show(&reply, args.connect.output, &document.name)?;
    if !args.wait.wait {
        return Ok(Outcome::Done);
    }
    let mut goal = Goal::of(&reply.value);
    if args.require_ready {
        goal.may_be_pending = Some(stdio_upstreams(&body));
    }
    wait(&client, &args.connect, &goal, args.wait.timeout).await
}

pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.connect.reach)?;
    let path = format!("/v1/fleets/{}/rollback", args.connect.fleet);
    let request =
        RollbackRequest { version: args.version, message: args.message.clone(), if_version: args.if_version };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = Bytes::from(serde_json::to_vec(&request)?);
    let name = format!("version {}", args.version);
    let reply = client.ask::<ApplyResult>(Method::POST, &path, headers, body).await;
    let reply = reply.map_err(|error| explain(error, args.connect.output, &name))?;
    show(&reply, args.connect.output, &name)?;
    if !args.wait.wait {
        return Ok(Outcome::Done);
    }
    wait(&client, &args.connect, &Goal::of(&reply.value), args.wait.timeout).await
}

fn show(reply: &Reply<ApplyResult>, format: Format, document: &str) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_answer(&reply.body);
    }
    let result = &reply.value;
    output::complain(&render::findings(&result.warnings, document));
    let fleet = output::visible(&result.fleet);
    let head = match (result.changed, result.dry_run) {
        (false, _) => format!("fleet {fleet}: nothing to change, version {} says the same\n", result.version),
        (true, true) => {
            format!("fleet {fleet}: would become version {}; nothing was changed\n", result.version)
        }
        (true, false) => {
            format!("fleet {fleet}: version {}, digest {}\n", result.version, output::short(&result.digest))
        }
    };
    let changes = if result.changed { render::changes(&result.changes) } else { String::new() };
    output::print(&(head + &changes))
}

/// Names of the upstreams that start on first use. The text was accepted by control; should this build not agree,
/// nothing may be pending.
fn stdio_upstreams(text: &[u8]) -> BTreeSet<String> {
    let Ok(judged) = judge_text(text) else { return BTreeSet::new() };
    let upstreams = judged.config.upstreams().values();
    let stdio = upstreams.filter(|upstream| matches!(upstream.transport, UpstreamTransport::Stdio(_)));
    stdio.map(|upstream| upstream.name.to_string()).collect()
}

/// Control looks at the text itself where the name says nothing.
fn media_type(file: &Path) -> Option<&'static str> {
    match file.extension()?.to_str()? {
        "json" => Some("application/json"),
        "yaml" | "yml" => Some("application/yaml"),
        _ => None,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    ostler_config::parse_duration(text).map_err(|reason| format!("{reason}; write for example 60s"))
}
