//! Files that config comes from, as operators and their tools change them: followed by a data plane and by control alike,
//! and read again when SIGHUP asks for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(unix)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ostler_control::{Control, ControlOptions};
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::process::{Process, Program, address};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{self, initialize};
use serde_json::json;

/// A way to give a file other content. The file is `ostler.yaml` in a folder of its own, laid out as Kubernetes does it.
type Change = fn(&Path, &str);

const CHANGES: [(&str, Change); 9] = [
    ("symlink swap", |folder, text| {
        let version = folder.join(format!("..{}", text.len()));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("ostler.yaml"), text).unwrap();
        symlink(&version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }),
    ("replaced by rename", replace),
    ("truncated and written in place", |folder, text| fs::write(folder.join("ostler.yaml"), text).unwrap()),
    ("deleted and made again", |folder, text| {
        fs::remove_file(folder.join("ostler.yaml")).unwrap();
        fs::write(folder.join("ostler.yaml"), text).unwrap();
    }),
    ("empty for a moment", |folder, text| {
        fs::write(folder.join("ostler.yaml"), "").unwrap();
        replace(folder, text);
    }),
    ("a pipe for a moment", |folder, text| {
        fs::remove_file(folder.join("ostler.yaml")).unwrap();
        assert!(Command::new("mkfifo").arg(folder.join("ostler.yaml")).status().unwrap().success());
        replace(folder, text);
    }),
    ("a folder for a moment", |folder, text| {
        fs::remove_file(folder.join("ostler.yaml")).unwrap();
        fs::create_dir(folder.join("ostler.yaml")).unwrap();
        fs::remove_dir(folder.join("ostler.yaml")).unwrap();
        replace(folder, text);
    }),
    ("its folder renamed and made again", |folder, text| {
        fs::rename(folder, folder.with_extension("old")).unwrap();
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("ostler.yaml"), text).unwrap();
    }),
    ("written through a hard link", |folder, text| {
        let elsewhere = folder.with_extension("link");
        fs::hard_link(folder.join("ostler.yaml"), &elsewhere).unwrap();
        fs::write(&elsewhere, text).unwrap();
    }),
];

fn replace(folder: &Path, text: &str) {
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), folder.join("ostler.yaml")).unwrap();
}

/// Config number `number`: its mounts are `up` and `m<number>`.
fn config(server: &FakeServer, number: usize) -> String {
    let mount = format!("m{number}");
    let text = json!({"version": 1, "upstreams": {"up": {"http": {"url": server.url()}}}, "mounts": {mount: {"upstream": "up"}}});
    // Each of another length, which names its folder.
    format!("{text}{}", " ".repeat(number))
}

/// The first config, behind links as Kubernetes has them.
fn lay_out(folder: &Path, text: &str) {
    fs::create_dir_all(folder.join("..first")).unwrap();
    fs::write(folder.join("..first/ostler.yaml"), text).unwrap();
    symlink("..first", folder.join("..data")).unwrap();
    symlink("..data/ostler.yaml", folder.join("ostler.yaml")).unwrap();
}

async fn is_served(mcp: SocketAddr, mount: &str) -> bool {
    Ask::mcp(mcp, &format!("/mcp/{mount}"), &initialize()).send().await.status == 200
}

#[tokio::test]
async fn a_data_plane_follows_its_file_however_it_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, server) = (dir.path().join("conf"), FakeServer::start("up").await);
    lay_out(&folder, &config(&server, 0));
    let from = ConfigFrom::File(folder.join("ostler.yaml"));
    let dataplane = DataPlane::start(world::options(&dir.path().join("state"), from)).await.unwrap();
    for (number, (how, change)) in CHANGES.into_iter().enumerate() {
        change(&folder, &config(&server, number + 1));
        let mount = format!("m{}", number + 1);
        eventually(how, async || is_served(dataplane.mcp_addr(), &mount).await.then_some(())).await;
        assert!(
            !is_served(dataplane.mcp_addr(), &format!("m{number}")).await,
            "{how}: two configs are mixed"
        );
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn control_follows_its_file_however_it_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, server) = (dir.path().join("conf"), FakeServer::start("up").await);
    lay_out(&folder, &config(&server, 0));
    let mut options = ControlOptions::new(dir.path().join("state"), world::fleet());
    (options.listen, options.sync_listen) = (any(), any());
    options.config = Some(folder.join("ostler.yaml"));
    let control = Control::start(options).await.unwrap();
    let token = format!("Bearer {}", fs::read_to_string(dir.path().join("state/operator.token")).unwrap());
    for (number, (how, change)) in CHANGES.into_iter().enumerate() {
        let text = config(&server, number + 1);
        change(&folder, &text);
        eventually(how, async || {
            let ask = Ask::new(control.api_addr, "GET", "/v1/fleets/default/config");
            (ask.header("authorization", &token).send().await.body == text).then_some(())
        })
        .await;
    }
    let ask = Ask::new(control.api_addr, "GET", "/v1/fleets/default/versions");
    let versions = ask.header("authorization", &token).send().await.json();
    assert_eq!(
        versions["items"].as_array().unwrap().len(),
        CHANGES.len() + 1,
        "half a file became a version"
    );
    control.shutdown().await;
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A data plane as a process that follows `ostler.yaml` in the folder, started by what stands before its name.
fn start(dir: &Path, before: &[&str]) -> Process {
    let mut arguments = before.to_vec();
    arguments.extend([env!("CARGO_BIN_EXE_xtask"), "process", "dataplane"]);
    let program = Program::new(arguments[0], &arguments[1..]);
    let config = format!("--config={}", dir.join("ostler.yaml").display());
    let arguments = [config, "--listen=127.0.0.1:0".to_owned(), "--admin-listen=127.0.0.1:0".to_owned()];
    program.start(&dir.join("state"), &arguments, &dir.join("log")).unwrap()
}

