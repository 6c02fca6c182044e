//! A state folder on a file system of its own that runs full and becomes read-only, in a mount namespace of the data
//! plane's own. Machines that allow none are left out, and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_tests::support::control::TestControl;
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::process::{Process, Program, address};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{self, admin_token, initialize};
use serde_json::Value;

const BEFORE: [&str; 5] = ["--user", "--map-root-user", "--mount", "sh", "-c"];
const MOUNT: &str = "mount -t tmpfs -o size=256k,mode=700 tmpfs \"$STATE\"";

/// A data plane whose state folder is a file system of 256 KiB.
struct Cramped {
    process: Process,
    /// The folder as the process sees it.
    state: PathBuf,
    admin: std::net::SocketAddr,
    mcp: std::net::SocketAddr,
}

fn is_possible(dir: &Path) -> bool {
    let tried = Command::new("unshare").args(BEFORE).arg(MOUNT).env("STATE", dir).status();
    let possible = tried.is_ok_and(|done| done.success());
    if !possible {
        eprintln!("not tried: this machine allows no mount namespaces, so no file system can run full");
    }
    possible
}

impl Cramped {
    async fn start(dir: &Path, control: &TestControl) -> Self {
        let state_dir = dir.join("dataplane");
        fs::create_dir(&state_dir).unwrap();
        let script = format!("STATE={} && {MOUNT} && exec \"$0\" \"$@\"", state_dir.display());
        let mut arguments = BEFORE.to_vec();
        arguments.extend([script.as_str(), env!("CARGO_BIN_EXE_xtask"), "process", "dataplane"]);
        let token = control.state_dir.join("node.token");
        let flags = [
            format!("--control=http://{}", control.running.sync_addr),
            format!("--node-token-file={}", token.display()),
            "--node=a".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            "--settle=50ms".to_owned(),
        ];
        let process =
            Program::new("unshare", &arguments).start(&state_dir, &flags, &dir.join("log")).unwrap();
        let state = PathBuf::from(format!("/proc/{}/root{}", process.pid(), state_dir.display()));
        let mut process = process.with_state_at(&state);
        let listening = process.listening().await.unwrap();
        let (admin, mcp) = (address(&listening, "admin"), address(&listening, "mcp"));
        Self { process, state, admin, mcp }
    }

    async fn last_known_good(&self) -> Value {
        let token = format!("Bearer {}", admin_token(&self.state));
        let shown =
            Ask::new(self.admin, "GET", "/config").header("authorization", &token).send().await.json();
        shown["last_known_good"].clone()
    }

    /// Pushes a version with that mount, and waits until it is served and called healthy.
    async fn push(&self, control: &TestControl, server: &FakeServer, mount: &str) {
        control.apply(&world::config(&[(mount, &server.url())])).await;
        control.until("a", "in_sync").await;
        let answer = Ask::mcp(self.mcp, &format!("/mcp/{mount}"), &initialize()).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(Ask::new(self.admin, "GET", "/readyz").send().await.status, 200);
    }

    async fn until_persisted(&self, version: u64) {
        eventually("the version is on disk", async || {
            let shown = self.last_known_good().await;
            (shown["persisted"]["version"] == version && shown["alarm"].is_null()).then_some(())
        })
        .await;
    }

    async fn alarm(&self) -> String {
        self.last_known_good().await["alarm"]["reason"].as_str().expect("no alarm").to_owned()
    }

    /// Runs a command where the process sees its folder.
    fn inside(&self, command: &str) {
        let pid = self.process.pid().to_string();
        let namespaces = ["--target", &pid, "--user", "--mount", "--preserve-credentials"];
        let done = Command::new("nsenter").args(namespaces).args(["sh", "-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
    }
}

impl Cramped {
    /// Another start on a copy of the folder as it is, read-only too, with nobody to follow: the address of its admin port,
    /// which it cannot write down.
    async fn start_again(&self, dir: &Path) -> (Process, std::net::SocketAddr) {
        let (state, again) = (dir.join("dataplane"), dir.join("again"));
        let (from, to) = (state.display(), again.display());
        self.inside(&format!(
            "mkdir {to} && mount -t tmpfs tmpfs {to} && cp -a {from}/. {to}/ && mount -o remount,ro {to}"
        ));
        let pid = self.process.pid().to_string();
        let program = [
            "--target",
            &pid,
            "--user",
            "--mount",
            "--preserve-credentials",
            env!("CARGO_BIN_EXE_xtask"),
            "process",
            "dataplane",
        ];
        let flags = [
            "--control=http://127.0.0.1:1".to_owned(),
            format!("--node-token-file={}", dir.join("control/node.token").display()),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
        ];
        let log = dir.join("second.log");
        let mut process = Program::new("nsenter", &program).start(&again, &flags, &log).unwrap();
        let admin = eventually("it says where it is", async || {
            assert!(process.ended().unwrap().is_none(), "{}", fs::read_to_string(&log).unwrap());
            let said = fs::read_to_string(&log).unwrap();
            let (_, admin) = said.split_once("data plane is serving")?.1.split_once("admin=")?;
            admin.split_whitespace().next()?.parse().ok()
        })
        .await;
        (process, admin)
    }
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_an_alarm_and_what_it_missed_is_written_when_it_recovers() {
    let dir = tempfile::tempdir().unwrap();
    if !is_possible(dir.path()) {
        return;
    }
    let (server, control) =
        (FakeServer::start("up").await, TestControl::start(&dir.path().join("control")).await);
    let cramped = Cramped::start(dir.path(), &control).await;
    cramped.push(&control, &server, "one").await;
    cramped.until_persisted(1).await;

    // To the last byte.
    let filler = cramped.state.join("filler");
    let full = fs::write(&filler, vec![0; 1024 * 1024]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    cramped.push(&control, &server, "two").await;
    let reason = cramped.alarm().await;
    assert!(reason.contains("No space left on device") && reason.contains("free space"), "{reason}");
    fs::remove_file(&filler).unwrap();
    cramped.until_persisted(2).await;

    let state = dir.path().join("dataplane");
    cramped.inside(&format!("mount -o remount,ro {}", state.display()));
    cramped.push(&control, &server, "three").await;
    assert!(cramped.alarm().await.contains("Read-only file system"));
    // A start needs no disk that can be written to. It serves what was kept last.
    let (second, admin) = cramped.start_again(dir.path()).await;
    assert_eq!(Ask::new(admin, "GET", "/readyz").send().await.status, 200);
    let metrics = Ask::new(admin, "GET", "/metrics").send().await.text();
    assert!(metrics.contains("\nostler_config_version_applied 2\n"), "{metrics}");
    drop(second);
    cramped.inside(&format!("mount -o remount,rw {}", state.display()));
    cramped.until_persisted(3).await;

    let left = fs::read_dir(cramped.state.join("generations")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".tmp")) && left.len() == 4, "{left:?}");
}
