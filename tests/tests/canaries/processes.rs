//! Control and a data plane as processes that log all they can, an operator's commands, and calls of every kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use ostler_tests::support::canary::{Canary, Surfaces};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::process::{Process, Program, address};
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::spool::records;
use ostler_tests::support::stdio_client::ostler;
use ostler_tests::support::world::{LegacyClient, call, initialize, modern};
use serde_json::{Value, json};

/// What is no secret: the name of an upstream, a rule and the node, which is in everything that is shown or kept.
const OPEN: &str = "open-canary-5c1d";

/// Where secrets stand.
struct Planted {
    /// In a file that config refers to.
    file: Canary,
    /// In a variable that config refers to.
    variable: Canary,
    /// In a variable that nothing refers to.
    stray: Canary,
    /// In config itself, where a secret is expected.
    literal: Canary,
    /// A caller's API key, and one that is none.
    key: Canary,
    wrong_key: Canary,
    /// In headers and in the query of a request.
    header: Canary,
    /// In arguments that are marked as secret, by config or by what they are called.
    argument: Canary,
    /// In what an upstream answers with.
    answer: Canary,
}

struct World {
    folder: PathBuf,
    planted: Planted,
    server: FakeServer,
    /// Answers with what it was sent, as text that is JSON.
    echo: FakeServer,
    /// Ids of sessions, each of which is a secret.
    sessions: Vec<Canary>,
    control: Process,
    dataplane: Process,
    api: SocketAddr,
    mcp: SocketAddr,
    admin: SocketAddr,
    seen: Surfaces,
}

// === impl Planted ===

impl Planted {
    fn new() -> Self {
        Self {
            file: Canary::new("a file that config refers to", 1),
            variable: Canary::new("a variable that config refers to", 2),
            stray: Canary::new("a variable that nothing refers to", 3),
            literal: Canary::new("a literal in config", 4),
            key: Canary::new("an API key", 5),
            wrong_key: Canary::new("a wrong API key", 6),
            header: Canary::new("headers and query of a request", 7),
            argument: Canary::new("arguments marked secret", 8),
            answer: Canary::new("fields of an answer that are marked secret", 9),
        }
    }

    fn all(&self) -> [&Canary; 9] {
        let Self { file, variable, stray, literal, key, wrong_key, header, argument, answer } = self;
        [file, variable, stray, literal, key, wrong_key, header, argument, answer]
    }
}

// === impl World ===

impl World {
    async fn start(folder: &Path) -> Self {
        let planted = Planted::new();
        let program = |process| Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", process]);
        let secret = folder.join("secret");
        std::fs::write(&secret, &planted.file.value).unwrap();
        let mut control = program("control")
            .start(
                &folder.join("control"),
                &[
                    "--listen=127.0.0.1:0",
                    "--sync-listen=127.0.0.1:0",
                    "--log-level=trace",
                    "--log-format=json",
                ]
                .map(String::from),
                &folder.join("control.log"),
            )
            .unwrap();
        let listening = control.listening().await.unwrap();
        let (api, sync) = (address(&listening, "api"), address(&listening, "sync"));
        let mut dataplane = program("dataplane")
            .with_variable("CANARY_VARIABLE", &planted.variable.value)
            .with_variable("CANARY_STRAY", &planted.stray.value)
            .start(
                &folder.join("dataplane"),
                &[
                    format!("--control=http://{sync}"),
                    format!("--node-token-file={}", folder.join("control/node.token").display()),
                    format!("--node={OPEN}"),
                    "--listen=127.0.0.1:0".to_owned(),
                    "--admin-listen=127.0.0.1:0".to_owned(),
                    "--settle=50ms".to_owned(),
                    "--allow-command=*".to_owned(),
                    "--allow-ref=*".to_owned(),
                    "--log-level=trace".to_owned(),
                ],
                &folder.join("dataplane.log"),
            )
            .unwrap();
        let listening = dataplane.listening().await.unwrap();
        let (mcp, admin) = (address(&listening, "mcp"), address(&listening, "admin"));
        let server = FakeServer::start("up").await;
        let echo = FakeServer::start("echo").await;
        let (seen, sessions) = (Surfaces::default(), Vec::new());
        Self {
            folder: folder.to_owned(),
            planted,
            server,
            echo,
            sessions,
            control,
            dataplane,
            api,
            mcp,
            admin,
            seen,
        }
    }

