//! Control's HTTP API: what operators and their tools speak.
//!
//! Handlers translate between HTTP and the modules that do the work; they decide nothing. Every route stands in
//! [`routes`] and in `openapi.json`, and a test holds the two together.

mod audit;
mod backup;
mod config;
mod kill;
mod nodes;
pub mod problem;
mod process;
mod request;
pub mod types;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use ostler_core::clock::WallClock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::distribution::Hub;
use crate::file_source::Followed;
use crate::fleet::Registry;
use crate::metrics::Counters;
use crate::revisions::Revisions;
use crate::store::Store;
use problem::{Failure, failure};

/// Answers without a token: they tell nothing that only an operator may know.
pub const OPEN_PATHS: &[&str] = &["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// The API's description for tools.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub revisions: Revisions,
    pub store: Store,
    pub hub: Hub,
    pub registry: Registry,
    pub counters: Arc<Counters>,
    pub followed: Option<Followed>,
    /// Cancelled when the process begins to end.
    pub draining: CancellationToken,
    pub log_lines_dropped: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub clock: WallClock,
    /// One backup at a time: each holds on to a state of the store.
    pub backups: Arc<Semaphore>,
}

/// The whole API.
pub fn router(state: ApiState) -> Router {
    with_routes(routes(), state)
}

/// What may be open to everyone: no config, no node, no version.
pub fn open_router(state: ApiState) -> Router {
    with_routes(open_routes().into_iter().filter(|(path, _)| *path != "/openapi.json").collect(), state)
}

type Routes = Vec<(&'static str, MethodRouter<ApiState>)>;

fn routes() -> Routes {
    let mut routes = open_routes();
    routes.extend([
        ("/v1/fleets", get(nodes::list_fleets)),
        ("/v1/fleets/{fleet}/config", get(config::get_config).put(config::put_config)),
        ("/v1/fleets/{fleet}/versions", get(versions::list_versions)),
        ("/v1/fleets/{fleet}/versions/{version}", get(versions::get_version)),
        ("/v1/fleets/{fleet}/diff", get(versions::get_diff)),
        ("/v1/fleets/{fleet}/rollback", post(config::post_rollback)),
        ("/v1/fleets/{fleet}/nodes", get(nodes::list_nodes)),
        ("/v1/fleets/{fleet}/kill", get(kill::get_kills).post(kill::post_kill)),
        ("/v1/fleets/{fleet}/resume", post(kill::post_resume)),
        ("/v1/audit/records", get(audit::get_records)),
        ("/v1/audit/chains", get(audit::get_chains)),
        ("/v1/audit/changes", get(audit::get_changes)),
        ("/v1/backup", get(backup::get_backup)),
    ]);
    routes
}

fn open_routes() -> Routes {
    vec![
        ("/healthz", get(process::healthz)),
        ("/readyz", get(process::readyz)),
        ("/metrics", get(process::metrics)),
        ("/openapi.json", get(process::openapi)),
    ]
}

fn with_routes(routes: Routes, state: ApiState) -> Router {
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, handlers)| router.route(path, handlers))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

async fn unknown_path() -> Failure {
    failure(StatusCode::NOT_FOUND, "unknown_path", "path is not part of the API; see /openapi.json")
}

async fn wrong_method() -> Failure {
    failure(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "method is not allowed here; see /openapi.json")
}
