//! What outlives a call when an operator stops its caller, its mount or the fleet: streams, and sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::net::SocketAddr;
use std::time::Duration;

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::ears::Ears;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::http_sse::{self, SseClient};
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::raw::{RawServer, Step, chunk, stream_head, well, with_headers};
use ostler_tests::support::spool::decisions;
use ostler_tests::support::world::{call, initialize, modern};
use serde_json::{Value, json};

const TOOLS: &str = "notifications/tools/list_changed";

/// A server of each era on a mount, and both in a bundle; callers are called what a header says.
struct Scene {
    dir: tempfile::TempDir,
    new: MemberServer,
    old: MemberServer,
    control: TestControl,
    dataplane: DataPlane,
}

impl Scene {
    async fn start(sources: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = MemberServer::modern("new", &["look"]).await;
        let old = MemberServer::legacy("old", &["look"]).await;
        let control = TestControl::start(&dir.path().join("control")).await;
        let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
        let text = json!({
            "version": 1,
            "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}},
            "bundles": {"all": {"mounts": ["new", "old"]}},
            "identity": {"sources": sources},
            "audit": {},
        });
        let answer = control.apply(&text.to_string()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        control.until("a", "in_sync").await;
        let scene = Self { dir, new, old, control, dataplane };
        eventually("the era of the old server is known", async || {
            scene.reason("old", "nobody").await.is_null().then_some(())
        })
        .await;
        scene
    }

    fn addr(&self) -> SocketAddr {
        self.dataplane.mcp_addr()
    }

    async fn change(&self, verb: &str, body: Value) {
        let path = format!("/v1/fleets/default/{verb}");
        let ask = self.control.ask("POST", &path).header("content-type", "application/json");
        let answer = ask.body(body.to_string()).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    async fn kill(&self, target: Value) {
        self.change("kill", json!({"target": target})).await;
    }

    /// Why a call of this agent is refused.
    async fn reason(&self, mount: &str, agent: &str) -> Value {
        let look = modern(self.addr(), mount, 1, "tools/call", json!({"name": "look", "arguments": {}}));
        look.header("x-agent", agent).send().await.json()["error"]["data"]["reason"].clone()
    }

    async fn until(&self, mount: &str, agent: &str, reason: Value) {
        eventually(&format!("{agent} on {mount} is answered {reason}"), async || {
            (self.reason(mount, agent).await == reason).then_some(())
        })
        .await;
    }

    /// Everybody who listens hears of it.
    async fn say(&self) {
        for server in [&self.new, &self.old] {
            server.notify(TOOLS, &json!({})).await;
        }
    }

    async fn stop(self) {
        self.dataplane.shutdown().await;
        self.control.running.shutdown().await;
    }
}

fn of(agent: &str) -> Value {
    json!({"scope": "identity", "identity": format!("header.x-agent:{agent}")})
}

async fn ears(scene: &Scene, mount: &str, agent: &str) -> Ears {
    Ears::open_with(scene.addr(), mount, &[("x-agent", agent)]).await
}

/// Each ends in its way, whatever was said on it before.
async fn end(ears: &mut Ears, what: &str) {
    while ears.get.next().await.is_some() {}
    let mut last = None;
    while let Some(said) = ears.listen.next().await {
        last = Some(said);
    }
    assert_eq!(last.unwrap()["result"]["resultType"], "complete", "{what}");
    while ears.sse.event().await.is_some() {}
}

/// Each hears what the servers say now. One that has just been opened may not listen yet when it is said first.
async fn hear(scene: &Scene, ears: &mut Ears) {
    for stream in 0..3 {
        eventually("it is heard", async || {
            scene.say().await;
            let next = async {
                match stream {
                    0 => ears.get.next().await,
                    1 => ears.listen.next().await,
                    _ => Some(ears.sse.message().await),
                }
            };
            let next =
                tokio::time::timeout(Duration::from_millis(300), next).await.ok()?.expect("it has ended");
            let method = next["method"].as_str().unwrap();
            // A bundle whose mount was stopped has other lists of all kinds.
            assert!(method.ends_with("/list_changed"), "{next}");
            (method == TOOLS).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_stopped_hears_nothing_more_and_others_go_on() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    for mount in ["new", "old", "all"] {
        let (mut bad, mut good) = (ears(&scene, mount, "bad").await, ears(&scene, mount, "good").await);
        scene.kill(of("bad")).await;
        end(&mut bad, mount).await;
        scene.until(mount, "bad", json!("kill_switch")).await;
        hear(&scene, &mut good).await;
        let listen = modern(
            scene.addr(),
            mount,
            9,
            "subscriptions/listen",
            json!({"notifications": {"toolsListChanged": true}}),
        );
        let refused = listen.header("x-agent", "bad").send().await.json();
        assert_eq!(refused["error"]["data"]["reason"], "kill_switch", "{mount}: {refused}");
        scene.change("resume", json!({"all": true})).await;
        scene.until(mount, "bad", Value::Null).await;
        hear(&scene, &mut good).await;
        let mut again = ears(&scene, mount, "bad").await;
        hear(&scene, &mut again).await;
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_caller_that_is_stopped_end_and_do_not_come_back_when_it_goes_on() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    let begin = async |mount: &str, agent: &str| {
        let ask = Ask::mcp(scene.addr(), &format!("/mcp/{mount}"), &initialize()).header("x-agent", agent);
        ask.send().await.header("mcp-session-id").unwrap().to_owned()
    };
    let status = async |mount: &str, agent: &str, session: &str| {
        let ask = Ask::mcp(scene.addr(), &format!("/mcp/{mount}"), &call(1));
        ask.header("x-agent", agent).header("mcp-session-id", session).send().await.status.as_u16()
    };
    for mount in ["new", "old", "all"] {
        let (bad, good) = (begin(mount, "bad").await, begin(mount, "good").await);
        assert_eq!(status(mount, "bad", &bad).await, 200);
        scene.kill(of("bad")).await;
        eventually("it has ended", async || (status(mount, "bad", &bad).await == 404).then_some(())).await;
        // To begin another is refused in plain words.
        let ask = Ask::mcp(scene.addr(), &format!("/mcp/{mount}"), &initialize()).header("x-agent", "bad");
        assert_eq!(ask.send().await.json()["error"]["data"]["reason"], "kill_switch");
        scene.change("resume", json!({"all": true})).await;
        scene.until(mount, "bad", Value::Null).await;
        assert_eq!(
            (status(mount, "bad", &bad).await, status(mount, "good", &good).await),
            (404, 200),
            "{mount}"
        );
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_names_its_caller_is_stopped_by_that_name_with_its_streams() {
    let scene = Scene::start(json!(["session"])).await;
    let (addr, state) = (scene.addr(), scene.dir.path().join("a"));
    let begin = async || {
        let answer = Ask::mcp(addr, "/mcp/old", &initialize()).send().await;
        let session = answer.header("mcp-session-id").unwrap().to_owned();
        let get = Ask::new(addr, "GET", "/mcp/old").header("accept", "text/event-stream");
        (Events::open(get.header("mcp-session-id", &session)).await, session)
    };
    let ((mut bad, session), (mut good, _)) = (begin().await, begin().await);
    let look = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "mine", "arguments": {}}});
    Ask::mcp(addr, "/mcp/old", &look).header("mcp-session-id", &session).send().await;
    let identity = decisions(&state, "mine").pop().unwrap().identity.unwrap();
    assert!(identity.starts_with("session.id:"), "{identity}");
    scene.kill(json!({"scope": "identity", "identity": identity})).await;
    assert!(bad.next().await.is_none());
    scene.old.notify(TOOLS, &json!({})).await;
    assert_eq!(good.next().await.unwrap()["method"], TOOLS);
    let status = Ask::mcp(addr, "/mcp/old", &look).header("mcp-session-id", &session).send().await.status;
    assert_eq!(status, 404);
    // A stream of HTTP+SSE names its caller, too.
    let mut sse = SseClient::connect(addr, "old").await;
    sse.post(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "sses", "arguments": {}}})).await;
    sse.message().await;
    let identity = decisions(&state, "sses").pop().unwrap().identity.unwrap();
    scene.kill(json!({"scope": "identity", "identity": identity})).await;
    assert!(sse.event().await.is_none());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_on_a_mount_or_a_fleet_that_is_stopped_ends_and_what_is_beside_it_goes_on() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    let (mut new, mut old) = (ears(&scene, "new", "one").await, ears(&scene, "old", "one").await);
    let mut all = ears(&scene, "all", "one").await;
    scene.kill(json!({"scope": "mount", "mount": "old"})).await;
    end(&mut old, "old").await;
    hear(&scene, &mut new).await;
    hear(&scene, &mut all).await;
    scene.kill(json!({"scope": "fleet"})).await;
    end(&mut new, "new").await;
    end(&mut all, "all").await;
    scene.change("resume", json!({"all": true})).await;
    scene.until("old", "one", Value::Null).await;
    let mut again = ears(&scene, "old", "one").await;
    hear(&scene, &mut again).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_head_comes_after_its_caller_was_stopped_ends_at_once() {
    for target in [
        json!({"scope": "identity", "identity": "header.x-agent:bad"}),
        json!({"scope": "mount", "mount": "up"}),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = RawServer::start().await;
        server.misbehave(|request| match (&*request.verb, request.body["method"].as_str()) {
            ("GET", _) => vec![
                Step::Wait,
                stream_head(),
                chunk("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/marker\"}\n\n"),
                Step::Hang,
            ],
            (_, Some("initialize")) => {
                let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "up", "version": "1"}});
                let answer = json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result});
                let headers = "content-type: application/json\r\nmcp-session-id: s\r\n";
                vec![with_headers(200, headers, &answer.to_string())]
            }
            _ => well(request),
        });
        let control = TestControl::start(&dir.path().join("control")).await;
        let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
        let text = json!({
            "version": 1,
            "upstreams": {"up": {"http": {"url": server.url()}}},
            "identity": {"sources": [{"header": "x-agent"}]},
        });
        control.apply(&text.to_string()).await;
        control.until("a", "in_sync").await;
        let addr = dataplane.mcp_addr();
        let with = |ask: Ask| ask.header("x-agent", "bad");
        let begun = with(Ask::mcp(addr, "/mcp/up", &initialize())).send().await;
        let session = begun.header("mcp-session-id").unwrap().to_owned();
        let get = with(Ask::new(addr, "GET", "/mcp/up")).header("accept", "text/event-stream");
        let opening = tokio::spawn(Events::open(get.header("mcp-session-id", &session)));
        eventually("the server is asked", async || {
            server.calls().iter().any(|seen| seen.verb == "GET").then_some(())
        })
        .await;
        let ask = control.ask("POST", "/v1/fleets/default/kill").header("content-type", "application/json");
        ask.body(json!({"target": target}).to_string()).send().await;
        eventually("it is stopped", async || {
            let answer = with(Ask::mcp(addr, "/mcp/up", &initialize())).send().await.json();
            (answer["error"]["data"]["reason"] == "kill_switch").then_some(())
        })
        .await;
        server.release();
        let mut stream = opening.await.unwrap();
        // What its server says in the first moment may come through before it ends.
        let mut said = 0;
        while stream.next().await.is_some() {
            said += 1;
        }
        assert!(said <= 1, "{target}");
        dataplane.shutdown().await;
        control.running.shutdown().await;
    }
}

