//! A panic in the middle of a call that holds secrets: what it says, what the client is told, and what is written down of the call.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ostler_core::net::{BoxFuture, Listener, Network, Stream, SystemNetwork};
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_tests::support::canary::{Canary, Surfaces};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::server::{FakeServer, Manner};
use ostler_tests::support::spool::{decisions, outcome};
use ostler_tests::support::world::{modern, options};
use serde_json::json;

/// Gives up where a connection is opened, once it is told to.
#[derive(Debug, Default)]
struct GivesUp(AtomicBool);

// === impl GivesUp ===

impl Network for GivesUp {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Stream>> {
        assert!(!self.0.load(Ordering::Relaxed), "the network gives up");
        SystemNetwork.connect(host, port)
    }

    fn bind(&self, addr: std::net::SocketAddr) -> std::io::Result<Listener> {
        SystemNetwork.bind(addr)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_call_says_none_of_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let [in_config, in_header, in_argument] = [("config", 21), ("a header", 22), ("an argument", 23)]
        .map(|(planted, number)| Canary::new(planted, number));
    let said = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&said);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        hears.lock().unwrap().push_str(&format!("{info}\n{info:?}\n{backtrace}\n"));
    }));
    let server = FakeServer::start("up").await;
    server.behave(Manner::Modern);
    std::fs::write(dir.path().join("secret"), &in_config.value).unwrap();
    let reference = format!("${{file:{}}}", dir.path().join("secret").display());
    let text = json!({
        "version": 1,
        "upstreams": {"up": {"http": {"url": server.url()}, "headers": {"Authorization": reference}}},
        "audit": {},
    });
    let file = dir.path().join("ostler.yaml");
    std::fs::write(&file, text.to_string()).unwrap();
    let network = Arc::new(GivesUp::default());
    let state = dir.path().join("state");
    let dataplane = DataPlane::start(Options {
        network: Arc::clone(&network) as Arc<dyn Network>,
        ..options(&state, ConfigFrom::File(file))
    })
    .await
    .unwrap();
    network.0.store(true, Ordering::Relaxed);
    let params = json!({"name": "who", "arguments": {"password": in_argument.value}});
    let call = modern(dataplane.mcp_addr(), "up", 1, "tools/call", params);
    let answer = call.header("cookie", &in_header.value).send().await;
    let decision = eventually("it is written down", async || decisions(&state, "who").pop()).await;
    eventually("its outcome too", async || outcome(&state, &decision)).await;
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    dataplane.shutdown().await;
    panic::set_hook(before);
    let said = said.lock().unwrap().clone();
    assert!(said.contains("the network gives up"), "it was no panic: {answer:?}");
    let mut seen = Surfaces::default();
    seen.add("panic", said);
    seen.add("answer", format!("{:?} {}", answer.headers, answer.text()));
    seen.add("metrics", metrics);
    seen.add_files(&state, |path| path.extension().is_some_and(|extension| extension == "token"));
    for canary in [in_config, in_header, in_argument] {
        assert_eq!(seen.holding(&canary), Vec::<&str>::new(), "{}", canary.planted);
    }
    assert!(!seen.holding(&Canary { planted: "openly", value: "password".to_owned() }).is_empty());
}
