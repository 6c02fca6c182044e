//! A policy that changes under clients: who is told that lists are others now, which streams end, and what is filtered on every way that a list can take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::ears::Ears;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::http_sse::SseClient;
use ostler_tests::support::member::MemberServer;
use ostler_tests::support::raw::{RawServer, Step, chunk, http, last_chunk, result, stream_head};
use ostler_tests::support::world::{modern, standalone};
use serde_json::{Value, json};

const TOOLS: &str = "notifications/tools/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";
const RESOURCES: &str = "notifications/resources/list_changed";

/// A server of each era on a mount, and both in a bundle.
struct Scene {
    dir: tempfile::TempDir,
    new: MemberServer,
    old: MemberServer,
    dataplane: DataPlane,
}

impl Scene {
    async fn start(policy: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = MemberServer::modern("new", &["pay", "look"]).await;
        let old = MemberServer::legacy("old", &["pay", "look"]).await;
        let dataplane = standalone(dir.path(), &text(&new, &old, &policy)).await;
        Self { dir, new, old, dataplane }
    }

    async fn apply(&self, policy: Value) {
        let before = self.version();
        std::fs::write(self.dir.path().join("ostler.yaml"), text(&self.new, &self.old, &policy)).unwrap();
        self.dataplane.reload();
        eventually("it is applied", async || (self.version() > before).then_some(())).await;
    }

    /// Of the config that holds for everything, streams among it.
    fn version(&self) -> u64 {
        self.dataplane.admin().applier.status.read().applied.map_or(0, |revision| revision.version)
    }

    /// Lists everything once, so that what there is is known.
    async fn list_all(&self) {
        for mount in ["new", "old"] {
            for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
                eventually("it is listed", async || {
                    let list =
                        modern(self.dataplane.mcp_addr(), mount, 1, method, json!({})).send().await.json();
                    list["result"].is_object().then_some(())
                })
                .await;
            }
        }
    }
}

fn text(new: &MemberServer, old: &MemberServer, policy: &Value) -> String {
    json!({
        "version": 1,
        "upstreams": {"new": {"http": {"url": new.url()}}, "old": {"http": {"url": old.url()}}},
        "bundles": {"all": {"mounts": ["new", "old"]}},
        "identity": {"sources": [{"header": "x-agent"}]},
        "policy": policy,
    })
    .to_string()
}

/// What nobody's lists depend on.
fn aside() -> Value {
    json!({"match": {"tool": "nobody-has-this"}, "action": "deny"})
}

