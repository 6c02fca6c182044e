//! Speaks to control's API as an operator: where it is, what proves who asks, and what its answers mean.
//!
//! The token goes only to loopback or over TLS, and is never shown.

mod exchange;
mod url;

use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use ostler_control::api::types::{PROBLEM_MEDIA_TYPE, Problem};
use ostler_core::name::FleetName;
use ostler_core::state_dir::{StateDir, read_listeners};
use ostler_core::token::{self, BearerToken};
use ostler_tls::{Alpn, ClientTls};
use serde::de::DeserializeOwned;

pub use exchange::{Answer, ExchangeError, StreamError, dial, exchange, stream};
pub use url::ServerUrl;

use crate::cli::{Format, TOKEN_VARIABLE};

/// Where control listens unless something says otherwise.
const DEFAULT_PORT: u16 = 7500;

/// Where control is and what proves who asks.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Address of the control API [default: that of the control process running as this user, else http://127.0.0.1:7500]
    #[arg(long, env = "OSTLER_CONTROL_API", value_name = "URL")]
    pub control: Option<ServerUrl>,

    /// Operator's token [default: the variable OSTLER_TOKEN, else operator.token of the control process of this user]
    #[arg(long, env = "OSTLER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Authorities (PEM) that an https control's certificate must come from [default: the system's]
    #[arg(long, env = "OSTLER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// How a command about a fleet reaches control.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    #[command(flatten)]
    pub reach: ReachArgs,

    /// Fleet that is meant
    #[arg(long, env = "OSTLER_FLEET", value_name = "FLEET", default_value = "default")]
    pub fleet: FleetName,

    /// How the answer looks; json is what the API says
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// Control as seen by one operator.
#[derive(Debug)]
pub struct Client {
    url: ServerUrl,
    tls: Option<ClientTls>,
    token: BearerToken,
    /// What to look at when the token is refused.
    token_from: String,
}

/// An answer, read and as it came.
#[derive(Debug)]
pub struct Reply<T> {
    pub value: T,
    pub body: Bytes,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "control does not answer at {url} ({reason}); start it with `ostler control` or `ostler up`, or name another with --control"
    )]
    Silent { url: ServerUrl, reason: String },
    #[error("{url} does not answer as control does ({reason}); name control's API with --control")]
    Foreign { url: ServerUrl, reason: String },
    #[error(
        "control at {url} refuses the operator's token from {token_from}; name the right one with --token-file"
    )]
    Token { url: ServerUrl, token_from: String },
    #[error("{}", .problem.detail)]
    Problem { problem: Box<Problem>, body: Bytes },
}

impl Client {
    /// # Errors
    /// When there is no usable token, or it would travel in the clear.
    pub fn new(args: &ReachArgs) -> anyhow::Result<Self> {
        let url = args.control.clone().unwrap_or_else(|| default_url(args.ca.is_some()));
        anyhow::ensure!(
            url.is_https() || url.is_loopback(),
            "the operator's token would go to {url} unencrypted; use https, or a loopback address"
        );
        let tls = match &args.ca {
            _ if !url.is_https() => None,
            Some(file) => Some(ClientTls::from_file(file, Alpn::Http1)?),
            None => Some(ClientTls::system(Alpn::Http1)?),
        };
        let (token, token_from) = operator_token(args.token_file.as_deref())?;
        Ok(Self { url, tls, token, token_from })
    }

