//! Versions through the API.

use http::{Method, StatusCode};
use ostler_control::api::types::{ApplyResult, DiffResult, FleetList, VersionDetail, VersionList};

use crate::support::{World, config};

const CONFIG: &str = "/v1/fleets/default/config";

#[tokio::test]
async fn a_config_becomes_a_version_and_is_given_back_as_it_was_sent() {
    let world = World::start().await;
    let text = format!("# a comment\n{}", config(1));
    let answer = world.api(Method::PUT, &format!("{CONFIG}?message=first"), &[], text.clone()).await;
    let applied: ApplyResult = answer.json();
    assert!(applied.changed && applied.version == 1 && applied.parent.is_none(), "{applied:?}");
    assert!(applied.epoch >= 1_000_000);
    assert_eq!((answer.header("etag"), answer.header("cache-control")), ("\"1\"", "no-store"));
    assert!(!applied.changes.is_empty());

    let read = world.api(Method::GET, CONFIG, &[], "").await;
    assert_eq!(read.text(), text);
    assert_eq!((read.header("etag"), read.header("ostler-version")), ("\"1\"", "1"));
    assert_eq!(
        (read.header("ostler-digest"), read.header("content-type")),
        (&*applied.digest, "application/yaml")
    );

    let detail: VersionDetail = world.get("/v1/fleets/default/versions/1").await;
    assert_eq!((detail.info.author.as_str(), detail.info.message.as_str()), ("operator", "first"));
    assert_eq!((detail.info.created_unix_ms, detail.info.bytes), (1_000_000, text.len() as u64));
    let fleets: FleetList = world.get("/v1/fleets").await;
    assert_eq!(fleets.items.first().unwrap().desired.as_ref().unwrap().digest, applied.digest);
}

#[tokio::test]
async fn json_and_yaml_of_one_content_are_one_version() {
    let world = World::start().await;
    let yaml = world.put(config(1)).await;
    let json = r#"{"version":1,"upstreams":{"demo":{"http":{"url":"http://127.0.0.1:1/mcp"}}}}"#;
    let again = world.put(json).await;
    assert!(!again.changed && again.version == yaml.version && again.changes.is_empty(), "{again:?}");
    let versions: VersionList = world.get("/v1/fleets/default/versions").await;
    assert_eq!(versions.items.len(), 1);
}

#[tokio::test]
async fn a_stale_precondition_changes_nothing_and_names_the_current_version() {
    let world = World::start().await;
    world.put(config(1)).await;
    world.put(config(2)).await;
    let stale = world.api(Method::PUT, CONFIG, &[("if-match", "\"1\"")], config(3)).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let problem = stale.problem();
    assert!(problem.code == "version_conflict" && problem.detail.contains("version 2"), "{problem:?}");
    let none_yet = world.api(Method::PUT, CONFIG, &[("if-none-match", "*")], config(3)).await;
    assert_eq!(none_yet.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(world.api(Method::GET, CONFIG, &[], "").await.header("etag"), "\"2\"");

    let current = world.api(Method::PUT, CONFIG, &[("if-match", "\"2\"")], config(3)).await;
    assert_eq!(current.json::<ApplyResult>().version, 3);
    assert_eq!(
        world.metric("ostler_control_applies_total{source=\"api\",result=\"conflict\"}").await,
        Some(2)
    );
}

#[tokio::test]
async fn an_apply_that_is_sent_again_after_a_lost_answer_is_not_a_conflict() {
    let world = World::start().await;
    world.put(config(1)).await;
    let first = world.api(Method::PUT, CONFIG, &[("if-match", "\"1\"")], config(2)).await;
    let second = world.api(Method::PUT, CONFIG, &[("if-match", "\"1\"")], config(2)).await;
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK));
    assert!(!second.json::<ApplyResult>().changed);
}

#[tokio::test]
async fn of_concurrent_applies_with_one_precondition_exactly_one_wins() {
    let world = World::start().await;
    world.put(config(1)).await;
    let applies = (10..20).map(|port| world.api(Method::PUT, CONFIG, &[("if-match", "\"1\"")], config(port)));
    let answers = futures_util::future::join_all(applies).await;
    let won = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let lost = answers.iter().filter(|answer| answer.status == StatusCode::PRECONDITION_FAILED).count();
    assert_eq!((won, lost), (1, 9));
}

