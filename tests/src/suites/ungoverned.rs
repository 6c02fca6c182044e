//! A search for a way around the policy. A tool that a rule denies is called in shapes drawn from a seed: through every door, transport and
//! era, alone and in batches, by every name that leads to it, written in every way that JSON, HTTP and URLs have, with headers that say
//! something else. No server may ever be sent its name. The same shapes without the rule show that they lead somewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use ostler_dataplane::DataPlane;
use serde_json::{Value, json};

use crate::support::http::Ask;
use crate::support::http_sse::SseClient;
use crate::support::member::MemberServer;
use crate::support::world::{LegacyClient, standalone, until_legacy_at};

/// The tool that is denied, and one that is not.
const DENIED: &str = "pay";
const ALLOWED: &str = "look";
const MOUNTS: [&str; 4] = ["new", "old", "child", "all"];
const WAIT: Duration = Duration::from_secs(5);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub shapes: usize,
    /// Of these, how many are also sent where nothing is denied.
    pub controls: usize,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: usize,
    /// Distinct ones.
    pub shapes: usize,
    /// Sent as they are, and answered with anything.
    pub answered: usize,
    /// Answered with `policy_denied`.
    pub denied: usize,
    /// Shapes whose tool a server saw.
    pub reached: Vec<String>,
    /// The same where nothing is denied, by door.
    pub controls: BTreeMap<String, usize>,
}

/// Runs it in this process.
///
/// # Panics
/// When the world around it fails.
pub async fn run(dir: &Path, plan: Plan) -> Tally {
    let mut tally = Tally::default();
    let deny = json!({"rules": [{"match": {"tool": DENIED}, "action": "deny"}]});
    let allow = json!({"default": "deny", "rules": [{"match": {"tool": ALLOWED}, "action": "allow"}]});
    let mut all = std::collections::HashSet::new();
    for (name, policy, only_exact) in
        [("deny", Some(deny), true), ("allow", Some(allow), false), ("none", None, true)]
    {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut world = World::start(&folder, policy.clone(), only_exact).await;
        let count = if policy.is_some() { plan.shapes / 2 } else { plan.controls };
        // The controls are the shapes that the first world was sent.
        let mut rng = Rng::with_seed(if name == "allow" { plan.seed ^ 1 } else { plan.seed });
        for _ in 0..count {
            let shape = Shape::draw(&mut rng, only_exact);
            tally.sent += usize::from(policy.is_some());
            all.insert(shape.name());
            let answer = world.send(&shape).await;
            let reached = world.has_arrived();
            if policy.is_none() {
                *tally.controls.entry(format!("{} {}", shape.door.word(), shape.mount)).or_default() +=
                    usize::from(reached);
                continue;
            }
            tally.answered += usize::from(answer.is_some());
            tally.denied += usize::from(answer.is_some_and(|answer| answer.contains("policy_denied")));
            if reached {
                tally.reached.push(format!("{name}: {}", shape.name()));
            }
        }
        // What was still on its way.
        for mount in MOUNTS {
            world.settle(mount).await;
        }
        if policy.is_some() && world.has_arrived() {
            tally.reached.push(format!("{name}: one that was answered late"));
        }
    }
    tally.shapes = all.len();
    tally
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Modern,
    Legacy,
    /// Legacy, in no session.
    Sessionless,
    Sse,
}

