//! A listener's files and a client's trust, against each other on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use ostler_core::net::{Network, Stream, SystemNetwork};
use ostler_tls::{Alpn, ClientTls, ServerTls, ServerTlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn write_pair(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    write_private(&dir.join("key.pem"), &made.signing_key.serialize_pem());
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

async fn handshake(server: ServerTls, client: ClientTls) -> std::io::Result<Stream> {
    let listener = SystemNetwork.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = server.accept(stream).await {
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    client.connect("localhost", SystemNetwork.connect("127.0.0.1", port).await?).await
}

#[tokio::test]
async fn a_trusted_server_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path());
    let server = ServerTls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap();
    let client = ClientTls::from_file(&dir.path().join("cert.pem"), Alpn::Http1).unwrap();
    let mut text = String::new();
    handshake(server, client).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn renewed_files_are_taken_on_request_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    write_pair(dir.path());
    let server = ServerTls::load(&chain, &key).unwrap();
    // What a listener holds is a clone.
    let listening = server.clone();
    let old = ClientTls::from_file(&chain, Alpn::Http1).unwrap();
    let old_chain = fs::read(&chain).unwrap();
    write_pair(dir.path());
    let new = ClientTls::from_file(&chain, Alpn::Http1).unwrap();
    assert!(handshake(listening.clone(), new.clone()).await.is_err(), "taken without being asked");
    server.reload().unwrap();
    assert!(handshake(listening.clone(), new.clone()).await.is_ok());
    assert!(handshake(listening.clone(), old).await.is_err());
    fs::write(&chain, old_chain).unwrap();
    assert!(matches!(server.reload(), Err(ServerTlsError::Mismatch { .. })));
    assert!(handshake(listening, new).await.is_ok(), "files that do not fit together cost the certificate");
}

#[tokio::test]
async fn an_unknown_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path());
    let server = ServerTls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap();
    let client = ClientTls::system(Alpn::Http1).unwrap();
    let error = handshake(server, client).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_key_that_everyone_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path());
    let key = dir.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        ServerTls::load(&dir.path().join("cert.pem"), &key),
        Err(ServerTlsError::KeyReadable { .. })
    ));
}
