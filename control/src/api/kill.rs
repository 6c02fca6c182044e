//! Kill switches: what is stopped in a fleet, at once and without a version.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use ostler_core::limits::KILL_TEXT_BYTES_MAX;
use ostler_policy::kill::{Switch, Target};

use super::ApiState;
use super::problem::{Failure, failure};
use super::request::{self, Path};
use super::types::{KillList, KillRequest, KillSwitchInfo, ResumeRequest};
use crate::store::{KillChange, KillChanged};

/// Who every change of the API is from, until operators have names.
const OPERATOR: &str = "operator";

pub(super) async fn get_kills(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
) -> Result<Json<KillList>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let set = state.hub.kills(&fleet).map(|set| (*set).clone()).unwrap_or_default();
    Ok(Json(list(fleet.as_str(), KillChanged { set, changed: false })))
}

pub(super) async fn post_kill(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<KillList>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let body = request::body(&headers, body).await?;
    let KillRequest { target, reason } =
        serde_json::from_slice(&body).map_err(|error| misunderstood(&error))?;
    let target = understood(target)?;
    short(&reason)?;
    let switch = Switch { target, reason, by: OPERATOR.to_owned(), since_unix_ms: state.clock.unix_ms() };
    let changed = state.store.change_kills(&fleet, OPERATOR, KillChange::Kill(switch)).await?;
    Ok(Json(list(fleet.as_str(), changed)))
}

pub(super) async fn post_resume(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<KillList>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let body = request::body(&headers, body).await?;
    let request: ResumeRequest = serde_json::from_slice(&body).map_err(|error| misunderstood(&error))?;
    let change = match request {
        ResumeRequest { all: true, target: None } => KillChange::ResumeAll,
        ResumeRequest { all: false, target: Some(target) } => KillChange::Resume(understood(target)?),
        _ => return Err(bad("say either `all` or one `target`")),
    };
    let changed = state.store.change_kills(&fleet, OPERATOR, change).await?;
    Ok(Json(list(fleet.as_str(), changed)))
}

fn understood(target: Target) -> Result<Target, Failure> {
    let texts: [Option<&str>; 2] = match &target {
        Target::Fleet => [None, None],
        Target::Mount { mount } => [Some(mount), None],
        Target::Tool { tool, mount } => [Some(tool), mount.as_deref()],
        Target::Identity { identity } => [Some(identity), None],
    };
    for text in texts.into_iter().flatten() {
        if text.is_empty() {
            return Err(bad("a name is empty; nothing has that name"));
        }
        short(text)?;
    }
    Ok(target)
}

fn short(text: &str) -> Result<(), Failure> {
    match text.len() > KILL_TEXT_BYTES_MAX {
        true => Err(bad(&format!("a text is longer than {KILL_TEXT_BYTES_MAX} bytes; shorten it"))),
        false => Ok(()),
    }
}

fn misunderstood(error: &serde_json::Error) -> Failure {
    bad(&format!(
        "it is not understood: {error}; send {{\"target\": {{\"scope\": \"mount\", \"mount\": \"NAME\"}}}}"
    ))
}

fn bad(detail: &str) -> Failure {
    failure(StatusCode::BAD_REQUEST, "bad_request", detail)
}

fn list(fleet: &str, changed: KillChanged) -> KillList {
    let KillChanged { set, changed } = changed;
    let items = set.switches.into_iter().map(|switch| KillSwitchInfo {
        what: switch.target.to_string(),
        target: switch.target,
        reason: switch.reason,
        by: switch.by,
        since_unix_ms: switch.since_unix_ms,
    });
    KillList {
        fleet: fleet.to_owned(),
        epoch: set.epoch,
        counter: set.counter,
        changed,
        items: items.collect(),
    }
}
