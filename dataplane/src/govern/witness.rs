//! What becomes of the calls of one message, told by whoever reads its answer while it passes. It goes into the outcomes of these
//! calls. It must never look at an answer itself: what nobody has read is not known, and its outcome says that.

use std::sync::Arc;

use ostler_mcp::answer::{Heard, Said};
use ostler_mcp::{Envelope, Reason};

use super::judged::Judged;
use super::trail::Calls;

/// For one message on its way to an upstream.
#[derive(Debug, Clone)]
pub struct Witness {
    calls: Arc<Calls>,
    of: Of,
}

/// Which calls, by number.
#[derive(Debug, Clone)]
enum Of {
    One(u32),
    /// By the place of the request among those of the batch.
    Each(Arc<[Option<u32>]>),
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    Said(Said),
    /// Ostler has answered it, for this reason.
    Failed(Reason),
    /// The stream has ended without its answer, for which its client may ask again.
    Elsewhere,
}

// === impl Witness ===

impl Witness {
    /// Nothing where no outcome is written for any of these.
    pub(super) fn of(calls: &Arc<Calls>, judged: &[Judged], envelope: &Envelope<'_>) -> Option<Self> {
        if judged.iter().all(|judged| judged.call.is_none()) {
            return None;
        }
        let call_of = |message: &Envelope<'_>| {
            let same = judged.iter().filter(|it| judged.len() == 1 || it.is(message));
            calls.claim(same.filter_map(|judged| judged.call))
        };
        let mut requests = envelope.messages().filter(|message| message.is_request());
        let of = if envelope.is_request() {
            Of::One(requests.next().and_then(call_of)?)
        } else {
            Of::Each(requests.map(call_of).collect())
        };
        Some(Self { calls: Arc::clone(calls), of })
    }

    /// A whole answer, or one message of a stream.
    pub fn heard(&self, heard: &Heard) {
        for (place, said) in heard.said() {
            let call = match &self.of {
                Of::One(call) => Some(*call),
                Of::Each(calls) => calls.get(place).copied().flatten(),
            };
            if let Some(call) = call {
                self.calls.went(call, Went::Said(said));
            }
        }
        if let Some(said) = heard.nameless() {
            self.all(Went::Said(said));
        }
    }

    /// The response to the one request.
    pub fn said(&self, said: Said) {
        self.all(Went::Said(said));
    }

    /// There is no answer but one of our own, to whatever has none yet.
    pub fn failed(&self, reason: Reason) {
        self.rest(Went::Failed(reason));
    }

    /// The stream has ended, and its client may ask for the rest.
    pub fn left(&self) {
        self.rest(Went::Elsewhere);
    }

    fn all(&self, went: Went) {
        self.each(|call| self.calls.went(call, went));
    }

    fn rest(&self, went: Went) {
        self.each(|call| self.calls.went_at_last(call, went));
    }

    fn each(&self, tell: impl Fn(u32)) {
        match &self.of {
            Of::One(call) => tell(*call),
            Of::Each(calls) => calls.iter().flatten().for_each(|call| tell(*call)),
        }
    }
}
