//! Who may use what, on the agent's port: each way to be turned away, beside one that is let in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "auth/attacks.rs"]
mod attacks;
#[path = "auth/belongs.rs"]
mod belongs;
#[path = "auth/identity.rs"]
mod identity;
#[path = "auth/keys.rs"]
mod keys;
#[path = "auth/network.rs"]
mod network;
#[path = "auth/streams.rs"]
mod streams;
#[path = "auth/tokens.rs"]
mod tokens;
#[path = "auth/upstream_tokens.rs"]
mod upstream_tokens;

use ostler_core::digest::Digest;
use ostler_dataplane::DataPlane;
use ostler_tests::support::http::{Answer, Ask};
use serde_json::{Value, json};

const ALICE: &str = "ostler_alice-0123456789abcdef0123456789abcdef";
const BOB: &str = "ostler_bob-0123456789abcdef0123456789abcdef012";

fn digest(key: &str) -> String {
    format!("sha256:{}", Digest::of(key.as_bytes()))
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// The keys of two callers who may use everything.
fn two_keys() -> Value {
    json!({"alice": {"key": digest(ALICE)}, "bob": {"key": digest(BOB)}})
}

fn reason(answer: &Answer) -> String {
    answer.json()["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// The count of a reason for which callers were turned away.
async fn turned_away(dataplane: &DataPlane, reason: &str) -> u64 {
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let series = format!(r#"ostler_requests_refused_total{{listener="mcp",reason="{reason}"}}"#);
    ostler_tests::support::metric(&scrape, &series)
}
