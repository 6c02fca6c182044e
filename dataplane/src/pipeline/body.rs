//! Request bodies in memory, because they are judged before they are sent: each bounded, those of a mount bounded, all
//! together bounded, and none waited for longer than a client may take.

use std::future::{Future as _, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ostler_core::last_piece::poll_piece;
use ostler_core::limits::{
    BODIES_READ_PER_MOUNT_MAX, BODY_DISCARD_BYTES_MAX, BODY_DISCARD_TIMEOUT, BODY_READ_TIMEOUT, BUFFER_PARTS,
    MCP_BODY_BYTES_MAX,
};
use ostler_mcp::Reason;
use tokio::time::timeout;

use super::refuse::Refusal;
use crate::mount::bodies::Bodies;
use crate::turn::Turn;

/// Memory for request bodies of the whole process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BufferBudget {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// A body and the part of the budget it takes up.
#[derive(Debug)]
pub(super) struct Buffered<M: Deref<Target = Bodies>> {
    pub(super) bytes: Bytes,
    reserved: Option<Reserved<M>>,
}

#[derive(Debug)]
struct Reserved<M: Deref<Target = Bodies>> {
    budget: BufferBudget,
    mount: M,
    bytes: usize,
}

/// Reads a body whole, on account of its mount.
pub(super) async fn collect<'m>(
    mut incoming: Incoming,
    budget: &BufferBudget,
    mount: &'m Bodies,
) -> Result<Buffered<&'m Bodies>, Refusal> {
    let _place = mount.read().ok_or_else(|| {
        overloaded(format!(
            "mount has {BODIES_READ_PER_MOUNT_MAX} requests being received, as many as it may; try again"
        ))
    })?;
    let collected = {
        let mut reading = pin!(read(&mut incoming, budget, mount));
        // Most have come with their heads, and need no timer.
        match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
            Poll::Ready(collected) => collected,
            Poll::Pending => timeout(BODY_READ_TIMEOUT, reading).await.unwrap_or_else(|_| {
                Err(Refusal::new(
                    Reason::BodyTimeout,
                    "request body did not arrive in time; send it without pause",
                ))
            }),
        }
    };
    if collected.as_ref().is_err_and(|refusal| refusal.reason() == Reason::BodyTooLarge) {
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

async fn read<'m>(
    incoming: &mut Incoming,
    budget: &BufferBudget,
    mount: &'m Bodies,
) -> Result<Buffered<&'m Bodies>, Refusal> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    let mut reserved = Reserved { budget: budget.clone(), mount, bytes: 0 };
    // What is only announced is judged and takes no memory of others: a client may never send it.
    fits(announced)?;
    // A body that came in one piece, as most do, is not copied, and a large one not at its end.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut turn = Turn::default();
    while let Some(frame) = poll_fn(|cx| poll_piece(incoming, cx)).await {
        let frame = frame
            .map_err(|_| Refusal::new(Reason::InvalidRequest, "request body broke off; send it whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        poll_fn(|cx| turn.poll(cx)).await;
        turn.took(data.len());
        reserved.grow_to(first.len() + whole.len() + data.len())?;
        if whole.is_empty() && first.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Buffered { bytes, reserved: Some(reserved) })
}

/// Whether one body may have this size, whatever others take up.
fn fits(bytes: usize) -> Result<(), Refusal> {
    if bytes <= MCP_BODY_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("request body is larger than {MCP_BODY_BYTES_MAX} bytes; send less");
    Err(Refusal::new(Reason::BodyTooLarge, detail))
}

fn overloaded(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Overloaded, detail).retry_after(std::time::Duration::from_secs(1))
}

impl Buffered<&Bodies> {
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), reserved: None }
    }

    /// The same body, for longer than the request that brought it.
    pub(super) fn keep(self, mount: &Arc<Bodies>) -> Buffered<Arc<Bodies>> {
        let reserved = self.reserved.map(|mut reserved| Reserved {
            budget: reserved.budget.clone(),
            mount: Arc::clone(mount),
            bytes: std::mem::take(&mut reserved.bytes),
        });
        Buffered { bytes: self.bytes, reserved }
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

    /// What one mount may take of it: never less than one whole body, as long as the budget has that.
    fn share(&self) -> usize {
        (self.max / BUFFER_PARTS).max(MCP_BODY_BYTES_MAX)
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

impl<M: Deref<Target = Bodies>> Reserved<M> {
    fn grow_to(&mut self, total: usize) -> Result<(), Refusal> {
        fits(total)?;
        let missing = total.saturating_sub(self.bytes);
        if missing == 0 {
            return Ok(());
        }
        if !self.mount.take(missing, self.budget.share()) {
            return Err(overloaded(
                "request bodies of this mount in memory have reached its part of `--buffer-bytes`; try again",
            ));
        }
        if !self.budget.take(missing) {
            self.mount.give_back(missing);
            return Err(overloaded("request bodies in memory have reached `--buffer-bytes`; try again"));
        }
        self.bytes += missing;
        Ok(())
    }
}

impl<M: Deref<Target = Bodies>> Drop for Reserved<M> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.mount.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn reserved<'m>(budget: &BufferBudget, mount: &'m Bodies) -> Reserved<&'m Bodies> {
        Reserved { budget: budget.clone(), mount, bytes: 0 }
    }

    #[test]
    fn reservations_are_bounded_and_given_back() {
        let (budget, one, two) = (BufferBudget::new(100), Bodies::default(), Bodies::default());
        let mut a = reserved(&budget, &one);
        let mut b = reserved(&budget, &two);
        a.grow_to(60).unwrap();
        assert_eq!(b.grow_to(41).unwrap_err().reason(), Reason::Overloaded);
        b.grow_to(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(a);
        b.grow_to(90).unwrap();
        drop(b);
        assert_eq!((budget.used(), one.bytes(), two.bytes()), (0, 0, 0));
    }

    #[test]
    fn a_mount_that_has_its_part_is_refused_more_and_its_neighbour_is_not() {
        let (budget, greedy, neighbour) = (BufferBudget::new(32 * MIB), Bodies::default(), Bodies::default());
        let mut held: Vec<_> = (0..3).map(|_| reserved(&budget, &greedy)).collect();
        assert!(held.iter_mut().take(2).all(|body| body.grow_to(4 * MIB).is_ok()));
        assert_eq!(held[2].grow_to(1).unwrap_err().reason(), Reason::Overloaded);
        assert!(reserved(&budget, &neighbour).grow_to(4 * MIB).is_ok());
        drop(held);
        assert_eq!((budget.used(), greedy.bytes()), (0, 0));
    }

    #[test]
    fn a_body_that_is_kept_is_counted_once_until_it_is_let_go() {
        let (budget, mount) = (BufferBudget::new(100), Arc::new(Bodies::default()));
        let mut first = reserved(&budget, &mount);
        first.grow_to(60).unwrap();
        let kept = Buffered { bytes: Bytes::new(), reserved: Some(first) }.keep(&mount);
        assert_eq!((budget.used(), mount.bytes()), (60, 60));
        drop(kept);
        assert_eq!((budget.used(), mount.bytes()), (0, 0));
    }

    #[test]
    fn one_body_is_bounded_whatever_the_budget() {
        let (budget, mount) = (BufferBudget::new(usize::MAX), Bodies::default());
        let mut reserved = reserved(&budget, &mount);
        assert_eq!(reserved.grow_to(MCP_BODY_BYTES_MAX + 1).unwrap_err().reason(), Reason::BodyTooLarge);
    }
}