/// One way to call.
#[derive(Debug, Clone)]
struct Shape {
    door: Door,
    mount: &'static str,
    verb: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// Servers of each transport behind a data plane, and what every client needs once.
struct World {
    new: MemberServer,
    old: MemberServer,
    /// Lines that the child was sent.
    child: PathBuf,
    dataplane: DataPlane,
    sessions: BTreeMap<&'static str, LegacyClient>,
    endpoints: BTreeMap<&'static str, String>,
    streams: Vec<tokio::task::JoinHandle<()>>,
    /// Whether a name with a prefix is another tool's, which no rule is about.
    only_exact: bool,
    /// Messages of both servers, and bytes of the child's log.
    looked_at: std::sync::Mutex<[usize; 3]>,
}

// === impl World ===

impl World {
    async fn start(dir: &Path, policy: Option<Value>, only_exact: bool) -> Self {
        let new = MemberServer::modern("new", &[DENIED, ALLOWED]).await;
        let old = MemberServer::legacy("old", &[DENIED, ALLOWED]).await;
        let child = dir.join("child.log");
        let script = r#"while IFS= read -r line; do
            printf '%s\n' "$line" >> "$0"
            id=$(printf '%s' "$line" | sed -n 's/.*"id":\([^,}]*\).*/\1/p')
            case "$line" in
                *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"child","version":"1"}}';;
                *) result='{"content":[],"tools":[]}';;
            esac
            [ -z "$id" ] || printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
        done"#;
        std::fs::write(&child, "").expect("a log");
        let mut config = json!({
            "version": 1,
            "upstreams": {
                "new": {"http": {"url": new.url()}},
                "old": {"http": {"url": old.url()}},
                "child": {"stdio": {"command": "sh", "args": ["-c", script.replace('$', "$$"), child.to_str()], "share": "mount"}},
            },
            "bundles": {"all": {"mounts": ["new", "old", "child"]}},
            "default_mount": "new",
        });
        if let Some(policy) = policy {
            config["policy"] = policy;
        }
        let dataplane = standalone(dir, &config.to_string()).await;
        let addr = dataplane.mcp_addr();
        until_legacy_at(&dataplane, dir, "old").await;
        let (mut sessions, mut endpoints, mut streams) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for mount in MOUNTS {
            sessions.insert(mount, LegacyClient::connect(addr, mount).await);
            let mut client = SseClient::connect(addr, mount).await;
            endpoints.insert(mount, client.endpoint.clone());
            streams.push(tokio::spawn(async move { while client.reads_on().await {} }));
        }
        let looked_at = std::sync::Mutex::default();
        Self { new, old, child, dataplane, sessions, endpoints, streams, only_exact, looked_at }
    }

    /// What it was answered with, if with anything.
    async fn send(&mut self, shape: &Shape) -> Option<String> {
        let path = match shape.door {
            Door::Sse => self.endpoints.get(shape.mount)?.clone() + &shape.path,
            _ => shape.path.clone(),
        };
        let mut ask = Ask::new(self.dataplane.mcp_addr(), shape.verb, &path).body(shape.body.clone());
        if shape.door == Door::Legacy {
            ask = ask.header("mcp-session-id", &self.sessions.get(shape.mount)?.session);
        }
        for (name, value) in &shape.headers {
            ask = ask.header(name, value);
        }
        let answer = tokio::time::timeout(WAIT, ask.try_send()).await;
        if shape.door == Door::Legacy && shape.verb == "DELETE" {
            // What follows is not to be refused for want of a session.
            let again = LegacyClient::connect(self.dataplane.mcp_addr(), shape.mount).await;
            self.sessions.insert(shape.mount, again);
        }
        let answer = answer.ok()?.ok()?;
        if shape.door == Door::Sse {
            // It is sent after it was accepted; a message on its heels is sent after it.
            self.settle(shape.mount).await;
        }
        Some(answer.text())
    }

    async fn settle(&self, mount: &str) {
        let Some(endpoint) = self.endpoints.get(mount) else { return };
        let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
        let ask = Ask::mcp(self.dataplane.mcp_addr(), endpoint, &note);
        let _ = tokio::time::timeout(WAIT, ask.try_send()).await;
    }

    /// Whether a server was sent the denied tool's name since it was asked last.
    fn has_arrived(&self) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let [new, old, child] = &mut *looked_at;
        let mut texts = self.new.texts_from(*new);
        *new += texts.len();
        let of_old = self.old.texts_from(*old);
        *old += of_old.len();
        texts.extend(of_old);
        let written = std::fs::metadata(&self.child).map_or(0, |log| log.len());
        if u64::try_from(*child).is_ok_and(|read| read < written) {
            let log = std::fs::read_to_string(&self.child).unwrap_or_default();
            texts.push(log.get(*child..).unwrap_or_default().to_owned());
            *child = log.len();
        }
        texts.iter().any(|text| names_the_tool(text, self.only_exact))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.streams.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Whether one of the texts in it is the tool's name, in whatever letters, for whatever reader; where not only that name is denied,
