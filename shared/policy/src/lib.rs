//! Who calls, and what they may: rules that are compiled with a config and decide each message without I/O.
//!
//! Nothing here knows of connections, mounts' state or the config document's text. What cannot be decided is denied.

pub mod caller;
pub mod cel;
pub mod decision;
mod explain;
pub mod fields;
mod json;
pub mod kill;
pub mod message;
pub mod pattern;
mod policy;
pub mod rule;
mod shadow;

pub use caller::{Caller, Credential};
pub use cel::{Expression, ExpressionError, Variable};
pub use decision::{Decision, Why};
pub use explain::{Explained, Step};
pub use message::{Annotations, Arguments, Known, Message, Target, TargetKind};
pub use policy::{Bearing, Flag, Policy, Settings};
pub use rule::{Action, Feedback, Match, Rule, Verdict};
pub use shadow::shadowed;

#[cfg(test)]
mod tests;
