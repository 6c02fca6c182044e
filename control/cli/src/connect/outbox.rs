//! Lines out: one message a line, whole or not at all, in the order in which they were given.
//!
//! A client that does not read holds up what it would read next, and nothing grows.

use bytes::Bytes;
use ostler_core::limits::CONNECT_OUTBOX_MAX;
use ostler_core::lines::frame;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

/// Where messages for the client go.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Bytes>);

/// What became of them.
#[derive(Debug)]
pub struct Written(watch::Receiver<Writing>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    UnderWay,
    /// All is written, and nobody has more to say.
    Finished,
    /// The client reads no more.
    Broken,
}

// === impl Outbox ===

impl Outbox {
    /// Writes until all handles are gone, or the reader is.
    pub fn start(output: impl AsyncWrite + Unpin + Send + 'static) -> (Self, Written) {
        let (sender, lines) = mpsc::channel(CONNECT_OUTBOX_MAX);
        let (state, written) = watch::channel(Writing::UnderWay);
        tokio::spawn(async move {
            let end = write(lines, output).await;
            state.send_replace(end);
        });
        (Self(sender), Written(written))
    }

    /// Waits for room. What cannot be written any more is dropped: the process is about to end.
    pub async fn send(&self, message: &[u8]) {
        let _ = self.0.send(frame(message)).await;
    }
}

async fn write(mut lines: mpsc::Receiver<Bytes>, mut output: impl AsyncWrite + Unpin) -> Writing {
    while let Some(line) = lines.recv().await {
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            return Writing::Broken;
        }
    }
    Writing::Finished
}

// === impl Written ===

impl Written {
    /// Returns when the client reads no more.
    pub async fn broken(&self) {
        let mut state = self.0.clone();
        if state.wait_for(|state| *state == Writing::Broken).await.is_err() {
            std::future::pending().await
        }
    }

    /// Returns when there is nothing left to write.
    pub async fn finished(&self) {
        let mut state = self.0.clone();
        let _ = state.wait_for(|state| *state != Writing::UnderWay).await;
    }
}
