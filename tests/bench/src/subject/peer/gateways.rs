//! Gateways that speak MCP on both sides, with one upstream, one thread, their metrics, and a line for each call.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::super::{Served, Setting, free};
use super::{TARGET, child};
use crate::cases::Shape;

pub(super) fn agentgateway(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let target = match setting.case.shape {
        Shape::Stdio => {
            let [own, arguments @ ..] = child()?.map(|word| word.to_string_lossy().into_owned());
            json!({"name": TARGET, "stdio": {"cmd": own, "args": arguments}})
        }
        _ => {
            let (host, port) = (setting.upstream.ip(), setting.upstream.port());
            json!({"name": TARGET, "mcp": {"host": host, "port": port, "path": setting.case.answer.path()}})
        }
    };
    let config = json!({
        "config": {
            "workerThreads": 1, "adminAddr": "off", "statsAddr": "off", "readinessAddr": "off",
            "logging": {"format": "json", "level": "info"},
        },
        "mcp": {"port": addr.port(), "targets": [target]},
    });
    let file = setting.write("agentgateway.json", config.to_string())?;
    let process = setting.start(Command::new(program).arg("--file").arg(file), addr)?;
    Ok(Served { path: "/mcp".to_owned(), ..Served::plain(setting, Some(process), addr) })
}

/// Its config is TOML, of which JSON strings and numbers are a part.
pub(super) fn mcp_proxy(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let backend = match setting.case.shape {
        Shape::Stdio => {
            let [own, arguments @ ..] = child()?.map(|word| json!(word.to_string_lossy()));
            format!("transport = \"stdio\"\ncommand = {own}\nargs = {}", json!(arguments))
        }
        _ => {
            let url = format!("http://{}{}", setting.upstream, setting.case.answer.path());
            format!("transport = \"http\"\nurl = {}", json!(url))
        }
    };
    let text = format!(
        r#"
[proxy]
name = "bench"

[proxy.listen]
host = "127.0.0.1"
port = {}

[observability]
json_logs = true
access_log = {{ enabled = true }}
metrics = {{ enabled = true }}

[[backends]]
name = "{TARGET}"
{backend}
"#,
        addr.port()
    );
    let config = setting.write("proxy.toml", text)?;
    // Of tokio's runtime, which it takes as it is.
    let mut command = Command::new(program);
    let process =
        setting.start(command.env("TOKIO_WORKER_THREADS", "1").arg("--config").arg(config), addr)?;
    let plain = Served::plain(setting, Some(process), addr);
    Ok(Served { path: "/".to_owned(), tool: format!("{TARGET}/{}", plain.tool), ..plain })
}
