//! Batches of which some messages are denied, before a server that takes batches: what it is sent, and what the client is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ostler_dataplane::DataPlane;
use ostler_tests::support::http::{Answer, Ask};
use ostler_tests::support::raw::{
    RawRequest, RawServer, Step, chunk, http, last_chunk, result, stream_head, well,
};
use ostler_tests::support::spool::{decisions, outcome, records};
use ostler_tests::support::world::standalone;
use ostler_tests::support::{eventually, metric};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{by_id, request};

const JSON: &str = "application/json";

/// How the server answers.
type Script = Box<dyn Fn(&RawRequest) -> Vec<Step> + Send + Sync>;

/// Mount `up` before a server of 2025-03-26, where `pay` is denied, and so are notifications of another kind.
struct Scene {
    server: RawServer,
    dataplane: DataPlane,
    dir: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = RawServer::start().await;
        let config = json!({
            "version": 1,
            "upstreams": {"up": {"http": {"url": server.url()}}},
            "audit": {},
            "policy": {"rules": [
                {"name": "money", "action": "deny", "match": {"tool": "pay"}, "feedback": {"suggestion": "ask for less"}},
                {"name": "gold", "action": "deny", "match": {"tool": "gold"}},
                {"name": "hush", "action": "deny", "match": {"method": "notifications/hush"}},
            ]},
        });
        let dataplane = standalone(dir.path(), &config.to_string()).await;
        Self { server, dataplane, dir }
    }

    async fn send(&self, batch: &str) -> Answer {
        Ask::mcp(self.dataplane.mcp_addr(), "/mcp/up", &json!({})).body(batch.to_owned()).send().await
    }

    /// What the server was sent since it was asked last.
    fn sent(&self) -> Vec<RawRequest> {
        self.server.calls()
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    async fn counted(&self, outcome: &str) -> u64 {
        let page = Ask::new(self.dataplane.admin_addr(), "GET", "/metrics").send().await.text();
        metric(
            &page,
            &format!(r#"ostler_mount_requests_total{{mount="up",upstream="up",outcome="{outcome}"}}"#),
        )
    }
}

fn call(id: Value, tool: &str) -> Value {
    request(id, "tools/call", json!({"name": tool}))
}

/// The responses of an answer of either form, each once.
fn responses(answer: &Answer) -> BTreeMap<String, Value> {
    let messages: Vec<Value> = match answer.header("content-type") {
        Some("text/event-stream") => {
            let data =
                |line: &str| line.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap());
            answer.text().lines().filter_map(data).collect()
        }
        _ => answer.json().as_array().unwrap().clone(),
    };
    let count = messages.len();
    let responses = by_id(messages);
    assert_eq!(responses.len(), count, "{responses:?}");
    responses
}

fn reason(response: &Value) -> &str {
    response["error"]["data"]["reason"].as_str().unwrap_or_default()
}

/// Answers to the requests of a batch, as text.
fn results(request: &RawRequest) -> Vec<String> {
    let messages = request.body.as_array().cloned().unwrap_or_default();
    messages
        .iter()
        .filter(|message| message.get("id").is_some())
        .map(|message| result(&message["id"]))
        .collect()
}

#[tokio::test]
async fn what_is_left_of_a_batch_goes_up_as_it_was_written_and_denials_stand_beside_whatever_answers_it() {
    let scene = Scene::start().await;
    let look =
        r#"{ "id":1 ,"jsonrpc":"2.0","method":"tools/call","params":{"name":"l\u006fok","x":[ 1,2 ]}}"#;
    let told = r#"{"jsonrpc":"2.0","method":"notifications/told","params":{"n":1e2}}"#;
    let pay = call(json!("p"), "pay").to_string();
    let gold = call(json!(2), "gold").to_string();
    let batch = format!("\n[ {pay} ,\t{look}, {gold},{told} ]");
    let large = "x".repeat(300_000);
    let answers: [(&str, Script); 6] = [
        (
            "an array",
            Box::new(|request| vec![http(200, JSON, &format!(" [ {} ]", results(request).join(",")))]),
        ),
        ("the response alone", Box::new(|request| vec![http(200, JSON, &results(request)[0])])),
        (
            "a stream",
            Box::new(|request| {
                let events = format!("id: 7\ndata: {}\n\n", results(request)[0]);
                vec![stream_head(), chunk(&events[..9]), chunk(&events[9..]), last_chunk()]
            }),
        ),
        ("a large array", {
            let large = large.clone();
            Box::new(move |request| {
                let result = results(request)[0].replace("[]", &format!("[\"{large}\"]"));
                vec![http(200, JSON, &format!("[{result}]"))]
            })
        }),
        (
            "a large response alone",
            Box::new(move |request| {
                let result = results(request)[0].replace("[]", &format!("[\"{large}\"]"));
                vec![stream_of_json(), chunk(&result), last_chunk()]
            }),
        ),
        ("an error with its status", {
            let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}});
            Box::new(move |_| vec![http(200, JSON, &error.to_string())])
        }),
    ];
    for (number, (what, script)) in answers.into_iter().enumerate() {
        scene.server.misbehave(script);
        let answer = scene.send(&batch).await;
        assert_eq!(answer.status, 200, "{what}");
        let sent = scene.sent();
        assert_eq!(sent.len(), number + 1, "{what}: once, and nothing else");
        assert_eq!(sent.last().unwrap().text, format!("[{look},{told}]"), "{what}");
        let responses = responses(&answer);
        assert_eq!(responses.len(), 3, "{what}: {responses:?}");
        assert!(responses["1"]["result"].is_object() || responses["1"]["error"]["code"] == -32602, "{what}");
        let (pay, gold) = (&responses["\"p\""], &responses["2"]);
        assert_eq!((reason(pay), reason(gold)), ("policy_denied", "policy_denied"), "{what}");
        assert_eq!(
            (
                &pay["error"]["data"]["rule"],
                &pay["error"]["data"]["suggestion"],
                &gold["error"]["data"]["rule"]
            ),
            (&json!("money"), &json!("ask for less"), &json!("gold")),
            "{what}: each has its own"
        );
    }
    assert_eq!(
        (scene.counted("policy_denied").await, scene.counted("ok").await),
        (12, 6),
        "each denied call counts"
    );
    scene.dataplane.shutdown().await;
}

