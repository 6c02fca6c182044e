//! What callers are called: by the sources that config names, each with names of its own.

use std::path::Path;

use ostler_core::digest::Digest;
use ostler_dataplane::DataPlane;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::issuer::{SigningKey, set};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::world::{call, initialize, modern, standalone};
use serde_json::{Value, json};

use super::{ALICE, bearer, digest, reason};

/// Open to everybody under `open`, to key and token holders under `asks`; only the named may call.
fn document(server: &FakeServer, key: &SigningKey, sources: Value, allowed: &[&str]) -> Value {
    let upstream = json!({"http": {"url": server.url()}});
    let issuer = json!({"issuer": "https://idp.example", "jwks": set(&[key]).to_string()});
    json!({
        "version": 1,
        "upstreams": {"open": &upstream, "asks": &upstream},
        "auth": {
            "resource": "https://gateway.example",
            "api_keys": {"ci": {"key": digest(ALICE)}},
            "issuers": {"idp": issuer},
            "mounts": {"open": {"accept": ["none"]}},
        },
        "identity": {"sources": sources, "on_unresolved": "anonymous"},
        "policy": {"default": "deny", "rules": [{"match": {"identity": allowed}, "action": "allow"}]},
    })
}

struct Caller<'a> {
    dataplane: &'a DataPlane,
    mount: &'a str,
    headers: Vec<(&'a str, String)>,
}

impl Caller<'_> {
    fn with(&self, mut ask: Ask) -> Ask {
        for (name, value) in &self.headers {
            ask = ask.header(name, value);
        }
        ask
    }

    async fn session(&self) -> String {
        let ask = Ask::mcp(self.dataplane.mcp_addr(), &format!("/mcp/{}", self.mount), &initialize());
        let answer = self.with(ask).send().await;
        answer.header("mcp-session-id").unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
    }

    /// Whether a call of the session is answered, or why not.
    async fn calls(&self, session: &str) -> String {
        let ask = Ask::mcp(self.dataplane.mcp_addr(), &format!("/mcp/{}", self.mount), &call(1));
        let ask = ask.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        let answer = self.with(ask).send().await;
        if answer.json()["result"].is_object() { "answered".to_owned() } else { reason(&answer) }
    }
}

fn token(key: &SigningKey, claims: &[(&str, &str)]) -> String {
    let mut all = json!({"iss": "https://idp.example", "aud": "https://gateway.example", "sub": "alice", "exp": 9_000_000_000_u64});
    for (name, value) in claims {
        all[*name] = json!(value);
    }
    bearer(&key.token(&all))
}

#[tokio::test]
async fn no_source_can_say_what_another_does() {
    let (server, key) = (FakeServer::start("up").await, SigningKey::new("one"));
    let sources =
        json!(["subject", "api_key", {"claim": "email"}, {"header": "X-Agent"}, {"header": "x-team"}]);
    let headers_first = json!([{"header": "x-agent"}, {"claim": "email"}, "api_key", "subject"]);
    let header = |name: &'static str, value: &str| (name, value.to_owned());
    let has_key = || header("authorization", &bearer(ALICE));
    let has_token = |claims: &[(&str, &str)]| ("authorization", token(&key, claims));
    for (sources, allowed, mount, headers, told) in [
        (&sources, "ci", "asks", vec![has_key()], "answered"),
        (&sources, "ci", "open", vec![header("x-agent", "ci")], "policy_denied"),
        (&sources, "ci", "asks", vec![has_token(&[("sub", "ci")])], "policy_denied"),
        (&sources, "idp:alice", "asks", vec![has_token(&[])], "answered"),
        (&sources, "idp:alice", "open", vec![header("x-agent", "idp:alice")], "policy_denied"),
        (&sources, "header.x-agent:seven", "open", vec![header("x-agent", "seven")], "answered"),
        (&sources, "header.x-agent:seven", "open", vec![header("x-team", "seven")], "policy_denied"),
        (
            &sources,
            "header.x-agent:seven",
            "asks",
            vec![has_token(&[("sub", "header.x-agent:seven")])],
            "policy_denied",
        ),
        (&headers_first, "ci", "asks", vec![has_token(&[("email", "ci")])], "policy_denied"),
        (&headers_first, "idp:alice", "asks", vec![has_token(&[("email", "alice")])], "policy_denied"),
        (&headers_first, "idp/email:alice@x", "asks", vec![has_token(&[("email", "alice@x")])], "answered"),
        (&headers_first, "ci", "asks", vec![has_key(), header("x-agent", "ci")], "policy_denied"),
    ] {
        let config = document(&server, &key, sources.clone(), &[allowed]);
        let dir = tempfile::tempdir().unwrap();
        let dataplane = standalone(dir.path(), &config.to_string()).await;
        let caller = Caller { dataplane: &dataplane, mount, headers };
        let session = caller.session().await;
        assert_eq!(caller.calls(&session).await, told, "{allowed} on {mount} with {:?}", caller.headers);
        dataplane.shutdown().await;
    }
}

async fn apply(dir: &Path, dataplane: &DataPlane, config: &Value) {
    let version = || dataplane.admin().applier.status.read().applied.map(|revision| revision.version);
    let before = version();
    std::fs::write(dir.join("ostler.yaml"), config.to_string()).unwrap();
    eventually("the change is applied", async || (version() > before).then_some(())).await;
}

#[tokio::test]
async fn a_session_names_its_caller_in_all_of_its_messages_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (server, key) = (FakeServer::start("up").await, SigningKey::new("one"));
    let mut config = document(&server, &key, json!(["session"]), &["session.id:nobody"]);
    config["identity"]["on_unresolved"] = json!("deny");
    let dataplane = standalone(dir.path(), &config.to_string()).await;
    let caller = Caller { dataplane: &dataplane, mount: "open", headers: Vec::new() };
    let (one, two) = (caller.session().await, caller.session().await);
    assert_eq!(caller.calls(&one).await, "policy_denied", "it has a name, which is not the one");
    let name = |session: &str| format!("session.id:{}", Digest::of(session.as_bytes()).to_short_hex());
    config["policy"]["rules"][0]["match"]["identity"] = json!([name(&one)]);
    apply(dir.path(), &dataplane, &config).await;
    for _ in 0..2 {
        assert_eq!(caller.calls(&one).await, "answered");
        assert_eq!(caller.calls(&two).await, "policy_denied");
    }
    // Its name is no secret, and its secret no name.
    let lying = Caller { dataplane: &dataplane, mount: "open", headers: vec![("x-agent", name(&one))] };
    assert_eq!(lying.calls(&two).await, "policy_denied");
    assert_eq!(lying.calls(&name(&one)).await, "session_not_found");

    let bare = Ask::mcp(dataplane.mcp_addr(), "/mcp/open", &call(1)).send().await;
    assert_eq!(reason(&bare), "identity_unresolved", "{}", bare.text());
    server.behave(Manner::Modern);
    let modern = modern(dataplane.mcp_addr(), "open", 3, "tools/call", json!({"name": "who"})).send().await;
    assert_eq!(reason(&modern), "identity_unresolved", "{}", modern.text());
    dataplane.shutdown().await;
}