#[tokio::test]
async fn an_invalid_config_is_answered_with_every_diagnostic_and_changes_nothing() {
    let world = World::start().await;
    let text = "version: 1\nupstreams:\n  Bad Name:\n    http: { url: \"ftp://x\" }\n  other:\n    tiemouts: 5\n    \
                http: { url: \"http://h/\" }\nmounts:\n  m: { upstream: nowhere }\n";
    let answer = world.api(Method::PUT, CONFIG, &[], text).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = answer.problem();
    let names: Vec<_> = problem.diagnostics.iter().map(|diagnostic| &*diagnostic.name).collect();
    for expected in ["bad_name", "unknown_key", "unknown_upstream"] {
        assert!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    assert!(
        problem.diagnostics.iter().all(|diagnostic| diagnostic.line.is_some() && !diagnostic.help.is_empty())
    );
    assert_eq!(world.api(Method::GET, CONFIG, &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_the_old_text() {
    let world = World::start().await;
    let text = format!("# the first\n{}", config(1));
    let first = world.put(text.clone()).await;
    world.put(config(2)).await;
    let path = "/v1/fleets/default/rollback";
    let answer = world.api(Method::POST, path, &[], r#"{"version":1,"if_version":2}"#).await;
    let back: ApplyResult = answer.json();
    assert!(back.changed && back.version == 3 && back.parent == Some(2), "{back:?}");
    assert_eq!(back.digest, first.digest);
    assert_eq!(world.api(Method::GET, CONFIG, &[], "").await.text(), text);

    let stale = world.api(Method::POST, path, &[], r#"{"version":2,"if_version":2}"#).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let missing = world.api(Method::POST, path, &[], r#"{"version":9}"#).await;
    assert_eq!((missing.status, missing.problem().code.as_str()), (StatusCode::NOT_FOUND, "no_such_version"));
    let unknown = world.api(Method::POST, path, &[], r#"{"version":1,"when":"now"}"#).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let world = World::start().await;
    world.put(config(1)).await;
    let path = format!("{CONFIG}?dry_run=true");
    let would: ApplyResult = world.api(Method::PUT, &path, &[], config(2)).await.json();
    assert!(would.changed && would.dry_run && would.version == 2 && !would.changes.is_empty(), "{would:?}");
    let same: ApplyResult = world.api(Method::PUT, &path, &[], config(1)).await.json();
    assert!(!same.changed && same.version == 1);
    let stale = world.api(Method::PUT, &path, &[("if-match", "\"7\"")], config(2)).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(world.get::<VersionList>("/v1/fleets/default/versions").await.items.len(), 1);
}

#[tokio::test]
async fn versions_are_listed_newest_first_in_pages() {
    let world = World::start().await;
    for port in 1..=5 {
        world.put(config(port)).await;
    }
    let numbers = |list: &VersionList| list.items.iter().map(|item| item.version).collect::<Vec<_>>();
    let first: VersionList = world.get("/v1/fleets/default/versions?limit=2").await;
    assert_eq!((numbers(&first), first.next), (vec![5, 4], Some(4)));
    let second: VersionList = world.get("/v1/fleets/default/versions?limit=3&before=4").await;
    assert_eq!((numbers(&second), second.next), (vec![3, 2, 1], None));
}

#[tokio::test]
async fn a_diff_shows_what_changed_between_two_versions() {
    let world = World::start().await;
    world.put(config(1)).await;
    world.put(config(2)).await;
    let diff: DiffResult = world.get("/v1/fleets/default/diff?from=1&to=2").await;
    assert!(diff.changes.len() == 1 && diff.text.contains("127.0.0.1:2"), "{diff:?}");
    let missing = world.api(Method::GET, "/v1/fleets/default/diff?from=1&to=3", &[], "").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn fleets_have_histories_of_their_own() {
    let world = World::start().await;
    world.put(config(1)).await;
    let other = world.api(Method::PUT, "/v1/fleets/eu-1/config", &[], config(2)).await;
    assert_eq!(other.json::<ApplyResult>().version, 1);
    let bad = world.api(Method::PUT, "/v1/fleets/-x/config", &[], config(2)).await;
    assert_eq!((bad.status, bad.problem().code.as_str()), (StatusCode::BAD_REQUEST, "bad_fleet_name"));
}

#[tokio::test]
async fn acknowledged_versions_survive_a_restart() {
    let world = World::start().await;
    let first = world.put(config(1)).await;
    let second = world.put(config(2)).await;
    let world = world.restart().await;
    let versions: VersionList = world.get("/v1/fleets/default/versions").await;
    let digests: Vec<_> = versions.items.iter().map(|item| item.digest.clone()).collect();
    assert_eq!(digests, [second.digest, first.digest]);
    let third = world.put(config(3)).await;
    assert_eq!((third.version, third.epoch), (3, first.epoch));
}
