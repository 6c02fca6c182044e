//! Legacy sessions outlive what stands behind them: an upstream that has lost its sessions, and a data plane that was
//! restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "sessions/lost.rs"]
mod lost;
#[path = "sessions/restarted.rs"]
mod restarted;

use std::path::Path;

use ostler_core::state_dir::StateDirError;
use ostler_dataplane::{DataPlane, StartError};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Answer;
use ostler_tests::support::world::try_standalone;
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

/// The next process on the same folder; the one before is told to stop.
async fn restart(dataplane: DataPlane, dir: &Path, text: &str) -> DataPlane {
    dataplane.shutdown().await;
    // A child that another test has just forked holds the folder's lock too, until it has become its program.
    eventually("the folder is free", async || match try_standalone(dir, text).await {
        Err(StartError::StateDir(StateDirError::InUse { .. })) => None,
        started => Some(started.unwrap_or_else(|error| panic!("{error}"))),
    })
    .await
}
