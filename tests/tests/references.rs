//! Files behind `${file:…}` references that are rotated, lost and found again, while everything is served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(unix)]

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ostler_config::{GlobList, Lookup, ProcessLookup};
use ostler_dataplane::DataPlane;
use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{self, LegacyClient, admin, standalone, until_healthy};
use serde_json::{Value, json};

/// A mount `sealed` that needs the secret, and a mount `open` that needs none.
fn config(server: &FakeServer, secret: &Path) -> String {
    let reference = format!("Bearer ${{file:{}}}", secret.display());
    json!({"version": 1, "upstreams": {
        "open": {"http": {"url": server.url()}},
        "sealed": {"http": {"url": server.url()}, "headers": {"Authorization": reference}},
    }})
    .to_string()
}

/// A secret as Kubernetes mounts it: behind two links, of which the first is swapped.
fn rotate(dir: &Path, content: &str) {
    let version = dir.join(format!("..{content}"));
    fs::create_dir(&version).unwrap();
    fs::write(version.join("secret"), content).unwrap();
    symlink(&version, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if fs::symlink_metadata(dir.join("secret")).is_err() {
        symlink("..data/secret", dir.join("secret")).unwrap();
    }
}

/// Looks up as the process does, and remembers every path that it was asked to open.
#[derive(Clone, Default)]
struct Opened(Arc<Mutex<Vec<String>>>);

impl Lookup for Opened {
    fn env(&self, name: &str) -> Option<String> {
        ProcessLookup.env(name)
    }

    fn file(&self, path: &str) -> io::Result<String> {
        self.0.lock().unwrap().push(path.to_owned());
        ProcessLookup.file(path)
    }
}

/// A data plane `a`, state in the folder `a`, that has the config from control, with the secret `one`.
async fn following_control(dir: &Path) -> (FakeServer, TestControl, DataPlane) {
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.join("control")).await;
    rotate(dir, "one");
    let dataplane = control.dataplane(&dir.join("a"), "a").await;
    control.apply(&config(&server, &dir.join("secret"))).await;
    control.until("a", "in_sync").await;
    (server, control, dataplane)
}

async fn mount(dataplane: &DataPlane, state_dir: &Path, name: &str) -> Value {
    let mounts = admin(dataplane, state_dir, "/mounts").await;
    mounts["mounts"].as_array().unwrap().iter().find(|mount| mount["name"] == name).unwrap().clone()
}

async fn until_down(dataplane: &DataPlane, state_dir: &Path) {
    eventually("the mount without its secret is down", async || {
        let sealed = mount(dataplane, state_dir, "sealed").await;
        (sealed["state"] == "down" && sealed["reason"] == "secret_unresolved").then_some(())
    })
    .await;
}

/// Without a client: by probes alone.
async fn until_ready(dataplane: &DataPlane, state_dir: &Path) {
    eventually("the mount comes back by itself", async || {
        (mount(dataplane, state_dir, "sealed").await["state"] == "ready").then_some(())
    })
    .await;
}

