//! The data plane's own port: is it alive, is it ready, what does it serve. It only reads; nothing about config, policy
//! or secrets can be changed here. `/healthz`, `/readyz` and `/metrics` are open; the rest needs the admin token, on
//! loopback too, because the agent lives there.

mod metrics;
mod serve;
mod views;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use ostler_core::guard::{GuardError, HostGuard};
use ostler_core::token::BearerToken;
use ostler_telemetry::metrics::{CONTENT_TYPE as PROMETHEUS, Counter};

pub use serve::{AdminListener, serve};

use crate::apply::Applier;
use crate::deps::Deps;
use crate::listener::Liveness;
use crate::pipeline;
use crate::sync::SyncMetrics;

/// Paths of the admin port.
pub mod paths {
    pub const HEALTHZ: &str = "/healthz";
    pub const READYZ: &str = "/readyz";
    pub const METRICS: &str = "/metrics";
    pub const MOUNTS: &str = "/mounts";
    pub const LISTENERS: &str = "/listeners";
    pub const CONFIG: &str = "/config";
}

/// What the admin port reads.
pub struct Admin {
    pub deps: Deps,
    pub applier: Arc<Applier>,
    pub pipeline: Arc<pipeline::Shared>,
    /// Set once the traffic workers run.
    pub liveness: OnceLock<Liveness>,
    pub sync: Option<Arc<SyncMetrics>>,
    pub log_lines_dropped: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    pub draining: AtomicBool,
    pub refusals: AdminRefusals,
}

/// Requests that the admin port turned away.
#[derive(Debug, Default)]
pub struct AdminRefusals {
    pub host: Counter,
    pub origin: Counter,
    pub token: Counter,
}

/// What one admin listener offers.
#[derive(Debug, Clone)]
pub struct AdminDoor {
    pub guard: HostGuard,
    /// `None` on a metrics-only listener, which has nothing that needs one.
    pub token: Option<BearerToken>,
}

pub type AdminBody = Full<bytes::Bytes>;

impl Admin {
    /// Answers one request.
    pub fn answer<B>(&self, door: &AdminDoor, request: &Request<B>) -> Response<AdminBody> {
        if let Err(error) = self.guard(door, request) {
            return text(StatusCode::FORBIDDEN, &format!("{error}\n"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "this port only reads; change config through control or its file\n",
            );
        }
        match request.uri().path() {
            paths::HEALTHZ => text(StatusCode::OK, "ok\n"),
            paths::READYZ => self.ready(),
            paths::METRICS => typed(StatusCode::OK, PROMETHEUS, metrics::expose(self)),
            path => self.answer_private(door, path, request),
        }
    }

    /// Answers one request whose answer may have to be waited for: `/healthz` asks every traffic worker.
    pub async fn answer_in_time<B>(&self, door: &AdminDoor, request: Request<B>) -> Response<AdminBody> {
        let answer = self.answer(door, &request);
        if request.uri().path() != paths::HEALTHZ || answer.status() != StatusCode::OK {
            return answer;
        }
        drop(request);
        match self.liveness.get() {
            Some(liveness) => match liveness.check().await {
                Ok(()) => answer,
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
            },
            None => answer,
        }
    }

    fn answer_private<B>(&self, door: &AdminDoor, path: &str, request: &Request<B>) -> Response<AdminBody> {
        let mut presented = request.headers().get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        // Two of them leave open which one counts.
        let authorization = presented.next().filter(|_| presented.next().is_none());
        let Some(token) = &door.token else {
            return text(StatusCode::NOT_FOUND, "this listener has only /metrics, /healthz and /readyz\n");
        };
        if !token.matches(authorization) {
            self.refusals.token.increment();
            let mut refused = text(
                StatusCode::UNAUTHORIZED,
                "send `Authorization: Bearer` with the content of admin.token in the state folder\n",
            );
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refused;
        }
        match path {
            paths::MOUNTS => json(&views::mounts(self)),
            paths::LISTENERS => json(&views::listeners(self)),
            paths::CONFIG => json(&views::config(self)),
            _ => text(
                StatusCode::NOT_FOUND,
                "the paths are /healthz, /readyz, /metrics, /mounts, /listeners and /config\n",
            ),
        }
    }

    fn guard<B>(&self, door: &AdminDoor, request: &Request<B>) -> Result<(), GuardError> {
        let all = |name| request.headers().get_all(name).iter().map(HeaderValue::as_bytes);
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        door.guard.check_request(authority, all(HOST), all(ORIGIN)).inspect_err(|error| match error {
            GuardError::OriginForeign => self.refusals.origin.increment(),
            GuardError::HostMissing | GuardError::HostForeign => self.refusals.host.increment(),
        })
    }

    /// 503 only while no config was ever applied, and while draining.
    fn ready(&self) -> Response<AdminBody> {
        if self.draining.load(Ordering::Relaxed) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        if self.applier.snapshots.load().is_none() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "no config has been applied yet\n");
        }
        text(StatusCode::OK, "ready\n")
    }
}

fn json(value: &impl serde::Serialize) -> Response<AdminBody> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => typed(StatusCode::OK, "application/json", body + "\n"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

fn text(status: StatusCode, body: &str) -> Response<AdminBody> {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<AdminBody> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("draining", &self.draining).finish_non_exhaustive()
    }
}
