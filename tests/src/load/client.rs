//! An MCP client that keeps its connection and its session, and says of every answer what it was.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The two eras that a client may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speech {
    Legacy,
    Modern,
}

/// One client of one mount.
#[derive(Debug)]
pub struct LoadClient {
    addr: SocketAddr,
    pub mount: String,
    pub speech: Speech,
    sender: Option<SendRequest<Full<Bytes>>>,
    pub session: Option<String>,
    /// The id of its last call.
    pub calls: u64,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The server's own result.
    Result(Value),
    /// An error of Ostler's, by its reason.
    Refused { reason: String, message: String },
    /// An error of the server's, by its code.
    RpcError(i64),
    /// The session is not known any more; a client starts a new one.
    SessionGone,
    /// HTTP's word, without a message that one could read.
    Status(u16, String),
    /// The connection ended before the answer did.
    Cut(String),
    /// No answer in [`CLIENT_PATIENCE`].
    Silent,
}

/// How long a client waits for an answer: longer than any limit that a suite sets for the data plane.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

// === impl LoadClient ===

impl LoadClient {
    /// A client that has not connected yet.
    pub fn new(addr: SocketAddr, mount: &str, speech: Speech) -> Self {
        Self { addr, mount: mount.to_owned(), speech, sender: None, session: None, calls: 0 }
    }