    /// A control process of this machine whose token file is known.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn of(addr: std::net::SocketAddr, token_file: &Path) -> anyhow::Result<Self> {
        let token = token::load(token_file)?;
        Ok(Self {
            url: ServerUrl::from(addr),
            tls: None,
            token,
            token_from: token_file.display().to_string(),
        })
    }

    /// The control process of a state folder of this machine.
    ///
    /// # Errors
    /// When none runs there, or its token cannot be read.
    pub fn of_state_dir(state_dir: &Path) -> anyhow::Result<Self> {
        let addr = read_listeners(state_dir).and_then(|listening| listening.listeners.get("api").copied());
        let addr = addr.with_context(|| {
            format!(
                "no control process runs on {}; start it, or name another with --control",
                state_dir.display()
            )
        })?;
        Self::of(addr, &state_dir.join("operator.token"))
    }

    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// # Errors
    /// [`ClientError`]
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Reply<T>, ClientError> {
        self.ask(Method::GET, path, HeaderMap::new(), Bytes::new()).await
    }

    /// # Errors
    /// [`ClientError`]
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply<T>, ClientError> {
        let answer = self.send(method, path, headers, body).await?;
        let value = serde_json::from_slice(&answer.body).map_err(|error| self.foreign(error.to_string()))?;
        Ok(Reply { value, body: answer.body })
    }

    /// One request; whatever is no success is an error.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, path, headers, body)?;
        let answer = exchange(self.url.host(), self.url.port(), self.tls.as_ref(), request)
            .await
            .map_err(|error| self.no_answer(&error))?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.failure(answer)) }
    }

    /// Writes an answer of any length to `sink` as it comes. Whether it is whole is for the caller to find out.
    ///
    /// # Errors
    /// [`ClientError`], or what the sink says.
    pub async fn download(&self, path: &str, sink: &mut impl std::io::Write) -> anyhow::Result<()> {
        let request = self.request(Method::GET, path, HeaderMap::new(), Bytes::new())?;
        let answer = stream(self.url.host(), self.url.port(), self.tls.as_ref(), request, sink).await;
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => Err(self.failure(answer).into()),
            Err(StreamError::Exchange(error)) => Err(self.no_answer(&error).into()),
            Err(StreamError::Sink(error)) => Err(error.into()),
        }
    }

    fn no_answer(&self, error: &ExchangeError) -> ClientError {
        let reason = error.to_string();
        match error {
            ExchangeError::Unreachable(_) => ClientError::Silent { url: self.url.clone(), reason },
            _ => self.foreign(reason),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut bearer = HeaderValue::from_str(&self.token.to_header()).map_err(|_| self.token_refused())?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        let authority = self.url.authority();
        headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|e| self.foreign(e.to_string()))?);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.url.target(path).map_err(|error| self.foreign(error.to_string()))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn failure(&self, answer: Answer) -> ClientError {
        if answer.status == StatusCode::UNAUTHORIZED {
            return self.token_refused();
        }
        let typed = answer.headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_MEDIA_TYPE);
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) if typed => ClientError::Problem { problem: Box::new(problem), body: answer.body },
            _ => self.foreign(format!("status {}", answer.status)),
        }
    }

    fn token_refused(&self) -> ClientError {
        ClientError::Token { url: self.url.clone(), token_from: self.token_from.clone() }
    }

    fn foreign(&self, reason: String) -> ClientError {
        ClientError::Foreign { url: self.url.clone(), reason }
    }
}

fn default_url(https: bool) -> ServerUrl {
    let running = read_listeners(&StateDir::default_for("control"))
        .and_then(|listening| listening.listeners.get("api").copied());
    let addr = running.unwrap_or_else(|| ([127, 0, 0, 1], DEFAULT_PORT).into());
    if https { ServerUrl::from(addr).with_https() } else { ServerUrl::from(addr) }
}

fn operator_token(file: Option<&Path>) -> anyhow::Result<(BearerToken, String)> {
    if let Some(file) = file {
        return Ok((token::load(file)?, file.display().to_string()));
    }
    if let Some(text) = std::env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty()) {
        let token = text.to_str().and_then(BearerToken::from_text);
        let token = token.with_context(|| {
            format!("{TOKEN_VARIABLE} holds no usable token; copy the content of operator.token")
        })?;
        return Ok((token, format!("the variable {TOKEN_VARIABLE}")));
    }
    let file = StateDir::default_for("control").join("operator.token");
    anyhow::ensure!(
        file.exists(),
        "there is no operator's token at {}; start control here with `ostler control` or `ostler up`, or name a token with --token-file or {TOKEN_VARIABLE}",
        file.display()
    );
    Ok((token::load(&file)?, file.display().to_string()))
}

/// A value inside a query: what is not unreserved (RFC 3986, section 2.3) is escaped.
pub fn query_value(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_query() {
        assert_eq!(query_value("a b&c=d#é"), "a%20b%26c%3Dd%23%C3%A9");
    }

    #[test]
    fn a_token_does_not_leave_the_machine_in_the_clear() {
        let args = ReachArgs {
            control: Some("http://control.example:7500".parse().unwrap()),
            token_file: None,
            ca: None,
        };
        let error = Client::new(&args).unwrap_err().to_string();
        assert!(error.contains("unencrypted") && error.contains("https"), "{error}");
    }
}
