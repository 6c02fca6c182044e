//! Request bodies in memory, because they are judged before they are sent: each bounded, all together bounded, and none
//! waited for longer than a client may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_core::limits::{
    BODY_DISCARD_BYTES_MAX, BODY_DISCARD_TIMEOUT, BODY_READ_TIMEOUT, MCP_BODY_BYTES_MAX,
};
use ostler_mcp::Reason;
use tokio::time::timeout;

use super::refuse::Refusal;

/// Memory for request bodies of the whole process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BufferBudget {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// A body and the part of the budget it takes up.
#[derive(Debug)]
pub(super) struct Buffered {
    pub(super) bytes: Bytes,
    _reserved: Option<Reserved>,
}

#[derive(Debug)]
struct Reserved {
    budget: BufferBudget,
    bytes: usize,
}

/// Reads a body whole.
pub(super) async fn collect(mut incoming: Incoming, budget: &BufferBudget) -> Result<Buffered, Refusal> {
    let collected = timeout(BODY_READ_TIMEOUT, read(&mut incoming, budget)).await.unwrap_or_else(|_| {
        Err(Refusal::new(Reason::BodyTimeout, "request body did not arrive in time; send it without pause"))
    });
    if collected.as_ref().is_err_and(|refusal| refusal.reason == Reason::BodyTooLarge) {
        discard(incoming).await;
    }
    collected
}

/// Takes what is still being sent, within bounds: a connection that is closed on unread bytes is reset, and the client
/// would never see why.
async fn discard(mut incoming: Incoming) {
    let mut left = BODY_DISCARD_BYTES_MAX;
    let rest = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Whoever sends for longer is cut.
    let _ = timeout(BODY_DISCARD_TIMEOUT, rest).await;
}

async fn read(incoming: &mut Incoming, budget: &BufferBudget) -> Result<Buffered, Refusal> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    let mut reserved = Reserved { budget: budget.clone(), bytes: 0 };
    // What is only announced is judged and takes no memory of others: a client may never send it.
    fits(announced)?;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame
            .map_err(|_| Refusal::new(Reason::InvalidRequest, "request body broke off; send it whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        reserved.grow_to(first.len() + rest.len() + data.len())?;
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() { first } else { [first.as_ref(), rest.as_ref()].concat().into() };
    Ok(Buffered { bytes, _reserved: Some(reserved) })
}

/// Whether one body may have this size, whatever others take up.
fn fits(bytes: usize) -> Result<(), Refusal> {
    if bytes <= MCP_BODY_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("request body is larger than {MCP_BODY_BYTES_MAX} bytes; send less");
    Err(Refusal::new(Reason::BodyTooLarge, detail))
}

impl Buffered {
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), _reserved: None }
    }
}

// === impl BufferBudget ===

impl BufferBudget {
    pub fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = used.saturating_add(bytes) <= self.max;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

// === impl Reserved ===

impl Reserved {
    fn grow_to(&mut self, total: usize) -> Result<(), Refusal> {
        fits(total)?;
        let missing = total.saturating_sub(self.bytes);
        if missing > 0 && !self.budget.take(missing) {
            return Err(Refusal::new(
                Reason::Overloaded,
                "request bodies in memory have reached `--buffer-bytes`; try again",
            )
            .retry_after(std::time::Duration::from_secs(1)));
        }
        self.bytes += missing;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_are_bounded_and_given_back() {
        let budget = BufferBudget::new(100);
        let mut a = Reserved { budget: budget.clone(), bytes: 0 };
        let mut b = Reserved { budget: budget.clone(), bytes: 0 };
        a.grow_to(60).unwrap();
        assert_eq!(b.grow_to(41).unwrap_err().reason, Reason::Overloaded);
        b.grow_to(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(a);
        b.grow_to(90).unwrap();
        drop(b);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_body_is_bounded_whatever_the_budget() {
        let mut reserved = Reserved { budget: BufferBudget::new(usize::MAX), bytes: 0 };
        assert_eq!(reserved.grow_to(MCP_BODY_BYTES_MAX + 1).unwrap_err().reason, Reason::BodyTooLarge);
    }
}
