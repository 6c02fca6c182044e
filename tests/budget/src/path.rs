//! Whole calls: a client on a blocking socket, what is measured, and the upstream behind it.

use ostler_telemetry::access::AccessLog;
use serde_json::{Value, json};

use crate::messages::{self, Era, INITIALIZED, TOOL};
use crate::wire::{self, Wire};
use crate::world::World;
use crate::{bare, upstream};

/// What a call goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Bare,
    /// A data plane between a client and an upstream of these eras.
    Dataplane {
        client: Era,
        upstream: Era,
        with: With,
    },
}

/// What a data plane does beside passing a call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    Nothing,
    /// Five rules, one with an expression; none of them stops the call.
    Rules,
    /// Decision and end of the call are written down; nothing waits.
    Audit,
}

/// A client that is ready to call.
pub struct Caller {
    wire: Wire,
    call: Vec<u8>,
    /// The id of its session, where it has one.
    pub(crate) session: Option<String>,
    /// The data plane, if there is one. It ends with the caller.
    pub(crate) world: Option<World>,
}

pub(crate) const MOUNT: &str = "m";
const MOUNT_PATH: &str = "/mcp/m";

impl Path {
    /// Starts everything, with the handshake done.
    ///
    /// # Errors
    /// When something does not start, or refuses the handshake.
    pub fn start(self, access: &AccessLog) -> anyhow::Result<Caller> {
        let upstream = upstream::start()?;
        let (to, client, world) = match self {
            Self::Bare => (bare::start(upstream)?, Era::Legacy, None),
            Self::Dataplane { client, upstream: era, with } => {
                let world = World::start(&config(&format!("http://{upstream}/mcp"), era, with), access)?;
                (world.to, client, Some(world))
            }
        };
        let host = to.to_string();
        let mut wire = Wire::open(to)?;
        let session = match client {
            Era::Legacy => {
                let greeting = messages::post(&host, MOUNT_PATH, &[], &messages::initialize());
                let answer = exchange(&mut wire, &greeting)?;
                let session = wire::header(answer, "mcp-session-id").map(str::to_owned);
                let headers = messages::headers(client, session.as_deref());
                exchange(&mut wire, &messages::post(&host, MOUNT_PATH, &headers, INITIALIZED))?;
                session
            }
            Era::Modern => None,
        };
        let headers = messages::headers(client, session.as_deref());
        let call = messages::post(&host, MOUNT_PATH, &headers, &messages::call(client));
        Ok(Caller { wire, call, session, world })
    }
}

impl Caller {
    /// # Errors
    /// When the answer is not the tool's.
    pub fn call(&mut self) -> anyhow::Result<()> {
        let answer = exchange(&mut self.wire, &self.call)?;
        // The text ends with these bytes, which stand nowhere in a head.
        let is_answer =
            answer.get(answer.len() / 2..).is_some_and(|half| half.windows(4).any(|bytes| bytes == b"yyyy"));
        anyhow::ensure!(is_answer, "the call was answered with: {}", String::from_utf8_lossy(answer));
        Ok(())
    }
}

fn exchange<'w>(wire: &'w mut Wire, request: &[u8]) -> anyhow::Result<&'w [u8]> {
    wire.write(request)?;
    let answer = wire.read()?.unwrap_or_default();
    let is_good = answer.starts_with(b"HTTP/1.1 20");
    anyhow::ensure!(is_good, "a request was answered with: {}", String::from_utf8_lossy(answer));
    Ok(answer)
}

/// One mount, with whatever is to be done beside.
fn config(upstream: &str, era: Era, with: With) -> Value {
    let mut config = json!({
        "version": 1,
        "upstreams": {MOUNT: {"http": {"url": upstream}, "protocol": era.revision()}},
    });
    match with {
        With::Nothing => {}
        With::Rules => config["policy"] = five_rules(),
        With::Audit => {
            config["audit"] =
                json!({"allowed": "async", "denied": "async", "outcomes": "async", "events": "async"});
        }
    }
    config
}

/// None of them matches the call, so that all five are looked at.
fn five_rules() -> Value {
    json!({"default": "allow", "rules": [
        {"name": "deletions", "match": {"tool": ["delete_*", "*_delete"]}, "action": "deny"},
        {"name": "payments", "match": {"tool": "pay", "arguments": {"amount": {"gt": 100}}}, "action": "deny"},
        {"name": "long", "match": {"arguments": {"text": {"regex": "^forbidden"}}}, "action": "deny"},
        {"name": "expression", "match": {"when": format!("tool == '{TOOL}' && size(arguments.text) > 1000000")}, "action": "deny"},
        {"name": "drops", "match": {"method": "tools/call", "tool": "drop_*"}, "action": "deny"},
    ]})
}
