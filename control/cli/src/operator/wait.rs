//! `--wait`: looks at the nodes until each one that is connected is healthy on the version, or until one says why not.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_config::{Report, render};
use ostler_control::api::types::{ApplyResult, MountInfo, NodeInfo, NodeList, NodeState, RevisionInfo};
use ostler_core::limits::CLI_POLL;
use tokio::time::{Instant, sleep};

use super::show::mount_table;
use crate::cli::Format;
use crate::client::{Client, ConnectArgs};
use crate::output::{self, Outcome};

/// What every connected node should come to.
#[derive(Debug, Clone)]
pub struct Goal {
    epoch: u64,
    version: u64,
    /// When mounts must be ready as well: the upstreams that may still be pending.
    pub may_be_pending: Option<BTreeSet<String>>,
}

/// Where the nodes stand against the goal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Reached,
    /// One line for each node or mount that is waited for.
    Waiting(Vec<String>),
    /// What will not come about by waiting.
    Failed(Vec<String>),
}

impl Goal {
    pub fn of(result: &ApplyResult) -> Self {
        Self { epoch: result.epoch, version: result.version, may_be_pending: None }
    }

    fn is(&self, revision: &RevisionInfo) -> bool {
        (revision.epoch, revision.version) == (self.epoch, self.version)
    }

    fn is_before(&self, revision: &RevisionInfo) -> bool {
        (self.epoch, self.version) < (revision.epoch, revision.version)
    }
}

pub(super) async fn wait(
    client: &Client,
    args: &ConnectArgs,
    goal: &Goal,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let path = format!("/v1/fleets/{}/nodes", args.fleet);
    let deadline = Instant::now() + limit;
    // A node that is gone for a moment is still waited for.
    let mut awaited = BTreeSet::new();
    loop {
        let list = client.get::<NodeList>(&path).await?.value;
        awaited.extend(list.items.iter().filter(|node| node.connected).map(|node| node.node.clone()));
        match progress(&list, &awaited, goal) {
            Progress::Reached => return reached(&list, args.output, goal),
            Progress::Failed(reasons) => return Ok(failed("error", &reasons)),
            Progress::Waiting(reasons) if Instant::now() >= deadline => {
                let seconds = limit.as_secs_f32();
                output::complain(&format!(
                    "error: version {} is not served everywhere as asked after {seconds} s\n",
                    goal.version
                ));
                return Ok(failed("  waiting for", &reasons));
            }
            Progress::Waiting(_) => sleep(CLI_POLL).await,
        }
    }
}

/// Everything a node says about its refusal.
pub fn node_error(node: &NodeInfo) -> String {
    let name = output::visible(&node.node);
    let Some(error) = &node.last_error else { return format!("node {name} is {}", node.state) };
    let mut text =
        format!("node {name}: {} ({})", output::visible(&error.message), output::visible(&error.code));
    if !error.diagnostics.is_empty() {
        let report = Report { diagnostics: error.diagnostics.clone() };
        text.push('\n');
        text.push_str(render::plain(&report, &format!("config on node {name}")).trim_end());
    }
    text
}

fn progress(list: &NodeList, awaited: &BTreeSet<String>, goal: &Goal) -> Progress {
    if let Some(desired) = list.desired.as_ref().filter(|desired| goal.is_before(desired)) {
        let reason =
            format!("version {} was replaced by version {} meanwhile", goal.version, desired.version);
        return Progress::Failed(vec![reason]);
    }
    let (mut waiting, mut failed) = (Vec::new(), Vec::new());
    for node in list.items.iter().filter(|node| awaited.contains(&node.node)) {
        let name = output::visible(&node.node);
        match node.state {
            NodeState::Rejected | NodeState::Ahead => failed.push(node_error(node)),
            _ if !node.connected => waiting.push(format!("node {name}, which is disconnected")),
            _ if !node.healthy.as_ref().is_some_and(|healthy| goal.is(healthy)) => {
                waiting.push(format!("node {name}, which is {}", node.state));
            }
            _ => waiting.extend(unready(node, goal).map(|mount| {
                let (mount_name, reason) = (output::visible(&mount.name), output::visible(&mount.reason));
                format!(
                    "mount {mount_name} of node {name}, which is {}: {reason}",
                    output::visible(&mount.state)
                )
            })),
        }
    }
    match (failed.is_empty(), waiting.is_empty()) {
        (false, _) => Progress::Failed(failed),
        (true, false) => Progress::Waiting(waiting),
        (true, true) => Progress::Reached,
    }
}

/// Mounts that are not yet what `--require-ready` asks for.
fn unready<'a>(node: &'a NodeInfo, goal: &'a Goal) -> impl Iterator<Item = &'a MountInfo> {
    let required = goal.may_be_pending.as_ref().map(|may_be_pending| {
        node.mounts.iter().filter(|mount| match mount.state.as_str() {
            // One that drains is no longer asked for.
            "ready" | "draining" => false,
            "pending" => !may_be_pending.contains(&mount.upstream),
            _ => true,
        })
    });
    required.into_iter().flatten()
}

fn reached(list: &NodeList, format: Format, goal: &Goal) -> anyhow::Result<Outcome> {
    let connected: Vec<_> = list.items.iter().filter(|node| node.connected).collect();
    let text = if connected.is_empty() {
        format!("no node is connected; version {} is served when one is\n", goal.version)
    } else {
        let nodes = output::count(connected.len(), "node");
        format!("healthy on {nodes}\n{}", mount_table(connected.into_iter()))
    };
    match format {
        Format::Table => output::print(&text)?,
        // Standard output holds one answer of the API, and that was the apply's.
        Format::Json => output::complain(&text),
    }
    Ok(Outcome::Done)
}

fn failed(lead: &str, reasons: &[String]) -> Outcome {
    for reason in reasons {
        output::complain(&format!("{lead}: {reason}\n"));
    }
    Outcome::Refused
}

#[cfg(test)]
mod tests;
