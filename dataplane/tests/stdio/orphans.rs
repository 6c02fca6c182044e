//! No process is left behind: by a child's end, by a swap, by a data plane that is stopped or killed. Survivors are looked
//! for where the system lists them.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ostler_core::limits::CHILD_STOP_GRACE;
use ostler_core::state_dir::read_listeners;
use serde_json::{Value, json};

use crate::door::{Caller, Door, upstream};
use crate::fake::{self, Mood};
use crate::world::{is_alive, kill, until, until_gone};

/// Names the processes of one test.
const RUN: &str = "OSTLER_TEST_RUN";

/// A server that ignores SIGTERM, what it starts included, and the end of its stdin.
fn stubborn(dir: &Path) -> Value {
    let script = r#"trap "" TERM; exec "$$@""#;
    let mut args = vec![json!("-c"), json!(script), json!("sh"), json!(std::env::current_exe().unwrap())];
    args.extend(fake::ARGS.map(Value::from));
    let env = json!({ fake::ROLE: "1", fake::STUBBORN: "1", RUN: dir });
    json!({ "stdio": { "command": "sh", "args": args, "env": env } })
}

/// Processes of the test, but for zombies.
fn survivors(dir: &Path) -> Vec<u32> {
    carriers(RUN, dir.to_str().unwrap())
}

/// Processes that were started with this variable.
fn carriers(name: &str, value: &str) -> Vec<u32> {
    let variable = format!("{name}={value}");
    let carries = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(carries).collect()
}

#[tokio::test]
async fn a_descendant_that_left_group_and_tree_ends_with_its_child() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let escaped = client.result("escaped").await["pid"].clone();
    assert!(is_alive(&escaped));
    let begun = Instant::now();
    // It holds the child's stdout open.
    client.call("exit", json!({})).await.error();
    assert!(begun.elapsed() < CHILD_STOP_GRACE, "nobody waits for a pipe that somebody else holds");
    until_gone(&escaped).await;
    client.until_back().await;

    let escaped = client.result("escaped").await["pid"].clone();
    kill(&client.result("pid").await["pid"]);
    until_gone(&escaped).await;
    door.close().await;
}

#[tokio::test]
async fn another_childs_descendants_are_left_alone() {
    let door = Door::open(Mood::Well).await;
    let (a, b) = (door.client().await, door.client().await);
    let [first, second] = [a.result("escaped").await, b.result("escaped").await].map(|it| it["pid"].clone());
    a.call("exit", json!({})).await.error();
    until_gone(&first).await;
    assert!(is_alive(&second));
    door.close().await;
    assert!(!is_alive(&second), "the data plane waits for them before it ends");
}

#[tokio::test]
async fn a_swap_that_removes_the_mount_ends_what_ignores_sigterm_and_what_left_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let door = Door::with(Mood::Well, &stubborn(dir.path())).await;
    let client = door.client().await;
    let pids =
        [client.result("pid").await, client.result("grandchild").await, client.result("escaped").await];
    // What has just been forked is known by its mark once it is a program of its own.
    until(|| survivors(dir.path()).len() == 3).await;
    door.remove().await;
    for pid in pids {
        until_gone(&pid["pid"]).await;
    }
    until(|| survivors(dir.path()).is_empty()).await;
    door.close().await;
}

/// Whether a config is last-known-good there.
fn is_settled(state: &Path) -> bool {
    let generations = fs::read_dir(state.join("generations")).into_iter().flatten().flatten();
    generations.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|kind| kind == "ostler"))
}

/// The data plane as a process of its own.
struct Process {
    child: Child,
    client: Caller,
}

impl Process {
    async fn start(dir: &Path, more: &[&str]) -> Self {
        // The program's name and mood are not used: the command is a shell.
        let config = json!({ "version": 1, "upstreams": { "program": upstream(dir, &stubborn(dir)) } });
        let file = dir.join("ostler.yaml");
        fs::write(&file, config.to_string()).unwrap();
        let state = dir.join("state");
        let child = Command::new(env!("CARGO_BIN_EXE_ostler-dataplane"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--settle",
                "10ms",
                "--config",
            ])
            .arg(file)
            .arg("--state-dir")
            .arg(&state)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut listening = None;
        until(|| {
            listening = read_listeners(&state).filter(|listening| listening.pid == child.id());
            listening.is_some()
        })
        .await;
        let client = Caller::new(listening.unwrap().listeners["mcp"], "program");
        Self { child, client }
    }

    /// A child, its child, and one that has left group and tree.
    async fn with_family(dir: &Path, more: &[&str]) -> Self {
        let mut process = Self::start(dir, more).await;
        // Killed before its config has settled, it would be taken for its config's victim.
        until(|| is_settled(&dir.join("state"))).await;
        assert!(process.client.initialize_at_last().await.is_zero());
        process.client.result("grandchild").await;
        process.client.result("escaped").await;
        until(|| survivors(dir).len() == 3).await;
        process
    }

    async fn ended(&mut self) {
        until(|| self.child.try_wait().unwrap().is_some()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that fails must not be what leaves processes behind.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[tokio::test]
async fn a_data_plane_that_is_told_to_stop_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::with_family(dir.path(), &[]).await;
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    process.ended().await;
    assert_eq!(survivors(dir.path()), [] as [u32; 0]);
}

#[tokio::test]
async fn a_data_plane_whose_parent_dies_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::with_family(dir.path(), &["--exit-with-parent"]).await;
    drop(process.child.stdin.take());
    process.ended().await;
    assert_eq!(survivors(dir.path()), [] as [u32; 0]);
}

#[tokio::test]
async fn a_killed_data_planes_guard_ends_what_the_data_plane_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::with_family(dir.path(), &[]).await;
    let guard = guard_of(dir.path());
    process.child.kill().unwrap();
    process.ended().await;
    until(|| survivors(dir.path()).is_empty()).await;
    until_gone(&json!(guard)).await;
}

#[tokio::test]
async fn a_guard_is_there_as_long_as_its_data_plane_and_only_for_children() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), &[]).await;
    assert_eq!(carriers("OSTLER_GUARD", &instance(dir.path())), [] as [u32; 0]);
    assert!(process.client.initialize_at_last().await.is_zero());
    let guard = guard_of(dir.path());
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    process.ended().await;
    assert!(!is_alive(&json!(guard)));
}

#[tokio::test]
async fn what_a_killed_data_plane_left_behind_is_ended_by_the_next_one_on_its_state_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::with_family(dir.path(), &[]).await;
    kill(&json!(guard_of(dir.path())));
    process.child.kill().unwrap();
    process.ended().await;
    assert_eq!(survivors(dir.path()).len(), 3, "they ignore the end of their stdin");
    let _next = Process::start(dir.path(), &[]).await;
    assert_eq!(survivors(dir.path()), [] as [u32; 0]);
}

/// What the marks of the data plane on this folder begin with.
fn instance(dir: &Path) -> String {
    let note = fs::read_to_string(dir.join("state").join("children")).unwrap();
    note.split(' ').next().unwrap().to_owned()
}

fn guard_of(dir: &Path) -> u32 {
    let guards = carriers("OSTLER_GUARD", &instance(dir));
    assert_eq!(guards.len(), 1);
    guards[0]
}
