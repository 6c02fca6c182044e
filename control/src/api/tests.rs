//! Holds `openapi.json` to the routes and to the types.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request};
use ostler_core::clock::WallClock;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::types::*;
use super::*;
use crate::store::StoreOptions;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn described() -> BTreeSet<String> {
    document().get("paths").and_then(Value::as_object).unwrap().keys().cloned().collect()
}

fn state(folder: &tempfile::TempDir) -> ApiState {
    let store = Store::open(StoreOptions {
        path: folder.path().join("control.redb"),
        clock: WallClock::manual(1),
        epoch_floor: 0,
        versions_kept_max: 10,
        even_if_older: false,
        observer: Box::new(|_| {}),
        kill_observer: Box::new(|_, _| {}),
    })
    .unwrap();
    let counters = Arc::new(Counters::default());
    ApiState {
        revisions: Revisions::new(store.clone(), Arc::clone(&counters)),
        store,
        hub: Hub::default(),
        registry: Registry::new(WallClock::manual(1)),
        counters,
        followed: None,
        draining: CancellationToken::new(),
        log_lines_dropped: Arc::new(|| 0),
        clock: WallClock::manual(1),
        backups: Arc::new(Semaphore::new(1)),
    }
}

#[tokio::test]
async fn every_route_and_method_is_described_and_every_description_is_served() {
    let served: BTreeSet<_> = routes().into_iter().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(served, described());
    let folder = tempfile::tempdir().unwrap();
    let router = router(state(&folder));
    let document = document();
    for path in served {
        let concrete = path.replace("{fleet}", "default").replace("{version}", "1");
        for method in ["get", "put", "post", "delete", "patch"] {
            let verb = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = Request::builder().method(verb).uri(&concrete).body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();
            let described =
                document.pointer(&format!("/paths/{}/{method}", path.replace('/', "~1"))).is_some();
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, described, "{method} {path} gave {status}");
        }
    }
}

/// Larger than what waits for a client that does not read.
async fn state_with_a_large_backup(folder: &tempfile::TempDir) -> ApiState {
    let state = state(folder);
    let text = format!("version: 1\n{}", format!("# {}\n", "x".repeat(1_000)).repeat(2_000));
    let put = Request::put("/v1/fleets/default/config").body(Body::from(text)).unwrap();
    assert_eq!(router(state.clone()).oneshot(put).await.unwrap().status(), StatusCode::OK);
    state
}

#[tokio::test]
async fn a_client_that_does_not_take_its_backup_loses_it_and_the_next_gets_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_with_a_large_backup(&folder).await;
    let at_once = backup::Patience { stall: std::time::Duration::ZERO, bytes_per_second_min: u64::MAX };
    let stalled = backup::take(state.clone(), at_once).await.unwrap();
    // It is let go of without being read.
    let place = state.backups.acquire().await.unwrap();
    drop(place);
    assert_eq!(state.counters.backups.get("slow_client", ""), 1);
    let broken = axum::body::to_bytes(stalled.into_body(), usize::MAX).await;
    assert!(broken.is_err(), "what there is of it ends like a whole one");

    let whole = backup::take(state.clone(), backup::Patience::default()).await.unwrap();
    let whole = axum::body::to_bytes(whole.into_body(), usize::MAX).await.unwrap();
    let last = whole.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
    assert!(last.starts_with(br#"{"entry":"end""#), "{}", String::from_utf8_lossy(last));
    assert_eq!(state.counters.backups.get("taken", ""), 1);
}

#[tokio::test]
async fn of_two_backups_at_a_time_the_second_is_refused_and_a_stop_breaks_the_first_off() {
    let folder = tempfile::tempdir().unwrap();
    let state = state_with_a_large_backup(&folder).await;
    let ask = async || {
        let request = Request::get("/v1/backup").body(Body::empty()).unwrap();
        router(state.clone()).oneshot(request).await.unwrap()
    };
    let first = ask().await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = ask().await;
    assert_eq!(second.status(), StatusCode::CONFLICT);
    let problem = axum::body::to_bytes(second.into_body(), usize::MAX).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&problem).unwrap()["code"], "backup_running");
    state.draining.cancel();
    drop(state.backups.acquire().await.unwrap());
    assert!(axum::body::to_bytes(first.into_body(), usize::MAX).await.is_err());
    let count = |result| state.counters.backups.get(result, "");
    assert_eq!((count("refused"), count("broken_off"), count("taken")), (1, 1, 0));
}

