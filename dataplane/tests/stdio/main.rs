//! stdio upstreams against real child processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod fake;
mod legacy;
mod limits;
mod modern;
mod process;
mod shared;
mod warm;
mod world;
