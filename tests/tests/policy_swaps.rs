//! A policy that changes under clients: who is told that lists are others now, which streams end, and what is filtered on every way that a list can take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_dataplane::DataPlane;
use ostler_tests::support::bridged::Events;
use ostler_tests::support::ears::Ears;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::member::MemberServer;
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

    fn version(&self) -> u64 {
        self.dataplane.admin().applier.snapshots.load().map_or(0, |snapshot| snapshot.revision.version)
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
