//! The demo server as its clients see it: sessions of both eras, calls, and the answer to each mistake.

use serde_json::{Value, json};

use super::*;

/// What the server answers to the messages, by a clock that stands still.
fn talk(messages: &[Value]) -> Vec<Value> {
    let input: String = messages.iter().map(|message| format!("{message}\n")).collect();
    talk_raw(input.as_bytes())
}

fn talk_raw(input: &[u8]) -> Vec<Value> {
    let mut output = Vec::new();
    serve(input, &mut output, WallClock::manual(951_782_400_123)).unwrap();
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn modern(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(id, method, params)
}

fn initialize(version: &str) -> Value {
    request(0, "initialize", json!({"protocolVersion": version, "capabilities": {}}))
}

#[test]
fn every_legacy_revision_is_spoken_and_an_unknown_one_gets_the_newest() {
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let answers = talk(&[initialize(asked)]);
        assert_eq!(answers[0]["result"]["protocolVersion"], given);
        assert_eq!(answers[0]["result"]["capabilities"], json!({"tools": {}}));
    }
}

#[test]
fn a_legacy_session_lists_and_calls() {
    let answers = talk(&[
        request(1, "ping", json!({})),
        initialize("2025-06-18"),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        request(2, "tools/list", json!({})),
        request(3, "tools/call", json!({"name": "echo", "arguments": {"message": "hi\n"}})),
        request(4, "tools/call", json!({"name": "now"})),
    ]);
    assert_eq!(answers.len(), 5, "a notification has no answer");
    assert_eq!(answers[0]["result"], json!({}));
    let names: Vec<_> =
        answers[2]["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["add", "echo", "now"]);
    assert_eq!(
        answers[3]["result"],
        json!({"content": [{"type": "text", "text": "hi\n"}], "isError": false})
    );
    assert_eq!(answers[4]["result"]["content"][0]["text"], "2000-02-29T00:00:00.123Z");
}

#[test]
fn modern_results_carry_what_the_revision_asks_for() {
    let answers = talk(&[
        modern(1, "server/discover", json!({})),
        modern(2, "tools/list", json!({})),
        modern(3, "tools/call", json!({"name": "add", "arguments": {"a": 1, "b": 2}})),
    ]);
    for answer in &answers {
        assert_eq!(answer["result"]["resultType"], "complete");
        assert_eq!(answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "ostler-demo");
    }
    for answer in &answers[..2] {
        assert_eq!(answer["result"]["cacheScope"], "public");
        assert!(answer["result"]["ttlMs"].is_u64());
    }
    assert_eq!(answers[0]["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(answers[2]["result"]["content"][0]["text"], "3");
    assert!(answers[2]["result"].get("ttlMs").is_none());
}

#[test]
fn each_mistake_has_the_code_of_the_specification() {
    let mut no_capabilities = modern(1, "tools/list", json!({}));
    no_capabilities["params"]["_meta"]
        .as_object_mut()
        .unwrap()
        .remove("io.modelcontextprotocol/clientCapabilities");
    let mut other_version = modern(1, "tools/list", json!({}));
    other_version["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
    for (message, code) in [
        (request(1, "tools/list", json!({})), -32602),
        (request(1, "server/discover", json!({})), -32602),
        (no_capabilities, -32602),
        (other_version, -32022),
        (modern(1, "ping", json!({})), -32601),
        (modern(1, "initialize", json!({})), -32601),
        (modern(1, "resources/list", json!({})), -32601),
        (modern(1, "tools/call", json!({})), -32602),
        (modern(1, "tools/call", json!({"name": "rm"})), -32602),
        (modern(1, "tools/call", json!({"name": "echo", "arguments": {"message": 1}})), -32602),
        (modern(1, "tools/call", json!({"name": "now", "arguments": {"zone": "x"}})), -32602),
        (modern(1, "tools/call", json!({"name": "add", "arguments": {"a": 1e308, "b": 1e308}})), -32602),
        (json!({"jsonrpc": "2.0", "id": null, "method": "ping"}), -32600),
        (json!([1]), -32600),
    ] {
        let answers = talk(std::slice::from_ref(&message));
        assert_eq!(answers[0]["error"]["code"], code, "{message}");
        assert!(answers[0].get("result").is_none());
    }
    assert_eq!(talk_raw(b"{\n")[0]["error"]["code"], -32700);
}

#[test]
fn sums_of_integers_are_exact() {
    let add = |a: Value, b: Value| {
        let answers = talk(&[modern(1, "tools/call", json!({"name": "add", "arguments": {"a": a, "b": b}}))]);
        answers[0]["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(add(json!(u64::MAX), json!(1)), "18446744073709551616");
    assert_eq!(add(json!(-3), json!(1)), "-2");
    assert_eq!(add(json!(0.5), json!(1)), "1.5");
}

#[test]
fn blank_lines_and_a_clients_responses_are_passed_over() {
    assert!(talk_raw(b"\r\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n").is_empty());
}
