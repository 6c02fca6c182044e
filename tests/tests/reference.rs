//! Generated reference pages against the code, where no crate of their own does it. `OSTLER_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

#[test]
fn the_metrics_page_is_what_the_table_says() {
    is_current("metrics.md", &ostler_telemetry::metrics::reference_markdown());
}

#[test]
fn the_states_page_is_what_the_table_says() {
    is_current("states.md", &ostler_dataplane::upstream::reference_markdown());
}

fn is_current(page: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/reference").join(page);
    if std::env::var_os("OSTLER_BLESS").is_some() {
        fs::write(&path, generated).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(checked_in, generated, "docs/reference/{page} is stale; run `cargo xtask docs`");
}
