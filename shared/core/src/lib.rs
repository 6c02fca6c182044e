//! What both planes share and nothing else depends on the other way: names, limits, digests, clock, randomness, lines,
//! backoff, tracked tasks, the injected network, and the rules that guard every listener.
//!
//! This crate must never know what a config, a mount or a version is.

pub mod backoff;
pub mod bell;
pub mod build;
pub mod clock;
pub mod digest;
pub mod disk;
mod gather;
pub mod glob;
pub mod guard;
pub mod health;
pub mod hex;
pub mod jwt;
pub mod last_piece;
pub mod limits;
pub mod lines;
mod lookup;
pub mod members;
pub mod name;
pub mod net;
pub mod ordered;
pub mod pace;
pub mod parent;
mod poller;
pub mod rng;
pub mod seal;
pub mod signal;
pub mod state_dir;
pub mod supervisor;
pub mod tasks;
pub mod token;
pub mod until;
