//! The log of a process on standard error: text for people, JSON for machines.

mod lines;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::access::{self, AccessLog};
pub(crate) use lines::Lines;
use lines::Writing;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What a binary wants of its log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    pub format: LogFormat,
    /// A level, or `target=level` pairs separated by commas, as in `info,ostler_dataplane=debug`.
    pub levels: String,
    /// Terminal colours in the text format.
    pub color: bool,
}

/// Keeps the log writer alive and knows how many lines were lost.
pub struct Log {
    lines: Arc<Lines>,
    access: AccessLog,
    _writing: Writing,
}

/// A log that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log level `{levels}` is not understood: {source}; use error, warn, info, debug, trace, or target=level pairs"
    )]
    Levels { levels: String, source: tracing_subscriber::filter::ParseError },
    #[error("log is already set up in this process: {0}")]
    Taken(#[from] TryInitError),
    #[error("log cannot start its thread: {0}; raise the limit of processes")]
    Thread(#[from] io::Error),
}

/// Installs the process's log. For binaries only.
///
/// # Errors
/// When the levels cannot be parsed, or a subscriber is already installed.
pub fn init(options: &LogOptions) -> Result<Log, LogError> {
    let levels = Targets::from_str(&options.levels)
        .map_err(|source| LogError::Levels { levels: options.levels.clone(), source })?;
    let (lines, writing) = Lines::written_to(io::stderr())?;
    let is_straight = options.format == LogFormat::Json && levels.would_enable(access::TARGET, &Level::INFO);
    let access = if is_straight { AccessLog::straight(Arc::clone(&lines)) } else { AccessLog::default() };
    let layer = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&lines));
    let registry = tracing_subscriber::registry().with(levels);
    match options.format {
        LogFormat::Text => registry.with(layer.with_ansi(options.color)).try_init()?,
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()?
        }
    }
    Ok(Log { lines, access, _writing: writing })
}

/// Whether standard error is a terminal that may be coloured (<https://no-color.org>).
pub fn color_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::IsTerminal::is_terminal(&std::io::stderr())
}

// === impl Log ===

impl Log {
    /// Lines lost because the reader did not keep up.
    pub fn dropped_lines(&self) -> u64 {
        self.lines.dropped()
    }

    /// A handle that outlives this guard, for metrics.
    pub fn counter(&self) -> impl Fn() -> u64 + Clone + Send + Sync + 'static {
        let lines = Arc::clone(&self.lines);
        move || lines.dropped()
    }

    /// The way of the access log.
    pub fn access(&self) -> AccessLog {
        self.access.clone()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log(dropped {})", self.dropped_lines())
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log format `{text}` is unknown; use text or json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}