    fn config(&self) -> Value {
        let Planted { literal, key, .. } = &self.planted;
        let reference = format!("${{file:{}}}", self.folder.join("secret").display());
        let script = "echo \"started with $$TOKEN and $$1\" >&2; echo \"$$TOKEN $$1\"; exit 3";
        let digest = ostler_core::digest::Digest::of(key.value.as_bytes());
        json!({
            "version": 1,
            "upstreams": {
                OPEN: {
                    "http": {"url": format!("{}?k={reference}", self.server.url())},
                    "headers": {"Authorization": format!("Bearer {reference}"), "X-Api-Key": "${CANARY_VARIABLE}"},
                },
                "literal": {"http": {"url": self.server.url()}, "headers": {"Authorization": format!("Bearer {}", literal.value)}},
                "echo": {"http": {"url": self.echo.url()}},
                "gone": {"http": {"url": format!("http://{reference}.invalid/")}},
                "refused": {"http": {"url": format!("http://127.0.0.1:1/{reference}")}},
                "child": {"stdio": {
                    "command": "sh", "args": ["-c", script, "sh", format!("--token={reference}")],
                    "env": {"TOKEN": "${CANARY_VARIABLE}"},
                }},
            },
            "auth": {"api_keys": {"ci": {"key": format!("sha256:{digest}")}}},
            "audit": {"secrets": ["card", "deep.pin_code"], "responses": "redacted"},
            "policy": {"rules": [{"name": OPEN, "match": {"tool": "never"}, "action": "deny"}]},
        })
    }

    /// Runs a command of an operator, and keeps what it says.
    async fn run(&mut self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(ostler());
        command.args(arguments).env("OSTLER_CONTROL_API", format!("http://{}", self.api));
        command.env("OSTLER_TOKEN_FILE", self.folder.join("control/operator.token"));
        let output = command.output().await.unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        self.seen.add(format!("ostler {}", arguments.join(" ")), said);
        output
    }

    async fn apply(&mut self, name: &str, text: &str) -> Output {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        self.run(&["validate", &path]).await;
        self.run(&["apply", "-f", &path, "--wait"]).await
    }

    async fn ask(&mut self, path: &str) -> String {
        let token = std::fs::read_to_string(self.folder.join("control/operator.token")).unwrap();
        let answer =
            Ask::new(self.api, "GET", path).header("authorization", &format!("Bearer {token}")).send().await;
        self.seen.add(format!("control {path}"), answer.body.to_vec());
        answer.text()
    }

    /// Calls on every mount, with secrets wherever a client may have them.
    async fn call_all(&mut self) {
        let Planted { key, wrong_key, header, argument, .. } = &self.planted;
        let arguments = json!({
            "card": argument.value, "deep": [{"Pin_Code": argument.value}], "password": [argument.value],
            "accessToken": {"a": argument.value}, "note": format!("Bearer {}", argument.value),
            "url": format!("https://me:{}@host/", argument.value), "kept": "harmless",
        });
        for mount in [OPEN, "literal", "gone", "refused", "child", "none"] {
            let call = |id: u64, credential: &Canary, params: Value| {
                modern(self.mcp, mount, id, "tools/call", params)
                    .header("authorization", &format!("Bearer {}", credential.value))
                    .header("cookie", &format!("session={}", header.value))
                    .header("x-api-key", &header.value)
            };
            let params = json!({"name": "who", "arguments": arguments});
            let answers = [
                call(1, key, params.clone()).send().await,
                call(2, wrong_key, params.clone()).send().await,
                call(
                    3,
                    key,
                    json!({"name": "who", "arguments": {"card": argument.value, "x": "y".repeat(200_000)}}),
                )
                .send()
                .await,
                call(4, key, json!({"name": 7, "arguments": arguments})).send().await,
            ];
            let path = format!("/mcp/{mount}?api_key={}", header.value);
            let by_query = Ask::mcp(self.mcp, &path, &initialize())
                .header("authorization", &format!("Bearer {}", key.value));
            let by_query = by_query.send().await;
            let torn = Ask::new(self.mcp, "POST", &format!("/mcp/{mount}"))
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("authorization", &format!("Bearer {}", key.value))
                .body(format!("{{\"password\":\"{}\"", argument.value));
            for answer in answers.into_iter().chain([by_query, torn.send().await]) {
                // What the server itself says may well have in it what it was sent.
                if answer.json()["result"].is_null() {
                    let shown = format!("{mount} {:?} {}", answer.headers, answer.text());
                    self.seen.add("error", shown);
                }
            }
        }
    }