/// All that a stream says until it ends.
async fn rest(stream: &mut SseClient) -> Vec<Value> {
    let mut said = Vec::new();
    while let Some((_, data)) = stream.event().await {
        said.push(serde_json::from_str(&data).unwrap());
    }
    said
}

fn tool(id: u64, name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_keeps_a_stream_open_is_answered_and_nothing_else_is_said_on_it() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    let arrived = || {
        let calls = scene.old.seen("tools/call");
        calls.iter().filter(|seen| seen.body["params"]["name"] == "slow").count()
    };
    for target in [of("bad"), json!({"scope": "mount", "mount": "old"})] {
        let before = arrived();
        let mut bad = SseClient::open_with(scene.addr(), "old", &[("x-agent", "bad")]).await;
        bad.post(&http_sse::initialize()).await;
        bad.message().await;
        bad.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        eventually("the server can speak to it", async || (scene.old.listeners() == 1).then_some(())).await;
        scene.old.hold(true);
        bad.post(&tool(4, "slow")).await;
        eventually("the call arrives", async || (arrived() > before).then_some(())).await;
        scene.kill(target.clone()).await;
        // Nobody listens to what the server says unasked, while the call is awaited still.
        eventually("the server can speak to it no more", async || (scene.old.listeners() == 0).then_some(()))
            .await;
        let refused = bad.try_post(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})).await;
        assert_eq!(refused.status, 404, "{target}: it takes no more");
        scene.old.hold(false);
        let said = rest(&mut bad).await;
        let is_answer = |said: &Value| said["id"] == 4 && said["result"].is_object();
        assert!(matches!(&said[..], [answer] if is_answer(answer)), "{target}: {said:?}");
        scene.change("resume", json!({"all": true})).await;
        scene.until("old", "bad", Value::Null).await;
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_mount_says_of_its_resources_is_not_heard_in_its_bundle() {
    const UPDATED: &str = "notifications/resources/updated";
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    let addr = scene.addr();
    let of_bundle = |mount: &str| format!("file://{mount}//a");
    let wanted = json!({"resourceSubscriptions": [of_bundle("new"), of_bundle("old")]});
    let listen = modern(addr, "all", 5, "subscriptions/listen", json!({"notifications": wanted}));
    let mut listen = Events::open(listen.header("x-agent", "one")).await;
    assert_eq!(listen.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    let begun = Ask::mcp(addr, "/mcp/all", &initialize()).header("x-agent", "one").send().await;
    let session = begun.header("mcp-session-id").unwrap().to_owned();
    let of_session = |ask: Ask| ask.header("x-agent", "one").header("mcp-session-id", &session);
    let mut sse = SseClient::open_with(addr, "all", &[("x-agent", "one")]).await;
    sse.post(&http_sse::initialize()).await;
    sse.message().await;
    sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    for mount in ["new", "old"] {
        let params = json!({"uri": of_bundle(mount)});
        let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params});
        let answer = of_session(Ask::mcp(addr, "/mcp/all", &subscribe)).send().await.json();
        assert!(answer["result"].is_object(), "{answer}");
        sse.post(&subscribe).await;
        let answer = sse.message().await;
        assert!(answer["result"].is_object(), "{answer}");
    }
    let get = of_session(Ask::new(addr, "GET", "/mcp/all").header("accept", "text/event-stream"));
    let mut get = Events::open(get).await;
    let servers = [("new", &scene.new), ("old", &scene.old)];
    let update = async |server: &MemberServer| server.notify(UPDATED, &json!({"uri": "file:///a"})).await;
    let subscribed = async |server: &MemberServer, wanted: usize| {
        eventually(&format!("{wanted} are told of the resource"), async || {
            (server.subscribers("file:///a") == wanted).then_some(())
        })
        .await;
    };
    // Each is told of lists, too, that have changed with what is stopped.
    let heard = async |listen: &mut Events, get: &mut Events, sse: &mut SseClient| {
        let mut heard = [Value::Null, Value::Null, Value::Null];
        for (stream, uri) in heard.iter_mut().enumerate() {
            while uri.is_null() {
                let said = match stream {
                    0 => listen.next().await.unwrap(),
                    1 => get.next().await.unwrap(),
                    _ => sse.message().await,
                };
                *uri = said["params"]["uri"].clone();
            }
        }
        heard
    };
    for ((stopped, server), (other, others)) in [(servers[0], servers[1]), (servers[1], servers[0])] {
        subscribed(server, 3).await;
        subscribed(others, 3).await;
        scene.kill(json!({"scope": "mount", "mount": stopped})).await;
        subscribed(server, 0).await;
        update(server).await;
        update(others).await;
        for said in heard(&mut listen, &mut get, &mut sse).await {
            assert_eq!(said, of_bundle(other), "{stopped} is stopped");
        }
        scene.change("resume", json!({"all": true})).await;
        subscribed(server, 3).await;
        update(server).await;
        for said in heard(&mut listen, &mut get, &mut sse).await {
            assert_eq!(said, of_bundle(stopped), "it goes on");
        }
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_caller_answers_no_question_over_http_sse_and_others_do() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    // A server of the legacy era is sent the answer, one of the modern era the call again with the answer in it.
    let heard = |answer: &str| {
        let everything = [&scene.new, &scene.old].map(MemberServer::everything);
        everything.iter().flatten().filter(|seen| seen.text.contains(answer)).count()
    };
    for (mount, name) in [("old", "ask"), ("new", "ask"), ("all", "old__ask"), ("all", "new__ask")] {
        let asked = async |agent: &str| {
            let mut client = SseClient::open_with(scene.addr(), mount, &[("x-agent", agent)]).await;
            let mut greeting = http_sse::initialize();
            greeting["params"]["capabilities"] = json!({"elicitation": {}});
            client.post(&greeting).await;
            client.message().await;
            client.post(&tool(4, name)).await;
            let question = client.message().await;
            assert_eq!(question["method"], "elicitation/create", "{mount} {name}: {question}");
            (client, question["id"].clone())
        };
        let reply = |id: &Value, name: &str| json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"name": name}}});
        let ((bad, of_bad), (mut good, of_good)) = (asked("bad").await, asked("good").await);
        scene.kill(of("bad")).await;
        scene.until(mount, "bad", json!("kill_switch")).await;
        let said = format!("from-the-stopped-{mount}-{name}");
        // It is accepted as every message that nobody waits for, and has gone where it goes when it is.
        bad.try_post(&reply(&of_bad, &said)).await;
        assert_eq!(heard(&said), 0, "{mount} {name}");
        // A mount that is stopped lets calls end that were let through: their answers among it.
        scene.kill(json!({"scope": "mount", "mount": mount})).await;
        scene.until(mount, "good", json!("kill_switch")).await;
        let said = format!("from-the-good-{mount}-{name}");
        good.post(&reply(&of_good, &said)).await;
        let answer = good.message().await;
        assert_eq!(answer["id"], 4, "{mount} {name}: {answer}");
        assert!(answer.to_string().contains(&said) && heard(&said) == 1, "{mount} {name}: {answer}");
        scene.change("resume", json!({"all": true})).await;
        scene.until(mount, "bad", Value::Null).await;
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_shows_nothing_of_a_mount_that_is_stopped_and_says_so() {
    let scene = Scene::start(json!([{"header": "x-agent"}])).await;
    let names = |mount: &str| (0..70).map(|number| format!("{mount}-{number}")).collect::<Vec<_>>();
    scene.new.change(|script| script.tools = names("new"));
    scene.old.change(|script| script.tools = names("old"));
    let list = async |method: &str, params: Value| {
        modern(scene.addr(), "all", 6, method, params).header("x-agent", "one").send().await.json()
    };
    let first = list("tools/list", json!({})).await;
    let cursor = json!({"cursor": first["result"]["nextCursor"]});
    let rest = list("tools/list", cursor.clone()).await;
    assert!(rest["result"].to_string().contains("old__old-69"), "{rest}");
    let mut ears = ears(&scene, "all", "one").await;
    // What was said to find out that they listen may come before it, and was about tools.
    let hear_of_all = async |ears: &mut Ears| {
        for stream in 0..3 {
            let mut awaited = vec!["prompts", "resources", "tools"];
            while !awaited.is_empty() {
                let said = match stream {
                    0 => ears.get.next().await.unwrap(),
                    1 => ears.listen.next().await.unwrap(),
                    _ => ears.sse.message().await,
                };
                let is_told = |list: &&str| said["method"] == format!("notifications/{list}/list_changed");
                awaited.retain(|list| !is_told(list));
            }
        }
    };
    hear(&scene, &mut ears).await;
    eventually("each is listened to once for all", async || {
        ((scene.new.listeners(), scene.old.listeners()) == (1, 1)).then_some(())
    })
    .await;
    scene.kill(json!({"scope": "mount", "mount": "old"})).await;
    hear_of_all(&mut ears).await;
    let asked = scene.old.seen("tools/list").len();
    eventually("nobody listens to it", async || (scene.old.listeners() == 0).then_some(())).await;
    for (method, key) in
        [("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts")]
    {
        let listed = list(method, json!({})).await["result"].clone();
        let shown = listed[key].to_string();
        assert!(shown.contains("new") && !shown.contains("old"), "{listed}");
        assert_eq!(listed["_meta"]["ostler/missing"], json!([{"mount": "old", "reason": "kill_switch"}]));
    }
    let discovered = list("server/discover", json!({})).await["result"].clone();
    assert_eq!(discovered["instructions"], "# new\n\nuse new", "{discovered}");
    let rest = list("tools/list", cursor).await;
    assert_eq!(rest["error"]["code"], -32602, "what is left of an earlier list: {rest}");
    // It has other tools when it goes on, and nobody has asked it meanwhile.
    scene.old.change(|script| script.tools = vec!["fresh".to_owned()]);
    scene.change("resume", json!({"all": true})).await;
    hear_of_all(&mut ears).await;
    assert_eq!(scene.old.seen("tools/list").len(), asked);
    let listed = list("tools/list", json!({})).await["result"].clone();
    assert!(listed["tools"].to_string().contains("old__fresh"), "{listed}");
    scene.stop().await;
}
