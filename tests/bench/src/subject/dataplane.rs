//! A data plane of one worker on a config file that is written for the case. Its log goes to a file, as JSON.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use ostler_core::state_dir::read_listeners;
use serde_json::{Value, json};

use crate::calls::{Era, LEGACY_REVISION, MODERN_REVISION, TOOL};
use crate::cases::{Case, Shape};
use crate::process::Running;
use crate::token::Issuer;

use super::{Served, Setting};

/// What tokens are made for.
const RESOURCE: &str = "https://bench.example";
/// The upstream of the mount that is called.
const MOUNT: &str = "m0";
const BUNDLE: &str = "all";

pub(super) fn start(binary: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let Setting { case, upstream, folder } = *setting;
    let issuer = Issuer::new()?;
    // Alone in its folder, which the data plane watches.
    let config = folder.join("config").join("ostler.yaml");
    std::fs::create_dir_all(folder.join("config"))?;
    std::fs::write(&config, serde_json::to_string(&document(case, upstream, &issuer)?)?)?;
    let state = folder.join("state");
    let mut command = Command::new(binary);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
    command.arg("--config").arg(&config).arg("--state-dir").arg(&state);
    let log = File::create(folder.join("log"))?;
    let mut process = Running::start(command.stdout(log.try_clone()?).stderr(log))?;
    let listens = |pid| {
        let listening = read_listeners(&state).filter(|listening| listening.pid == pid)?;
        listening.listeners.get("mcp").copied()
    };
    let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let to = process.await_sign(listens).with_context(log)?;
    let door = if matches!(case.shape, Shape::Bundle(_)) { BUNDLE } else { MOUNT };
    let token = (case.shape == Shape::Governed).then(|| issuer.token(RESOURCE)).transpose()?;
    let authorization = token.map(|token| format!("Bearer {token}"));
    let plain = Served::plain(setting, Some(process), to);
    Ok(Served { path: format!("/mcp/{door}"), authorization, ..plain })
}

fn document(case: &Case, upstream: SocketAddr, issuer: &Issuer) -> anyhow::Result<Value> {
    let protocol = match case.upstream_era {
        Era::Legacy => LEGACY_REVISION,
        Era::Modern => MODERN_REVISION,
    };
    let own = std::env::current_exe()?;
    let up = match case.shape {
        Shape::Stdio => json!({
            "stdio": {"command": own, "args": ["upstream", "--stdio"], "share": "mount"}, "protocol": protocol,
        }),
        _ => json!({
            "http": {"url": format!("http://{upstream}{}", case.answer.path())}, "protocol": protocol,
            "limits": {"in_flight": 4096},
        }),
    };
    let count = match case.shape {
        Shape::Bundle(count) | Shape::Mounts(count) => count,
        _ => 1,
    };
    let names = (0..count).map(|number| format!("m{number}"));
    let upstreams = names.clone().map(|name| (name, up.clone())).collect();
    let mut document = json!({"version": 1, "upstreams": Value::Object(upstreams)});
    let mut add = |key: &str, value: Value| document[key] = value;
    match case.shape {
        Shape::Mount | Shape::Mounts(_) | Shape::Stdio => {}
        Shape::Bundle(_) => add("bundles", json!({BUNDLE: {"mounts": names.collect::<Vec<_>>()}})),
        Shape::Policy => add("policy", five_rules()),
        Shape::AuditAsync => add("audit", audit("async")),
        Shape::AuditDurable => add("audit", audit("durable")),
        Shape::Governed => {
            add("policy", five_rules());
            add("audit", audit("async"));
            add(
                "auth",
                json!({
                    "resource": RESOURCE,
                    "issuers": {"bench": {"issuer": Issuer::NAME, "jwks": issuer.keys().to_string()}},
                }),
            );
        }
    }
    Ok(document)
}

fn audit(mode: &str) -> Value {
    json!({"allowed": mode, "denied": mode, "outcomes": "async", "events": "async"})
}

/// None of them matches the call, so that all five are looked at.
fn five_rules() -> Value {
    json!({"default": "allow", "rules": [
        {"name": "deletions", "match": {"tool": ["delete_*", "*_delete"]}, "action": "deny"},
        {"name": "payments", "match": {"tool": "pay", "arguments": {"amount": {"gt": 100}}}, "action": "deny"},
        {"name": "long", "match": {"arguments": {"text": {"regex": "^forbidden"}}}, "action": "deny"},
        {"name": "expression", "match": {"when": format!("tool == '{TOOL}' && size(arguments.text) > 1000000")}, "action": "deny"},
        {"name": "destructive", "match": {"tool": "drop_*", "annotations": {"destructiveHint": true}}, "action": "deny"},
    ]})
}
