//! A fraction of `cargo xtask full held-memory`, on a build that is not optimised; and that answers begin before they end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![cfg(target_os = "linux")]

use std::path::Path;

use ostler_tests::suites::held::{self, Held, Upstreams, World};
use ostler_tests::support::process::{Process, Program, address};

async fn start(dir: &Path) -> (Process, World) {
    let upstreams = Upstreams::start().await;
    let config = dir.join("ostler.json");
    std::fs::write(&config, upstreams.config()).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_xtask"), &["process", "dataplane"]);
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"].map(str::to_owned);
    let arguments = [&listen[..], &[config.display().to_string()]].concat();
    let mut process = program.start(&dir.join("state"), &arguments, &dir.join("log")).unwrap();
    let mcp = address(&process.listening().await.unwrap(), "mcp");
    let pid = process.pid();
    (process, World { mcp, pid, upstreams })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_idle_and_unread_clients_hold_is_small_and_no_answer_waits_for_its_end() {
    // Room for a build that is not optimised, and for what is there once and counts for more where there are few.
    let kinds = [
        (Held::Sessions, 1_000, 12.0),
        (Held::Streams, 512, 25.0),
        (Held::Events, 32, 64.0),
        (Held::Large, 32, 64.0),
    ];
    for (kind, count, most_kib) in kinds {
        let dir = tempfile::tempdir().unwrap();
        let (process, world) = start(dir.path()).await;
        let (each, begun) = held::run(kind, count, &world).await.unwrap();
        assert_eq!(begun, count, "{kind:?}");
        assert!(each.kib() < most_kib, "{kind:?}: {} KiB each", each.kib());
        drop(process);
    }
}
