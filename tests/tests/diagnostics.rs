//! One document with ten mistakes of different kinds: the API, the command line and both watchers report the same ten,
//! each with its line and a remedy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::world::{admin, one_mount};
use serde_json::Value;

fn mistakes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/config/src/tests/ten_mistakes.yaml")
}

/// What a diagnostic says, as far as it must be the same everywhere.
fn errors(diagnostics: &Value) -> BTreeSet<(String, u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = diagnostics.as_array().unwrap_or_else(|| panic!("no diagnostics: {diagnostics}"));
    let errors = all.iter().filter(|diagnostic| diagnostic["severity"] == "error");
    errors
        .map(|diagnostic| {
            let line = diagnostic["line"].as_u64().unwrap_or_else(|| panic!("no line: {diagnostic}"));
            (text(&diagnostic["code"]), line, text(&diagnostic["message"]), text(&diagnostic["help"]))
        })
        .collect()
}

#[tokio::test]
async fn api_and_watcher_report_the_same_ten_mistakes_as_the_judge() {
    let text = std::fs::read_to_string(mistakes()).unwrap();
    let report = ostler_config::judge_text(text.as_bytes()).unwrap_err();
    let judged = errors(&serde_json::to_value(&report.diagnostics).unwrap());
    let kinds: BTreeSet<_> = judged.iter().map(|(code, ..)| code.clone()).collect();
    assert!(judged.len() >= 10 && kinds.len() >= 10, "{judged:#?}");
    assert!(judged.iter().all(|(_, line, _, help)| *line > 0 && !help.is_empty()), "{judged:#?}");

    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let refused = control.apply(&text).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(errors(&refused.json()["diagnostics"]), judged);
    control.running.shutdown().await;

    let (_server, dataplane) = one_mount(dir.path()).await;
    std::fs::write(dir.path().join("ostler.yaml"), &text).unwrap();
    let shown = eventually("the watcher reports", async || {
        let config = admin(&dataplane, &dir.path().join("state"), "/config").await;
        config["last_rejection"]["diagnostics"]
            .is_array()
            .then(|| config["last_rejection"]["diagnostics"].clone())
    })
    .await;
    assert_eq!(errors(&shown), judged);
    dataplane.shutdown().await;
}

#[test]
fn the_command_line_reports_the_same_ten_mistakes_as_the_judge() {
    let text = std::fs::read_to_string(mistakes()).unwrap();
    let report = ostler_config::judge_text(text.as_bytes()).unwrap_err();
    let judged = errors(&serde_json::to_value(&report.diagnostics).unwrap());
    let output =
        Command::new(ostler()).arg("validate").arg(mistakes()).args(["-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(errors(&shown["diagnostics"]), judged);
    let output = Command::new(ostler()).arg("validate").arg(mistakes()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for (code, line, ..) in judged {
        assert!(
            printed.contains(&code) && printed.contains(&format!(":{line}:")),
            "{code} at {line} is not in\n{printed}"
        );
    }
}

/// The binary of this build. `cargo test --workspace` has built it beside this test.
fn ostler() -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    while folder.file_name().is_some_and(|name| name != "deps") {
        folder.pop();
    }
    folder.with_file_name(format!("ostler{}", std::env::consts::EXE_SUFFIX))
}