fn hang_up(pid: u32) {
    let sent = Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

async fn has_line(addr: SocketAddr, line: &str) -> bool {
    Ask::new(addr, "GET", "/metrics").send().await.text().lines().any(|there| there == line)
}

#[tokio::test]
async fn a_hangup_has_a_data_plane_read_its_file_again_whatever_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    fs::write(dir.path().join("ostler.yaml"), config(&server, 1)).unwrap();
    let mut process = start(dir.path(), &[]);
    let listening = process.listening().await.unwrap();
    let (mcp, admin) = (address(&listening, "mcp"), address(&listening, "admin"));
    hang_up(process.pid());
    let unchanged = "ostler_config_applies_total{source=\"file\",result=\"unchanged\"} 1";
    eventually("the file is read again", async || has_line(admin, unchanged).await.then_some(())).await;
    // One that is wrong is refused again, and one that is gone is told again.
    fs::write(dir.path().join("ostler.yaml"), "version: 9\n").unwrap();
    for count in 1..=3 {
        let rejected = format!("ostler_config_applies_total{{source=\"file\",result=\"rejected\"}} {count}");
        eventually("it is refused", async || has_line(admin, &rejected).await.then_some(())).await;
        if count == 2 {
            fs::remove_file(dir.path().join("ostler.yaml")).unwrap();
        } else {
            hang_up(process.pid());
        }
    }
    assert!(is_served(mcp, "m1").await);
    assert!(process.ended().unwrap().is_none());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_for_a_while_is_reported_and_taken_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let file = dir.path().join("ostler.yaml");
    let dataplane = world::standalone(dir.path(), &config(&server, 1)).await;
    for number in [1, 2] {
        fs::rename(&file, dir.path().join("away")).unwrap();
        // Nobody can read a folder, whoever they are.
        fs::create_dir(&file).unwrap();
        let rejected = format!("ostler_config_applies_total{{source=\"file\",result=\"rejected\"}} {number}");
        eventually("it is reported", async || {
            has_line(dataplane.admin_addr(), &rejected).await.then_some(())
        })
        .await;
        assert!(is_served(dataplane.mcp_addr(), &format!("m{number}")).await);
        fs::remove_dir(&file).unwrap();
        fs::write(&file, config(&server, number + 1)).unwrap();
        let mount = format!("m{}", number + 1);
        eventually("it is served", async || is_served(dataplane.mcp_addr(), &mount).await.then_some(()))
            .await;
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_hangup_has_control_read_its_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let file = dir.path().join("ostler.yaml");
    fs::write(&file, config(&server, 1)).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "control"]);
    let arguments = [
        "--listen=127.0.0.1:0".to_owned(),
        "--sync-listen=127.0.0.1:0".to_owned(),
        format!("--config={}", file.display()),
    ];
    let mut process = program.start(&dir.path().join("state"), &arguments, &dir.path().join("log")).unwrap();
    let api = address(&process.listening().await.unwrap(), "api");
    hang_up(process.pid());
    let unchanged = "ostler_control_applies_total{source=\"file\",result=\"unchanged\"} 1";
    eventually("the file is read again", async || has_line(api, unchanged).await.then_some(())).await;
    assert!(process.ended().unwrap().is_none());
}

/// In a user namespace of its own, so that the limit holds for nobody else. Machines that allow none are left out, and say so.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_data_plane_that_is_given_no_events_follows_its_file_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    fs::write(dir.path().join("ostler.yaml"), config(&server, 1)).unwrap();
    let limit = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let before = ["unshare", "--user", "--map-root-user", "sh", "-c", limit];
    if !Command::new("unshare")
        .args(&before[1..5])
        .arg(limit)
        .arg("true")
        .status()
        .is_ok_and(|done| done.success())
    {
        eprintln!(
            "not tried: this machine allows no user namespaces, so the limit of inotify cannot be lowered"
        );
        return;
    }
    let mut process = start(dir.path(), &before);
    let mcp = address(&process.listening().await.unwrap(), "mcp");
    replace(dir.path(), &config(&server, 2));
    eventually("the change is served", async || is_served(mcp, "m2").await.then_some(())).await;
}
