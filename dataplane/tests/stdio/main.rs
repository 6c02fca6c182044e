//! stdio upstreams against real child processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod door;
mod fake;
mod legacy;
mod limits;
mod modern;
mod orphans;
mod process;
mod recovery;
mod shared;
mod talk;
mod warm;
mod world;
