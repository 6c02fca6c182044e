//! What is claimed of two upstreams beside each other, each as a look that finds faults.

use ostler_tests::support::eventually;
use ostler_tests::support::spool::{outcome, records};
use serde_json::Value;

use super::scene::{KEY, Made, NAMES, Scene, secret_of};

/// What was found, in sentences.
pub type Faults = Vec<String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Eras,
    Names,
    Annotations,
    Credentials,
    Audit,
    Policy,
    Sessions,
}

impl Claim {
    pub const ALL: [Self; 7] = [
        Self::Eras,
        Self::Names,
        Self::Annotations,
        Self::Credentials,
        Self::Audit,
        Self::Policy,
        Self::Sessions,
    ];

    /// Looks, and asks for the probe.
    pub async fn look(self, scene: &Scene) -> Faults {
        let mut faults = match self {
            Self::Eras => eras(scene).await,
            Self::Names => names(scene).await,
            Self::Annotations => allowed_at(scene, "act", &[0]).await,
            Self::Credentials => credentials(scene).await,
            Self::Audit => audit(scene).await,
            Self::Policy => {
                let mut faults = allowed_at(scene, "pay", &[0]).await;
                faults.extend(allowed_at(scene, "buy", &[1]).await);
                faults
            }
            Self::Sessions => sessions(scene).await,
        };
        for made in scene.call_everywhere("probe").await {
            if denied_by(&made.answer) != Some("probe") || !scene.reached(made.nonce).is_empty() {
                faults.push(format!("the probe went through: {made:?}"));
            }
        }
        faults
    }
}

fn denied_by(answer: &Value) -> Option<&str> {
    let data = &answer["error"]["data"];
    (data["reason"] == "policy_denied").then(|| data["rule"].as_str()).flatten()
}

/// A fault unless the call was answered by the server that it was meant for, and by no other.
fn misled(scene: &Scene, made: &Made) -> Option<String> {
    let reached = scene.reached(made.nonce);
    let is_well = reached == [made.way.to] && made.answer["result"].is_object();
    (!is_well).then(|| format!("{made:?} reached {reached:?}"))
}

async fn names(scene: &Scene) -> Faults {
    scene.call_everywhere("echo").await.iter().filter_map(|made| misled(scene, made)).collect()
}

/// What is seen at a server is its era alone, whatever its client's is.
async fn eras(scene: &Scene) -> Faults {
    let made = scene.call_everywhere("echo").await;
    let mut faults: Faults = made.iter().filter_map(|made| misled(scene, made)).collect();
    for (place, server) in scene.servers.iter().enumerate() {
        for call in server.seen("tools/call") {
            let version = call.headers.get("mcp-protocol-version").and_then(|value| value.to_str().ok());
            let has_session = call.headers.contains_key("mcp-session-id");
            let of_body = &call.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
            let is_modern = (version, has_session) == (Some("2026-07-28"), false) && of_body == "2026-07-28";
            let is_legacy = version == Some("2025-11-25") && has_session && of_body.is_null();
            if (is_modern, is_legacy) != (scene.is_modern[place], !scene.is_modern[place]) {
                faults.push(format!("server {place} was called like this: {call:?}"));
            }
        }
    }
    faults
}

/// Calls of the tool are answered by these servers, and denied before the others.
async fn allowed_at(scene: &Scene, tool: &str, places: &[usize]) -> Faults {
    let mut faults = Vec::new();
    for made in scene.call_everywhere(tool).await {
        if places.contains(&made.way.to) {
            faults.extend(misled(scene, &made));
        } else if denied_by(&made.answer).is_none() || !scene.reached(made.nonce).is_empty() {
            faults.push(format!("it was not denied: {made:?}"));
        }
    }
    faults
}

