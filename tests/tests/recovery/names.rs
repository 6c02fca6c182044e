//! Names that stop resolving, or resolve to something else. The resolver is the test's; the sockets are real.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ostler_core::net::{BoxFuture, Listener, Network, Stream, SystemNetwork, Unresolved};
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::http::Ask;
use ostler_tests::support::raw::RawServer;
use ostler_tests::support::world::{self, call};
use serde_json::json;

use super::{UNAVAILABLE, back, until};

/// Names that lead where the test says.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, SocketAddr>>>);

impl Names {
    fn set(&self, name: &str, addr: Option<SocketAddr>) {
        let mut names = self.0.lock().unwrap();
        match addr {
            Some(addr) => names.insert(name.to_owned(), addr),
            None => names.remove(name),
        };
    }
}

impl Network for Names {
    fn connect<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let addr = self.0.lock().unwrap().get(host).copied();
            let unknown = || Unresolved::because(io::Error::other("no such name"));
            let addr = addr.ok_or_else(unknown)?;
            SystemNetwork.connect(&addr.ip().to_string(), addr.port()).await
        })
    }

    fn bind(&self, addr: SocketAddr) -> io::Result<Listener> {
        SystemNetwork.bind(addr)
    }
}

async fn dataplane(dir: &Path, names: &Names) -> DataPlane {
    let file = dir.join("ostler.yaml");
    let text = json!({"version": 1, "upstreams": {"up": {"http": {"url": "http://mcp.example/mcp"}}}});
    std::fs::write(&file, text.to_string()).unwrap();
    let mut options = world::options(&dir.join("state"), ConfigFrom::File(file));
    options.network = Arc::new(names.clone());
    DataPlane::start(options).await.unwrap()
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_down_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (names, server) = (Names::default(), RawServer::start().await);
    let dataplane = dataplane(dir.path(), &names).await;
    until(&dataplane, dir.path(), "down", Some("dns_failed")).await;
    let refused = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(1)).send().await;
    UNAVAILABLE.by(&refused, &json!(1));
    names.set("mcp.example", Some(server.addr));
    back(&dataplane, dir.path()).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_name_that_moves_is_followed_when_its_old_host_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (names, old, new) = (Names::default(), RawServer::start().await, RawServer::start().await);
    names.set("mcp.example", Some(old.addr));
    let dataplane = dataplane(dir.path(), &names).await;
    back(&dataplane, dir.path()).await;
    names.set("mcp.example", Some(new.addr));
    old.stop().await;
    // The pooled connection has died with its host; what comes next goes where the name leads now.
    back(&dataplane, dir.path()).await;
    assert_eq!(new.calls().len(), 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_name_that_fails_while_connections_stand_fails_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (names, server) = (Names::default(), RawServer::start().await);
    names.set("mcp.example", Some(server.addr));
    let dataplane = dataplane(dir.path(), &names).await;
    back(&dataplane, dir.path()).await;
    names.set("mcp.example", None);
    let answer = Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &call(2)).send().await;
    assert!(answer.json()["result"].is_object(), "{}", answer.text());
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_systems_resolver_says_that_a_name_does_not_resolve() {
    let error = SystemNetwork.connect("no-such-name.invalid", 80).await.unwrap_err();
    assert!(Unresolved::is_cause(&error), "{error:?}");
    let refused = SystemNetwork.connect("127.0.0.1", 1).await.unwrap_err();
    assert!(!Unresolved::is_cause(&refused), "{refused:?}");
}
