//! A fleet that follows a file.

use std::fs;
use std::path::PathBuf;

use http::{Method, StatusCode};
use ostler_control::api::types::{FileInfo, FleetList, VersionList};
use ostler_control::{Control, FileError, StartError};
use ostler_core::clock::WallClock;

use crate::support::{PATIENCE, World, config, options};

fn path(world: &World) -> PathBuf {
    world.folder.path().join("ostler.yaml")
}

async fn following() -> World {
    World::start_with(|options, folder| {
        let path = folder.path().join("ostler.yaml");
        fs::write(&path, config(1)).unwrap();
        options.config = Some(path);
    })
    .await
}

async fn file_info(world: &World, wanted: impl Fn(&FileInfo) -> bool) -> FileInfo {
    let poll = async {
        loop {
            let fleets: FleetList = world.get("/v1/fleets").await;
            let info = fleets.items.into_iter().find_map(|fleet| fleet.file).unwrap();
            if wanted(&info) {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the file was never seen in that state")
}

async fn wait_for_version(world: &World, version: u64) {
    let poll = async {
        while world.get::<VersionList>("/v1/fleets/default/versions").await.items.len() as u64 != version {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the version was never made");
}

#[tokio::test]
async fn what_stands_in_the_file_becomes_a_version_and_so_does_each_change() {
    let world = following().await;
    let first: VersionList = world.get("/v1/fleets/default/versions").await;
    assert_eq!(first.items.first().map(|item| item.author.as_str()), Some("file"));
    fs::write(path(&world), config(2)).unwrap();
    wait_for_version(&world, 2).await;
    // As an editor does it: another file takes the name.
    let replacement = world.folder.path().join("ostler.yaml.new");
    fs::write(&replacement, config(3)).unwrap();
    fs::rename(&replacement, path(&world)).unwrap();
    wait_for_version(&world, 3).await;
}

#[tokio::test]
async fn a_bad_change_keeps_what_is_there_and_is_shown_with_every_diagnostic() {
    let world = following().await;
    fs::write(path(&world), "version: 1\nupstraems: {}\nmounst: {}\n").unwrap();
    let info = file_info(&world, |info| info.rejected.is_some()).await;
    let rejected = info.rejected.unwrap();
    assert_eq!(rejected.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(), 2);
    fs::remove_file(path(&world)).unwrap();
    let gone = |info: &FileInfo| {
        info.rejected.as_ref().is_some_and(|rejected| rejected.message.contains("not exist"))
    };
    file_info(&world, gone).await;
    assert_eq!(world.get::<VersionList>("/v1/fleets/default/versions").await.items.len(), 1);
    assert_eq!(
        world.metric("ostler_control_applies_total{source=\"file\",result=\"rejected\"}").await,
        Some(2)
    );
    fs::write(path(&world), config(1)).unwrap();
    file_info(&world, |info| info.rejected.is_none()).await;
    assert_eq!(world.get::<VersionList>("/v1/fleets/default/versions").await.items.len(), 1);
}

#[tokio::test]
async fn the_api_refuses_to_change_a_fleet_that_follows_a_file_and_names_it() {
    let world = following().await;
    let put = world.api(Method::PUT, "/v1/fleets/default/config", &[], config(2)).await;
    let back = world.api(Method::POST, "/v1/fleets/default/rollback", &[], r#"{"version":1}"#).await;
    for answer in [put, back] {
        assert_eq!(answer.status, StatusCode::CONFLICT);
        let problem = answer.problem();
        assert!(problem.code == "follows_file" && problem.detail.contains("ostler.yaml"), "{problem:?}");
    }
    let dry = world.api(Method::PUT, "/v1/fleets/default/config?dry_run=true", &[], config(2)).await;
    assert_eq!(dry.status, StatusCode::OK);
    let other = world.api(Method::PUT, "/v1/fleets/other/config", &[], config(2)).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn a_bad_file_at_start_is_an_error_with_the_rendered_diagnostics() {
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::manual(1);
    let path = folder.path().join("ostler.yaml");
    let mut options = options(&folder, &clock);
    options.config = Some(path.clone());
    let error = Control::start(options.clone()).await.err().unwrap();
    assert!(matches!(&error, StartError::File(FileError::Unreadable { .. })), "{error}");
    assert!(error.to_string().contains("--config"), "{error}");
    fs::write(&path, "version: 1\nupstraems: {}\n").unwrap();
    let error = Control::start(options.clone()).await.err().unwrap().to_string();
    assert!(
        error.contains("OST0201") && error.contains("ostler.yaml:2:1") && error.contains("help:"),
        "{error}"
    );
    // Nothing is left behind that would stand in the way of another try.
    fs::write(&path, config(1)).unwrap();
    Control::start(options).await.unwrap().shutdown().await;
}