/// Everything that each server was sent, the data plane's own messages too.
async fn credentials(scene: &Scene) -> Faults {
    let made = scene.call_everywhere("echo").await;
    let mut faults: Faults = made.iter().filter_map(|made| misled(scene, made)).collect();
    for (place, server) in scene.servers.iter().enumerate() {
        let (own, others) = (secret_of(NAMES[place]), secret_of(NAMES[1 - place]));
        for seen in server.everything() {
            let all = |name: &str| -> Vec<&str> {
                seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
            };
            if all("authorization") != [&*own.0] || all("x-tenant") != [&*own.1] {
                faults.push(format!("server {place} was sent another's headers: {:?}", seen.headers));
            }
            let text = format!("{:?} {}", seen.headers, seen.text);
            for secret in [&*others.0, &*others.1, KEY, "stolen"] {
                if text.contains(secret) {
                    faults.push(format!("server {place} was sent {secret}"));
                }
            }
            if ["x-agent", "x-mount", "cookie"].iter().any(|name| seen.headers.contains_key(*name)) {
                faults.push(format!("server {place} was sent the client's headers: {:?}", seen.headers));
            }
        }
    }
    for made in &made {
        let text = made.answer.to_string();
        faults.extend(text.contains("key-of-").then(|| format!("a client was told a credential: {text}")));
    }
    faults
}

/// Each call has one decision and one outcome, which say what was reached, by whom, in whose name.
async fn audit(scene: &Scene) -> Faults {
    let made = scene.call_everywhere("echo").await;
    let state = scene.state_dir();
    let mut faults = Vec::new();
    for made in &made {
        let Some(&reached) = scene.reached(made.nonce).first() else {
            faults.push(format!("nobody was reached: {made:?}"));
            continue;
        };
        let of_call = |record: &&ostler_audit::Record| {
            let arguments = record.arguments.as_ref();
            arguments.is_some_and(|arguments| arguments["nonce"] == made.nonce)
        };
        let written = records(&state);
        let decided: Vec<_> = written.iter().filter(of_call).collect();
        let [decision] = decided[..] else {
            faults.push(format!("{made:?} has {} decisions", decided.len()));
            continue;
        };
        let said =
            [&decision.upstream, &decision.mount, &decision.identity, &decision.principal, &decision.tool];
        let said = said.map(|text| text.as_deref().unwrap_or_default());
        if said != [NAMES[reached], NAMES[reached], "ci", "key:ci", "echo"] {
            faults.push(format!("server {reached} was reached, and the record says {said:?}"));
        }
        let ended = tokio::time::timeout(
            OUTCOME_PATIENCE,
            eventually("it has an outcome", async || outcome(&state, decision)),
        );
        match ended.await {
            Ok(ended)
                if ended.upstream.as_deref() == Some(NAMES[reached])
                    && ended.status.as_deref() == Some("ok") => {}
            Ok(ended) => faults.push(format!("server {reached} was reached, and the outcome is {ended:?}")),
            Err(_) => {
                faults.push(format!("{made:?} has no outcome"));
                return faults;
            }
        }
    }
    faults
}

/// Coarse: outcomes are written when answers have ended.
const OUTCOME_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A session is good for its own mount, and unknown on the other and in the bundle.
async fn sessions(scene: &Scene) -> Faults {
    let mut faults = Vec::new();
    for (place, mount) in NAMES.into_iter().enumerate() {
        let session = scene.session(mount).await;
        let before = scene.servers.each_ref().map(|server| server.requests());
        let own = scene.call_in(mount, &session).await;
        if own.status != 200 {
            faults.push(format!("{mount}: its own session is unknown: {}", own.text()));
        }
        let now = scene.servers.each_ref().map(|server| server.requests());
        if now[place] == before[place] || now[1 - place] != before[1 - place] {
            faults.push(format!("{mount}: the call went to the other server"));
        }
        for other in [NAMES[1 - place], "all"] {
            let answer = scene.call_in(other, &session).await;
            if answer.status != 404 || answer.json()["error"]["data"]["reason"] != "session_not_found" {
                faults.push(format!("{other}: a session of {mount} is known: {}", answer.text()));
            }
        }
        if scene.servers.each_ref().map(|server| server.requests()) != now {
            faults.push(format!("a session of {mount} led somewhere else"));
        }
    }
    faults
}
