//! The data plane: it serves MCP clients, and keeps serving whatever becomes of control.
//!
//! ```text
//! sync | source ──► apply ──► snapshot ──swap──► pipeline ◄── listener ◄── clients
//!                     │                             │
//!                generations (disk)              mount ──► upstream ──► MCP servers
//! ```
//!
//! A request reads one immutable [`snapshot`] and never waits for control. Traffic runs on worker threads of its own;
//! sync, apply, probes and the admin port share the control thread. Nothing global is installed: a program can embed
//! [`DataPlane`] beside its own logging, metrics and signals.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod admin;
pub mod apply;
mod args;
mod assembly;
pub mod audit;
pub mod auth;
pub mod bridge;
pub mod bundle;
mod deps;
pub mod govern;
mod guard;
pub mod http_sse;
pub mod kills;
pub mod listener;
pub mod mount;
mod options;
mod orphans;
mod own;
pub mod pipeline;
mod prober;
mod run;
mod scanning;
pub mod snapshot;
mod source;
pub mod sync;
mod turn;
pub mod upstream;

pub use args::DataplaneArgs;
pub use assembly::DataPlane;
pub use deps::Deps;
pub use guard::guard;
pub use options::{ConfigFrom, Options, StartError};
pub use run::run;