fn sent(server: &FakeServer) -> Option<String> {
    let last = server.seen().pop()?;
    Some(last.headers.get("authorization")?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_secret_that_is_rotated_lost_and_found_again_moves_only_the_mount_that_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, state_dir) = (FakeServer::start("up").await, dir.path().join("state"));
    rotate(dir.path(), "one");
    let secret = dir.path().join("secret");
    let dataplane = standalone(dir.path(), &config(&server, &secret)).await;
    let neighbour = LegacyClient::connect(dataplane.mcp_addr(), "open").await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "sealed").await;
    assert_eq!(sent(&server).as_deref(), Some("Bearer one"));

    rotate(dir.path(), "two");
    eventually("the new secret is sent", async || {
        assert!(client.who(1).await.json()["result"].is_object(), "a rotation cost a call");
        (sent(&server).as_deref() == Some("Bearer two")).then_some(())
    })
    .await;

    // Gone, then there and not readable: a link into nowhere, a folder.
    let losses: [fn(&Path); 2] = [
        |dir| fs::remove_dir_all(dir.join("..two")).unwrap(),
        |dir| {
            fs::remove_file(dir.join("secret")).unwrap();
            fs::create_dir(dir.join("secret")).unwrap();
        },
    ];
    for (number, lose) in losses.into_iter().enumerate() {
        lose(dir.path());
        until_down(&dataplane, &state_dir).await;
        let count = server.seen().len();
        let refused = client.who(2).await.json();
        assert_eq!(refused["error"]["data"]["reason"], "upstream_unavailable", "loss {number}: {refused}");
        assert_eq!(server.seen().len(), count, "loss {number}: a call went out without its secret");
        if number == 0 {
            rotate(dir.path(), "three");
        } else {
            fs::remove_dir(&secret).unwrap();
            fs::write(&secret, "four").unwrap();
        }
        until_ready(&dataplane, &state_dir).await;
        let back = LegacyClient::connect(dataplane.mcp_addr(), "sealed").await;
        assert!(back.who(3).await.json()["result"].is_object(), "loss {number}");
        assert_eq!(sent(&server).as_deref(), Some(["Bearer three", "Bearer four"][number]));
    }
    assert!(neighbour.who(4).await.json()["result"].is_object(), "the neighbour's session is gone");
    assert_eq!(admin(&dataplane, &state_dir, "/config").await["applied"]["version"], 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_is_missing_at_a_start_from_disk_is_taken_when_it_appears() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = following_control(dir.path()).await;
    let state_dir = dir.path().join("a");
    until_healthy(&dataplane, &state_dir).await;
    dataplane.shutdown().await;
    let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    control.running.shutdown().await;

    fs::remove_file(dir.path().join("..data")).unwrap();
    let dataplane = DataPlane::start(world::options(&state_dir, follow)).await.unwrap();
    until_down(&dataplane, &state_dir).await;
    let neighbour = LegacyClient::connect(dataplane.mcp_addr(), "open").await;
    assert!(neighbour.who(1).await.json()["result"].is_object());
    rotate(dir.path(), "two");
    until_ready(&dataplane, &state_dir).await;
    LegacyClient::connect(dataplane.mcp_addr(), "sealed").await;
    assert_eq!(sent(&server).as_deref(), Some("Bearer two"));
    assert!(neighbour.who(2).await.json()["result"].is_object(), "the neighbour's session is gone");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_reload_reads_referenced_files_also_where_control_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, control, dataplane) = following_control(dir.path()).await;
    let client = LegacyClient::connect(dataplane.mcp_addr(), "sealed").await;
    rotate(dir.path(), "two");
    dataplane.reload();
    eventually("the new secret is sent", async || {
        client.who(1).await;
        (sent(&server).as_deref() == Some("Bearer two")).then_some(())
    })
    .await;
    assert_eq!(control.node("a").await.unwrap()["state"], "in_sync");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_file_that_the_host_does_not_allow_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let control = TestControl::start(&dir.path().join("control")).await;
    let state_dir = dir.path().join("a");
    fs::write(dir.path().join("ours"), "one").unwrap();
    fs::write(dir.path().join("theirs"), "two").unwrap();
    let opened = Opened::default();
    let start = async |allowed: &str| {
        let follow = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
        let mut options = world::options(&state_dir, follow);
        options.lookup = Box::new(opened.clone());
        let pattern = format!("file:{}", dir.path().join(allowed).display());
        options.allowed.references = GlobList::parse([pattern]).unwrap();
        DataPlane::start(options).await.unwrap()
    };
    let has_opened = |file: &str| opened.0.lock().unwrap().iter().any(|path| path.ends_with(file));
    let refused = async || {
        eventually("the config is refused", async || {
            let node = control.node("a").await?;
            let error = node["last_error"].to_string();
            error.contains("not_allowed_here").then_some(())
        })
        .await;
    };

    let dataplane = start("ours").await;
    control.apply(&config(&server, &dir.path().join("theirs"))).await;
    refused().await;
    assert!(!has_opened("theirs"), "a file was opened before the reference to it was refused");
    control.apply(&config(&server, &dir.path().join("ours"))).await;
    control.until("a", "in_sync").await;
    until_healthy(&dataplane, &state_dir).await;
    assert!(has_opened("ours"));
    dataplane.shutdown().await;

    // What was good before is judged by what the host allows now.
    opened.0.lock().unwrap().clear();
    let dataplane = start("theirs").await;
    refused().await;
    assert!(!has_opened("ours"), "a file of the last-known-good config was opened before it was refused");
    dataplane.shutdown().await;
}
