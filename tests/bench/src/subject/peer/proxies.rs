//! Reverse proxies that know nothing of MCP: one thread, connections that stay open, and a line for each call with the fields that a
//! data plane logs.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::super::{Served, Setting, free};
use super::TARGET;

pub(super) fn haproxy(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let text = format!(
        r#"
global
    nbthread 1
    maxconn 8192
    log stdout format raw local0
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid
    log-format '{{"timestamp":"%tr","request_id":"%ID","upstream":"%si:%sp","verb":"%HM","target":"%HP","status":%ST,"head_ms":%Tr,"total_ms":%Ta,"bytes":%B}}'
frontend in
    bind {addr}
    default_backend out
backend out
    http-reuse always
    server {TARGET} {} pool-max-conn 8192
"#,
        setting.upstream
    );
    let config = setting.write("haproxy.cfg", text)?;
    let process = setting.start(Command::new(program).arg("-db").arg("-f").arg(config), addr)?;
    Ok(Served::plain(setting, Some(process), addr))
}

pub(super) fn envoy(program: &Path, setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let socket = |addr: std::net::SocketAddr| json!({"socket_address": {"address": addr.ip(), "port_value": addr.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": [access_log(&setting.folder.join("access.log"))],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": TARGET, "timeout": "60s"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let limit = 8192;
    let config = json!({"static_resources": {
        "listeners": [{
            "address": socket(addr),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]}],
        }],
        "clusters": [{
            "name": TARGET, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": TARGET, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket(setting.upstream)}}]},
            ]},
            "circuit_breakers": {"thresholds": [
                {"max_connections": limit, "max_pending_requests": limit, "max_requests": limit},
            ]},
        }],
    }});
    let file = setting.write("envoy.json", config.to_string())?;
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn", "--config-path"]);
    Ok(Served::plain(setting, Some(setting.start(command.arg(file), addr)?), addr))
}

fn access_log(file: &Path) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": file,
            "log_format": {"json_format": {
                "timestamp": "%START_TIME%", "request_id": "%REQ(X-REQUEST-ID)%", "upstream": "%UPSTREAM_HOST%",
                "verb": "%REQ(:METHOD)%", "target": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
                "head_ms": "%RESPONSE_DURATION%", "total_ms": "%DURATION%", "bytes": "%BYTES_SENT%",
                "traceparent": "%REQ(TRACEPARENT)%",
            }},
        },
    })
}
