//! What every request to control passes before anything looks at it: Host and Origin, then the token of the listener.
//!
//! One guard for all listeners. Every refusal is counted by its reason and changes nothing. A panic behind the guard
//! costs its request alone.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode, header::HeaderName};
use ostler_core::guard::{GuardError, HostGuard};
use ostler_core::token::BearerToken;
use tonic::{Code, Status};

use crate::api::problem::failure;
use crate::metrics::Counters;

/// The rules of one listener.
#[derive(Clone)]
pub struct Guard {
    pub listener: &'static str,
    /// `None` only where everything is open anyway and callers use any name.
    pub hosts: Option<HostGuard>,
    /// `None` where everything is open.
    pub token: Option<BearerToken>,
    /// Paths that need no token.
    pub open_paths: &'static [&'static str],
    pub counters: Arc<Counters>,
}

/// Judges a request, then hands it on.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(&request) {
        Some(refusal) => refusal,
        None => run_guarded(&guard, request, next).await,
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

async fn run_guarded(guard: &Guard, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => {
            if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
                guard.counters.refused.add(guard.listener, "too_large");
            }
            response
        }
        Err(_) => {
            guard.counters.panics.add(guard.listener, "");
            tracing::error!(listener = guard.listener, %path, "a request panicked");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", "request failed inside; see control's log")
                .into_response()
        }
    }
}

impl Guard {
    fn refusal(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if let Some(hosts) = &self.hosts
            && let Err(error) = judge_names(hosts, request)
        {
            return Some(self.refuse(headers, StatusCode::FORBIDDEN, error.reason(), &error.to_string()));
        }
        let token = self.token.as_ref()?;
        if self.open_paths.contains(&request.uri().path()) {
            return None;
        }
        let presented = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        // Two of them leave open which one counts.
        let several = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
        if token.matches(presented) && !several {
            return None;
        }
        let reason = if presented.is_some() { "token_wrong" } else { "token_missing" };
        let detail = if presented.is_some() {
            "token is not the one of this listener; use the token file in control's state folder"
        } else {
            "token is missing; send `Authorization: Bearer` with what the token file in control's state folder holds"
        };
        let mut response = self.refuse(headers, StatusCode::UNAUTHORIZED, reason, detail);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    fn refuse(
        &self,
        headers: &HeaderMap,
        status: StatusCode,
        reason: &'static str,
        detail: &str,
    ) -> Response {
        self.counters.refused.add(self.listener, reason);
        let mut response = failure(status, reason, detail).into_response();
        if text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/grpc")) {
            // A gRPC client shows these; without them it would only learn the HTTP status, and late.
            let code = if status == StatusCode::UNAUTHORIZED {
                Code::Unauthenticated
            } else {
                Code::PermissionDenied
            };
            // A sentence that is no header value is left out; the status alone says enough.
            let _ = Status::new(code, detail).add_header(response.headers_mut());
        }
        response
    }
}

/// HTTP/2 has the authority in the request line, HTTP/1 in `Host`; whatever is there must agree and be known.
fn judge_names(hosts: &HostGuard, request: &Request) -> Result<(), GuardError> {
    let all = |name| request.headers().get_all(name).iter().map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    hosts.check_request(authority, all(HOST), all(ORIGIN))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A value that is not text must not pass for one that is absent.
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn broken() -> &'static str {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_costs_its_request_alone_and_is_counted() {
        let counters = Arc::new(Counters::default());
        let rules = Guard {
            listener: "api",
            hosts: None,
            token: None,
            open_paths: &[],
            counters: Arc::clone(&counters),
        };
        let router = Router::new()
            .route("/broken", get(broken))
            .route("/sound", get(|| async { "ok" }))
            .layer(from_fn_with_state(rules, guard));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(ask("/broken").await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ask("/sound").await, StatusCode::OK);
        assert_eq!(counters.panics.get("api", ""), 1);
    }
}