/// also with what a bundle puts before it.
fn names_the_tool(body: &str, only_exact: bool) -> bool {
    let mut rest = body;
    while let Some(start) = rest.find('"') {
        let mut end = start + 1;
        let bytes = rest.as_bytes();
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        let Some(text) = rest.get(start..=end) else { return false };
        let text: String = serde_json::from_str(text).unwrap_or_default();
        let has_prefix = !only_exact && text.to_ascii_lowercase().ends_with("__pay");
        if text.trim().eq_ignore_ascii_case(DENIED) || has_prefix {
            return true;
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    false
}

// === impl Door ===

impl Door {
    fn word(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
            Self::Sessionless => "sessionless",
            Self::Sse => "sse",
        }
    }
}

// === impl Shape ===

impl Shape {
    /// With `only_exact`, none whose tool is another one for a server that reads names as they are.
    fn draw(rng: &mut Rng, only_exact: bool) -> Self {
        let door = pick(
            rng,
            &[Door::Modern, Door::Modern, Door::Legacy, Door::Legacy, Door::Sse, Door::Sessionless],
        );
        let mount = pick(rng, &MOUNTS);
        let is_modern = door == Door::Modern;
        let prefix = match mount {
            "all" => pick(rng, &["new__", "old__", "child__"]),
            _ => "",
        };
        let body = body(rng, prefix, is_modern, only_exact);
        let verb = if rng.u8(..20) == 0 { pick(rng, &["PUT", "GET", "DELETE", "PATCH"]) } else { "POST" };
        Self {
            door,
            mount,
            verb,
            path: path(rng, door, mount),
            headers: headers(rng, is_modern, prefix),
            body,
        }
    }

    fn name(&self) -> String {
        let Self { door, mount, verb, path, headers, body } = self;
        format!("{} {mount}: {verb} {path} {headers:?} {body}", door.word())
    }
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from.get(rng.usize(..from.len())).cloned().unwrap_or_else(|| from[0].clone())
}

/// Mostly as it should be.
fn seldom<T: Clone>(rng: &mut Rng, usual: T, others: &[T]) -> T {
    if rng.u8(..12) == 0 { pick(rng, others) } else { usual }
}

fn path(rng: &mut Rng, door: Door, mount: &str) -> String {
    if door == Door::Sse {
        return seldom(rng, String::new(), &["/".into(), "?a=b".into(), "//".into(), "%20".into()]);
    }
    let escaped: String = mount.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let others = [
        format!("/mcp/{mount}/"),
        format!("/mcp/{mount}?x=/mcp/other"),
        format!("/mcp/{escaped}"),
        format!("/mcp//{mount}"),
        format!("//mcp/{mount}"),
        format!("/mcp/./{mount}"),
        format!("/mcp/x/../{mount}"),
        format!("/mcp/{}", mount.to_uppercase()),
        format!("/MCP/{mount}"),
        format!("/mcp/{mount}/extra"),
        format!("/mcp/{mount};a=b"),
        format!("/mcp%2f{mount}"),
        format!("/sse/{mount}"),
        "/mcp".to_owned(),
        "/mcp/".to_owned(),
    ];
    seldom(rng, format!("/mcp/{mount}"), &others)
}

fn headers(rng: &mut Rng, is_modern: bool, prefix: &str) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    let media = [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "application/json, text/html",
        "",
    ];
    headers.push(("content-type", seldom(rng, "application/json", &media).to_owned()));
    headers.push(("accept", "application/json, text/event-stream".to_owned()));
    let own = format!("{prefix}{DENIED}");
    if is_modern {
        let versions = ["2025-11-25", "2026-07-29", "2026-07-28, 2025-11-25", " 2026-07-28"];
        headers.push(("mcp-protocol-version", seldom(rng, "2026-07-28", &versions).to_owned()));
        let methods = ["tools/list", "ping", "TOOLS/CALL", "=?base64?dG9vbHMvY2FsbA==?="];
        headers.push(("mcp-method", seldom(rng, "tools/call", &methods).to_owned()));
        let names =
            [ALLOWED, "=?base64?cGF5?=", "=?base64?bG9vaw==?=", "PAY", "new__look", "old__pay", "child__pay"];
        headers.push(("mcp-name", seldom(rng, &*own, &names).to_owned()));
    } else {
        headers.push((
            "mcp-protocol-version",
            seldom(rng, "2025-11-25", &["2025-03-26", "2026-07-28", "1"]).to_owned(),
        ));
    }
    let tricks: [(&str, &str); 9] = [
        ("mcp-name", ALLOWED),
        ("mcp-method", "tools/list"),
        ("x-http-method-override", "GET"),
        ("content-encoding", "gzip"),
        ("last-event-id", "1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/mcp/other"),
        ("mcp-param-name", "pay"),
        ("mcp-session-id", "0000"),
    ];
    if rng.u8(..12) == 0 {
        let (name, value) = pick(rng, &tricks);
        headers.push((name, value.to_owned()));
    }
    headers
}

