//! Where the data plane is, and whether it is the right one: its own file of addresses, and certificates.

use std::path::Path;

use ostler_dataplane::ConfigFrom;
use ostler_tests::support::world::options;

use super::*;

/// A certificate for a name and an address of this machine, as its own authority.
fn write_pair(dir: &Path, name: &str) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = dir.join(format!("{name}.key.pem"));
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), made.cert.pem()).unwrap();
}

/// A data plane that keeps its state where `ostler connect` looks for it when `XDG_STATE_HOME` is the folder.
async fn of_this_user(dir: &Path, server: &FakeServer, tls: bool) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, config(&[("up", &server.url())])).unwrap();
    let mut options = options(&dir.join("ostler/dataplane"), ConfigFrom::File(file));
    options.tls = tls.then(|| (dir.join("own.pem"), dir.join("own.key.pem")));
    DataPlane::start(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn is_served(mut client: StdioClient) {
    let answer = client.initialize("2025-11-25").await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "up", "{answer}");
    assert!(client.request(json!(1), "tools/list", json!({})).await["result"].is_object());
    client.close_input();
    assert!(client.ended().await.0.success());
}

#[tokio::test]
async fn the_data_plane_of_the_same_user_is_found_without_being_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    let dataplane = of_this_user(dir.path(), &server, false).await;
    let home = dir.path().to_str().unwrap();
    is_served(StdioClient::start_in(&[("XDG_STATE_HOME", home)], &["connect", "up"])).await;
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_data_plane_with_a_certificate_is_spoken_to_if_the_named_authority_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::start("up").await;
    for name in ["own", "another"] {
        write_pair(dir.path(), name);
    }
    let dataplane = of_this_user(dir.path(), &server, true).await;
    let home = dir.path().to_str().unwrap();
    let environment = [("XDG_STATE_HOME", home)];
    let file = |name: &str| dir.path().join(format!("{name}.pem")).display().to_string();
    let own = file("own");
    let by_name = format!("https://localhost:{}", dataplane.mcp_addr().port());
    is_served(StdioClient::start_in(&environment, &["connect", "up", "--url", &by_name, "--ca", &own])).await;
    // Its own file of addresses says where, and the authority that it is https.
    is_served(StdioClient::start_in(&environment, &["connect", "up", "--ca", &own])).await;
    let by_variable = [environment[0], ("OSTLER_URL", by_name.as_str()), ("OSTLER_CA", own.as_str())];
    is_served(StdioClient::start_in(&by_variable, &["connect", "up"])).await;
    let seen = server.seen().len();
    let other = file("another");
    for trusted in [&["--ca", other.as_str()][..], &[]] {
        let arguments = [&["connect", "up", "--url", by_name.as_str()][..], trusted].concat();
        let mut client = StdioClient::start_in(&environment, &arguments);
        let answer = client.initialize("2025-11-25").await;
        assert_eq!(answer["error"]["code"], -31003, "{answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains("certificate"), "{text}");
    }
    assert_eq!(server.seen().len(), seen, "something was sent to who could not be trusted");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn arguments_that_cannot_be_used_end_it_at_once_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.pem").display().to_string();
    let empty = dir.path().join("empty.pem").display().to_string();
    std::fs::write(&empty, "no certificate").unwrap();
    for (arguments, why) in [
        (&["--url", "http://192.0.2.1:7400"][..], "unencrypted"),
        (&["--url", "https://localhost:1", "--ca", &missing], "missing.pem"),
        (&["--url", "https://localhost:1", "--ca", &empty], "empty.pem"),
    ] {
        let client = StdioClient::start(&[&["connect", "up"][..], arguments].concat());
        let (status, rest, said) = client.ended().await;
        assert!(!status.success() && rest.is_empty() && said.contains(why), "{arguments:?}: {status} {said}");
    }
}
