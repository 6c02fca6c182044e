//! HTTP+SSE, the transport of 2024-11-05, for clients of a mount: a GET opens a stream that says where to POST, each POST
//! brings one message and is answered 202, and whatever the server has to say comes as events of the one stream.
//!
//! | file | owns |
//! |---|---|
//! | `channel` | one client's stream and session: what waits for it, what ends with it |
//! | `table` | the channels of a mount, by ids that nobody can guess |
//! | `stream` | the stream's body |
//! | `relay` | the answer to a message as events of the stream |
//! | `push` | what an upstream says unasked, as a client of Streamable HTTP hears it |
//!
//! A channel holds a session at the upstream as a client of 2025-11-25 would, through [`crate::bridge::call`], so that
//! every transport and era of an upstream is served alike. It must never know which stages a message passed before.

mod channel;
mod push;
mod relay;
mod stream;
mod table;

pub use channel::Channel;
pub(crate) use push::push;
pub(crate) use relay::relay;
pub(crate) use stream::open;
pub use table::{ChannelError, Channels};
