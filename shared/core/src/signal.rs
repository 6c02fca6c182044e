//! The signals that end a process: Ctrl-C everywhere, SIGTERM where there is one. For binaries only.

use std::io;

/// Returns when the process is asked to end.
///
/// # Errors
/// When signals cannot be watched.
#[cfg(unix)]
pub async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Returns when the process is asked to end.
///
/// # Errors
/// When signals cannot be watched.
#[cfg(not(unix))]
pub async fn terminated() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
