//! One HTTP/1.1 request and its whole answer, over a connection of its own. Every step has a time and the answer a size.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ostler_core::limits::{CLI_ANSWER_BYTES_MAX, CLI_ANSWER_TIMEOUT, CLI_CONNECT_TIMEOUT};
use ostler_core::net::{Network, Stream, SystemNetwork};
use ostler_tls::ClientTls;
use tokio::time::timeout;

/// A whole answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("{0}")]
    Unreachable(String),
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("no HTTP answer: {0}")]
    Protocol(hyper::Error),
    #[error("no whole answer within {} s", CLI_ANSWER_TIMEOUT.as_secs())]
    Slow,
    #[error("the answer broke off or is larger than {CLI_ANSWER_BYTES_MAX} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends one request, whose URI is only the path, and reads the answer to its end.
///
/// # Errors
/// [`ExchangeError`]
pub async fn exchange(
    host: &str,
    port: u16,
    tls: Option<&ClientTls>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, ExchangeError> {
    let stream = dial(host, port, tls).await?;
    timeout(CLI_ANSWER_TIMEOUT, converse(stream, request)).await.unwrap_or(Err(ExchangeError::Slow))
}

/// Why an answer was not written whole.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    Sink(io::Error),
}

/// Sends one request and writes a successful answer of any length to `sink`; an answer without success is given back.
/// The time limit holds for each step, and not for the whole.
///
/// # Errors
/// [`StreamError`]
pub async fn stream(
    host: &str,
    port: u16,
    tls: Option<&ClientTls>,
    request: Request<Full<Bytes>>,
    sink: &mut impl io::Write,
) -> Result<Option<Answer>, StreamError> {
    let stream = dial(host, port, tls).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ExchangeError::Protocol)?;
    let conversation = async {
        let response = in_time(sender.send_request(request)).await?.map_err(ExchangeError::Protocol)?;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let body = in_time(Limited::new(body, CLI_ANSWER_BYTES_MAX).collect()).await?;
            let body = body.map_err(ExchangeError::Body)?.to_bytes();
            return Ok(Some(Answer { status: head.status, headers: head.headers, body }));
        }
        while let Some(frame) = in_time(body.frame()).await? {
            let frame = frame.map_err(|error| ExchangeError::Body(error.into()))?;
            if let Some(piece) = frame.data_ref() {
                sink.write_all(piece).map_err(StreamError::Sink)?;
            }
        }
        Ok(None)
    };
    tokio::pin!(conversation);
    tokio::select! {
        biased;
        answer = &mut conversation => answer,
        _ = connection => conversation.await,
    }
}

async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, ExchangeError> {
    timeout(CLI_ANSWER_TIMEOUT, step).await.map_err(|_| ExchangeError::Slow)
}

/// Connects, and shakes hands where there is TLS.
///
/// # Errors
/// [`ExchangeError::Unreachable`], [`ExchangeError::Tls`].
pub async fn dial(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Stream, ExchangeError> {
    match timeout(CLI_CONNECT_TIMEOUT, connect(host, port, tls)).await {
        Ok(connected) => connected,
        Err(_) => {
            let reason = format!("no connection within {} s", CLI_CONNECT_TIMEOUT.as_secs());
            Err(ExchangeError::Unreachable(reason))
        }
    }
}

async fn connect(host: &str, port: u16, tls: Option<&ClientTls>) -> Result<Stream, ExchangeError> {
    let stream = SystemNetwork.connect(host, port).await.map_err(|error| {
        ExchangeError::Unreachable(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        })
    })?;
    match tls {
        None => Ok(stream),
        Some(tls) => tls.connect(host, stream).await.map_err(ExchangeError::Tls),
    }
}

async fn converse(stream: Stream, request: Request<Full<Bytes>>) -> Result<Answer, ExchangeError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ExchangeError::Protocol)?;
    let conversation = async {
        let (head, body) = sender.send_request(request).await.map_err(ExchangeError::Protocol)?.into_parts();
        let body = Limited::new(body, CLI_ANSWER_BYTES_MAX).collect().await.map_err(ExchangeError::Body)?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    // The connection moves bytes for as long as it is polled. When it ends first, what it has read is still handed over.
    tokio::pin!(conversation);
    tokio::select! {
        biased;
        answer = &mut conversation => answer,
        _ = connection => conversation.await,
    }
}
