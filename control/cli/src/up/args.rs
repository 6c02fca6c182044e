//! The flags of `ostler up`: those of both processes under names that tell them apart.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ostler_core::name::{FleetName, NodeName};
use ostler_telemetry::log::LogFormat;

/// Start control and one data plane on this machine, and serve MCP clients.
///
/// With --config, control follows the file. Without it, config comes through `ostler apply`, and a demo MCP server is
/// served until then. Both processes end with this one.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Config file to follow; while it names no upstream, a demo MCP server is served
    #[arg(long, env = "OSTLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder whose subfolders control and dataplane hold all state [default: two folders of this user]
    #[arg(long, env = "OSTLER_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// Address for MCP clients
    #[arg(long, env = "OSTLER_MCP_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub mcp_listen: SocketAddr,

    /// Address of the data plane's admin port
    #[arg(long, env = "OSTLER_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7401")]
    pub admin_listen: SocketAddr,

    /// Address of the control API
    #[arg(long, env = "OSTLER_CONTROL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7500")]
    pub control_listen: SocketAddr,

    /// Address of the stream between control and data planes
    #[arg(long, env = "OSTLER_SYNC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7501")]
    pub sync_listen: SocketAddr,

    /// Another address of the data plane that serves only /metrics, /healthz and /readyz, without a token
    #[arg(long, env = "OSTLER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Fleet of the config and of the data plane
    #[arg(long, env = "OSTLER_FLEET", value_name = "FLEET", default_value = "default")]
    pub fleet: FleetName,

    /// Name of the data plane
    #[arg(long, env = "OSTLER_NODE", value_name = "NAME", default_value = "local")]
    pub node: NodeName,

    /// Label of the data plane as key=value; may be given several times
    #[arg(long = "label", env = "OSTLER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<String>,

    /// Command that stdio upstreams may run, with * and ?; may be given several times
    #[arg(
        long = "allow-command",
        env = "OSTLER_ALLOW_COMMAND",
        value_name = "GLOB",
        value_delimiter = ',',
        default_value = "*"
    )]
    pub allow_commands: Vec<String>,

    /// Reference that config may resolve here, as NAME or file:/path, with * and ?; may be given several times
    #[arg(
        long = "allow-ref",
        env = "OSTLER_ALLOW_REF",
        value_name = "GLOB",
        value_delimiter = ',',
        default_value = "*"
    )]
    pub allow_refs: Vec<String>,

    /// Address that a listener of the config may have, as ip:port with * and ?; may be given several times
    #[arg(
        long = "allow-listen",
        env = "OSTLER_ALLOW_LISTEN",
        value_name = "GLOB",
        value_delimiter = ',',
        default_value = "*"
    )]
    pub allow_listen: Vec<String>,

    /// Further host name that requests may use for both processes; may be given several times
    #[arg(long = "allow-host", env = "OSTLER_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    pub allow_hosts: Vec<String>,

    /// Time between the data plane's swap to a config and `healthy`, for example 2s
    #[arg(long, env = "OSTLER_SETTLE", value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub settle: Duration,

    /// Traffic worker threads of the data plane
    #[arg(long, env = "OSTLER_WORKERS", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,

    /// How log lines look: text or json
    #[arg(long, env = "OSTLER_LOG_FORMAT", value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Level, or target=level pairs separated by commas; the access log is the target ostler::access
    #[arg(long, env = "OSTLER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("label `{text}` is not key=value")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    ostler_config::parse_duration(text).map_err(|reason| format!("{reason}; write for example 2s"))
}
