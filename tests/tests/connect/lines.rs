//! What a client writes that is no message, or too much, and a client that does not read.

use ostler_core::limits::{CONNECT_IN_FLIGHT_MAX, CONNECT_LINE_BYTES_MAX};

use super::*;

/// The next error, past what the server says unasked.
async fn error(client: &mut StdioClient) -> Value {
    loop {
        let message = client.next().await;
        if message.get("error").is_some() {
            return message;
        }
    }
}

#[tokio::test]
async fn a_line_that_is_no_message_is_answered_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    for (line, code) in [("no JSON", -32700), (r#"{"jsonrpc":"2.0"}"#, -32600), (r#"{"a":1,"a":2}"#, -32600)]
    {
        client.line(line).await;
        let answer = error(&mut client).await;
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
        assert!(answer["id"].is_null() && answer.get("id").is_some(), "{line}: {answer}");
    }
    client.line(" ").await;
    assert!(client.request(json!(1), "tools/list", json!({})).await["result"].is_object());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_with_the_limit_and_the_next_one_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    client.line(&"x".repeat(CONNECT_LINE_BYTES_MAX + 1)).await;
    let answer = error(&mut client).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("16777216 bytes"), "{answer}");
    assert!(answer["id"].is_null(), "{answer}");
    // What the data plane takes no more of is refused under its own id.
    let mut call = who(json!("big"));
    call["params"]["arguments"]["x"] = json!("x".repeat(5 * 1024 * 1024));
    client.send(&call).await;
    let answer = client.answer(&json!("big")).await;
    assert_eq!(answer["error"]["data"]["reason"], "body_too_large", "{answer}");
    client.send(&who(json!(1))).await;
    assert!(client.answer(&json!(1)).await["result"].is_object());
    assert_eq!(of(&server, "tools/call").len(), 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_misses_nothing_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    let calls = 40;
    for id in 0..calls {
        let mut call = who(json!(id));
        call["params"]["arguments"]["x"] = json!("x".repeat(256 * 1024));
        client.send(&call).await;
    }
    eventually("all calls are there", async || (of(&server, "tools/call").len() == calls).then_some(()))
        .await;
    let mut answered = vec![0; calls];
    while answered.iter().sum::<usize>() < calls {
        let message = client.next().await;
        if let Some(id) = message["id"].as_u64() {
            assert!(message["result"]["content"][0]["text"].as_str().unwrap().len() > 256 * 1024);
            answered[usize::try_from(id).unwrap()] += 1;
        }
    }
    assert!(answered.iter().all(|answers| *answers == 1), "{answered:?}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_and_what_they_wait_for_still_passes() {
    let dir = tempfile::tempdir().unwrap();
    let server = ModernServer::start().await;
    let dataplane = standalone(dir.path(), &config(&[("up", &server.url())])).await;
    let mut client = connect(&dataplane, "up");
    let listen = |id: usize| modern(json!(id), "subscriptions/listen", json!({"notifications": {}}));
    for id in 0..CONNECT_IN_FLIGHT_MAX {
        client.send(&listen(id)).await;
        client.next().await;
    }
    client.send(&listen(CONNECT_IN_FLIGHT_MAX)).await;
    let refused = client.next().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(CONNECT_IN_FLIGHT_MAX), &json!(-31029)));
    client.send(&listen(0)).await;
    assert_eq!(error(&mut client).await["error"]["code"], -32600, "an id is used twice at once");
    client
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}))
        .await;
    eventually("it is closed", async || (server.listeners() < CONNECT_IN_FLIGHT_MAX).then_some(())).await;
    client.send(&listen(3)).await;
    assert_eq!(client.next().await["method"], "notifications/subscriptions/acknowledged");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_batch_is_served_message_by_message_in_the_revisions_that_have_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let batch = json!([who(json!(1)), {"jsonrpc": "2.0", "method": "notifications/x"}, who(json!(2))]);
    let mut client = connect(&dataplane, "up");
    client.initialize("2025-03-26").await;
    client.send(&batch).await;
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let message = client.next().await;
        if message.get("result").is_some() {
            answered.push(message["id"].as_u64().unwrap());
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    eventually("the notification is there", async || {
        (of(&server, "notifications/x").len() == 1).then_some(())
    })
    .await;

    let mut client = connect(&dataplane, "up");
    client.initialize("2025-11-25").await;
    client.send(&batch).await;
    assert_eq!(error(&mut client).await["error"]["code"], -32600);
    assert_eq!(of(&server, "tools/call").len(), 2);
    dataplane.shutdown().await;
}
