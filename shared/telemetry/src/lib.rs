//! What operators see of a process: its log and its metrics. Names of metrics live here and nowhere else.
//!
//! Nothing here is global but the log subscriber, and only a binary may install that: an embedded data plane brings no
//! recorder, subscriber or handler of its own.

pub mod access;
pub mod log;
pub mod metrics;
pub mod text;
