//! nginx as a reverse proxy that keeps its connections and logs the fields that a data plane logs, on one thread.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Served, Setting, free};

/// Whether it is installed.
pub(super) fn is_here() -> bool {
    Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

pub(super) fn start(setting: &Setting<'_>) -> anyhow::Result<Served> {
    let addr = free()?;
    let config = setting.write("nginx.conf", text(setting.upstream, addr, setting.folder))?;
    let process = setting.start(Command::new("nginx").arg("-c").arg(&config), addr)?;
    Ok(Served::plain(setting, Some(process), addr))
}

fn text(upstream: SocketAddr, addr: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    log_format fields escape=json '{{"timestamp":"$time_iso8601","request_id":"$request_id","upstream":"$upstream_addr","verb":"$request_method","target":"$uri","status":$status,"head_s":"$upstream_header_time","total_s":$request_time,"bytes":$body_bytes_sent,"traceparent":"$http_traceparent"}}';
    access_log {folder}/access.log fields buffer=64k flush=1s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 16m;
    client_body_buffer_size 256k;
    keepalive_requests 1000000000;
    upstream up {{
        server {upstream};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {addr} backlog=4096;
        location / {{
            proxy_pass http://up;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"#
    )
}