/// The head of JSON in chunks.
fn stream_of_json() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    )
}

#[tokio::test]
async fn denials_are_told_where_the_rest_has_no_answer_or_fails() {
    let scene = Scene::start().await;
    let told = json!({"jsonrpc": "2.0", "method": "notifications/told"});
    let pay = call(json!(1), "pay");
    // Nobody waits for the server's word on the rest of it.
    let answer = scene.send(&json!([told, pay]).to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(JSON)));
    assert_eq!(reason(&answer.json()[0]), "policy_denied");
    assert_eq!((answer.json().as_array().unwrap().len(), &scene.sent()[0].body), (1, &json!([told])));
    let both = json!([call(json!(2), "look"), pay]).to_string();
    // The stream breaks off: what waited for it is told so, and what is denied once.
    scene.server.misbehave(|_| vec![stream_head(), chunk(": hello\n\n"), last_chunk()]);
    let broken = responses(&scene.send(&both).await);
    assert_eq!((reason(&broken["1"]), reason(&broken["2"])), ("policy_denied", "upstream_invalid_response"));
    scene.server.misbehave(|_| vec![http(200, JSON, &result(&json!(3)))]);
    let wrong = responses(&scene.send(&both).await);
    assert_eq!((reason(&wrong["1"]), reason(&wrong["2"])), ("policy_denied", "upstream_invalid_response"));
    // A status of the server's own, with the word that it has for all of it.
    let nameless = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "no batches"}});
    let text = nameless.to_string();
    scene.server.misbehave(move |_| vec![http(400, JSON, &text)]);
    let refused = scene.send(&both).await;
    assert_eq!((refused.status.as_u16(), reason(&refused.json()[0])), (400, "policy_denied"));
    assert_eq!(refused.json()[1], nameless);
    let Scene { server, dataplane, dir: _dir } = scene;
    server.stop().await;
    let send = |batch: String| Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &json!({})).body(batch).send();
    let down = send(both).await;
    assert_eq!(down.status, 200);
    let down = responses(&down);
    assert_eq!((reason(&down["1"]), reason(&down["2"])), ("policy_denied", "upstream_unavailable"));
    let down = send(json!([told, pay]).to_string()).await;
    assert_eq!((down.status.as_u16(), down.json().as_array().unwrap().len()), (200, 1));
    assert_eq!(reason(&down.json()[0]), "policy_denied");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_batch_of_which_all_is_denied_is_answered_without_its_server() {
    let scene = Scene::start().await;
    let hush = json!({"jsonrpc": "2.0", "method": "notifications/hush"});
    let answer =
        scene.send(&json!([call(json!(1), "pay"), hush, call(json!("1"), "gold")]).to_string()).await;
    assert_eq!(answer.status, 200);
    let denied = responses(&answer);
    assert_eq!(denied.keys().collect::<Vec<_>>(), ["\"1\"", "1"]);
    assert_eq!(denied["1"]["error"]["data"]["rule"], "money");
    assert_eq!(denied["\"1\""]["error"]["data"]["rule"], "gold");
    let silent = scene.send(&json!([hush, hush]).to_string()).await;
    assert_eq!((silent.status.as_u16(), silent.text().as_str()), (202, ""));
    assert!(scene.sent().is_empty(), "{:?}", scene.sent());
    assert_eq!(
        (scene.counted("policy_denied").await, scene.counted("ok").await),
        (5, 0),
        "notifications count too"
    );
    scene.dataplane.shutdown().await;
}

