//! Generated reference pages against the code, where no crate of their own does it. `OSTLER_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

#[test]
fn the_metrics_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/reference/metrics.md");
    let generated = ostler_telemetry::metrics::reference_markdown();
    if std::env::var_os("OSTLER_BLESS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(checked_in, generated, "docs/reference/metrics.md is stale; run `cargo xtask docs`");
}
