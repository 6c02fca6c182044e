//! Legacy sessions outlive what stands behind them: an upstream that has lost its sessions, and a data plane that was
//! restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "sessions/lost.rs"]
mod lost;
#[path = "sessions/restarted.rs"]
mod restarted;

use ostler_tests::support::http::Answer;
use serde_json::{Value, json};

/// What a fake server says of a call: the session that it came in, and its arguments.
fn told(answer: &Answer) -> Value {
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
    let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no message: {text}"));
    let text =
        message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no result: {message}"));
    serde_json::from_str(text).unwrap()
}

fn set_level(id: u64, level: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "logging/setLevel", "params": {"level": level}})
}

fn subscribe(id: u64, uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "resources/subscribe", "params": {"uri": uri}})
}
