//! Reading requests: names, versions, preconditions and bodies, each refused with a sentence.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ostler_core::limits::{BODY_READ_TIMEOUT, CONFIG_BYTES_MAX};
use ostler_core::name::FleetName;
use serde::de::DeserializeOwned;

use super::problem::{Failure, failure};

/// Segments of the path.
pub(super) struct Path<T>(pub T);

/// The query string.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value))
            .map_err(|error| failure(StatusCode::BAD_REQUEST, "bad_path", &error.body_text()))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value))
            .map_err(|error| failure(StatusCode::BAD_REQUEST, "bad_query", &error.body_text()))
    }
}

pub(super) fn fleet(text: &str) -> Result<FleetName, Failure> {
    FleetName::parse(text)
        .map_err(|error| failure(StatusCode::BAD_REQUEST, "bad_fleet_name", &error.to_string()))
}

/// The version that must be current: `If-Match: "N"`, or 0 for `If-None-Match: *`.
pub(super) fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let bad = || {
        let detail = "precondition is not understood; send `If-Match: \"N\"` with the current version, or \
                      `If-None-Match: *` when there must be none";
        failure(StatusCode::BAD_REQUEST, "bad_precondition", detail)
    };
    let text = |name| headers.get(name).map(|value| value.to_str().map_err(|_| bad())).transpose();
    match (text(IF_MATCH)?, text(IF_NONE_MATCH)?) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(0)),
        (Some(tag), None) => {
            let number =
                tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(bad)?;
            number.parse().map(Some).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

/// Media type that the text is kept under.
pub(super) fn content_type(headers: &HeaderMap, text: &[u8]) -> String {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json_named = named.split(';').next().is_some_and(|kind| kind.trim().ends_with("json"));
    // Most tools name no type of their own, so the text decides: a YAML document seldom begins with a brace.
    let json_looking = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let yaml_named = named.contains("yaml");
    let json = json_named || json_looking && !yaml_named;
    if json { "application/json" } else { "application/yaml" }.to_owned()
}

/// The whole body, within the limits of size and time.
pub(super) async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    let too_large = || {
        let detail =
            format!("body is larger than {CONFIG_BYTES_MAX} bytes; split the config over several fleets");
        failure(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &detail)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > CONFIG_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let collected = Limited::new(body, CONFIG_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_READ_TIMEOUT, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(failure(StatusCode::BAD_REQUEST, "bad_body", "body ended before it was complete")),
        Err(_) => {
            let detail = format!("body did not arrive within {} s; try again", BODY_READ_TIMEOUT.as_secs());
            Err(failure(StatusCode::REQUEST_TIMEOUT, "body_timeout", &detail))
        }
    }
}
