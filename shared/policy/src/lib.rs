//! Who calls, and what they may: rules that are compiled with a config and decide each message without I/O.
//!
//! Nothing here knows of connections, mounts' state or the config document's text. What cannot be decided is denied.

pub mod caller;

pub use caller::{Caller, Credential};
