//! The signals that end a process: Ctrl-C everywhere, SIGTERM where there is one. And SIGHUP, which asks it to read its
//! files again. For binaries only: a library leaves the process's signals alone.

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

/// SIGHUP, which from the making of this on ends the process no more. Systems without it send none.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Made before anything else, so that a signal during start is not the end.
    ///
    /// # Errors
    /// When signals cannot be watched.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { signals: signal(SignalKind::hangup())? })
    }

    /// # Errors
    /// None here.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns when the process is asked to read its files again. May be dropped and called again.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.signals.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }

    /// Calls something at each signal, for ever.
    pub async fn at_each(mut self, mut call: impl FnMut()) {
        loop {
            self.next().await;
            call();
        }
    }
}