fn rules(rules: &[Value]) -> Value {
    json!({"rules": rules})
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_shown_another_list_by_a_swap_is_told_so_and_nobody_else() {
    let scene = Scene::start(rules(&[aside()])).await;
    scene.list_all().await;
    let addr = scene.dataplane.mcp_addr();
    let (mut new, mut old) = (Ears::open(addr, "new").await, Ears::open(addr, "old").await);
    let mut all = Ears::open(addr, "all").await;
    let mut root = Ears::open_with(addr, "new", &[("x-agent", "root")]).await;
    let pay_new = json!({"match": {"tool": "pay", "upstreams": ["new"]}, "action": "deny"});
    scene.apply(rules(&[aside(), pay_new.clone()])).await;
    for ears in [&mut new, &mut all, &mut root] {
        ears.hear_first(TOOLS).await;
    }
    // What depends on arguments, is tried out, or is about other names shows in no list.
    let dark = [
        json!({"match": {"tool": "look", "arguments": {"x": {"eq": 1}}}, "action": "deny"}),
        json!({"match": {"tool": "*"}, "action": "dry_run"}),
        json!({"match": {"prompt": "nobody-has-this"}, "action": "deny"}),
    ];
    let dark = [&[aside(), pay_new.clone()][..], &dark].concat();
    scene.apply(rules(&dark)).await;
    // One caller's lists alone.
    let for_root = json!({"match": {"prompt": "greet", "identity": "header.x-agent:root"}, "action": "deny"});
    scene.apply(rules(&[&dark[..], std::slice::from_ref(&for_root)].concat())).await;
    root.hear_first(PROMPTS).await;
    // Two kinds at once, for everybody.
    let files = json!({"match": {"resource": "file:*"}, "action": "deny"});
    let look = json!({"match": {"tool": "look"}, "action": "deny"});
    scene.apply(rules(&[&dark[..], &[for_root, files, look]].concat())).await;
    for ears in [&mut new, &mut old, &mut all, &mut root] {
        ears.hear_first(TOOLS).await;
        ears.hear_first(RESOURCES).await;
    }
    // A policy that is taken away shows what it hid.
    scene.apply(json!({})).await;
    for ears in [&mut root] {
        ears.hear_first(TOOLS).await;
        ears.hear_first(PROMPTS).await;
        ears.hear_first(RESOURCES).await;
    }
    for ears in [&mut new, &mut old, &mut all] {
        ears.hear_first(TOOLS).await;
        ears.hear_first(RESOURCES).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_hears_of_what_it_asked_for_with_its_own_id() {
    let scene = Scene::start(rules(&[aside()])).await;
    scene.list_all().await;
    let wanted = json!({"notifications": {"promptsListChanged": true}});
    let ask = modern(scene.dataplane.mcp_addr(), "new", 7, "subscriptions/listen", wanted);
    let mut listen = Events::open(ask).await;
    listen.next().await.unwrap();
    let both = [
        json!({"match": {"tool": "pay"}, "action": "deny"}),
        json!({"match": {"prompt": "greet"}, "action": "deny"}),
    ];
    scene.apply(rules(&both)).await;
    let told = listen.next().await.unwrap();
    assert_eq!(told["method"], PROMPTS, "{told}");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_know_what_there_is_is_told_only_where_rules_bear_on_it() {
    // Nobody has listed anything, so any rule on the mount may change what was seen.
    let scene = Scene::start(json!({})).await;
    let addr = scene.dataplane.mcp_addr();
    let (mut new, mut old) = (Ears::open(addr, "new").await, Ears::open(addr, "old").await);
    let of_new = json!({"match": {"tool": "anything", "upstreams": ["new"]}, "action": "deny"});
    scene.apply(rules(std::slice::from_ref(&of_new))).await;
    new.hear_first(TOOLS).await;
    scene.apply(rules(&[of_new, json!({"match": {"prompt": "*"}, "action": "deny"})])).await;
    new.hear_first(PROMPTS).await;
    old.hear_first(PROMPTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_rules_admit_no_longer_ends_and_one_beside_it_goes_on() {
    let scene = Scene::start(json!({})).await;
    let addr = scene.dataplane.mcp_addr();
    let open = async |mount: &str, uri: &str| {
        let wanted = json!({"notifications": {"resourceSubscriptions": [uri], "toolsListChanged": true}});
        let mut events = Events::open(modern(addr, mount, 7, "subscriptions/listen", wanted)).await;
        events.next().await.unwrap();
        events
    };
    let (mut denied, mut allowed) = (open("new", "file:///a").await, open("new", "repo:b").await);
    scene
        .apply(rules(&[json!({"match": {"resource": "file:*", "upstreams": ["new"]}, "action": "deny"})]))
        .await;
    let last = denied.next().await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")), "{last}");
    assert!(denied.next().await.is_none(), "it has ended");
    scene.new.notify("notifications/resources/updated", &json!({"uri": "repo:b"})).await;
    assert_eq!(allowed.next().await.unwrap()["params"]["uri"], "repo:b");
    let again = json!({"notifications": {"resourceSubscriptions": ["file:///a"]}});
    let again = modern(addr, "new", 8, "subscriptions/listen", again).send().await.json();
    assert_eq!(again["error"]["data"]["reason"], "policy_denied", "{again}");
    // A rule on the method itself.
    let (mut new, mut old) = (open("new", "repo:b").await, open("old", "repo:b").await);
    scene
        .apply(rules(&[
            json!({"match": {"method": "subscriptions/listen", "upstreams": ["new"]}, "action": "deny"}),
        ]))
        .await;
    for events in [&mut new, &mut allowed] {
        assert_eq!(events.next().await.unwrap()["result"]["resultType"], "complete");
    }
    scene.apply(rules(&[json!({"match": {"tool": "pay"}, "action": "deny"})])).await;
    assert_eq!(old.next().await.unwrap()["method"], TOOLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_come_as_event_streams_and_replays_are_filtered_too() {
    let scene = Scene::start(rules(&[json!({"match": {"tool": "pay"}, "action": "deny"})])).await;
    for server in [&scene.new, &scene.old] {
        server.change(|script| script.streams = true);
    }
    let addr = scene.dataplane.mcp_addr();
    let shown = |said: &Value| {
        let tools = said["result"]["tools"].as_array().unwrap_or_else(|| panic!("{said}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for mount in ["new", "old"] {
        let said = eventually("it is listed", async || {
            let mut events = Events::open(modern(addr, mount, 6, "tools/list", json!({}))).await;
            events.next().await.filter(|said| said["result"].is_object())
        })
        .await;
        assert_eq!(shown(&said), ["look"], "{mount}");
        assert_eq!(said["result"]["cacheScope"], "private", "{mount}: {said}");
        let session = session(&scene.dataplane, mount).await;
        let list = json!({"jsonrpc": "2.0", "id": 6, "method": "tools/list"});
        let list = Ask::mcp(addr, &format!("/mcp/{mount}"), &list).header("mcp-session-id", &session);
        let said = Events::open(list).await.next().await.unwrap();
        assert_eq!(shown(&said), ["look"], "{mount}: {said}");
    }
    let session = session(&scene.dataplane, "old").await;
    let replay = Ask::new(addr, "GET", "/mcp/old")
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session)
        .header("last-event-id", "6");
    let mut replay = Events::open(replay).await;
    let said = replay.next().await.unwrap();
    assert_eq!((&said["id"], shown(&said)), (&json!(6), vec!["look".to_owned()]), "{said}");
    // What follows it passes as it is.
    scene.old.notify("notifications/prompts/list_changed", &json!({})).await;
    assert_eq!(replay.next().await.unwrap()["method"], PROMPTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_lists_that_are_filtered_or_that_rules_on_callers_could_change_become_private() {
    let scope = async |scene: &Scene, method: &str| {
        let list = modern(scene.dataplane.mcp_addr(), "new", 6, method, json!({})).send().await.json();
        list["result"]["cacheScope"].clone()
    };
    let scene = Scene::start(rules(&[json!({"match": {"tool": "pay"}, "action": "deny"})])).await;
    assert_eq!(scope(&scene, "tools/list").await, "private");
    assert_eq!(scope(&scene, "prompts/list").await, "public", "nothing was left out of it");
    scene
        .apply(rules(&[json!({"match": {"tool": "x", "identity": "header.x-agent:root"}, "action": "deny"})]))
        .await;
    assert_eq!(scope(&scene, "prompts/list").await, "private", "another caller may be shown another");
    scene.apply(rules(&[json!({"match": {"tool": "pay"}, "action": "dry_run"})])).await;
    assert_eq!(scope(&scene, "tools/list").await, "public");
}

/// A legacy session of a plain HTTP client.
async fn session(dataplane: &DataPlane, mount: &str) -> String {
    let initialize = ostler_tests::support::world::initialize();
    let answer = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize).send().await;
    answer.header("mcp-session-id").unwrap().to_owned()
}

const UPDATED: &str = "notifications/resources/updated";

/// A legacy session's stream and a client of HTTP+SSE, both subscribed to the same resources.
struct Subscribed {
    get: Events,
    sse: SseClient,
}

impl Subscribed {
    async fn open(scene: &Scene, mount: &str, uris: &[&str]) -> Self {
        let (addr, path) = (scene.dataplane.mcp_addr(), format!("/mcp/{mount}"));
        let session = session(&scene.dataplane, mount).await;
        let with = |ask: Ask| ask.header("mcp-session-id", &session);
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        with(Ask::mcp(addr, &path, &initialized)).send().await;
        let mut sse = SseClient::connect(addr, mount).await;
        for uri in uris {
            let subscribe =
                json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": uri}});
            let answer = with(Ask::mcp(addr, &path, &subscribe)).send().await.json();
            assert!(answer["result"].is_object(), "{mount}: {answer}");
            sse.post(&subscribe).await;
            let answer = sse.message().await;
            assert!(answer["result"].is_object(), "{mount}: {answer}");
        }
        let get = with(Ask::new(addr, "GET", &path).header("accept", "text/event-stream"));
        Self { get: Events::open(get).await, sse }
    }

    /// Waits until each of them has heard of the resource at this moment, and returns what was heard before.
    async fn hear(&mut self, scene: &Scene, said: &str, uri: &str, moment: &str) -> Vec<Value> {
        let mut before = Vec::new();
        for is_get in [true, false] {
            let mut tries = 0;
            loop {
                tries += 1;
                assert!(tries < 100, "{uri} is not heard of {moment}, get {is_get}: {before:?}");
                for server in [&scene.new, &scene.old] {
                    server.notify(UPDATED, &json!({"uri": said, "moment": moment})).await;
                }
                let (get, sse) = (&mut self.get, &mut self.sse);
                let next =
                    async move { if is_get { get.next().await.unwrap() } else { sse.message().await } };
                // It may not have begun to listen when that was said.
                let next = tokio::time::timeout(std::time::Duration::from_millis(300), next).await;
                let Ok(heard) = next else { continue };
                if heard["params"]["uri"] == uri && heard["params"]["moment"] == moment {
                    break;
                }
                before.push(heard);
            }
        }
        before
    }
}

async fn withheld(scene: &Scene, mount: &str) -> u64 {
    let scrape = Ask::new(scene.dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let name = format!("ostler_mount_updates_withheld_total{{mount=\"{mount}\"");
    let line = scrape.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{scrape}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_no_more_of_a_resource_that_is_denied_after_it_subscribed() {
    let scene = Scene::start(json!({})).await;
    scene.list_all().await;
    for (mount, closed, open) in [
        ("old", "file:///a", "repo:b"),
        ("new", "file:///a", "repo:b"),
        ("all", "file://old//a", "repo:old/b"),
        ("all", "file://new//a", "repo:new/b"),
    ] {
        let mut clients = Subscribed::open(&scene, mount, &[closed, open]).await;
        clients.hear(&scene, "file:///a", closed, "before").await;
        clients.hear(&scene, "repo:b", open, "before").await;
        let counted = withheld(&scene, mount).await;
        scene.apply(rules(&[json!({"match": {"resource": "file:*"}, "action": "deny"})])).await;
        for server in [&scene.new, &scene.old] {
            server.notify(UPDATED, &json!({"uri": "file:///a", "moment": "denied"})).await;
        }
        let heard = clients.hear(&scene, "repo:b", open, "denied").await;
        let overheard = heard
            .iter()
            .find(|heard| heard["params"]["uri"] == closed && heard["params"]["moment"] == "denied");
        assert_eq!(overheard, None, "{mount}");
        assert!(withheld(&scene, mount).await >= counted + 2, "{mount}: from each of them");
        // The subscription is there still, and so are the rules that decide.
        scene.apply(json!({})).await;
        clients.hear(&scene, "file:///a", closed, "allowed again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_subscribes_for_its_clients_by_the_rules_of_now_however_old_their_streams_are() {
    let scene = Scene::start(json!({})).await;
    scene.list_all().await;
    for (mount, server) in [("new", &scene.new), ("old", &scene.old)] {
        let (closed, open) = (format!("file://{mount}//a"), format!("repo:{mount}/b"));
        let mut clients = Subscribed::open(&scene, "all", &[&closed, &open]).await;
        let wanted = json!({"notifications": {"resourceSubscriptions": [closed, open]}});
        let addr = scene.dataplane.mcp_addr();
        let _listens = Events::open(modern(addr, "all", 5, "subscriptions/listen", wanted)).await;
        let subscribed = async |to_closed: usize, to_open: usize| {
            eventually(&format!("{mount} has {to_closed} and {to_open} subscribers"), async || {
                let found = (server.subscribers("file:///a"), server.subscribers("repo:b"));
                (found == (to_closed, to_open)).then_some(())
            })
            .await;
        };
        subscribed(3, 3).await;
        scene.apply(rules(&[json!({"match": {"resource": "file:*"}, "action": "deny"})])).await;
        server.hang_up();
        subscribed(0, 3).await;
        clients.hear(&scene, "repo:b", &open, "denied").await;
        // Nothing else makes it ask again.
        scene.apply(json!({})).await;
        subscribed(3, 3).await;
        clients.hear(&scene, "file:///a", &closed, "allowed again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_not_heard_of_however_its_event_is_cut_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::start().await;
    let text = json!({
        "version": 1,
        "upstreams": {"up": {"http": {"url": server.url()}, "protocol": "2026-07-28"}},
        "policy": {"rules": [{"match": {"resource": "file:*"}, "action": "deny"}]},
    });
    let dataplane = standalone(dir.path(), &text.to_string()).await;
    let update = |uri: &str| {
        let update = json!({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri}});
        format!("event: message\ndata: {update}\n\n")
    };
    let (closed, open) = (update("file:///a"), update("repo:b"));
    for cut in [1, 8, 20, closed.len() / 2, closed.len() - 2, closed.len() - 1] {
        let (begun, ended) = closed.split_at(cut);
        let (begun, ended) = (format!("{open}{begun}"), format!("{ended}{open}"));
        server.misbehave(move |request| {
            let answer = format!("data: {}\n\n", result(&request.body["id"]));
            vec![stream_head(), chunk(&begun), chunk(&ended), chunk(&answer), last_chunk()]
        });
        let ask = modern(dataplane.mcp_addr(), "up", 3, "tools/call", json!({"name": "x", "arguments": {}}));
        let heard = ask.send().await.text();
        assert_eq!(heard.matches("repo:b").count(), 2, "cut at {cut}: {heard}");
        assert!(!heard.contains("file:///a") && heard.contains(r#""id":3"#), "cut at {cut}: {heard}");
    }
    // And not where the whole answer was there at once.
    server.misbehave(move |request| {
        let answer = format!("data: {}\n\n", result(&request.body["id"]));
        vec![http(200, "text/event-stream", &[&*open, &*closed, &*answer].concat())]
    });
    let ask = modern(dataplane.mcp_addr(), "up", 3, "tools/call", json!({"name": "x", "arguments": {}}));
    let heard = ask.send().await.text();
    assert!(heard.contains("repo:b") && heard.contains(r#""id":3"#), "{heard}");
    assert!(!heard.contains("file:///a"), "{heard}");
    dataplane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_come_while_an_answer_is_awaited_hold_for_it_even_where_it_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::start().await;
    let upstreams = json!({"up": {"http": {"url": server.url()}, "protocol": "2026-07-28"}});
    let before = json!({"version": 1, "upstreams": &upstreams});
    let denies = rules(&[json!({"match": {"resource": "file:*"}, "action": "deny"})]);
    let after = json!({"version": 1, "upstreams": &upstreams, "policy": denies});
    let dataplane = standalone(dir.path(), &before.to_string()).await;
    let version = || dataplane.admin().applier.status.read().applied.map_or(0, |revision| revision.version);
    let update = |uri: &str| {
        let update = json!({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri}});
        format!("data: {update}\n\n")
    };
    let updates = update("file:///a") + &update("repo:b");
    server.misbehave(move |request| {
        let answer = format!("{updates}data: {}\n\n", result(&request.body["id"]));
        vec![Step::Wait, http(200, "text/event-stream", &answer)]
    });
    let ask = modern(dataplane.mcp_addr(), "up", 3, "tools/call", json!({"name": "x", "arguments": {}}));
    let asked = tokio::spawn(async move { ask.send().await });
    eventually("the call has arrived", async || (!server.calls().is_empty()).then_some(())).await;
    let applied = version();
    std::fs::write(dir.path().join("ostler.yaml"), after.to_string()).unwrap();
    dataplane.reload();
    eventually("the rules are applied", async || (version() > applied).then_some(())).await;
    server.release();
    let answer = asked.await.unwrap();
    assert!(answer.header("content-length").is_some(), "it was there at once");
    let heard = answer.text();
    assert!(heard.contains("repo:b") && heard.contains(r#""id":3"#), "{heard}");
    assert!(!heard.contains("file:///a"), "{heard}");
    dataplane.shutdown().await;
}
