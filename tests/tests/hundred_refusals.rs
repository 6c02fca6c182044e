//! A hundred bad configs in a row, through file, API and apply path at once, leave nothing behind. Alone in its process,
//! which is what is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(target_os = "linux")]

#[path = "candidates/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use ostler_dataplane::apply::{Candidate, Origin};
use ostler_tests::support::http::Ask;
use ostler_tests::support::{PATIENCE, proc};
use serde_json::json;

use sources::Sources;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a process could leak, counted.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    descriptors: usize,
    tasks: Vec<usize>,
    series: Vec<usize>,
    retired_alive: Vec<usize>,
    files: BTreeSet<String>,
    /// Of attempts, on disk.
    marks: Vec<usize>,
}

async fn count(sources: &Sources) -> Counted {
    let dataplanes = [&sources.alone, &sources.node];
    let mut series = Vec::new();
    for addr in [sources.alone.admin_addr(), sources.node.admin_addr(), sources.control.running.api_addr] {
        let scrape = Ask::new(addr, "GET", "/metrics").send().await.text();
        series.push(scrape.lines().filter(|line| !line.starts_with('#')).count());
    }
    let mut files = BTreeSet::new();
    let mut folders = vec![sources.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Counted {
        descriptors: proc::open_files(std::process::id()).unwrap(),
        tasks: dataplanes.map(|dataplane| dataplane.admin().deps.tasks.len()).to_vec(),
        series,
        retired_alive: dataplanes
            .map(|dataplane| dataplane.admin().applier.snapshots.retired_alive())
            .to_vec(),
        files,
        marks: ["state", "node"].map(|folder| marks(&sources.dir.path().join(folder))).to_vec(),
    }
}

fn marks(state: &Path) -> usize {
    let marks = std::fs::read_to_string(state.join("generations/attempts.json")).unwrap_or_default();
    marks.matches("\"unfinished\"").count()
}

fn resident_kib() -> u64 {
    proc::resident_bytes(std::process::id()).unwrap() / 1024
}

/// One bad text for each source, other than the last ones.
async fn refuse(sources: &Sources, number: u64) {
    // Half of them are large: what leaks would show.
    let filler =
        if number.is_multiple_of(2) { "# ".to_owned() + &"x".repeat(256 * 1024) } else { String::new() };
    let bad = format!("version: 1\nupstreams:\n  bad{number}: {{ htttp: {{}} }}\n{filler}\n");
    sources.write(bad.as_bytes());
    assert_eq!(sources.push(bad.as_bytes()).await.status, 422);
    let node = &sources.node.admin().applier;
    // As a stream would bring it; what a real stream does with a refusal is tried elsewhere.
    let secret = json!({"X-Key": "${OSTLER_TEST_NEVER_SET}"});
    let text = json!({"version": 1, "upstreams": {"up": {"http": {"url": "http://h/"}, "headers": secret}}});
    let judged = ostler_config::judge_text(text.to_string().as_bytes()).unwrap();
    let mut revision = node.snapshots.load().unwrap().revision.clone();
    revision.version += number;
    revision.digest = judged.config.digest();
    let candidate = Candidate { origin: Origin::Stream, revision, parts: judged.config.parts().into() };
    assert_eq!(node.apply(&candidate).await.unwrap_err().code, "invalid_config");
    sources.refused_alone(number).await;
    sources.refused_by_control(number).await;
}

#[tokio::test]
async fn a_hundred_bad_configs_in_a_row_leave_nothing_behind() {
    const WARM_UP: u64 = 20;
    const MORE: u64 = 100;
    let sources = Sources::start().await;
    for number in 1..=WARM_UP {
        refuse(&sources, number).await;
    }
    let (before, before_kib) = (count(&sources).await, resident_kib());
    for number in WARM_UP + 1..=WARM_UP + MORE {
        refuse(&sources, number).await;
    }
    // Connections of the last requests may still be closing.
    let mut after = count(&sources).await;
    let deadline = Instant::now() + PATIENCE / 3;
    while after != before && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        after = count(&sources).await;
    }
    assert_eq!(after, before);
    let grown_kib = resident_kib().saturating_sub(before_kib);
    // A hundred texts of a quarter MiB through three sources are 37 MiB, and their trees more.
    assert!(grown_kib < 16 * 1024, "{grown_kib} KiB more after {MORE} refusals");
    sources.calls_go_on("after a hundred").await;
    sources.end().await;
}
