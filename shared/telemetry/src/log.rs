//! The log of a process: text for people, JSON for machines, on standard error, through a bounded queue. A reader that
//! does not keep up costs lines, which are counted, and never a request. Lines that come fast are written together, because a thread woken
//! for each of them costs more than the call that it tells of.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;
use std::thread::sleep;

use ostler_core::limits::{LOG_LINES_MAX, LOG_PAUSE, LOG_WRITE_BYTES_MAX};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

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
    _writer: WorkerGuard,
    dropped: ErrorCounter,
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
}

/// Writes what has gathered, and then nothing for a while, in which more gathers: the queue's thread flushes when the queue is empty.
#[derive(Debug)]
struct Gathering<W: Write>(BufWriter<W>);

/// Installs the process's log. For binaries only.
///
/// # Errors
/// When the levels cannot be parsed, or a subscriber is already installed.
pub fn init(options: &LogOptions) -> Result<Log, LogError> {
    let levels = Targets::from_str(&options.levels)
        .map_err(|source| LogError::Levels { levels: options.levels.clone(), source })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_MAX)
        .thread_name("log")
        .finish(Gathering(BufWriter::with_capacity(LOG_WRITE_BYTES_MAX, io::stderr())));
    let dropped = writer.error_counter();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(levels);
    match options.format {
        LogFormat::Text => registry.with(layer.with_ansi(options.color)).try_init()?,
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()?
        }
    }
    Ok(Log { _writer: guard, dropped })
}

/// Whether standard error is a terminal that may be coloured (<https://no-color.org>).
pub fn color_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::IsTerminal::is_terminal(&std::io::stderr())
}

// === impl Gathering ===

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line)
    }

    #[expect(clippy::disallowed_methods, reason = "the log's thread does nothing else")]
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        sleep(LOG_PAUSE);
        Ok(())
    }
}

// === impl Log ===

impl Log {
    /// Lines lost because the reader did not keep up.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// A handle that outlives this guard, for metrics.
    pub fn counter(&self) -> impl Fn() -> u64 + Clone + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Each write that arrives.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_gather_are_written_at_once_and_none_is_kept_back() {
        let writes = Writes::default();
        let mut log = Gathering(BufWriter::with_capacity(LOG_WRITE_BYTES_MAX, writes.clone()));
        for number in 0..100 {
            writeln!(log, "line {number}").unwrap();
        }
        assert!(writes.0.lock().unwrap().is_empty());
        log.flush().unwrap();
        let written = writes.0.lock().unwrap().clone();
        assert_eq!((written.len(), written[0].lines().count()), (1, 100));
    }
}
