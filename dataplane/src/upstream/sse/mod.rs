//! HTTP+SSE, the transport of 2024-11-05, towards a server: a stream that says where messages are sent, and the sending. What
//! comes on the stream belongs to whoever opened it; `upstream::stdio` keeps one for each client session, as it keeps
//! children, since a server on such a stream is to its session what a child is.
//!
//! | file | owns |
//! |---|---|
//! | `endpoint` | where messages may be sent, by what the server says |
//! | `dial` | opening a stream, sending a message, a sign of life |
//!
//! It must never send anything to another origin than the stream's: that would hand the upstream's credentials to whomever it names.

mod dial;
mod endpoint;

pub(super) use dial::{Dialer, Events, Over, Poster, Unposted};
