//! `audit`: what data planes decided, asked of control or verified without any process.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use ostler_audit::export::{self, Line};
use ostler_audit::segment::FOLDER;
use ostler_audit::verify::{self, Report};
use ostler_audit::{Kind, Record};
use ostler_control::api::types::{AuditBreak, AuditChains, AuditItem, AuditRecords};
use ostler_control::{STORE_FILE, is_store, verify_trail};
use ostler_core::clock::rfc3339;
use ostler_core::limits::{CLI_FOLLOW_INTERVAL, LIST_PAGE_MAX};

use super::explain;
use crate::cli::Format;
use crate::client::{Client, ReachArgs, query_value};
use crate::output::{self, Outcome};

/// See and verify what data planes decided.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    Query(QueryArgs),
    Follow(FollowArgs),
    Export(ExportArgs),
    Chains(ChainsArgs),
    Verify(VerifyArgs),
}

/// Show the newest records.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,

    #[command(flatten)]
    pub filter: FilterArgs,

    #[command(flatten)]
    pub reach: ReachArgs,

    /// How the answer looks; json is what the API says
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// Print records as they come, until interrupted.
#[derive(Debug, Args)]
pub struct FollowArgs {
    #[command(flatten)]
    pub filter: FilterArgs,

    #[command(flatten)]
    pub reach: ReachArgs,

    /// How records look; json is a line each, as in an export
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// Print all records that control keeps, the oldest first.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// json is a line each, with what proves it; csv has no cell that a table takes for a formula
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub format: ExportFormat,

    #[command(flatten)]
    pub filter: FilterArgs,

    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Show how far the chain of each data plane has come, and where it does not follow.
#[derive(Debug, Args)]
pub struct ChainsArgs {
    #[command(flatten)]
    pub reach: ReachArgs,

    /// How the answer looks; json is what the API says
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// Follow the chains of a data plane's state folder, of control's, or of an export, without any process.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// State folder of a data plane or of a control that is stopped, or a copy of control's store, or a file from `ostler audit export`; - for standard
    /// input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// The export was made with a filter: records may be missing between others
    #[arg(long)]
    pub filtered: bool,

    /// How the answer looks
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Json,
    Csv,
}

/// Which records; all without any of these.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Of this fleet
    #[arg(long, value_name = "FLEET")]
    pub fleet: Option<String>,
    /// Of this data plane
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// decision, outcome or event
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Of calls to this mount
    #[arg(long, value_name = "MOUNT")]
    pub mount: Option<String>,
    /// Of calls to this upstream
    #[arg(long, value_name = "UPSTREAM")]
    pub upstream: Option<String>,
    /// Of this tool, prompt or resource
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
    /// Of this method
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Of this governance identity
    #[arg(long, value_name = "IDENTITY")]
    pub identity: Option<String>,
    /// allow, deny or dry_run
    #[arg(long, value_name = "DECISION")]
    pub decision: Option<String>,
    /// Denied for this reason
    #[arg(long = "reason", value_name = "REASON")]
    pub reason_word: Option<String>,
    /// Decided by this rule
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Of this event
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Of this request id
    #[arg(long, value_name = "REQUEST")]
    pub request: Option<String>,
}

pub async fn audit(args: &AuditArgs) -> anyhow::Result<Outcome> {
    match &args.command {
        AuditCommand::Query(args) => query(args).await,
        AuditCommand::Follow(args) => follow(args).await,
        AuditCommand::Export(args) => export_all(args).await,
        AuditCommand::Chains(args) => chains(args).await,
        AuditCommand::Verify(args) => verify_at(args),
    }
}

async fn query(args: &QueryArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.reach)?;
    let path = format!("/v1/audit/records?limit={}{}", args.limit, args.filter.query());
    let reply = client.get::<AuditRecords>(&path).await.map_err(|error| explain(error, args.output, ""))?;
    match args.output {
        Format::Json => output::print_answer(&reply.body)?,
        Format::Table => output::print(&output::table(&HEADINGS, rows(&reply.value.items)?))?,
    }
    Ok(Outcome::Done)
}

async fn follow(args: &FollowArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.reach)?;
    let mut after = page(&client, None, 1, &FilterArgs::default()).await?.next;
    loop {
        let page = page(&client, Some(after), LIST_PAGE_MAX, &args.filter).await?;
        after = page.next;
        for item in &page.items {
            match args.output {
                Format::Json => output::print(&format!("{}\n", item.line.get()))?,
                Format::Table => output::print(&format!("{}\n", row(item)?.join("  ")))?,
            }
        }
        if page.whole {
            tokio::time::sleep(CLI_FOLLOW_INTERVAL).await;
        }
    }
}

async fn export_all(args: &ExportArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.reach)?;
    if args.format == ExportFormat::Csv {
        output::print(&export::csv_head())?;
    }
    let mut after = 0;
    loop {
        let page = page(&client, Some(after), LIST_PAGE_MAX, &args.filter).await?;
        let mut text = String::new();
        for item in &page.items {
            match args.format {
                ExportFormat::Json => {
                    text.push_str(item.line.get());
                    text.push('\n');
                }
                ExportFormat::Csv => {
                    let (line, record) = read(item)?;
                    text.push_str(&export::csv_line(line.chain, &line.node, &record));
                }
            }
        }
        output::print(&text)?;
        after = page.next;
        if page.whole {
            return Ok(Outcome::Done);
        }
    }
}

