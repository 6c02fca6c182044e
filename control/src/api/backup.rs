//! The store as a backup, streamed from one moment of it while it goes on.
//!
//! A backup keeps the store from reusing space, so nobody may take one for as long as they like: a client that does not keep
//! up loses it, in a way that cannot be taken for its end.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use ostler_core::limits::{BACKUP_BYTES_PER_SECOND_MIN, BACKUP_CHUNK_BYTES, BACKUP_STALL_TIMEOUT};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ApiState;
use super::problem::{Failure, failure};
use super::types::BACKUP_MEDIA_TYPE;
use crate::store::backup::WriteError;

/// Pieces that are ready before they are asked for.
const PIECES_AHEAD: usize = 4;

/// How long whoever takes a backup is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one piece, and for all together beyond what the rate allows.
    pub(super) stall: Duration,
    pub(super) bytes_per_second_min: u64,
}

/// Collects what is written and hands it to the connection.
struct Pieces {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<Piece>,
    patience: Patience,
    sent: u64,
    waited: Duration,
    /// Cancelled when the process begins to end.
    draining: CancellationToken,
    runtime: Handle,
}

enum Piece {
    Bytes(Bytes),
    /// Everything was said.
    End,
}

/// The connection's side: fails unless the end was said.
struct Taken(mpsc::Receiver<Piece>);

/// The connection breaks off when the backup cannot be finished, and a whole one says at its end that it is.
pub(super) async fn get_backup(State(state): State<ApiState>) -> Result<Response, Failure> {
    take(state, Patience::default()).await
}

pub(super) async fn take(state: ApiState, patience: Patience) -> Result<Response, Failure> {
    let place = state.backups.clone().try_acquire_owned().map_err(|_| {
        state.counters.backups.add("refused", "");
        let detail = "another backup is being taken; try again when it is done";
        failure(StatusCode::CONFLICT, "backup_running", detail)
    })?;
    let snapshot = state.store.snapshot().await?;
    let now = state.clock.unix_ms();
    let (pieces, taken) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut sink = Pieces::new(pieces, patience, state.draining);
        let written = snapshot.write_to(&mut sink, now).and_then(|()| Ok(sink.room()?));
        drop(snapshot);
        state.counters.backups.add(result(&written), "");
        // Before anybody hears of the end: whoever does may take the next one.
        drop(place);
        match written {
            Ok(room) => {
                room.send(Piece::End);
                tracing::info!("a backup was taken");
            }
            Err(WriteError::Sink(error)) => tracing::warn!(%error, "a backup was broken off"),
            Err(WriteError::Store(error)) => tracing::error!(%error, "a backup was not finished"),
        }
    });
    let headers = [
        (CONTENT_TYPE, BACKUP_MEDIA_TYPE.to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"ostler-{now}.backup\"")),
    ];
    Ok((headers, Body::from_stream(Taken(taken))).into_response())
}

/// What became of a backup, for the count.
fn result<T>(written: &Result<T, WriteError>) -> &'static str {
    match written {
        Ok(_) => "taken",
        Err(WriteError::Sink(error)) if error.kind() == io::ErrorKind::TimedOut => "slow_client",
        Err(WriteError::Sink(_)) => "broken_off",
        Err(WriteError::Store(_)) => "failed",
    }
}

// === impl Patience ===

impl Default for Patience {
    fn default() -> Self {
        Self { stall: BACKUP_STALL_TIMEOUT, bytes_per_second_min: BACKUP_BYTES_PER_SECOND_MIN }
    }
}

impl Patience {
    /// How long the next piece may take, after so much was sent and waited for.
    fn left(&self, sent: u64, waited: Duration) -> Duration {
        let earned = Duration::from_secs(sent / self.bytes_per_second_min.max(1));
        (self.stall + earned).saturating_sub(waited).min(self.stall)
    }
}

// === impl Pieces ===

impl Pieces {
    fn new(pieces: mpsc::Sender<Piece>, patience: Patience, draining: CancellationToken) -> Self {
        let runtime = Handle::current();
        Self { buffer: Vec::new(), pieces, patience, sent: 0, waited: Duration::ZERO, draining, runtime }
    }

    /// Waits until another piece can be handed over.
    fn room(&mut self) -> io::Result<OwnedPermit<Piece>> {
        let begun = Instant::now();
        let room = self.runtime.block_on(async {
            let patience = self.patience.left(self.sent, self.waited);
            tokio::select! {
                room = timeout(patience, self.pieces.clone().reserve_owned()) => room,
                () = self.draining.cancelled() => return Err(io::ErrorKind::ConnectionAborted),
            }
            .map_err(|_| io::ErrorKind::TimedOut)?
            .map_err(|_| io::ErrorKind::BrokenPipe)
        });
        self.waited += begun.elapsed();
        room.map_err(|kind| io::Error::new(kind, why(kind)))
    }
}

fn why(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::TimedOut => "whoever takes it is too slow",
        io::ErrorKind::BrokenPipe => "whoever took it has left",
        _ => "control is stopping",
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(BACKUP_CHUNK_BYTES.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        if self.buffer.len() >= BACKUP_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        if !piece.is_empty() {
            let room = self.room()?;
            self.sent += piece.len() as u64;
            room.send(Piece::Bytes(piece));
        }
        Ok(())
    }
}

// === impl Taken ===

impl Stream for Taken {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.0.poll_recv(cx)) {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => None,
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_a_piece_at_the_last_moment_each_time_does_not_hold_the_store_for_long() {
        let (patience, piece) = (Patience::default(), BACKUP_CHUNK_BYTES as u64);
        let (mut sent, mut waited) = (0, Duration::ZERO);
        let almost = BACKUP_STALL_TIMEOUT - Duration::from_secs(1);
        while patience.left(sent, waited) > almost {
            (sent, waited) = (sent + piece, waited + almost);
            assert!(waited < BACKUP_STALL_TIMEOUT * 100, "nothing ends it");
        }
        waited += patience.left(sent, waited);
        let slowest = Duration::from_secs(sent / BACKUP_BYTES_PER_SECOND_MIN);
        assert!(waited <= BACKUP_STALL_TIMEOUT + slowest, "{sent} bytes held the store for {waited:?}");
        let (gib, fast) = (1 << 30, Duration::from_secs((1 << 30) / BACKUP_BYTES_PER_SECOND_MIN));
        assert_eq!(patience.left(gib, fast), BACKUP_STALL_TIMEOUT, "who keeps the rate may pause");
    }
}
