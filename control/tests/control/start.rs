//! Starting and ending: one clear sentence for whatever stands in the way.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::{FromArgMatches, Parser};
use http::StatusCode;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use ostler_control::{Control, ControlArgs, StartError, StoreCommand};
use ostler_core::clock::WallClock;
use ostler_core::net::Stream;
use ostler_core::state_dir::read_listeners;
use ostler_tls::{Alpn, ClientTls, ServerTls};
use tokio::net::TcpStream;

use crate::support::{World, options};

/// Runs the command line as the binary does.
pub fn command<I: IntoIterator<Item = String>>(args: I) -> anyhow::Result<()> {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ControlArgs,
        #[command(subcommand)]
        command: StoreCommand,
    }
    let Command { args, command } = Command::try_parse_from(args)?;
    ostler_control::run_on_store(&command, args.state_dir)
}

fn parse<I: IntoIterator<Item = String>>(args: I) -> Result<ControlArgs, clap::Error> {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ControlArgs,
    }
    Command::try_parse_from(args).map(|command| command.args)
}

async fn refusal(change: impl FnOnce(&mut ostler_control::ControlOptions)) -> StartError {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder, &WallClock::manual(1));
    change(&mut options);
    Control::start(options).await.err().expect("control must not start")
}

#[tokio::test]
async fn a_listener_that_others_can_reach_needs_a_certificate() {
    for (flag, error) in [
        ("--listen", refusal(|options| options.listen = SocketAddr::from(([0, 0, 0, 0], 0))).await),
        ("--sync-listen", refusal(|options| options.sync_listen = SocketAddr::from(([0, 0, 0, 0], 0))).await),
    ] {
        let text = error.to_string();
        assert!(matches!(error, StartError::TlsNeeded { .. }), "{text}");
        assert!(text.contains(flag) && text.contains("--tls-cert") && text.contains("--tls-key"), "{text}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag() {
    let world = World::start().await;
    let taken = world.control.api_addr;
    let text = refusal(|options| options.listen = taken).await.to_string();
    assert!(
        text.contains(&taken.to_string()) && text.contains("--listen") && text.contains("taken"),
        "{text}"
    );
}

#[tokio::test]
async fn a_store_in_use_is_named_with_the_flag() {
    let world = World::start().await;
    let text = world.try_second().await.err().unwrap().to_string();
    assert!(text.contains("in use by another process") && text.contains("--state-dir"), "{text}");
}

#[tokio::test]
async fn a_store_that_is_no_store_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder, &WallClock::manual(1));
    std::fs::create_dir_all(&options.state_dir).unwrap();
    std::fs::write(options.state_dir.join("control.redb"), vec![7; 10_000]).unwrap();
    let text = Control::start(options).await.err().unwrap().to_string();
    assert!(text.contains("is no store of control") && text.contains("control restore"), "{text}");
}

#[tokio::test]
async fn both_tokens_must_differ() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder, &WallClock::manual(1));
    options.token_file = Some(folder.path().join("one.token"));
    options.node_token_file = options.token_file.clone();
    assert!(matches!(Control::start(options).await.err(), Some(StartError::TokensEqual { .. })));
}

#[tokio::test]
async fn the_addresses_are_published_while_it_runs_and_its_files_are_private() {
    let world = World::start().await;
    let state_dir = world.folder.path().join("state");
    let published = read_listeners(&state_dir).unwrap();
    assert_eq!(published.listeners.get("api"), Some(&world.control.api_addr));
    assert_eq!(published.listeners.get("sync"), Some(&world.control.sync_addr));
    #[cfg(unix)]
    for file in ["operator.token", "node.token", "control.redb", "epoch"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(state_dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    world.control.shutdown().await;
    assert_eq!(read_listeners(&state_dir), None);
}

#[tokio::test]
async fn with_a_certificate_both_listeners_speak_tls_and_nothing_else() {
    let mut files = None;
    let world = World::start_with(|options, folder| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        options.tls = Some(ServerTls::load(&certificate, &key).unwrap());
        // With a certificate, other machines may reach it.
        options.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        files = Some(certificate);
    })
    .await;
    let trust = ClientTls::from_file(&files.unwrap(), Alpn::Http1).unwrap();
    for (addr, path, expected) in [
        (world.control.api_addr, "/healthz", StatusCode::OK),
        (world.control.sync_addr, "/ostler.sync.v1.Sync/Stream", StatusCode::UNAUTHORIZED),
    ] {
        let addr = SocketAddr::from(([127, 0, 0, 1], addr.port()));
        let stream = Stream::Tcp(TcpStream::connect(addr).await.unwrap());
        let io = TokioIo::new(trust.connect("localhost", stream).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request =
            http::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), expected, "{path}");

        let (mut plain, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(addr).await.unwrap()))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request =
            http::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        assert!(plain.send_request(request).await.is_err(), "{path} was answered without TLS");
    }
}

#[test]
fn flags_have_their_defaults_and_fit_together() {
    let parse = |line: &str| parse(line.split(' ').map(str::to_owned));
    let args = parse("control").unwrap();
    assert_eq!((args.listen.port(), args.sync_listen.port(), args.fleet.as_str()), (7500, 7501, "default"));
    assert!(parse("control --tls-cert a.pem").is_err());
    assert!(parse("control --fleet a/b").is_err());
    let args = parse("control --allow-host a --allow-host b,c --log-format json").unwrap();
    assert_eq!(args.allow_hosts, ["a", "b", "c"]);
    let command = <ControlArgs as clap::Args>::augment_args(clap::Command::new("control"));
    command.clone().debug_assert();
    assert!(ControlArgs::from_arg_matches(&command.get_matches_from(["control"])).is_ok());
}
