//! `ostler validate` as people and scripts use it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod support;

use support::{Place, file_name, one_sentence, text};

const GOOD: &str = "version: 1\nupstreams: { a: { http: { url: http://127.0.0.1:1/mcp } } }\n";
const BAD: &str = "version: 1\nupstreams:\n  a: { http: { url: http://127.0.0.1:1/mcp }, tmeouts: {} }\n  B: { stdio: { command: b } }\n";

#[tokio::test]
async fn a_good_file_is_told_and_ends_with_zero() {
    let place = Place::new();
    let path = place.write("ostler.yaml", GOOD);
    let output = place.run(&["validate", file_name(&path)]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).ends_with("ostler.yaml: valid, 1 upstream, 1 mount\n"),
        "{}",
        text(&output.stdout)
    );
}

#[tokio::test]
async fn every_mistake_has_its_line_and_remedy() {
    let place = Place::new();
    let path = place.write("ostler.yaml", BAD);
    let output = place.run(&["validate", file_name(&path)]).await;
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.contains("ostler.yaml:3:") && out.contains("ostler.yaml:4:"), "{out}");
    assert_eq!(out.matches("= help: ").count(), 2, "{out}");
}

#[tokio::test]
async fn programs_get_the_same_findings_as_json() {
    let place = Place::new();
    let path = place.write("ostler.yaml", BAD);
    let output = place.run(&["validate", file_name(&path), "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["valid"], false);
    assert_eq!(verdict["diagnostics"].as_array().unwrap().len(), 2);
    assert_eq!(verdict["diagnostics"][0]["line"], 3);
}

#[tokio::test]
async fn a_warning_is_shown_and_does_not_fail() {
    let place = Place::new();
    let path = place.write("ostler.yaml", "version: 1\n");
    let output = place.run(&["validate", file_name(&path)]).await;
    assert_eq!(output.status.code(), Some(0));
    let out = text(&output.stdout);
    assert!(
        out.starts_with("warning[") && out.ends_with("valid, 0 upstreams, 0 mounts, 1 warning\n"),
        "{out}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_one_sentence() {
    let place = Place::new();
    let missing = place.path("missing.yaml");
    let complaint = one_sentence(&place.run(&["validate", file_name(&missing)]).await);
    assert!(complaint.contains("missing.yaml") && complaint.contains("does not exist"), "{complaint}");
    let complaint = one_sentence(&place.run(&["validate", file_name(place.folder.path())]).await);
    assert!(complaint.contains("it is a folder"), "{complaint}");
}

#[tokio::test]
async fn wrong_usage_ends_with_two() {
    let place = Place::new();
    for args in
        [&["validate"][..], &["validate", "a", "-o", "xml"], &["frobnicate"], &["diff", "1", "x"], &[]]
    {
        assert_eq!(place.run(args).await.status.code(), Some(2), "{args:?}");
    }
    assert_eq!(place.run(&["--version"]).await.status.code(), Some(0));
    assert_eq!(place.run(&["help", "up"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_hangs_up_is_no_panic() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.ostler(&["completions", "bash"]);
    let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}
