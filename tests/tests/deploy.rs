//! What is under `deploy/` against the product: metrics that exist, flags and variables that exist, times that fit together.
//! What needs other programs is tried by `deploy/check`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_core::limits::{DRAIN_DEADLINE, LIVENESS_TIMEOUT};
use ostler_telemetry::metrics::Metric;

fn read(path: &str) -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words of these characters.
fn words(text: &str, is_part: impl Fn(char) -> bool) -> BTreeSet<String> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn alerts_are_about_metrics_and_labels_that_exist() {
    let rules = read("deploy/prometheus/ostler.rules.yaml");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<_> =
        words(&rules, is_part).into_iter().filter(|word| word.starts_with("ostler_")).collect();
    let known: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.definition().name.to_owned()).collect();
    assert!(named.is_subset(&known), "unknown: {:?}", named.difference(&known));
    assert!(named.len() >= 6, "{named:?}");
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        for piece in line.split("ostler_").skip(1).filter(|piece| piece.contains('{')) {
            let (name, rest) = piece.split_once('{').unwrap();
            let label = rest.split(['=', '!']).next().unwrap();
            let metric = Metric::ALL.iter().map(|metric| metric.definition());
            let metric = metric.into_iter().find(|metric| metric.name == format!("ostler_{name}")).unwrap();
            assert!(metric.labels.contains(&label), "{} has no label {label}", metric.name);
        }
    }
}

#[test]
fn flags_and_variables_are_those_of_the_reference() {
    let reference = read("docs/reference/cli.md");
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let is_variable = |c: char| c.is_ascii_uppercase() || c == '_';
    for file in [
        "deploy/systemd/ostler-control.service",
        "deploy/systemd/ostler-dataplane.service",
        "deploy/docker/Dockerfile",
        "deploy/compose/compose.yaml",
    ] {
        let text = read(file);
        let text: String =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
        let programs = text.lines().filter(|line| line.contains("/usr/bin/ostler") && !line.contains("COPY"));
        for line in programs {
            // What stands before the program belongs to Docker.
            let (_, arguments) = line.split_once("/usr/bin/ostler").unwrap();
            for flag in words(arguments, is_flag).into_iter().filter(|word| word.starts_with("--")) {
                assert!(reference.contains(&format!("`{flag}")), "{file}: {flag}");
            }
        }
        for variable in words(&text, is_variable).into_iter().filter(|word| word.starts_with("OSTLER_")) {
            assert!(reference.contains(&format!("`{variable}`")), "{file}: {variable}");
        }
    }
}

#[test]
fn a_unit_waits_longer_than_the_process_needs() {
    for (unit, longest_end) in [("control", DRAIN_DEADLINE * 2), ("dataplane", DRAIN_DEADLINE * 3)] {
        let text = read(&format!("deploy/systemd/ostler-{unit}.service"));
        let seconds = |key: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
            Duration::from_secs(line.trim_end_matches('s').parse().unwrap())
        };
        // A drain, the end of children and the end of tasks follow each other.
        assert!(seconds("TimeoutStopSec=") > longest_end, "{unit}");
        // A sign of life is due at half the time, and the probe has half of that.
        assert!(seconds("WatchdogSec=") / 4 > LIVENESS_TIMEOUT, "{unit}");
        assert!(text.contains("\nType=notify\n") && text.contains("\nNotifyAccess=main\n"), "{unit}");
    }
}
