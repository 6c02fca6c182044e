//! Placeholder: `cargo xtask`.
fn main() {}
