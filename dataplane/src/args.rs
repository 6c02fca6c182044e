//! The flags of a data plane. Only bootstrap stands here, that is, what pushed config must not be able to change: where
//! to listen, whom to follow, what config may do to this host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use ostler_config::GlobList;
use ostler_core::limits::{BUFFER_BYTES_MAX, SETTLE};
use ostler_core::name::{FleetName, NodeName};
use ostler_telemetry::log::LogFormat;

/// Run a data plane: it serves MCP clients at /mcp/<mount> and keeps serving without control.
#[derive(Debug, Clone, Args)]
pub struct DataplaneArgs {
    /// Control to follow, the address of its sync listener, for example http://127.0.0.1:7501
    #[arg(
        long,
        env = "OSTLER_CONTROL",
        value_name = "URL",
        conflicts_with = "config",
        required_unless_present_any = ["config", "health"]
    )]
    pub control: Option<Uri>,

    /// Config file to follow instead of a control process
    #[arg(long, env = "OSTLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder for tokens and the last-known-good config [default: a folder of this user]
    #[arg(long, env = "OSTLER_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// Address for MCP clients
    #[arg(long, env = "OSTLER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub listen: SocketAddr,

    /// Address of the admin port
    #[arg(long, env = "OSTLER_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7401")]
    pub admin_listen: SocketAddr,

    /// Another address that serves only /metrics, /healthz and /readyz, without a token
    #[arg(long, env = "OSTLER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Token of the admin port; made when missing [default: admin.token in the state folder]
    #[arg(long, env = "OSTLER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Token that control wants of its nodes: a copy of control's node.token [default: node.token in the state folder]
    #[arg(long, env = "OSTLER_NODE_TOKEN_FILE", value_name = "FILE")]
    pub node_token_file: Option<PathBuf>,

    /// Authorities (PEM) that an https control's certificate must come from [default: the system's]
    #[arg(long, env = "OSTLER_CONTROL_CA", value_name = "FILE", requires = "control")]
    pub control_ca: Option<PathBuf>,

    /// Name of this node, unique in its fleet [default: the host's name]
    #[arg(long, env = "OSTLER_NODE", value_name = "NAME")]
    pub node: Option<NodeName>,

    /// Fleet whose config is followed
    #[arg(long, env = "OSTLER_FLEET", value_name = "FLEET", default_value = "default")]
    pub fleet: FleetName,

    /// Label of this node; may be given several times
    #[arg(long = "label", env = "OSTLER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,

    /// Command that stdio upstreams may run, with * and ?; may be given several times [default: all with --config, none
    /// with --control]
    #[arg(long = "allow-command", env = "OSTLER_ALLOW_COMMAND", value_name = "GLOB", value_delimiter = ',')]
    pub allow_commands: Option<Vec<String>>,

    /// Reference that config may resolve here, as NAME or file:/path, with * and ?; may be given several times
    /// [default: all with --config, none with --control]
    #[arg(long = "allow-ref", env = "OSTLER_ALLOW_REF", value_name = "GLOB", value_delimiter = ',')]
    pub allow_refs: Option<Vec<String>>,

    /// Address that a listener of the config may have, as ip:port with * and ?; may be given several times
    /// [default: all with --config, none with --control]
    #[arg(long = "allow-listen", env = "OSTLER_ALLOW_LISTEN", value_name = "GLOB", value_delimiter = ',')]
    pub allow_listen: Option<Vec<String>>,

    /// Further host name that clients may use for this process; may be given several times
    #[arg(long = "allow-host", env = "OSTLER_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    pub allow_hosts: Vec<String>,

    /// Certificate chain (PEM) of the MCP and admin listeners; required unless they are on loopback
    #[arg(long, env = "OSTLER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, env = "OSTLER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Time between swap and `healthy`, for example 2s
    #[arg(long, env = "OSTLER_SETTLE", value_name = "DURATION", value_parser = duration, default_value = "2s")]
    pub settle: Duration,

    /// Traffic worker threads
    #[arg(long, env = "OSTLER_WORKERS", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,

    /// Memory for request bodies of all clients together, in bytes
    #[arg(long, env = "OSTLER_BUFFER_BYTES", value_name = "BYTES", default_value_t = BUFFER_BYTES_MAX)]
    pub buffer_bytes: usize,

    /// How log lines look: text or json
    #[arg(long, env = "OSTLER_LOG_FORMAT", value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Level, or target=level pairs separated by commas; the access log is the target ostler::access
    #[arg(long, env = "OSTLER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// Only ask the data plane that runs with this state folder whether it is alive; exits with 0 if so
    #[arg(long)]
    pub health: bool,

    /// End when standard input ends
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

impl DataplaneArgs {
    /// Whether whoever writes the config may do anything to this host: so with a local file, not with a remote control.
    pub(crate) fn trusts_config(&self) -> bool {
        self.config.is_some()
    }

    pub(crate) fn label_map(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }
}

/// The globs that were given, or all, or none.
pub(crate) fn globs(given: Option<&[String]>, trusted: bool) -> Result<GlobList, ostler_config::GlobError> {
    match given {
        Some(patterns) => GlobList::parse(patterns),
        None if trusted => Ok(GlobList::any()),
        None => Ok(GlobList::none()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("label `{text}` is not key=value")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    ostler_config::parse_duration(text).map_err(str::to_owned)
}

/// The default of `--settle` as text must be the limit it stands for.
const _: () = assert!(SETTLE.as_secs() == 2);
