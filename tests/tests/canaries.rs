//! Secrets that were planted wherever a secret may stand, and everything that processes of a fleet show or keep: none of them
//! is seen anywhere. That each place was really looked at shows by what is no secret, and is found in all of them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "canaries/processes.rs"]
mod processes;
#[path = "canaries/unwound.rs"]
mod unwound;