    /// A call of a legacy session, whose answer says again what it was sent.
    async fn call_echo(&mut self) {
        let Planted { key, answer, .. } = &self.planted;
        let authorized = |ask: Ask| ask.header("authorization", &format!("Bearer {}", key.value)).send();
        let greeted = authorized(Ask::mcp(self.mcp, "/mcp/echo", &initialize())).await;
        let session = greeted.header("mcp-session-id").unwrap().to_owned();
        let client = LegacyClient::at(self.mcp, "echo", &session);
        authorized(client.ask(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))).await;
        let mut call = call(9);
        call["params"]["arguments"] = json!({"password": answer.value, "kept": "harmless"});
        let echoed = authorized(client.ask(&call)).await.text();
        assert!(echoed.contains(&answer.value), "{echoed}");
        self.sessions.push(Canary { planted: "a session's id", value: session });
    }

    async fn look_at_everything(&mut self) {
        for path in [
            "/metrics",
            "/v1/audit/records?limit=500",
            "/v1/audit/chains",
            "/v1/audit/changes",
            "/v1/fleets/default/versions",
            "/v1/fleets/default/diff?from=1&to=2",
            "/v1/fleets/default/nodes",
            "/v1/fleets/default/kill",
            "/openapi.json",
        ] {
            self.ask(path).await;
        }
        let token = std::fs::read_to_string(self.folder.join("dataplane/admin.token")).unwrap();
        for path in ["/metrics", "/config", "/mounts", "/healthz", "/readyz"] {
            let answer =
                Ask::new(self.admin, "GET", path).header("authorization", &format!("Bearer {token}"));
            let answer = answer.send().await;
            self.seen.add(format!("admin {path}"), answer.body.to_vec());
        }
        let export = self.folder.join("export.jsonl");
        for arguments in [
            &["status"][..],
            &["nodes"],
            &["mounts"],
            &["versions"],
            &["diff", "1", "2"],
            &["kills"],
            &["nodes", "-o", "json"],
            &["mounts", "-o", "json"],
            &["audit", "query"],
            &["audit", "query", "-o", "json"],
            &["audit", "chains"],
            &["audit", "export", "--format", "csv"],
        ] {
            self.run(arguments).await;
        }
        let exported = self.run(&["audit", "export"]).await;
        std::fs::write(&export, exported.stdout).unwrap();
        let spool = self.folder.join("dataplane").display().to_string();
        self.run(&["audit", "verify", &export.display().to_string()]).await;
        self.run(&["audit", "verify", &spool]).await;
    }

    async fn until_node(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let token = std::fs::read_to_string(self.folder.join("control/operator.token")).unwrap();
        eventually(what, async || {
            let ask = Ask::new(self.api, "GET", "/v1/fleets/default/nodes");
            let nodes = ask.header("authorization", &format!("Bearer {token}")).send().await.json();
            is_so(&nodes["items"][0]).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_seen_nowhere_whatever_is_shown_kept_or_logged_and_all_of_it_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::start(dir.path()).await;
    world.server.behave(Manner::Modern);
    let first = world.config();
    assert!(world.apply("one.json", &first.to_string()).await.status.success(), "{:?}", world.seen.0.last());
    world.call_all().await;
    world.call_echo().await;
    let state = dir.path().join("dataplane");
    eventually("what was called is written down", async || {
        let all = records(&state);
        (all.iter().filter(|record| record.tool.as_deref() == Some("who") && record.status.is_none()).count()
            >= 4)
            .then_some(())
    })
    .await;
    eventually("an answer is written down", async || {
        records(&state).iter().any(|record| record.response.is_some()).then_some(())
    })
    .await;
    // The literal is replaced, the child is gone, and a name is added.
    let mut second = first.clone();
    second["upstreams"]["literal"]["headers"]["Authorization"] =
        json!(format!("Basic {}", world.planted.literal.value));
    second["upstreams"][OPEN]["timeouts"] = json!({"connect": "4s"});
    second["upstreams"]["later"] = json!({"http": {"url": world.server.url()}});
    world.apply("two.json", &second.to_string()).await;
    // Candidates that are refused, by control and by the node.
    for broken in [
        json!({"headers": {"Authorization": [format!("Bearer {}", world.planted.literal.value)]}}),
        json!({"http": {"url": format!("http://me:{}@h/", world.planted.literal.value)}}),
        json!({"stdio": {"command": "", "env": {"A_TOKEN": world.planted.literal.value}}}),
    ] {
        let mut refused = second.clone();
        refused["upstreams"]["broken"] = broken;
        assert!(!world.apply("refused.json", &refused.to_string()).await.status.success());
    }
    std::fs::write(dir.path().join("secret"), format!("{}\u{1}\nx", world.planted.file.value)).unwrap();
    let third = second.to_string().replace("\"refused\"", "\"refused2\"");
    assert!(!world.apply("three.json", &third).await.status.success());
    world.until_node("the node says why", |node| node["last_error"].is_object()).await;
    world.ask("/v1/fleets/default/nodes").await;
    world.run(&["nodes"]).await;
    std::fs::write(dir.path().join("secret"), &world.planted.file.value).unwrap();
    world.run(&["kill", "--mount", OPEN, "-m", "leak"]).await;
    world.call_all().await;
    world.run(&["resume", "--mount", OPEN]).await;
    world.look_at_everything().await;
    let backup = dir.path().join("ostler.backup").display().to_string();
    let state_dir = dir.path().join("control").display().to_string();
    world.run(&["control", "backup", "--to", &backup, "--state-dir", &state_dir]).await;
    // One ends in order, the other at once: both have said and kept what they will.
    world.control.kill().unwrap();
    world.dataplane.terminate().await.unwrap();
    let whole = world.run(&["audit", "verify", &state_dir]).await;
    assert!(
        String::from_utf8_lossy(&whole.stdout).ends_with("whole\n") && whole.status.success(),
        "{whole:?}"
    );
    // A start that fails says why.
    let reference =
        "version: 1\nupstream: { http: { url: 'http://h/' }, headers: { X: '${CANARY_ABSENT}' } }\n";
    std::fs::write(dir.path().join("absent.yaml"), reference).unwrap();
    let file = dir.path().join("absent.yaml").display().to_string();
    world
        .run(&["dataplane", "--config", &file, "--state-dir", &dir.path().join("new").display().to_string()])
        .await;

    let World { planted, mut seen, server, sessions, .. } = world;
    let used = |canary: &Canary| {
        server.seen().iter().any(|seen| format!("{:?}", seen.headers).contains(&canary.value))
    };
    assert!(used(&planted.file) && used(&planted.variable) && used(&planted.literal), "secrets are used");
    let is_of_operator = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "secret"
            || name.ends_with(".token")
            || ["one.json", "two.json", "three.json", "refused.json"].contains(&&*name)
    };
    seen.add_files(dir.path(), is_of_operator);
    let mut not_seen = Vec::new();
    let open = Canary { planted: "openly", value: OPEN.to_owned() };
    for place in [
        "/control.log",
        "/dataplane.log",
        "/dataplane/audit/",
        "/dataplane/generations/",
        "/control/control.redb",
        "/ostler.backup",
        "/export.jsonl",
        "error",
        "control /v1/audit/records",
        "control /v1/audit/changes",
        "control /v1/fleets/default/diff",
        "control /v1/fleets/default/nodes",
        "admin /metrics",
        "admin /mounts",
        "ostler validate",
        "ostler apply",
        "ostler nodes",
        "ostler mounts",
        "ostler diff",
        "ostler kill",
        "ostler audit query",
        "ostler audit export",
    ] {
        if !seen.named(place).iter().any(|surface| open.is_in(&surface.bytes)) {
            not_seen.push(place);
        }
    }
    assert!(not_seen.is_empty(), "these have nothing in them: {not_seen:?}");
    let mut found = Vec::new();
    for canary in planted.all().into_iter().chain(&sessions) {
        let mut places = seen.holding(canary);
        // What an operator wrote into a config is in the config, wherever that is kept.
        if canary.value == planted.literal.value {
            let keeps_config = |place: &&str| {
                ["/control.redb", "/generations/", "/ostler.backup"].iter().any(|part| place.contains(part))
            };
            places.retain(|place| !keeps_config(place));
        }
        found.extend(places.into_iter().map(|place| (canary.planted, place)));
    }
    assert!(found.is_empty(), "{found:#?}");
}