#[tokio::test]
async fn no_shape_of_a_batch_takes_a_denied_call_past_its_rule() {
    let scene = Scene::start().await;
    scene.server.misbehave(|request| vec![http(200, JSON, &format!("[{}]", results(request).join(",")))]);
    let (look, pay) = (|id| call(id, "look"), |id| call(id, "pay"));
    let escaped = r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"p\u0061y"}}"#;
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","name":"pay"}}"#;
    let cased = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"pay","name":"look"}}"#;
    let disguised = r#"{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"pay"}}"#;
    let unnamed = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"pay"}}"#;
    let answers_too = r#"{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call","params":{"name":"pay"}}"#;
    let looks = look(json!(2)).to_string();
    // A batch, how many answers come of it, and how many messages go up; nothing of what is no batch.
    let shapes: Vec<(String, Option<(usize, usize)>)> = vec![
        (json!([look(json!(1)), pay(json!(1))]).to_string(), Some((2, 1))),
        (json!([pay(json!(1)), look(json!(1))]).to_string(), Some((2, 1))),
        (json!([pay(json!(1)), pay(json!(1)), look(json!("1"))]).to_string(), Some((3, 1))),
        (
            json!([look(json!(1)), pay(json!(2)), look(json!(3)), pay(json!(4)), look(json!(5))]).to_string(),
            Some((5, 3)),
        ),
        (format!("[{looks},{escaped}]"), Some((2, 1))),
        (format!("[{looks},{disguised}]"), Some((2, 1))),
        (format!("[{looks},{unnamed}]"), Some((1, 1))),
        (format!("[{unnamed},{looks},{unnamed}]"), Some((1, 1))),
        (format!("[{looks},[{}]]", pay(json!(1))), None),
        (format!("[[{looks},{}]]", pay(json!(1))), None),
        (format!("[{looks},{twice}]"), None),
        (format!("[{looks},{cased}]"), None),
        (format!("[{looks},{answers_too}]"), None),
        (format!("[{looks},{}]]", pay(json!(1))), None),
        (format!("[{looks}],[{}]", pay(json!(1))), None),
    ];
    let mut seen = 0;
    for (shape, expected) in shapes {
        let answer = scene.send(&shape).await;
        let sent = scene.sent().split_off(seen);
        seen += sent.len();
        let messages: Vec<_> =
            sent.iter().flat_map(|request| request.body.as_array().cloned().unwrap()).collect();
        assert!(messages.iter().all(|message| message["params"]["name"] == "look"), "{shape}: {messages:?}");
        let Some((answers, sent)) = expected else {
            assert!(messages.is_empty() && answer.status == 400, "{shape}: {messages:?}, {}", answer.text());
            continue;
        };
        assert_eq!(
            (answer.json().as_array().unwrap().len(), messages.len()),
            (answers, sent),
            "{shape}: {}",
            answer.text()
        );
    }
    // As many as there may be, of which each second one is denied.
    let full: Vec<_> =
        (0..100).map(|id| if id % 2 == 0 { look(json!(id)) } else { pay(json!(id)) }).collect();
    let answered = responses(&scene.send(&json!(full).to_string()).await);
    let sent: Vec<_> =
        scene.sent()[seen].body.as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(sent, (0..50).map(|half| json!(half * 2)).collect::<Vec<_>>(), "in their order");
    assert!(
        answered.len() == 100
            && (0..100).all(|id| answered[&id.to_string()]["result"].is_object() == (id % 2 == 0))
    );
    scene.dataplane.shutdown().await;
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_record_and_what_was_sent_its_outcome() {
    let scene = Scene::start().await;
    scene.server.misbehave(|request| match results(request)[..] {
        [] => well(request),
        ref results => vec![http(200, JSON, &format!("[{}]", results.join(",")))],
    });
    let hush = json!({"jsonrpc": "2.0", "method": "notifications/hush"});
    scene
        .send(
            &json!([call(json!(1), "look"), call(json!(2), "pay"), call(json!(3), "see"), hush]).to_string(),
        )
        .await;
    let [look, pay, see] = ["look", "pay", "see"].map(|tool| decisions(&scene.state(), tool).pop().unwrap());
    assert!(look.request == pay.request && pay.request == see.request);
    assert_eq!([&look, &pay, &see].map(|record| record.call), [Some(0), Some(1), Some(2)]);
    let words = [&look, &pay, &see].map(|record| record.decision.as_deref().unwrap());
    assert_eq!(words, ["allow", "deny", "allow"]);
    assert_eq!((pay.rule.as_deref(), pay.reason.as_deref()), (Some("money"), Some("policy_denied")));
    let of_hush = eventually("the notification's record is written", async || {
        records(&scene.state()).into_iter().find(|it| it.method.as_deref() == Some("notifications/hush"))
    })
    .await;
    assert_eq!((of_hush.decision.as_deref(), of_hush.rule.as_deref()), (Some("deny"), Some("hush")));
    for sent in [&look, &see] {
        let ended = eventually("its outcome is written", async || outcome(&scene.state(), sent)).await;
        assert_eq!(ended.status.as_deref(), Some("ok"));
    }
    assert!(
        outcome(&scene.state(), &pay).is_none() && records(&scene.state()).iter().all(|it| it.call < Some(4))
    );
    scene.dataplane.shutdown().await;
}
