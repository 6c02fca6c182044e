//! Fuzz targets: what must hold for any bytes that a stranger, a damaged disk or another build hands to Ostler.
//!
//! A target is an ordinary function over bytes that returns when its properties hold and panics when one does not. So one
//! target serves three runners: libFuzzer (`src/main.rs`, built by `cargo xtask fuzz`), the replay of its corpus with a
//! bounded number of mutations in `cargo test` (`tests/corpora.rs`), and a debugger. Targets see production code through
//! its public interface; nothing in production knows that it is fuzzed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold must stop the run"
)]

pub mod corpus;
pub mod mutate;
pub mod targets;

pub use targets::{TARGETS, Target};
