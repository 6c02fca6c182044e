//! The store as a backup, streamed from one moment of it while it goes on.

use std::io::{self, Write};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use ostler_core::limits::{BACKUP_CHUNK_BYTES, BACKUP_STALL_TIMEOUT};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ApiState;
use super::problem::{Failure, failure};
use super::types::BACKUP_MEDIA_TYPE;

/// Pieces that are ready before they are asked for.
const PIECES_AHEAD: usize = 4;

/// The connection breaks off when the backup cannot be finished, and a whole one says at its end that it is.
pub(super) async fn get_backup(State(state): State<ApiState>) -> Result<Response, Failure> {
    let place = state.backups.clone().try_acquire_owned().map_err(|_| {
        let detail = "another backup is being taken; try again when it is done";
        failure(StatusCode::CONFLICT, "backup_running", detail)
    })?;
    let snapshot = state.store.snapshot().await?;
    let now = state.clock.unix_ms();
    let (pieces, taken) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut sink = Pieces::new(pieces, BACKUP_STALL_TIMEOUT);
        match snapshot.write_to(&mut sink, now) {
            Ok(()) => tracing::info!("a backup was taken"),
            Err(error) => {
                tracing::error!(%error, "a backup was not finished");
                sink.break_off();
            }
        }
        drop(place);
    });
    let headers = [
        (CONTENT_TYPE, BACKUP_MEDIA_TYPE.to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"ostler-{now}.backup\"")),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(taken))).into_response())
}

/// Collects what is written and hands it to the connection, waiting for it no longer than the limit.
struct Pieces {
    buffer: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    stall_timeout: Duration,
    runtime: Handle,
}

impl Pieces {
    fn new(pieces: mpsc::Sender<io::Result<Bytes>>, stall_timeout: Duration) -> Self {
        Self { buffer: Vec::new(), pieces, stall_timeout, runtime: Handle::current() }
    }

    fn send(&self, piece: io::Result<Bytes>) -> io::Result<()> {
        let sent = tokio::time::timeout(self.stall_timeout, self.pieces.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Ends the connection in a way that no client takes for the end of the answer.
    fn break_off(&self) {
        // When the connection is gone already, there is nobody to tell.
        let _ = self.send(Err(io::ErrorKind::UnexpectedEof.into()));
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BACKUP_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        if piece.is_empty() { Ok(()) } else { self.send(Ok(piece)) }
    }
}