    /// Shakes hands, if that is what this client does.
    ///
    /// # Errors
    /// The outcome that was no result.
    pub async fn begin(&mut self) -> Result<(), Outcome> {
        if self.speech == Speech::Modern {
            return Ok(());
        }
        self.session = None;
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}}});
        let response = self.send(Method::POST, "initialize", None, message.to_string()).await?;
        let session =
            response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        match read(response).await {
            Outcome::Result(_) if session.is_some() => self.session = session,
            Outcome::Result(_) => return Err(Outcome::Status(200, "initialize gave no session".to_owned())),
            other => return Err(self.after(other)),
        }
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        let response = self.send(Method::POST, "notifications/initialized", None, initialized).await?;
        match read(response).await {
            Outcome::Status(202, _) => Ok(()),
            other => Err(self.after(other)),
        }
    }

    /// Calls a tool and reads the answer to its end. Begins first, if it has not.
    pub async fn call(&mut self, tool: &str, arguments: &Value) -> Outcome {
        if self.speech == Speech::Legacy
            && self.session.is_none()
            && let Err(outcome) = self.begin().await
        {
            return outcome;
        }
        match self.open(tool, arguments).await {
            Ok(response) => match tokio::time::timeout(CLIENT_PATIENCE, read(response)).await {
                Ok(outcome) => self.after(outcome),
                Err(_) => self.after(Outcome::Silent),
            },
            Err(outcome) => outcome,
        }
    }

    /// Calls a tool and returns with the head of the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(&mut self, tool: &str, arguments: &Value) -> Result<Response<Incoming>, Outcome> {
        self.calls += 1;
        let meta = match self.speech {
            Speech::Legacy => json!({}),
            Speech::Modern => {
                json!({"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}})
            }
        };
        let message = json!({"jsonrpc": "2.0", "id": self.calls, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}});
        self.send(Method::POST, "tools/call", Some(tool), message.to_string()).await
    }

    /// Sends a body as it is.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post_raw(&mut self, body: Bytes) -> Outcome {
        match self.send(Method::POST, "tools/call", Some("echo"), body).await {
            Ok(response) => {
                let outcome = read(response).await;
                self.after(outcome)
            }
            Err(outcome) => outcome,
        }
    }

    /// Ends the session, as well-behaved clients do.
    pub async fn end(&mut self) -> Outcome {
        let outcome = match self.send(Method::DELETE, "", None, Bytes::new()).await {
            Ok(response) => read(response).await,
            Err(outcome) => outcome,
        };
        self.session = None;
        outcome
    }

    /// Closes the connection at once.
    pub fn vanish(&mut self) {
        self.sender = None;
    }

    async fn send(
        &mut self,
        verb: Method,
        method: &str,
        name: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, Outcome> {
        let mut request = Request::builder()
            .method(verb)
            .uri(format!("/mcp/{}", self.mount))
            .header(HOST, self.addr.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        match self.speech {
            Speech::Legacy => {
                if let Some(session) = &self.session {
                    request =
                        request.header("mcp-session-id", session).header("mcp-protocol-version", LEGACY);
                }
            }
            Speech::Modern => {
                request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
                if let Some(name) = name {
                    request = request.header("mcp-name", name);
                }
            }
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        self.exchange(request).await
    }

    /// On the connection that there is, or on a new one when it was closed before it could carry the request: what a client
    /// with a pool does.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Outcome> {
        let mut request = Some(request);
        loop {
            let reused = self.sender.is_some();
            if !reused {
                self.sender = Some(self.connect().await?);
            }
            let Some((sender, unsent)) = self.sender.as_mut().zip(request.take()) else {
                return Err(Outcome::Cut("no request".to_owned()));
            };
            // A connection that has just carried an answer may need a moment to take the next request.
            if sender.ready().await.is_err() {
                self.sender = None;
                request = Some(unsent);
                if reused {
                    continue;
                }
                return Err(Outcome::Cut("connection closed at once".to_owned()));
            }
            let answered = tokio::time::timeout(CLIENT_PATIENCE, sender.try_send_request(unsent)).await;
            let Ok(answered) = answered else {
                self.sender = None;
                return Err(Outcome::Silent);
            };
            let mut failed = match answered {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.sender = None;
            match failed.take_message() {
                Some(unsent) if reused => request = Some(unsent),
                _ => return Err(Outcome::Cut(failed.into_error().to_string())),
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Outcome> {
        let cut = |error: &dyn std::fmt::Display| Outcome::Cut(format!("no connection: {error}"));
        let stream = TcpStream::connect(self.addr).await.map_err(|error| cut(&error))?;
        stream.set_nodelay(true).map_err(|error| cut(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| cut(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// What an outcome means for the connection and the session.
    fn after(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Cut(_) | Outcome::Silent => self.sender = None,
            Outcome::SessionGone => self.session = None,
            _ => {}
        }
        outcome
    }
}

async fn read(response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Outcome::Cut(error.to_string()),
    };
    let is_stream = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"));
    let message = if is_stream { last_message(&bytes) } else { serde_json::from_slice(&bytes).ok() };
    judge(head.status.as_u16(), message, &bytes)
}

/// The message with which a stream ended, if that is an answer.
fn last_message(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let data = text.lines().rev().find_map(|line| line.strip_prefix("data:"))?;
    let message: Value = serde_json::from_str(data.trim()).ok()?;
    message.get("method").is_none().then_some(message)
}

fn judge(status: u16, message: Option<Value>, bytes: &[u8]) -> Outcome {
    let Some(message) = message else {
        let text =
            String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default()).into_owned();
        return if status == 404 { Outcome::SessionGone } else { Outcome::Status(status, text) };
    };
    if let Some(result) = message.get("result") {
        return Outcome::Result(result.clone());
    }
    let error = &message["error"];
    match error["data"]["reason"].as_str() {
        Some("session_not_found") => Outcome::SessionGone,
        Some(reason) => Outcome::Refused {
            reason: reason.to_owned(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        },
        None => Outcome::RpcError(error["code"].as_i64().unwrap_or_default()),
    }
}

// === impl Outcome ===

impl Outcome {
    /// One word, for a ledger.
    pub fn word(&self) -> &str {
        match self {
            Self::Result(_) => "result",
            Self::Refused { reason, .. } => reason,
            Self::RpcError(_) => "rpc_error",
            Self::SessionGone => "session_gone",
            Self::Status(..) => "status",
            Self::Cut(_) => "cut",
            Self::Silent => "silent",
        }
    }
}