#[test]
fn open_paths_are_described_as_open_and_no_other() {
    let document = document();
    for path in described() {
        let operations = document.pointer(&format!("/paths/{}", path.replace('/', "~1"))).unwrap();
        for (method, operation) in
            operations.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
        {
            let open = operation.get("security") == Some(&json!([]));
            assert_eq!(open, OPEN_PATHS.contains(&path.as_str()), "{method} {path}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                }
                fields.values().for_each(|value| walk(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, document)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

#[test]
fn schemas_name_exactly_the_fields_of_the_types() {
    let diagnostic = ostler_config::judge_text(b"version: 1\nnope: 1\n").unwrap_err().diagnostics.remove(0);
    let change = ostler_config::Change {
        path: "p".to_owned(),
        kind: ostler_config::ChangeKind::Changed,
        before: Some("a".to_owned()),
        after: Some("b".to_owned()),
    };
    let text = || "t".to_owned();
    let revision = RevisionInfo { epoch: 1, version: 1, digest: text() };
    let version = VersionInfo {
        fleet: text(),
        epoch: 1,
        version: 1,
        digest: text(),
        parent: Some(1),
        author: text(),
        message: text(),
        created_unix_ms: 1,
        bytes: 1,
    };
    let mount = MountInfo {
        name: text(),
        upstream: text(),
        state: text(),
        reason: text(),
        since_unix_ms: 1,
        next_probe_unix_ms: Some(1),
    };
    let error = NodeError {
        code: text(),
        message: text(),
        revision: Some(revision.clone()),
        diagnostics: vec![diagnostic.clone()],
    };
    let disk = DiskWarning { kind: text(), file: Some(text()), reason: text() };
    let node = NodeInfo {
        node: text(),
        fleet: text(),
        labels: [(text(), text())].into(),
        build: text(),
        connected: true,
        connected_since_unix_ms: Some(1),
        last_seen_unix_ms: 1,
        state: NodeState::InSync,
        desired: Some(revision.clone()),
        applied: Some(revision.clone()),
        healthy: Some(revision.clone()),
        config_age_ms: Some(1),
        last_error: Some(error.clone()),
        mounts: vec![mount.clone()],
        disk: vec![disk.clone()],
    };
    let rejection =
        FileRejection { message: text(), since_unix_ms: 1, diagnostics: vec![diagnostic.clone()] };
    let file = FileInfo { path: text(), accepted_unix_ms: 1, rejected: Some(rejection.clone()) };
    let fleet = FleetInfo {
        fleet: text(),
        desired: Some(revision.clone()),
        nodes_connected: 1,
        nodes_known: 1,
        damaged: Some(text()),
        file: Some(file.clone()),
    };
    let applied = ApplyResult {
        changed: true,
        dry_run: false,
        fleet: text(),
        epoch: 1,
        version: 1,
        digest: text(),
        parent: Some(1),
        changes: vec![change.clone()],
        warnings: vec![diagnostic.clone()],
    };
    let problem = Problem {
        kind: text(),
        title: text(),
        status: 1,
        detail: text(),
        code: text(),
        diagnostics: vec![diagnostic.clone()],
    };
    let rollback = RollbackRequest { version: 1, message: Some(text()), if_version: Some(1) };
    let target = ostler_policy::kill::Target::Tool { tool: text(), mount: Some(text()) };
    let switch =
        KillSwitchInfo { target: target.clone(), what: text(), reason: text(), by: text(), since_unix_ms: 1 };
    let kills = KillList { fleet: text(), epoch: 1, counter: 1, changed: true, items: vec![switch.clone()] };
    let line = serde_json::value::to_raw_value(&json!({})).unwrap();
    let item = AuditItem { arrival: 1, fleet: text(), received_unix_ms: 1, line };
    let broken = AuditBreak { seq: 1, what: text(), detail: text(), at_unix_ms: 1 };
    let chain = AuditChainInfo {
        chain: text(),
        node: text(),
        fleet: text(),
        first: 1,
        last: 1,
        link: text(),
        last_unix_ms: 1,
        breaks: vec![broken.clone()],
        more_breaks: 1,
    };
    let whole = [
        // Each scope has some of them.
        ("KillTarget", json!({ "scope": "tool", "mount": "m", "tool": "t", "identity": "i" })),
        ("KillRequest", json!(KillRequest { target: target.clone(), reason: text() })),
        ("ResumeRequest", json!(ResumeRequest { all: false, target: Some(target) })),
        ("KillSwitchInfo", json!(switch)),
        ("KillList", json!(kills)),
        ("AuditItem", json!(item.clone())),
        ("AuditRecords", json!(AuditRecords { items: vec![item], next: 1, whole: true })),
        ("AuditBreak", json!(broken)),
        ("AuditChainInfo", json!(chain.clone())),
        ("AuditChains", json!(AuditChains { items: vec![chain] })),
        ("AuditChanges", json!(AuditChanges { items: Vec::new(), next: Some(1) })),
        ("Problem", json!(problem)),
        ("Diagnostic", json!(diagnostic)),
        ("Change", json!(change)),
        ("ApplyResult", json!(applied)),
        ("RollbackRequest", json!(rollback)),
        ("VersionInfo", json!(version)),
        ("VersionList", json!(VersionList { items: vec![version.clone()], damaged: vec![1], next: Some(1) })),
        ("VersionDetail", json!(VersionDetail { info: version, content_type: text(), text: text() })),
        ("DiffResult", json!(DiffResult { from: 1, to: 2, changes: vec![change], text: text() })),
        ("RevisionInfo", json!(revision)),
        ("MountInfo", json!(mount)),
        ("DiskWarning", json!(disk)),
        ("NodeError", json!(error)),
        ("NodeInfo", json!(node)),
        ("NodeList", json!(NodeList { desired: Some(revision), items: vec![node] })),
        ("FileRejection", json!(rejection)),
        ("FileInfo", json!(file)),
        ("FleetInfo", json!(fleet)),
        ("FleetList", json!(FleetList { items: vec![fleet] })),
    ];
    let document = document();
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object).unwrap();
    for (name, example) in &whole {
        let schema = schemas.get(*name).unwrap_or_else(|| panic!("{name} is not described"));
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(schema.get("properties").unwrap()), keys(example), "{name}");
    }
    // The states are an enumeration of words, not an object.
    let states: Vec<_> = NodeState::ALL.iter().map(|state| json!(state)).collect();
    assert_eq!(document.pointer("/components/schemas/NodeState/enum"), Some(&Value::Array(states)));
    assert_eq!(schemas.len(), whole.len() + 1);
}

#[tokio::test]
async fn what_is_no_record_stands_among_others_as_null_and_keeps_nobody_from_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder);
    let chain = ostler_audit::ChainId::of(&ostler_core::digest::Digest::of(b"node"));
    let forged = br#"{"seq":2,"x":
{"chain":"00000000000000000000000000000000","node":"victim","prev":"","link":"","record":{}}
}"#;
    let records = [&br#"{"seq":1,"kind":"event"}"#[..], forged, b"\xff", br#"{"seq":4,"kind":"event"}"#];
    let sent = crate::store::SentRecords {
        chain,
        node: "a".parse().unwrap(),
        fleet: "default".parse().unwrap(),
        first: 1,
        prev: ostler_audit::Position::start(chain).link,
        records: records.map(<[u8]>::to_vec).to_vec(),
    };
    state.store.keep_records(sent, 0).await.unwrap();
    let get = Request::get("/v1/audit/records?after=0").body(Body::empty()).unwrap();
    let answer = router(state).oneshot(get).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let page: AuditRecords = serde_json::from_slice(&body).unwrap();
    let lines: Vec<_> = page.items.iter().map(|item| item.line.get()).collect();
    assert!(lines.iter().all(|line| !line.contains(['\n', '\r']) && !line.contains("victim")), "{lines:?}");
    let shown: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let nulls: Vec<_> = shown.iter().map(|line| line["record"].is_null()).collect();
    assert_eq!(nulls, [false, true, true, false]);
    // An export of it names the two.
    let export = lines.join("\n");
    let report = ostler_audit::verify::lines(export.as_bytes(), false).unwrap();
    assert!(["line 2", "line 3"].iter().all(|place| report.findings.iter().any(|it| it.place == *place)));
}
