//! Callers that leave while a legacy member waits for what it has asked them.

use ostler_core::limits::PARKED_CALLS_PER_CALLER_MAX;
use ostler_tests::support::metric;

use super::*;

/// A member that asks, in a bundle.
async fn world(dir: &Path) -> (MemberServer, DataPlane) {
    let old = MemberServer::legacy("old", &["ask"]).await;
    let dataplane = standalone(dir, &config(&[("old", &old.url())])).await;
    (old, dataplane)
}

/// A call of this id that has come to its question.
async fn asked(client: &Old, id: &Value) -> (Events, Value) {
    let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "old__ask"}});
    let mut events = Events::open(client.ask(&call)).await;
    let question = events.next().await.unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (events, question)
}

async fn parked(dataplane: &DataPlane) -> u64 {
    let scrape = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    metric(&scrape, r#"ostler_mount_parked_calls{mount="old",upstream="old"}"#)
}

async fn cancelled(old: &MemberServer, calls: usize) {
    eventually("the member is told that its calls are cancelled", async || {
        let mut called: Vec<_> =
            old.seen("tools/call").iter().map(|seen| seen.body["id"].as_u64().unwrap()).collect();
        let cancelled = old.seen("notifications/cancelled");
        let mut ids: Vec<_> =
            cancelled.iter().map(|seen| seen.body["params"]["requestId"].as_u64().unwrap()).collect();
        called.sort_unstable();
        ids.sort_unstable();
        (called.len() == calls && called == ids).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_a_question_open_leaves_no_call_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane) = world(dir.path()).await;
    let client = Old::connect(&dataplane).await;

    let (mut events, _question) = asked(&client, &json!("cancelled")).await;
    assert_eq!(parked(&dataplane).await, 1);
    let notice =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "cancelled"}});
    assert_eq!(client.ask(&notice).send().await.status, 202);
    assert!(events.next().await.is_none());
    cancelled(&old, 1).await;
    assert_eq!(parked(&dataplane).await, 0);

    let (events, _question) = asked(&client, &json!("closed")).await;
    drop(events);
    cancelled(&old, 2).await;

    let (mut events, question) = asked(&client, &json!("refused")).await;
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    assert_eq!(client.ask(&refusal).send().await.status, 202);
    assert_eq!(events.next().await.unwrap()["error"]["code"], -1);
    cancelled(&old, 3).await;

    let (mut events, _question) = asked(&client, &json!("deleted")).await;
    let end = Ask::new(client.addr, "DELETE", "/mcp/all").header("mcp-session-id", &client.session);
    assert!(end.send().await.status.is_success());
    assert!(events.next().await.is_none());
    cancelled(&old, 4).await;
    assert_eq!(parked(&dataplane).await, 0);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_call_that_was_answered_is_not_taken_for_one_that_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane) = world(dir.path()).await;
    let client = Old::connect(&dataplane).await;
    let (mut events, question) = asked(&client, &json!(1)).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}});
    assert_eq!(client.ask(&answer).send().await.status, 202);
    assert_eq!(told(&events.next().await.unwrap()["result"])["answer"], json!({"name": "Ada"}));
    assert_eq!((parked(&dataplane).await, old.seen("notifications/cancelled").len()), (0, 0));
    dataplane.shutdown().await;
}

#[tokio::test]
async fn callers_that_leave_one_question_after_the_other_open_take_no_place_of_those_who_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (old, dataplane) = world(dir.path()).await;
    let (client, other) = (Old::connect(&dataplane).await, Old::connect(&dataplane).await);
    let calls = PARKED_CALLS_PER_CALLER_MAX + 5;
    for id in 0..calls {
        let (_events, _question) = asked(&client, &json!(id)).await;
        let notice =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        assert_eq!(client.ask(&notice).send().await.status, 202);
    }
    cancelled(&old, calls).await;
    let (_events, _question) = asked(&other, &json!(1)).await;
    assert_eq!(parked(&dataplane).await, 1);
    dataplane.shutdown().await;
}
