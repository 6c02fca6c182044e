//! The signals that end a process: Ctrl-C everywhere, SIGTERM where there is one. And SIGHUP, which asks it to read its
//! files again. For binaries only: a library leaves the process's signals alone.

use std::io;

/// Listens to those signals from the moment it is made, so that none is lost between two questions: the first asks for an
/// orderly end, the second for one at once.
#[derive(Debug)]
pub struct Termination {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

// === impl Termination ===

impl Termination {
    /// # Errors
    /// When signals cannot be watched.
    #[cfg(unix)]
    pub fn watch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// # Errors
    /// When signals cannot be watched.
    #[cfg(not(unix))]
    pub fn watch() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns when the process is asked to end, once for each time.
    #[cfg(unix)]
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Returns when the process is asked to end, once for each time.
    #[cfg(not(unix))]
    pub async fn asked(&mut self) {
        // When it cannot be listened to, the process can still be killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns when the process is asked to end.
///
/// # Errors
/// When signals cannot be watched.
pub async fn terminated() -> io::Result<()> {
    Termination::watch()?.asked().await;
    Ok(())
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
