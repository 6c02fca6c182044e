//! MCP as bytes on the wire: what a message is, which era it belongs to, how it is framed, how it is refused.
//!
//! Both the agent's side and the upstream's side of a data plane read messages through [`Envelope`], which looks at
//! a body once and builds no tree, so that the bytes that were judged are the bytes that are sent. The crate knows
//! the protocol and nothing of mounts, policy or sockets; it must never do I/O, hold state between messages (the SSE
//! decoders' one unfinished event or answer apart), or accept a message that two parsers could read in two ways.
//!
//! | module | owns |
//! |---|---|
//! | [`envelope`] | the borrowed view of one JSON-RPC message or batch |
//! | [`splice`] | replacing ids and tokens inside a body without parsing it again |
//! | [`era`] | the dated revisions and which of the two eras a request speaks |
//! | [`method`] | method names and what they carry |
//! | [`headers`] | header names, the sentinel codec of `Mcp-Name`, session ids, header against body |
//! | [`answer`] | whose request an answer answers, read while it passes |
//! | [`sse`] | Server-Sent Events in and out |
//! | [`bridge`] | messages of one era as messages of the other |
//! | [`error`] | error codes, reasons, and the body of a refusal |
//! | [`message`] | the few messages that the data plane writes itself |
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod answer;
pub mod bridge;
pub mod envelope;
pub mod era;
pub mod error;
pub mod headers;
pub mod message;
pub mod method;
mod plain;
mod scan;
pub mod splice;
pub mod sse;

pub use answer::Awaited;
pub use envelope::{Envelope, EnvelopeError, Id, Kind, Meta};
pub use era::{Era, Revision};
pub use error::{ErrorBody, Reason};
pub use scan::Scan;
pub use splice::splice;
