//! A request to read everything anew, whatever events and digests say: what SIGHUP means.

use tokio::sync::watch;

/// Asks for it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reload(watch::Sender<()>);

/// Hears of it.
#[derive(Debug)]
pub struct Reloads(Option<watch::Receiver<()>>);

// === impl Reload ===

impl Reload {
    pub fn ask(&self) {
        self.0.send_replace(());
    }

    /// Hears of what is asked from now on.
    pub fn subscribe(&self) -> Reloads {
        Reloads(Some(self.0.subscribe()))
    }
}

// === impl Reloads ===

impl Reloads {
    /// Nobody asks.
    pub fn never() -> Self {
        Self(None)
    }

    /// Returns when a reload was asked for since the last time. May be dropped and called again.
    pub async fn asked(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}
