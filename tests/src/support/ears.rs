//! Clients that only listen: one of each kind at one place.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bridged::Events;
use super::http::Ask;
use super::http_sse::{self, SseClient};
use super::world::{initialize, modern};

/// A legacy session's stream, a modern subscription to all lists, and a client of HTTP+SSE.
pub struct Ears {
    pub get: Events,
    pub listen: Events,
    pub sse: SseClient,
}

impl Ears {
    /// # Panics
    /// When one of them is not let in.
    pub async fn open(addr: SocketAddr, mount: &str) -> Self {
        Self::open_with(addr, mount, &[]).await
    }

    /// The same with these headers in everything that they send.
    ///
    /// # Panics
    /// As [`Ears::open`].
    pub async fn open_with(addr: SocketAddr, mount: &str, headers: &[(&str, &str)]) -> Self {
        let path = format!("/mcp/{mount}");
        let with = |ask: Ask| headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        let begun = with(Ask::mcp(addr, &path, &initialize())).send().await;
        let session = begun.header("mcp-session-id").unwrap_or_else(|| panic!("{}", begun.text())).to_owned();
        let of_session = |ask: Ask| with(ask).header("mcp-session-id", &session);
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        of_session(Ask::mcp(addr, &path, &initialized)).send().await;
        let get = of_session(Ask::new(addr, "GET", &path).header("accept", "text/event-stream"));
        let wanted =
            json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
        let listen = with(modern(addr, mount, 5, "subscriptions/listen", json!({"notifications": wanted})));
        let (get, mut listen) = (Events::open(get).await, Events::open(listen).await);
        let first = listen.next().await.expect("it begins");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        let mut sse = SseClient::open_with(addr, mount, headers).await;
        sse.post(&http_sse::initialize()).await;
        sse.message().await;
        sse.post(&initialized).await;
        Self { get, listen, sse }
    }

    /// The next word to each of them.
    ///
    /// # Panics
    /// When there is none.
    pub async fn next(&mut self) -> [Value; 3] {
        let (get, listen) = (self.get.next().await, self.listen.next().await);
        [get.expect("a word"), listen.expect("a word"), self.sse.message().await]
    }

    /// Nothing was said to any of them before this.
    ///
    /// # Panics
    /// When something was.
    pub async fn hear_first(&mut self, method: &str) {
        for said in self.next().await {
            assert_eq!(said["method"], method, "{said}");
        }
    }
}
