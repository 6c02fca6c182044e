//! The records of data planes, as control was sent them, and its own log of changes.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use ostler_audit::{Kind, Record};
use ostler_core::limits::{AUDIT_LOOKED_AT_MAX, LIST_PAGE_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::problem::{Failure, failure};
use super::request::Query;
use super::types::{AuditChainInfo, AuditChains, AuditChanges};
use crate::store::KeptRecord;

/// Records on a page unless the caller says otherwise.
const PAGE_DEFAULT: usize = 100;

/// Which records are asked for. What is absent asks for nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordsQuery {
    /// Go on behind this place in the order of arrival; without it the newest records are given.
    after: Option<u64>,
    limit: Option<usize>,
    fleet: Option<String>,
    node: Option<String>,
    chain: Option<String>,
    kind: Option<String>,
    mount: Option<String>,
    upstream: Option<String>,
    tool: Option<String>,
    method: Option<String>,
    identity: Option<String>,
    decision: Option<String>,
    reason: Option<String>,
    rule: Option<String>,
    event: Option<String>,
    request: Option<String>,
    since_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChangesQuery {
    from: Option<u64>,
    limit: Option<usize>,
}

/// The body holds each record's own text, so that it can be verified wherever it is kept.
pub(super) async fn get_records(
    State(state): State<ApiState>,
    Query(query): Query<RecordsQuery>,
) -> Result<Response, Failure> {
    if let Some(kind) = query.kind.as_deref()
        && !["decision", "outcome", "event"].contains(&kind)
    {
        let detail = format!("`{kind}` is no kind of record; use decision, outcome or event");
        return Err(failure(StatusCode::BAD_REQUEST, "bad_query", &detail));
    }
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, LIST_PAGE_MAX);
    let after = query.after;
    let wanted = move |kept: &KeptRecord| query.wants(kept);
    let page = state.store.records(after, limit, AUDIT_LOOKED_AT_MAX, wanted).await?;
    let mut body = String::from(r#"{"items":["#);
    for (index, kept) in page.items.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&item(kept));
    }
    body.push_str(&format!(r#"],"next":{},"whole":{}}}"#, page.next, page.is_whole));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn get_chains(State(state): State<ApiState>) -> Result<Json<AuditChains>, Failure> {
    let chains = state.store.chains().await?.into_iter().map(|chain| AuditChainInfo {
        chain: chain.chain.to_string(),
        node: chain.node.to_string(),
        fleet: chain.fleet.to_string(),
        first: chain.first,
        last: chain.last,
        link: chain.link.to_hex(),
        last_unix_ms: chain.last_unix_ms,
        breaks: chain.breaks,
        more_breaks: chain.more_breaks,
    });
    Ok(Json(AuditChains { items: chains.collect() }))
}

pub(super) async fn get_changes(
    State(state): State<ApiState>,
    Query(query): Query<ChangesQuery>,
) -> Result<Json<AuditChanges>, Failure> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, LIST_PAGE_MAX);
    let items = state.store.audit(query.from.unwrap_or(1).max(1), limit).await?;
    let next = if items.len() == limit { items.last().map(|record| record.seq + 1) } else { None };
    Ok(Json(AuditChanges { items, next }))
}

/// What cannot be read as a record is kept as evidence, and shown as `null`: nothing of it may stand among the lines of others.
fn item(kept: &KeptRecord) -> String {
    let text = std::str::from_utf8(&kept.record).ok().filter(|_| Record::parse(&kept.record).is_ok());
    let record: &RawValue = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(RawValue::NULL);
    let line = ostler_audit::export::Line {
        chain: kept.chain,
        node: kept.node.clone(),
        prev: kept.prev,
        link: kept.link,
        record,
    };
    format!(
        r#"{{"arrival":{},"fleet":{},"received_unix_ms":{},"line":{}}}"#,
        kept.arrival,
        serde_json::to_string(&kept.fleet).unwrap_or_default(),
        kept.received_unix_ms,
        line.to_text().trim_end()
    )
}

// === impl RecordsQuery ===

impl RecordsQuery {
    fn wants(&self, kept: &KeptRecord) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        if !is(&self.fleet, &kept.fleet) || !is(&self.node, &kept.node) {
            return false;
        }
        if self.chain.as_ref().is_some_and(|chain| *chain != kept.chain.to_string()) {
            return false;
        }
        if !self.asks_for_fields() {
            return true;
        }
        // What cannot be read is nobody's answer to a question about its fields.
        Record::parse(&kept.record).is_ok_and(|record| self.wants_record(&record))
    }

    fn asks_for_fields(&self) -> bool {
        let texts = [
            &self.kind,
            &self.mount,
            &self.upstream,
            &self.tool,
            &self.method,
            &self.identity,
            &self.decision,
            &self.reason,
            &self.rule,
            &self.event,
            &self.request,
        ];
        texts.into_iter().any(Option::is_some) || self.since_unix_ms.is_some() || self.until_unix_ms.is_some()
    }

    fn wants_record(&self, record: &Record) -> bool {
        let pairs = [
            (&self.mount, &record.mount),
            (&self.upstream, &record.upstream),
            (&self.tool, &record.tool),
            (&self.method, &record.method),
            (&self.identity, &record.identity),
            (&self.decision, &record.decision),
            (&self.reason, &record.reason),
            (&self.rule, &record.rule),
            (&self.event, &record.event),
            (&self.request, &record.request),
        ];
        let fits = pairs.into_iter().all(|(asked, found)| asked.is_none() || asked == found);
        fits && self.kind.as_deref().is_none_or(|kind| kind == Kind::as_str(record.kind))
            && self.since_unix_ms.is_none_or(|since| record.at_unix_ms >= since)
            && self.until_unix_ms.is_none_or(|until| record.at_unix_ms < until)
    }
}
