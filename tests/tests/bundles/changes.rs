//! What a config changes of a bundle, and who hears of it: clients of every era and transport that listen to that bundle, and
//! nobody else.

use ostler_tests::support::ears::Ears;
use ostler_tests::support::http_sse::SseClient;

use super::*;

const LISTS: [&str; 3] = ["prompts", "resources", "tools"];

/// All of them are told of all lists, and of nothing else.
async fn hear_that_all_lists_changed(ears: &mut Ears) {
    let mut heard: [Vec<String>; 3] = Default::default();
    for _ in LISTS {
        for (heard, said) in heard.iter_mut().zip(ears.next().await) {
            heard.push(said["method"].as_str().unwrap().to_owned());
        }
    }
    for mut heard in heard {
        heard.sort();
        assert_eq!(heard, LISTS.map(|list| format!("notifications/{list}/list_changed")));
    }
}

struct Scene {
    dir: tempfile::TempDir,
    servers: [MemberServer; 3],
    dataplane: DataPlane,
}

impl Scene {
    /// The mounts `a`, `b` and `c`, a bundle `all` of `a`, and a bundle `other` of `b`.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let servers = [
            MemberServer::modern("a", &["x"]).await,
            MemberServer::modern("b", &["y"]).await,
            MemberServer::legacy("c", &["z"]).await,
        ];
        let dataplane = standalone(dir.path(), &text(&servers, &["a"], "a")).await;
        Self { dir, servers, dataplane }
    }

    /// Changes what `all` is made of, and which server stands behind `a`.
    fn apply(&self, members: &[&str], a: &str) {
        std::fs::write(self.dir.path().join("ostler.yaml"), text(&self.servers, members, a)).unwrap();
    }

    async fn tools(&self) -> Vec<String> {
        names(&result(&self.dataplane, "tools/list", json!({})).await["tools"], "name")
    }

    /// Both servers are listened to by this many.
    async fn until_listened(&self, a: usize, b: usize) {
        eventually("the members are listened to", async || {
            let [at_a, at_b, _] = self.servers.each_ref().map(MemberServer::listeners);
            ((at_a, at_b) == (a, b)).then_some(())
        })
        .await;
    }
}

fn text(servers: &[MemberServer; 3], members: &[&str], behind_a: &str) -> String {
    let url = |name: &str| servers[["a", "b", "c"].iter().position(|known| *known == name).unwrap()].url();
    let mounts = [("a", url(behind_a)), ("b", url("b")), ("c", url("c"))];
    let mounts: Vec<_> = mounts.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let mut config: Value = serde_json::from_str(&config_of(&mounts, members)).unwrap();
    config["bundles"]["other"] = json!({"mounts": ["b"]});
    config.to_string()
}

#[tokio::test]
async fn a_mount_that_is_added_removed_or_replaced_is_heard_by_its_bundles_clients_and_by_no_others() {
    let scene = Scene::new().await;
    let dataplane = &scene.dataplane;
    let mut all = Ears::open(dataplane.mcp_addr(), "all").await;
    let (mut other, mut plain) =
        (Ears::open(dataplane.mcp_addr(), "other").await, Ears::open(dataplane.mcp_addr(), "b").await);
    // Each bundle listens once to its member; a plain mount's clients each for themselves.
    scene.until_listened(1, 4).await;
    assert_eq!(scene.tools().await, ["a__x"]);
    scene.apply(&["b", "a"], "a");
    hear_that_all_lists_changed(&mut all).await;
    assert_eq!(scene.tools().await, ["b__y", "a__x"]);
    scene.until_listened(1, 5).await;
    scene.apply(&["b", "a"], "c");
    hear_that_all_lists_changed(&mut all).await;
    assert_eq!(scene.tools().await, ["b__y", "a__z"]);
    scene.apply(&["b"], "c");
    hear_that_all_lists_changed(&mut all).await;
    assert_eq!(scene.tools().await, ["b__y"]);
    // What one of the others says next is the first that the others hear.
    scene.servers[1].notify("notifications/prompts/list_changed", &json!({})).await;
    for ears in [&mut other, &mut plain, &mut all] {
        ears.hear_first("notifications/prompts/list_changed").await;
    }
    scene.dataplane.shutdown().await;
}

#[tokio::test]
async fn sessions_on_a_bundle_go_on_over_every_change_of_it() {
    let scene = Scene::new().await;
    let client = Old::connect(&scene.dataplane).await;
    let mut sse = SseClient::connect(scene.dataplane.mcp_addr(), "all").await;
    for (members, behind_a, tools, server) in [
        (&["b", "a"][..], "a", &["b__y", "a__x"][..], "a"),
        (&["b", "a"], "c", &["b__y", "a__z"], "c"),
        (&["b"], "c", &["b__y"], "b"),
    ] {
        scene.apply(members, behind_a);
        eventually("the change is served", async || (scene.tools().await == tools).then_some(())).await;
        let tool = tools.last().unwrap();
        let answer = client.request("tools/call", json!({"name": tool})).await;
        assert_eq!(told(&answer["result"])["server"], server);
        sse.post(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool}})).await;
        while told_of(&sse.message().await).as_deref() != Some(server) {}
    }
    let gone = client.request("tools/call", json!({"name": "a__x"})).await;
    assert_eq!(gone["error"]["code"], -32602);
    scene.dataplane.shutdown().await;
}

/// Which server has answered, if the message is an answer.
fn told_of(message: &Value) -> Option<String> {
    message["result"].is_object().then(|| told(&message["result"])["server"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_resource_of_a_replaced_mount_is_subscribed_to_at_the_one_that_took_its_place() {
    let scene = Scene::new().await;
    let uri = "file://a//a";
    let wanted = json!({"notifications": {"resourceSubscriptions": [uri]}});
    let listen = modern(scene.dataplane.mcp_addr(), 5, "subscriptions/listen", wanted, json!({}));
    let mut events = Events::open(listen).await;
    events.next().await.unwrap();
    scene.until_listened(2, 0).await;
    for (behind_a, server) in [("b", 1), ("c", 2)] {
        scene.apply(&["a"], behind_a);
        let server = &scene.servers[server];
        eventually("it is subscribed to", async || (server.listeners() == 2).then_some(())).await;
        server.notify("notifications/resources/updated", &json!({"uri": "file:///a"})).await;
        assert_eq!(events.next().await.unwrap()["params"]["uri"], uri);
    }
    // One that is away for a while, too.
    scene.apply(&["b"], "c");
    eventually("it is left", async || (scene.servers[2].listeners() == 0).then_some(())).await;
    scene.apply(&["a"], "a");
    scene.until_listened(2, 0).await;
    scene.servers[0].notify("notifications/resources/updated", &json!({"uri": "file:///a"})).await;
    assert_eq!(events.next().await.unwrap()["params"]["uri"], uri);
    scene.dataplane.shutdown().await;
}
