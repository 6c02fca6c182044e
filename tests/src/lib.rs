//! The fake world that end-to-end tests and benchmarks run in: scripted MCP servers, a plain HTTP client, and whole
//! processes' worth of Ostler on loopback. Nothing of it is ever linked into the product.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken test world must stop the test"
)]

pub mod load;
pub mod suites;
pub mod support;
