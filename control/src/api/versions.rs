//! The history of a fleet.

use axum::Json;
use axum::extract::State;
use ostler_core::limits::LIST_PAGE_MAX;
use serde::Deserialize;

use super::ApiState;
use super::problem::Failure;
use super::request::{self, Path, Query};
use super::types::{DiffResult, VersionDetail, VersionInfo, VersionList};
use crate::store::VersionRecord;

/// Versions on a page unless the caller says otherwise.
const PAGE_DEFAULT: usize = 50;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    before: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct DiffQuery {
    from: u64,
    to: u64,
}

pub(super) async fn list_versions(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<VersionList>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, LIST_PAGE_MAX);
    let page = state.store.versions(&fleet, query.before, limit).await?;
    Ok(Json(VersionList {
        items: page.items.iter().map(info).collect(),
        damaged: page.damaged,
        next: page.next,
    }))
}

pub(super) async fn get_version(
    State(state): State<ApiState>,
    Path((fleet, version)): Path<(String, u64)>,
) -> Result<Json<VersionDetail>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let version = state.revisions.version(&fleet, version).await?;
    Ok(Json(VersionDetail {
        info: info(&version.record),
        content_type: version.record.content_type.clone(),
        // Only UTF-8 is ever accepted as config.
        text: String::from_utf8_lossy(&version.text).into_owned(),
    }))
}

pub(super) async fn get_diff(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<DiffResult>, Failure> {
    let fleet = request::fleet(&fleet)?;
    Ok(Json(state.revisions.diff(&fleet, query.from, query.to).await?))
}

fn info(record: &VersionRecord) -> VersionInfo {
    VersionInfo {
        fleet: record.fleet.as_str().to_owned(),
        epoch: record.epoch,
        version: record.version,
        digest: record.digest.to_hex(),
        parent: record.parent,
        author: record.author.clone(),
        message: record.message.clone(),
        created_unix_ms: record.created_unix_ms,
        bytes: record.text_bytes,
    }
}
