//! The one gate before every upstream. Whatever is sent to one carries a [`Pass`], and only the gate gives these out: a way to an
//! upstream that does not ask cannot be compiled, and one that sends something else than was judged is refused
//! ([`Pass::covers`]).
//!
//! | file | owns |
//! |---|---|
//! | `gate` | the question, the answer, and what holds them for as long as the call lives |
//! | `denial` | what callers are told who may not |
//! | `reading` | an envelope as rules see it |
//! | `trail` | what is written down of both, and how calls ended |
//! | `overheard` | what is kept of an answer while it passes |
//! | `judged` | what was permitted, to compare with what is sent |
//! | `listing` | which lists there are |
//! | `lists` | answers to lists, without what may not be called |
//! | `offered` | what a mount's lists have held |
//! | `tools` | asking for a mount's tools, to know what they say of themselves |
//! | `updates` | what streams say of resources that have changed |
//! | `witness` | what answers say of the calls that they answer |
//! | `views` | what a swap of the rules changes for who listens |
//!
//! It must never judge anything else than the bytes that will be sent, and never let through what it cannot read.

mod denial;
mod gate;
mod judged;
mod listing;
mod lists;
mod offered;
mod overheard;
mod reading;
mod tools;
mod trail;
mod updates;
mod views;
mod witness;

pub use gate::{Asking, Denied, Governance, Pass, Permit, Way};
pub(crate) use listing::Listing;
pub(crate) use lists::Lists;
pub use offered::Offered;
pub use overheard::Overheard;
pub use trail::{Answered, Ended, Trail};
pub(crate) use updates::Updates;
pub(crate) use views::{Change, Changes, Views};
pub use witness::Witness;
