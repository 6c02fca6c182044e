//! A traffic worker that hangs: the service manager gets no sign of life, and the health check says which worker it is.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ostler_core::net::{BoxFuture, Listener, Network, Stream, SystemNetwork};
use ostler_core::supervisor::Supervisor;
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{config, initialize, options};

/// Connecting from a traffic worker blocks its thread until the test lets it go, as a defect or a system call might.
struct Blocking {
    blocked: mpsc::Sender<()>,
    free: Mutex<mpsc::Receiver<()>>,
}

impl Network for Blocking {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        if std::thread::current().name().is_some_and(|name| name.starts_with("traffic-")) {
            self.blocked.send(()).unwrap();
            // An error says that the test is over.
            let _ = self.free.lock().unwrap().recv();
        }
        SystemNetwork.connect(host, port)
    }

    fn bind(&self, addr: std::net::SocketAddr) -> io::Result<Listener> {
        SystemNetwork.bind(addr)
    }
}

fn heard(manager: &UnixDatagram) -> usize {
    let mut buffer = [0; 64];
    std::iter::from_fn(|| manager.recv(&mut buffer).ok()).count()
}

#[tokio::test]
async fn a_hung_worker_stops_the_signs_of_life_and_shows_in_the_health_check() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let file = dir.path().join("ostler.json");
    std::fs::write(&file, config(&[("up", &server.url())])).unwrap();
    let (blocked, is_blocked) = mpsc::channel();
    let (free, freed) = mpsc::channel();
    let mut options = options(&dir.path().join("state"), ConfigFrom::File(file));
    options.network = Arc::new(Blocking { blocked, free: Mutex::new(freed) });
    let dataplane = DataPlane::start(options).await.unwrap();
    let (mcp, admin) = (dataplane.mcp_addr(), dataplane.admin_addr());

    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let path = dir.path().join("notify").display().to_string();
    let supervisor = Supervisor::of(
        |name| match name {
            "NOTIFY_SOCKET" => Some(path.clone()),
            "WATCHDOG_USEC" => Some("200000".to_owned()),
            _ => None,
        },
        std::process::id(),
    );
    let liveness = dataplane.liveness();
    // Until the first sign of life, however busy the machine is.
    let watch_until_heard = async || {
        let watch = supervisor.watch(|| liveness.check());
        let heard = async {
            while heard(&manager) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = watch => panic!("the watchdog is set"),
            heard = tokio::time::timeout(Duration::from_secs(60), heard) => heard.expect("a sign of life"),
        }
    };
    watch_until_heard().await;
    assert_eq!(Ask::new(admin, "GET", "/healthz").send().await.status, 200);

    let call = tokio::spawn(async move { Ask::mcp(mcp, "/mcp/up", &initialize()).send().await });
    tokio::task::spawn_blocking(move || is_blocked.recv().map(|()| is_blocked)).await.unwrap().unwrap();
    heard(&manager);
    let watched = tokio::time::timeout(Duration::from_secs(1), supervisor.watch(|| liveness.check())).await;
    assert!(watched.is_err() && heard(&manager) == 0, "a sign of life without an answer of the worker");
    let sick = Ask::new(admin, "GET", "/healthz").send().await;
    assert_eq!(sick.status, 503);
    assert_eq!(sick.text(), "traffic worker 0 does not answer\n");

    // Everything is let go.
    drop(free);
    watch_until_heard().await;
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(Ask::new(admin, "GET", "/healthz").send().await.status, 200);
    dataplane.shutdown().await;
}
