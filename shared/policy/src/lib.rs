//! Who calls, and what they may: rules that are compiled with a config and decide each message without I/O.
//!
//! Nothing here knows of connections, mounts' state or the config document's text. What cannot be decided is denied.

pub mod caller;
pub mod decision;
pub mod kill;
pub mod message;
pub mod pattern;
mod policy;
pub mod rule;

pub use caller::{Caller, Credential};
pub use decision::{Decision, Why};
pub use message::{Message, Target, TargetKind};
pub use policy::{Policy, Settings};
pub use rule::{Action, Feedback, Match, Rule};
