//! The control process as its operators and its nodes see it: over real sockets, one process per test.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod apply;
mod file;
mod hostile;
mod probes;
mod start;
mod stream;
mod support;
