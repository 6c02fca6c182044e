//! What scripted servers on axum answer with: results of either era, errors, events.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response, Sse, sse};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};

/// The response to a message with this result, complete unless it says otherwise.
pub(super) fn response(message: &Value, mut result: Value) -> Value {
    if result.get("resultType").is_none() {
        result["resultType"] = json!("complete");
    }
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

/// The same as an answer.
pub(super) fn result(message: &Value, result: Value) -> Response {
    typed(200, &response(message, result))
}

pub(super) fn error(status: u16, message: &Value, code: i32, text: &str) -> Response {
    typed(status, &json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}))
}

/// JSON with this status.
pub(super) fn typed(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A stream of messages.
pub(super) fn events(messages: impl Stream<Item = Value> + Send + 'static) -> Response {
    let event = |message: Value| {
        Ok::<_, std::convert::Infallible>(sse::Event::default().event("message").data(message.to_string()))
    };
    Sse::new(messages.map(event)).into_response()
}

/// The result of a tool that says this.
pub(super) fn text(value: &Value) -> Value {
    json!({"content": [{"type": "text", "text": value.to_string()}]})
}
