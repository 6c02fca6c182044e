//! Modern clients: what their requests become, and legacy results and questions for them.

use super::*;

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_request_loses_what_only_the_modern_era_knows_and_nothing_else() {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1.50},"_meta":{"progressToken":"t","traceparent":"00","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"extensions":{"q":{}},"elicitation":{}},"io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/logLevel":"debug","own/key":1},"inputResponses":{"k":{"a":1}},"requestState":"s"}}"#;
    let request = Request::read(&Envelope::scan(body).unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(request.legacy(9).unwrap()).unwrap(),
        r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"x","arguments":{"n":1.50},"_meta":{"progressToken":9,"traceparent":"00","own/key":1}}}"#
    );
    assert_eq!(request.capabilities, r#"{"elicitation":{},"sampling":{}}"#);
    assert_eq!(request.progress_token.as_deref(), Some("\"t\""));
    assert_eq!(request.log_level.as_deref(), Some("debug"));
    let responses = request.responses.unwrap();
    assert_eq!(responses.results, [("k".to_owned(), r#"{"a":1}"#.to_owned())]);
    assert_eq!(responses.state.as_deref(), Some("\"s\""));
}

#[test]
fn a_list_without_parameters_goes_up_without_any() {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let request = Request::read(&Envelope::scan(body).unwrap()).unwrap();
    assert_eq!(request.legacy(1).unwrap(), br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(request.responses.is_none());
}

#[test]
fn results_say_that_they_are_complete_and_lists_that_they_are_not_kept() {
    let server = Some(r#"{"name":"s","version":"1"}"#);
    let list = json(
        &result("tools/list", r#"{"tools":[],"nextCursor":"c","ttlMs":"soon","_meta":{"k":1}}"#, server)
            .unwrap(),
    );
    assert_eq!(
        list,
        json(
            r#"{"tools":[],"nextCursor":"c","ttlMs":0,"_meta":{"k":1,"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}},"resultType":"complete","cacheScope":"private"}"#
        )
    );
    let call = json(&result("tools/call", r#"{"content":[],"resultType":"odd"}"#, None).unwrap());
    assert_eq!(call, json(r#"{"content":[],"resultType":"complete"}"#));
    assert!(result("tools/call", "[]", None).is_err());
}

#[test]
fn discovery_tells_what_works() {
    let initialized = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{}}},"serverInfo":{"name":"s","version":"1"},"instructions":"i"}"#;
    let discovered = json(&discover_result(initialized).unwrap());
    assert_eq!(discovered["supportedVersions"], serde_json::json!(["2026-07-28"]));
    assert_eq!(discovered["capabilities"], serde_json::json!({"tools": {}}));
    assert_eq!((&discovered["ttlMs"], &discovered["cacheScope"]), (&0.into(), &"private".into()));
    assert_eq!(discovered["_meta"][META_SERVER_INFO]["name"], "s");
    assert!(discover_result("{}").is_err());
}

#[test]
fn a_resource_that_is_not_there_has_the_codes_of_its_era() {
    let given = error(r#"{"code":-32002,"message":"m","data":{"uri":"u"}}"#, Some(-32002)).unwrap();
    assert_eq!(given, r#"{"code":-32602,"message":"m","data":{"uri":"u"}}"#);
    let other = r#"{"code":-32603,"message":"m"}"#;
    assert_eq!(error(other, Some(-32603)).unwrap(), other);
}

#[test]
fn a_servers_requests_become_questions() {
    let asked = InputRequest {
        key: "0".to_owned(),
        method: "sampling/createMessage".to_owned(),
        params: Some(r#"{"maxTokens":1.0}"#.to_owned()),
    };
    let roots = InputRequest { key: "1".to_owned(), method: "roots/list".to_owned(), params: None };
    assert_eq!(
        input_required(&[asked, roots], "st\"ate"),
        r#"{"resultType":"input_required","inputRequests":{"0":{"method":"sampling/createMessage","params":{"maxTokens":1.0}},"1":{"method":"roots/list"}},"requestState":"st\"ate"}"#
    );
}

#[test]
fn capabilities_are_the_same_however_they_are_written() {
    let read = |capabilities: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"io.modelcontextprotocol/clientCapabilities":{capabilities}}}}}}}"#
        );
        Request::read(&Envelope::scan(body.as_bytes()).unwrap()).unwrap().capabilities
    };
    let expected = r#"{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}}}"#;
    for written in [
        r#"{"sampling":{"tools":{"x":1}},"elicitation":{"url":{},"form":{},"other":{}}}"#,
        r#"{"elicitation": {"form": {}, "url": {"y":[]}}, "roots": null, "sampling": {"tools": {}, "context": 1}}"#,
    ] {
        assert_eq!(read(written), expected);
    }
    assert_eq!(read("{}"), "{}");
}
