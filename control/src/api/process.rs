//! The process itself: alive, ready, its numbers, its API's description.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use ostler_telemetry::metrics;

use super::problem::failure;
use super::{ApiState, OPENAPI};

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// 503 while the process ends, and when the store no longer works.
pub(super) async fn readyz(State(state): State<ApiState>) -> Response {
    let reason = if state.draining.is_cancelled() {
        "control is shutting down"
    } else if !state.store.is_open() {
        "store is closed; see the log"
    } else {
        return "ready\n".into_response();
    };
    failure(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).into_response()
}

pub(super) async fn metrics(State(state): State<ApiState>) -> Response {
    let lines = (state.log_lines_dropped)();
    let text = crate::metrics::render(&state.counters, &state.hub, &state.registry, &state.store, lines);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
