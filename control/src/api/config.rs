//! The config of a fleet: read it, change it, go back.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::ApiState;
use super::problem::{Failure, failure};
use super::request::{self, Path, Query};
use super::types::{ApplyQuery, ApplyResult, DIGEST_HEADER, RollbackRequest, VERSION_HEADER};
use crate::revisions::{Author, Candidate, Rollback};

pub(super) async fn put_config(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    Query(query): Query<ApplyQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let fleet = request::fleet(&fleet)?;
    let expected = request::expected_version(&headers)?;
    let text = request::body(&headers, body).await?;
    let candidate = Candidate {
        fleet,
        content_type: request::content_type(&headers, &text),
        text,
        message: query.message.unwrap_or_default(),
        author: Author::Operator,
        expected,
        dry_run: query.dry_run,
    };
    Ok(applied(state.revisions.apply(candidate).await?))
}

pub(super) async fn post_rollback(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let fleet = request::fleet(&fleet)?;
    let body = request::body(&headers, body).await?;
    let request: RollbackRequest = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("rollback request is not understood: {error}; send {{\"version\": N}}");
        failure(StatusCode::BAD_REQUEST, "bad_request", &detail)
    })?;
    let rollback = Rollback {
        fleet,
        version: request.version,
        message: request.message,
        expected: request.if_version.or(request::expected_version(&headers)?),
    };
    Ok(applied(state.revisions.roll_back(rollback).await?))
}

pub(super) async fn get_config(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
) -> Result<Response, Failure> {
    let fleet = request::fleet(&fleet)?;
    let head = state.store.head(&fleet).await?.ok_or_else(|| {
        let detail = format!("fleet {fleet} has no config yet; apply one");
        failure(StatusCode::NOT_FOUND, "no_config", &detail)
    })?;
    let record = &head.record;
    let mut response = head.text.clone().into_response();
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, &record.content_type);
    insert(headers, ETAG, &format!("\"{}\"", record.version));
    insert(headers, HeaderName::from_static(VERSION_HEADER), &record.version.to_string());
    insert(headers, HeaderName::from_static(DIGEST_HEADER), &record.digest.to_hex());
    Ok(response)
}

fn applied(result: ApplyResult) -> Response {
    let tag = format!("\"{}\"", result.version);
    let dry_run = result.dry_run;
    let mut response = Json(result).into_response();
    // The version of a dry run is a forecast and identifies nothing.
    if !dry_run {
        insert(response.headers_mut(), ETAG, &tag);
    }
    response
}

/// All values are digits, hex or media types that were judged; one that is no header value is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