async fn chains(args: &ChainsArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.reach)?;
    let reply = client.get::<AuditChains>("/v1/audit/chains").await;
    let reply = reply.map_err(|error| explain(error, args.output, ""))?;
    let broken = reply.value.items.iter().any(|chain| !chain.breaks.is_empty());
    if args.output == Format::Json {
        output::print_answer(&reply.body)?;
    } else {
        let rows = reply.value.items.iter().map(|chain| {
            let place = |it: &AuditBreak| format!("{} at record {}: {}", it.what, it.seq, it.detail);
            let breaks: Vec<_> = chain.breaks.iter().map(place).collect();
            vec![
                chain.node.clone(),
                chain.fleet.clone(),
                chain.chain.clone(),
                chain.first.to_string(),
                chain.last.to_string(),
                rfc3339(chain.last_unix_ms),
                if breaks.is_empty() { "none".to_owned() } else { breaks.join("; ") },
            ]
        });
        let headings = ["NODE", "FLEET", "CHAIN", "FIRST", "LAST", "NEWEST", "BREAKS"];
        output::print(&output::table(&headings, rows))?;
    }
    Ok(if broken { Outcome::Refused } else { Outcome::Done })
}

fn verify_at(args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let report = report(&args.path, args.filtered)?;
    if args.output == Format::Json {
        let mut text = serde_json::to_string(&report)?;
        text.push('\n');
        output::print(&text)?;
    } else {
        output::print(&told(&report))?;
    }
    let is_good = report.is_whole() && !report.chains.is_empty();
    Ok(if is_good { Outcome::Done } else { Outcome::Refused })
}

fn report(path: &Path, filtered: bool) -> anyhow::Result<Report> {
    let unreadable = || format!("{} cannot be read", path.display());
    if path == Path::new("-") {
        return verify::lines(io::stdin().lock(), filtered).context("standard input cannot be read");
    }
    let store = if path.is_dir() { path.join(STORE_FILE) } else { path.to_owned() };
    if is_store(&store) {
        return Ok(verify_trail(&store)?);
    }
    if !path.is_dir() {
        let file = File::open(path).with_context(unreadable)?;
        return verify::lines(BufReader::new(file), filtered).with_context(unreadable);
    }
    let inside = path.join(FOLDER);
    verify::folder(if inside.is_dir() { &inside } else { path }).with_context(unreadable)
}

fn told(report: &Report) -> String {
    if report.chains.is_empty() && report.findings.is_empty() {
        return "no records\n".to_owned();
    }
    let mut text = String::new();
    for chain in &report.chains {
        let node = if chain.node.is_empty() {
            String::new()
        } else {
            format!(" of node {}", output::visible(&chain.node))
        };
        text.push_str(&format!(
            "chain {}{node}: records {} to {}, link {}\n",
            chain.chain, chain.first, chain.last, chain.link
        ));
        if chain.torn_bytes > 0 {
            text.push_str(&format!("  {} bytes of torn lines, which were never synced\n", chain.torn_bytes));
        }
        if chain.left_out > 0 {
            text.push_str(&format!("  {} records are left out\n", chain.left_out));
        }
    }
    for finding in &report.findings {
        text.push_str(&format!("{}: {}\n", output::visible(&finding.place), output::visible(&finding.what)));
    }
    text.push_str(if report.is_whole() { "whole\n" } else { "not whole\n" });
    text
}

const HEADINGS: [&str; 8] = ["AT", "NODE", "KIND", "DECISION", "MOUNT", "METHOD", "TOOL", "IDENTITY"];

fn rows(items: &[AuditItem]) -> anyhow::Result<Vec<Vec<String>>> {
    items.iter().map(row).collect()
}

fn row(item: &AuditItem) -> anyhow::Result<Vec<String>> {
    let (line, record) = read(item)?;
    let said = match record.kind {
        Kind::Decision => {
            [record.decision, record.reason].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        Kind::Outcome => record.status.unwrap_or_else(|| "unknown".to_owned()),
        Kind::Event | Kind::Unknown => record.event.unwrap_or_default(),
    };
    let text = |field: Option<String>| output::visible(&field.unwrap_or_default());
    Ok(vec![
        rfc3339(record.at_unix_ms),
        output::visible(&line.node),
        record.kind.as_str().to_owned(),
        output::visible(&said),
        text(record.mount),
        text(record.method),
        text(record.tool),
        text(record.identity),
    ])
}

fn read(item: &AuditItem) -> anyhow::Result<(Line<'_>, Record)> {
    let line = Line::parse(item.line.get().as_bytes()).context("control's answer holds no record")?;
    // What its node sent as a record and is none; control shows it as `null`.
    let illegible = || Record::event("illegible");
    let record = Record::parse(line.record.get().as_bytes()).unwrap_or_else(|_| illegible());
    Ok((line, record))
}

async fn page(
    client: &Client,
    after: Option<u64>,
    limit: usize,
    filter: &FilterArgs,
) -> anyhow::Result<AuditRecords> {
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let path = format!("/v1/audit/records?limit={limit}{after}{}", filter.query());
    let reply = client.get::<AuditRecords>(&path).await;
    Ok(reply.map_err(|error| explain(error, Format::Table, ""))?.value)
}

// === impl FilterArgs ===

impl FilterArgs {
    fn query(&self) -> String {
        let asked = [
            ("fleet", &self.fleet),
            ("node", &self.node),
            ("kind", &self.kind),
            ("mount", &self.mount),
            ("upstream", &self.upstream),
            ("tool", &self.tool),
            ("method", &self.method),
            ("identity", &self.identity),
            ("decision", &self.decision),
            ("reason", &self.reason_word),
            ("rule", &self.rule),
            ("event", &self.event),
            ("request", &self.request),
        ];
        let pair = |(key, value): (&str, &Option<String>)| {
            value.as_ref().map(|value| format!("&{key}={}", query_value(value)))
        };
        asked.into_iter().filter_map(pair).collect()
    }
}
