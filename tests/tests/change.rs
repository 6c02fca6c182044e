//! A fraction of `cargo xtask full change-latency`, inside this process: no call fails, and while config is swapped calls
//! take no longer by an order of magnitude. What is less than that is judged there, in a release build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ostler_control::ControlOptions;
use ostler_tests::load::client::Speech;
use ostler_tests::load::server::LoadServer;
use ostler_tests::load::target::Target;
use ostler_tests::suites::change::{self, Condition, Levers, Plan};
use ostler_tests::support::control::TestControl;

struct Inside {
    control: Option<TestControl>,
    state_dir: PathBuf,
    api: SocketAddr,
    sync: SocketAddr,
    steady: LoadServer,
    struck: LoadServer,
}

impl Levers for Inside {
    fn kill_control(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(control) = self.control.take() {
                control.running.shutdown().await;
            }
        })
    }

    fn start_control(&mut self) -> BoxFuture<'_, ()> {
        let again = TestControl::options(&self.state_dir);
        let again = ControlOptions { listen: self.api, sync_listen: self.sync, ..again };
        Box::pin(async { self.control = Some(TestControl::start_with(again).await) })
    }

    fn kill_struck(&mut self) -> BoxFuture<'_, ()> {
        self.struck.stop();
        Box::pin(std::future::ready(()))
    }

    fn start_struck(&mut self) -> BoxFuture<'_, ()> {
        self.struck.restart();
        Box::pin(std::future::ready(()))
    }

    fn urls(&self) -> [String; 2] {
        [self.steady.url(), self.struck.url()]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_mount_fails_no_call_while_config_is_swapped_and_control_and_another_upstream_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("control");
    let control = TestControl::start(&state_dir).await;
    let dataplane = control.dataplane(&dir.path().join("a"), "a").await;
    let target = Target::inside(&control, &dataplane, dir.path().join("a"));
    let (api, sync) = (control.running.api_addr, control.running.sync_addr);
    let steady = LoadServer::start("steady", Speech::Legacy);
    let struck = LoadServer::start("struck", Speech::Legacy);
    let mut inside = Inside { control: Some(control), state_dir, api, sync, steady, struck };
    let plan = Plan {
        rounds: 1,
        window: Duration::from_secs(2),
        rate: 100.0,
        swap_every: Duration::from_millis(10),
    };
    let found = change::run(plan, &target, &mut inside).await;
    for condition in Condition::ALL {
        let seen = &found.steady[&condition];
        assert_eq!((seen.latencies.len(), &seen.errors), (200, &Vec::new()), "{}", condition.name());
    }
    let [quiet, swaps] = [Condition::Quiet, Condition::Swaps].map(|it| found.steady[&it].latencies.at(0.5));
    assert!(swaps < 10 * quiet, "a call took {swaps:?}, and {quiet:?} while nothing changed");
    assert!(found.applied >= 3.0 && found.applied <= found.pushed as f64, "{found:?}");
    assert!(!found.struck.errors.is_empty() && !found.struck.latencies.is_empty(), "{:?}", found.struck);
    assert_eq!(found.recoveries.len(), 1);
    dataplane.shutdown().await;
}