/// JSON text that stands for the word, written in one way or another.
fn written(rng: &mut Rng, word: &str) -> String {
    let escape = |c: char| format!("\\u{:04x}", u32::from(c));
    let escaped = match rng.u8(..5) {
        0 => word.chars().map(escape).collect(),
        1 => word.chars().map(|c| if rng.bool() { escape(c) } else { c.to_string() }).collect(),
        2 => word.replace('/', "\\/"),
        _ => word.to_owned(),
    };
    format!("\"{escaped}\"")
}

fn body(rng: &mut Rng, prefix: &str, is_modern: bool, only_exact: bool) -> String {
    let one = message(rng, prefix, is_modern, only_exact);
    let harmless = message_of(rng, "look", "\"tools/call\"", prefix, is_modern);
    let note = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    let list = r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#;
    let text = match rng.u8(..32) {
        0 => format!("[{one}]"),
        1 => format!("[{harmless},{one}]"),
        2 => format!("[{one},{harmless}]"),
        3 => format!("[{note},{one},{list}]"),
        4 => format!("[[{one}]]"),
        5 => format!("{harmless}{one}"),
        6 => format!("{one}\n{harmless}"),
        7 => format!("\u{feff}{one}"),
        _ => one,
    };
    if rng.u8(..8) == 0 { format!(" \n{text}\t ") } else { text }
}

fn message(rng: &mut Rng, prefix: &str, is_modern: bool, only_exact: bool) -> String {
    let methods = [
        "Tools/Call",
        "TOOLS/CALL",
        "tools/call ",
        " tools/call",
        "tools//call",
        "tools.call",
        "tools_call",
        "toolsCall",
    ];
    let exact = "tools/call".to_owned();
    let method = if rng.u8(..16) == 0 { pick(rng, &methods).to_owned() } else { exact };
    let names = ["PAY", "Pay", " pay", "pay ", "pay\u{0}", "\u{ff50}ay", "pay\u{200b}"];
    let name = if !only_exact && rng.u8(..4) == 0 { pick(rng, &names).to_owned() } else { DENIED.to_owned() };
    let method = written(rng, &method);
    message_of(rng, &name, &method, prefix, is_modern)
}

fn message_of(rng: &mut Rng, name: &str, method: &str, prefix: &str, is_modern: bool) -> String {
    let others = ["new__new__", "__", "ALL__", "all__", "new____"];
    let prefix = if prefix.is_empty() { prefix } else { seldom(rng, prefix, &others) };
    let name = format!("{prefix}{name}");
    let name = written(rng, &name.replace('\u{0}', ""));
    let mut params = vec![format!("\"name\":{name}")];
    params.push(format!(
        "\"arguments\":{}",
        pick(rng, &["{}", r#"{"a":1}"#, r#"{"name":"look"}"#, "null", r#"{"a":{"b":[1,{"c":2}]}}"#])
    ));
    if is_modern {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        params.push(meta.to_owned());
    }
    let extras = [
        r#""name":"look""#,
        r#""\u006eame":"look""#,
        r#""Name":"look""#,
        r#""task":{"ttl":1000}"#,
        r#""requestState":"x","inputResponses":{}"#,
        r#""uri":"file:///a""#,
        r#""ref":{"type":"ref/prompt","name":"look"}"#,
        r#""taskId":"1""#,
        r#""_meta":{"progressToken":1}"#,
    ];
    if rng.u8(..8) == 0 {
        params.push(pick(rng, &extras).to_owned());
    }
    rng.shuffle(&mut params);
    let params = format!("{{{}}}", params.join(","));
    let mut members =
        vec![r#""jsonrpc":"2.0""#.to_owned(), format!("\"method\":{method}"), format!("\"params\":{params}")];
    match rng.u8(..24) {
        // A notification.
        0 => {}
        1 => members.push(r#""id":"a""#.to_owned()),
        2 => members.push(r#""id":null"#.to_owned()),
        3 => members.push(r#""id":1,"id":2"#.to_owned()),
        4 => members.push(r#""id":-0"#.to_owned()),
        _ => members.push(format!("\"id\":{}", rng.u32(..))),
    }
    let extras = [
        r#""method":"tools/list""#,
        r#""method":"ping""#,
        r#""params":{"name":"look"}"#,
        r#""Method":"ping""#,
        r#""result":{}"#,
        r#""error":{"code":1,"message":"x"}"#,
        r#""jsonrpc":"1.0""#,
        r#""\u006dethod":"ping""#,
    ];
    if rng.u8(..12) == 0 {
        members.push(pick(rng, &extras).to_owned());
    }
    rng.shuffle(&mut members);
    format!("{{{}}}", members.join(","))
}
