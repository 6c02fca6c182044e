//! A client of HTTP+SSE (2024-11-05): one stream that says where to POST and brings everything else.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use ostler_mcp::sse::Decoder;
use serde_json::{Value, json};

use super::PATIENCE;
use super::http::{Answer, Ask};

/// A client whose stream is open.
#[derive(Debug)]
pub struct SseClient {
    addr: SocketAddr,
    pub endpoint: String,
    headers: Vec<(String, String)>,
    stream: BodyDataStream<Incoming>,
    decoder: Decoder,
}

/// What the system holds of a stream that is not read.
const RECEIVE_BYTES: u32 = 64 * 1024;

impl SseClient {
    /// Opens the stream of a mount.
    ///
    /// # Panics
    /// When there is none, or it does not begin with the endpoint.
    pub async fn open(addr: SocketAddr, mount: &str) -> Self {
        Self::open_with(addr, mount, &[]).await
    }

    /// The same with these headers in everything that it sends.
    ///
    /// # Panics
    /// As [`SseClient::open`].
    pub async fn open_with(addr: SocketAddr, mount: &str, headers: &[(&str, &str)]) -> Self {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let ask = Ask::new(addr, "GET", &format!("/sse/{mount}")).header("accept", "text/event-stream");
        let ask = ask.receiving(RECEIVE_BYTES);
        let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        let answer = ask.open().await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let stream = answer.into_body().into_data_stream();
        let mut client = Self { addr, endpoint: String::new(), headers, stream, decoder: Decoder::default() };
        let (event, endpoint) = client.event().await.expect("the stream says nothing");
        assert_eq!(event, "endpoint");
        client.endpoint = endpoint;
        client
    }

    /// Opens it and shakes hands.
    ///
    /// # Panics
    /// When the server does not.
    pub async fn connect(addr: SocketAddr, mount: &str) -> Self {
        let mut client = Self::open(addr, mount).await;
        client.post(&initialize()).await;
        let initialized = client.message().await;
        assert!(initialized["result"]["serverInfo"].is_object(), "{initialized}");
        client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    /// Posts a message that is accepted.
    ///
    /// # Panics
    /// When it is not.
    pub async fn post(&self, message: &Value) {
        let answer = self.ask(message).send().await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (202, ""));
    }

    /// Posts anything.
    pub async fn try_post(&self, message: &Value) -> Answer {
        self.ask(message).send().await
    }

    /// The next message.
    ///
    /// # Panics
    /// When the stream ends, or says something else.
    pub async fn message(&mut self) -> Value {
        let (event, data) = self.event().await.expect("the stream has ended");
        assert_eq!(event, "message");
        serde_json::from_str(&data).expect("no JSON")
    }

    /// The next event's type and data; nothing at the end of the stream.
    ///
    /// # Panics
    /// When nothing comes, or the stream is cut.
    pub async fn event(&mut self) -> Option<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("no UTF-8");
        loop {
            while let Some(event) = self.decoder.next_event().expect("an event is too large") {
                if let Some(data) = &event.data {
                    return Some((text(event.event_type()), text(data)));
                }
            }
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("nothing comes");
            self.decoder.push(&next?.expect("the stream was cut"));
        }
    }

    /// Reads on, whatever comes; whether the stream goes on.
    pub async fn reads_on(&mut self) -> bool {
        self.stream.next().await.is_some_and(|piece| piece.is_ok())
    }

    fn ask(&self, message: &Value) -> Ask {
        let ask = Ask::new(self.addr, "POST", &self.endpoint).header("content-type", "application/json");
        let ask = self.headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        ask.body(message.to_string())
    }
}

/// A handshake of that time.
pub fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2024-11-05", "capabilities": {"sampling": {}}, "clientInfo": {"name": "test", "version": "1"}}})
}
