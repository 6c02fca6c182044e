//! Control's HTTP API: what operators and their tools speak.

pub mod types;
