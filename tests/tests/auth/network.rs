//! A data plane that listens on the network lets nobody in of whom config says nothing.

use std::path::Path;

use ostler_dataplane::{ConfigFrom, DataPlane, Options, StartError};
use ostler_tests::support::eventually;
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::options;
use serde_json::{Value, json};

use super::two_keys;

fn on_the_network(dir: &Path) -> Options {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = options(&dir.join("state"), ConfigFrom::File(dir.join("ostler.yaml")));
    Options { listen: "0.0.0.0:0".parse().unwrap(), tls: Some((certificate, key)), ..options }
}

fn write(dir: &Path, server: &FakeServer, auth: &Value) {
    let mut document = json!({"version": 1, "upstreams": {"a": {"http": {"url": server.url()}}}});
    if !auth.is_null() {
        document["auth"] = auth.clone();
    }
    std::fs::write(dir.join("ostler.yaml"), document.to_string()).unwrap();
}

#[tokio::test]
async fn listen_off_loopback_without_auth_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    // What is said of all, or of another door, is not said of this one.
    for auth in [Value::Null, json!({"accept": ["none"]}), json!({"mounts": {"a": {"accept": ["none"]}}})] {
        write(dir.path(), &server, &auth);
        let refused = match DataPlane::start(on_the_network(dir.path())).await {
            Err(refused @ StartError::Config(_)) => refused.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it serves {auth}"),
        };
        for word in ["OST0405", "--listen 0.0.0.0:", "ostler key new", "accept: [none]", "loopback"] {
            assert!(refused.contains(word), "{word} in {refused}");
        }
    }
    for auth in [json!({"listeners": {"mcp": {"accept": ["none"]}}}), json!({"api_keys": two_keys()})] {
        write(dir.path(), &server, &auth);
        let dataplane = super::belongs::started(|| DataPlane::start(on_the_network(dir.path()))).await;
        dataplane.shutdown().await;
    }
}

#[tokio::test]
async fn a_config_that_would_open_a_door_to_the_network_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    write(dir.path(), &server, &json!({"api_keys": two_keys()}));
    let dataplane = DataPlane::start(on_the_network(dir.path())).await.unwrap();
    write(dir.path(), &server, &Value::Null);
    let applier = &dataplane.admin().applier;
    let rejection = eventually("the open config is refused", async || applier.status.read().rejection).await;
    assert_eq!(rejection.code, "open_to_network");
    assert_eq!(applier.snapshots.load().unwrap().compiled.auth.keys.len(), 2, "keys are asked for still");
    dataplane.shutdown().await;
}
