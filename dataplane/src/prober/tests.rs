//! In virtual time, on a network where most servers take connections and never answer.

use std::io;
use std::net::SocketAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use ostler_config::{HttpTransport, Limits, ProtocolPin, Timeouts, Transport};
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;
use ostler_core::net::{BoxFuture, Listener, Network, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;
use crate::upstream::health::State;

/// Servers by the name `well` answer; all others hang.
struct MostHang;

impl Network for MostHang {
    fn connect<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        let answers = host == "well";
        Box::pin(async move {
            let (near, mut far) = tokio::io::duplex(4 * 1024);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while far.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if answers {
                        let answer =
                            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                        let _ = far.write_all(answer).await;
                    }
                }
            });
            Ok(Stream::Boxed(Box::new(near)))
        })
    }

    fn bind(&self, _addr: SocketAddr) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn config(name: &str, host: &str) -> Arc<CompiledUpstream> {
    let url = format!("http://{host}/mcp").parse::<Uri>().unwrap();
    let transport = HttpTransport {
        host_header: HttpTransport::host_header(&url),
        url,
        https: false,
        host: host.to_owned(),
        port: 80,
        path_and_query: PathAndQuery::from_static("/mcp"),
        headers: HeaderMap::new(),
        oauth: None,
    };
    Arc::new(CompiledUpstream {
        name: ResourceName::parse(name).unwrap(),
        transport: Transport::Http(transport),
        protocol: ProtocolPin::Auto,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        unresolved: None,
        constant: None,
        part: Digest::of(b"part"),
        identity: Digest::of(name.as_bytes()),
    })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_servers_that_hang_do_not_hold_up_the_recovery_of_another() {
    let deps = Deps::new(WallClock::manual(1), Arc::new(MostHang), 1, 7);
    let prober = Prober::new(deps.clone(), Handle::current());
    let mut hanging = Vec::new();
    for number in 0..1_000 {
        let config = config(&format!("h{number}"), "hangs");
        let upstream = Arc::new(Upstream::new(&config, &deps));
        prober.recover(&upstream, &config);
        hanging.push(upstream);
    }
    // Time for each of them to hang.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let config = config("neighbour", "well");
    let neighbour = Arc::new(Upstream::new(&config, &deps));
    let started = Instant::now();
    prober.recover(&neighbour, &config);
    while neighbour.health.reading().state != State::Ready {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "the neighbour waits behind servers that hang");
    }
    assert!(hanging.iter().all(|upstream| upstream.health.is_down()));
}
