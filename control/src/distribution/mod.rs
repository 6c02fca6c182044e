//! Bringing the newest version of a fleet to its nodes, and hearing what became of it.
//!
//! `hub` offers each fleet's newest version, `session` speaks with one node, `service` is the gRPC end. Wire types stop
//! in this module. It never judges content and never keeps a version: it brings what the store has committed.

mod codec;
mod hub;
mod revision;
mod service;
mod session;
pub mod wire;

pub use hub::Hub;
pub use revision::Revision;
pub use service::{Distribution, router};
