//! The client's requests that wait for an answer: their ids, their number, and how one is called off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ostler_core::limits::CONNECT_IN_FLIGHT_MAX;
use ostler_mcp::Era;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;

/// All of them, by canonical id.
#[derive(Debug, Default)]
pub struct InFlight {
    waiting: Mutex<HashMap<String, Waiting>>,
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Waiting {
    era: Era,
    /// It has no answer of its own accord.
    is_stream: bool,
    called_off: CancellationToken,
}

/// One of them; it counts until this is dropped.
#[derive(Debug)]
pub struct Ticket {
    all: Arc<InFlight>,
    id: String,
    called_off: CancellationToken,
}

// === impl InFlight ===

impl InFlight {
    /// # Errors
    /// [`Failure::Overloaded`], [`Failure::IdInUse`].
    pub fn begin(self: &Arc<Self>, id: &str, era: Era, is_stream: bool) -> Result<Ticket, Failure> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.contains_key(id) {
            return Err(Failure::IdInUse);
        }
        if waiting.len() >= CONNECT_IN_FLIGHT_MAX {
            return Err(Failure::Overloaded);
        }
        let called_off = CancellationToken::new();
        waiting.insert(id.to_owned(), Waiting { era, is_stream, called_off: called_off.clone() });
        self.count.send_replace(waiting.len());
        Ok(Ticket { all: Arc::clone(self), id: id.to_owned(), called_off })
    }

    /// Calls a request off; its era, if it is there.
    pub fn call_off(&self, id: &str) -> Option<Era> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting.get(id)?;
        waiting.called_off.cancel();
        Some(waiting.era)
    }

    /// Calls off what would never end.
    pub fn call_off_streams(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().filter(|waiting| waiting.is_stream).for_each(|waiting| waiting.called_off.cancel());
    }

    /// Returns when none waits.
    pub async fn none(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

// === impl Ticket ===

impl Ticket {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub async fn called_off(&self) {
        self.called_off.cancelled().await;
    }

    pub fn is_called_off(&self) -> bool {
        self.called_off.is_cancelled()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.all.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&self.id);
        self.all.count.send_replace(waiting.len());
    }
}
