//! Answers that are no success: RFC 9457 problem details, one shape for the whole API.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use ostler_config::Diagnostic;

use super::types::{PROBLEM_MEDIA_TYPE, Problem};
use crate::revisions::SubmitError;
use crate::store::{ProposeError, StoreError};

/// A problem on its way out.
#[derive(Debug)]
pub struct Failure(Box<Problem>);

/// A failure without diagnostics. `code` is a stable word, `detail` names the object and the next step.
pub fn failure(status: StatusCode, code: &str, detail: &str) -> Failure {
    with_diagnostics(status, code, detail, Vec::new())
}

fn with_diagnostics(status: StatusCode, code: &str, detail: &str, diagnostics: Vec<Diagnostic>) -> Failure {
    Failure(Box::new(Problem {
        kind: format!("/problems/{code}"),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        code: code.to_owned(),
        diagnostics,
    }))
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        response
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        let code = error.code();
        match error {
            SubmitError::Invalid(report) | SubmitError::Unreadable { report, .. } => {
                with_diagnostics(StatusCode::UNPROCESSABLE_ENTITY, code, &detail, report.diagnostics)
            }
            SubmitError::FollowsFile { .. } => failure(StatusCode::CONFLICT, code, &detail),
            SubmitError::TooLarge { .. } => failure(StatusCode::PAYLOAD_TOO_LARGE, code, &detail),
            SubmitError::MessageTooLong { .. } => failure(StatusCode::BAD_REQUEST, code, &detail),
            SubmitError::NoSuchVersion { .. } => failure(StatusCode::NOT_FOUND, code, &detail),
            SubmitError::Judge => failure(StatusCode::INTERNAL_SERVER_ERROR, code, &detail),
            SubmitError::Propose(ProposeError::Conflict { .. }) => {
                failure(StatusCode::PRECONDITION_FAILED, code, &detail)
            }
            SubmitError::Propose(ProposeError::TooManyFleets { .. }) => {
                failure(StatusCode::CONFLICT, code, &detail)
            }
            SubmitError::Propose(ProposeError::Store(error)) | SubmitError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "store failed");
        let (status, code) = match &error {
            error if error.is_full() => (StatusCode::INSUFFICIENT_STORAGE, "store_full"),
            StoreError::TooManyKillSwitches { .. } => (StatusCode::CONFLICT, "too_many_kill_switches"),
            StoreError::TooManyKillFleets { .. } => (StatusCode::CONFLICT, "too_many_fleets"),
            StoreError::Closed
            | StoreError::Engine(_)
            | StoreError::Unsettled { .. }
            | StoreError::Reopen(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_failed"),
            StoreError::Damaged { .. } | StoreError::Record { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "store_damaged")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "store_failed"),
        };
        failure(status, code, &error.to_string())
    }
}
