//! `status`, `nodes` and `mounts`: what a fleet should serve, and what it does serve.

use std::fmt::Write as _;

use clap::Args;
use ostler_config::{Report, render};
use ostler_control::api::types::{FleetInfo, FleetList, NodeInfo, NodeList, NodeState, RevisionInfo};
use ostler_core::clock::rfc3339;

use super::{explain, node_error};
use crate::cli::Format;
use crate::client::{Client, ConnectArgs};
use crate::output::{self, Outcome};

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
}

pub async fn status(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let client = Client::new(&args.connect.reach)?;
    let format = args.connect.output;
    let fleets = client.get::<FleetList>("/v1/fleets").await.map_err(|error| explain(error, format, ""))?;
    if format == Format::Json {
        return output::print_answer(&fleets.body).map(|()| Outcome::Done);
    }
    let nodes =
        client.get::<NodeList>(&nodes_path(args)).await.map_err(|error| explain(error, format, ""))?;
    let fleet = fleets.value.items.iter().find(|fleet| fleet.fleet == args.connect.fleet.as_str());
    let mut text = format!("control  {}\nfleet    {}\n", client.url(), args.connect.fleet);
    match nodes.value.desired {
        Some(desired) => {
            let _ = writeln!(
                text,
                "version  {} of epoch {}, digest {}",
                desired.version,
                desired.epoch,
                output::short(&desired.digest)
            );
        }
        None => text.push_str("version  none yet; make one with `ostler apply -f FILE`\n"),
    }
    if let Some(damaged) = fleet.and_then(|fleet| fleet.damaged.as_ref()) {
        let _ = writeln!(text, "damaged  {}", output::visible(damaged));
    }
    text.push_str(&file_lines(fleet));
    text.push_str(&node_lines(&nodes.value.items));
    output::print(&text).map(|()| Outcome::Done)
}

pub async fn nodes(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let Some(list) = list_nodes(args).await? else { return Ok(Outcome::Done) };
    let headings = ["NODE", "STATE", "APPLIED", "HEALTHY", "DESIRED", "SEEN", "BUILD", "LABELS"];
    let version = |revision: &Option<RevisionInfo>| {
        revision.as_ref().map_or_else(|| "-".to_owned(), |revision| revision.version.to_string())
    };
    let rows = list.items.iter().map(|node| {
        let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            node.node.clone(),
            node.state.to_string(),
            version(&node.applied),
            version(&node.healthy),
            version(&node.desired),
            output::ago(node.last_seen_unix_ms),
            node.build.clone(),
            labels.join(","),
        ]
    });
    let mut text = output::table(&headings, rows);
    for node in list.items.iter().filter(|node| node.last_error.is_some()) {
        let _ = writeln!(text, "\n{}", node_error(node));
    }
    text.push_str(&disk_lines(&list.items));
    output::print(&text).map(|()| Outcome::Done)
}

/// What a restart of these nodes could not rely on.
fn disk_lines(nodes: &[NodeInfo]) -> String {
    let mut text = String::new();
    for (node, warning) in nodes.iter().flat_map(|node| node.disk.iter().map(move |warning| (node, warning)))
    {
        let file =
            warning.file.as_deref().map(|file| format!(" {}:", output::visible(file))).unwrap_or_default();
        let (kind, reason) = (output::visible(&warning.kind), output::visible(&warning.reason));
        let _ = writeln!(text, "\nthe disk of node {} ({kind}):{file} {reason}", node.node);
    }
    text
}

pub async fn mounts(args: &ShowArgs) -> anyhow::Result<Outcome> {
    let Some(list) = list_nodes(args).await? else { return Ok(Outcome::Done) };
    output::print(&mount_table(list.items.iter())).map(|()| Outcome::Done)
}

/// Every mount of some nodes, with its state and the reason for it.
pub(super) fn mount_table<'a>(nodes: impl Iterator<Item = &'a NodeInfo>) -> String {
    let headings = ["NODE", "MOUNT", "UPSTREAM", "STATE", "REASON", "SINCE", "NEXT PROBE"];
    let rows = nodes.flat_map(|node| {
        node.mounts.iter().map(|mount| {
            // What a node that is gone said last is no state of now.
            let state =
                if node.connected { mount.state.clone() } else { format!("{} (last seen)", mount.state) };
            vec![
                node.node.clone(),
                mount.name.clone(),
                mount.upstream.clone(),
                state,
                mount.reason.clone(),
                output::ago(mount.since_unix_ms),
                mount.next_probe_unix_ms.map(rfc3339).unwrap_or_default(),
            ]
        })
    });
    output::table(&headings, rows)
}

/// The nodes for a table; `None` when they were printed as JSON already.
async fn list_nodes(args: &ShowArgs) -> anyhow::Result<Option<NodeList>> {
    let client = Client::new(&args.connect.reach)?;
    let format = args.connect.output;
    let reply =
        client.get::<NodeList>(&nodes_path(args)).await.map_err(|error| explain(error, format, ""))?;
    match format {
        Format::Json => output::print_answer(&reply.body).map(|()| None),
        Format::Table => Ok(Some(reply.value)),
    }
}

fn nodes_path(args: &ShowArgs) -> String {
    format!("/v1/fleets/{}/nodes", args.connect.fleet)
}

fn file_lines(fleet: Option<&FleetInfo>) -> String {
    let Some(file) = fleet.and_then(|fleet| fleet.file.as_ref()) else { return String::new() };
    let path = output::visible(&file.path);
    let mut text = format!("file     {path}, accepted {}\n", output::ago(file.accepted_unix_ms));
    if let Some(rejected) = &file.rejected {
        let message = output::visible(&rejected.message);
        let _ = writeln!(text, "refused  {message}, {}", output::ago(rejected.since_unix_ms));
        text.push_str(&render::plain(&Report { diagnostics: rejected.diagnostics.clone() }, &path));
    }
    text
}

fn node_lines(nodes: &[NodeInfo]) -> String {
    let counts = NodeState::ALL.iter().filter_map(|state| {
        let number = nodes.iter().filter(|node| node.state == *state).count();
        (number > 0).then(|| format!("{number} {state}"))
    });
    let counts: Vec<_> = counts.collect();
    let mut text = match counts.as_slice() {
        [] => "nodes    none has connected yet\n".to_owned(),
        counts => format!("nodes    {}\n", counts.join(", ")),
    };
    let mounts = nodes.iter().filter(|node| node.connected).flat_map(|node| &node.mounts);
    let troubled: Vec<_> =
        mounts.filter(|mount| !matches!(mount.state.as_str(), "ready" | "pending")).collect();
    if !troubled.is_empty() {
        let _ = writeln!(text, "mounts   {} not well; see `ostler mounts`", troubled.len());
    }
    for node in nodes.iter().filter(|node| node.last_error.is_some()) {
        let _ = writeln!(text, "\n{}", node_error(node));
    }
    text + &disk_lines(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_told_with_its_node() {
        let node = serde_json::json!({
            "node": "edge-1", "fleet": "default", "build": "0", "connected": true, "last_seen_unix_ms": 0, "state": "in_sync",
            "disk": [
                {"kind": "persist_failing", "reason": "no space left"},
                {"kind": "damaged", "file": "/state/x.ostler", "reason": "its header is cut off"},
            ],
        });
        let node: NodeInfo = serde_json::from_value(node).unwrap();
        let text = node_lines(&[node]);
        assert!(text.contains("the disk of node edge-1 (persist_failing): no space left\n"), "{text}");
        assert!(
            text.contains("the disk of node edge-1 (damaged): /state/x.ostler: its header is cut off\n"),
            "{text}"
        );
    }
}
