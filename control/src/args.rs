//! The flags of the control process. Only bootstrap stands here: where to listen, where to keep state, whom to trust.
//! Everything else is pushed config.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ostler_core::name::FleetName;
use ostler_telemetry::log::LogFormat;

/// How the control process is started.
#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    /// Folder for the store and the tokens [default: a folder of this user]
    #[arg(long, env = "OSTLER_STATE_DIR", value_name = "FOLDER", global = true)]
    pub state_dir: Option<PathBuf>,

    /// Address of the control API
    #[arg(long, env = "OSTLER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7500")]
    pub listen: SocketAddr,

    /// Address of the stream that data planes open
    #[arg(long, env = "OSTLER_SYNC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7501")]
    pub sync_listen: SocketAddr,

    /// Another address that serves only /metrics, /healthz and /readyz, without a token
    #[arg(long, env = "OSTLER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Token that operators present; made when missing [default: operator.token in the state folder]
    #[arg(long, env = "OSTLER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Token that data planes present; made when missing [default: node.token in the state folder]
    #[arg(long, env = "OSTLER_NODE_TOKEN_FILE", value_name = "FILE")]
    pub node_token_file: Option<PathBuf>,

    /// Certificate chain (PEM) of both listeners; required unless they are on loopback
    #[arg(long, env = "OSTLER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, env = "OSTLER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Config file that the fleet named by --fleet follows; changes through the API are then refused
    #[arg(long, env = "OSTLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Fleet that follows --config
    #[arg(long, env = "OSTLER_FLEET", value_name = "FLEET", default_value = "default")]
    pub fleet: FleetName,

    /// Further host name that requests may use for this process; may be given several times
    #[arg(long = "allow-host", env = "OSTLER_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    pub allow_hosts: Vec<String>,

    /// How log lines look: text or json
    #[arg(long, env = "OSTLER_LOG_FORMAT", value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Level, or target=level pairs separated by commas
    #[arg(long, env = "OSTLER_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// Only ask the control process that runs with this state folder whether it is alive; exits with 0 if so
    #[arg(long)]
    pub health: bool,

    /// End when standard input ends
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// What can be done to a store while its control process is stopped.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Start a new epoch: data planes then take what this store holds, whatever they have. For a store that was copied back by hand
    NewEpoch,
    Restore(RestoreArgs),
    /// Read the whole store and report everything that is not as it was written
    Check,
}

/// Put the content of a backup in place of a store that is lost, damaged or wrong. Begins a new epoch, so that data planes take what it holds, whatever they have.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Backup made by `ostler control backup`
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Keep the store that is there aside, under another name
    #[arg(long)]
    pub replace: bool,
}
