//! The data plane's own token for an upstream (OAuth client credentials, RFC 6749 section 4.4). It is fetched in the background, once for all
//! upstreams that say the same, and again before it expires; no request waits for it. Without one nothing is sent, and what is sent to the
//! authorization server is never shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ostler_config::ClientCredentials;
use ostler_core::backoff::Backoff;
use ostler_core::clock::WallClock;
use ostler_core::digest::Digest;
use ostler_core::limits::{
    CREDENTIAL_BYTES_MAX, OAUTH_ANSWER_BYTES_MAX, OAUTH_FETCH_TIMEOUT, OAUTH_LIFETIME_UNSAID,
    OAUTH_REFETCH_MIN, OAUTH_RETRY_BASE, OAUTH_RETRY_CAP, OAUTH_SETTLE,
};
use ostler_core::rng::Jitter;
use ostler_mcp::Reason;
use ostler_mcp::headers::JSON;
use ostler_telemetry::metrics::Counter;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::http::{Ask, fetch};
use super::{Cause, UpstreamError};
use crate::deps::Deps;

/// One client's token.
pub struct Credential {
    client: Arc<ClientCredentials>,
    clock: WallClock,
    token: ArcSwapOption<Token>,
    /// The upstream refused it.
    wanted: Arc<Notify>,
    /// The first answer of the authorization server, whatever it was, has come.
    is_settled: watch::Sender<bool>,
    is_followed: AtomicBool,
    pub fetched: Counter,
    pub failed: Counter,
}

/// All clients that some upstream is described with.
#[derive(Default)]
pub struct Credentials(Mutex<HashMap<Digest, Weak<Credential>>>);

struct Token {
    header: HeaderValue,
    expires_unix_ms: u64,
}

/// RFC 6749 section 5.1, or an error of section 5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<f64>,
    error: Option<String>,
}

// === impl Credentials ===

impl Credentials {
    /// The token of a client. Nothing is fetched here.
    pub fn of(&self, client: &Arc<ClientCredentials>, clock: &WallClock) -> Arc<Credential> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, credential| credential.strong_count() > 0);
        if let Some(credential) = kept.get(&client.identity).and_then(Weak::upgrade) {
            return credential;
        }
        let credential = Arc::new(Credential::new(Arc::clone(client), clock.clone()));
        kept.insert(client.identity, Arc::downgrade(&credential));
        credential
    }
}

// === impl Credential ===

impl Credential {
    fn new(client: Arc<ClientCredentials>, clock: WallClock) -> Self {
        Self {
            client,
            clock,
            token: ArcSwapOption::default(),
            wanted: Arc::default(),
            is_settled: watch::Sender::new(false),
            is_followed: AtomicBool::new(false),
            fetched: Counter::default(),
            failed: Counter::default(),
        }
    }

    /// The header to send.
    ///
    /// # Errors
    /// While there is no token that is still valid.
    pub fn header(&self) -> Result<HeaderValue, UpstreamError> {
        let token = self.token.load();
        let valid = token.as_ref().filter(|token| self.clock.unix_ms() < token.expires_unix_ms);
        valid.map(|token| token.header.clone()).ok_or_else(|| {
            let detail = "Ostler has no token for the upstream: its authorization server has given none; look at the data plane's log";
            UpstreamError::new(Reason::UpstreamUnavailable, detail)
                .doubt(Cause::CredentialUnavailable)
                .retry_after(OAUTH_RETRY_BASE)
        })
    }

    /// The same, for whoever may wait a moment for the first one.
    ///
    /// # Errors
    /// Those of [`Credential::header`].
    pub async fn settled_header(&self) -> Result<HeaderValue, UpstreamError> {
        let mut settled = self.is_settled.subscribe();
        // Settled or not, what is there decides.
        let _ = timeout(OAUTH_SETTLE, settled.wait_for(|is_settled| *is_settled)).await;
        self.header()
    }

    /// The upstream has refused the token: another may do.
    pub fn doubt(&self) {
        self.wanted.notify_one();
    }

    /// Fetches it from now on, for as long as an upstream is described with it.
    pub fn follow(self: &Arc<Self>, deps: &Deps) {
        if self.is_followed.swap(true, Ordering::Relaxed) {
            return;
        }
        let (followed, of_task) = (Arc::downgrade(self), deps.clone());
        deps.tasks.spawn_until_stopped("upstream credential", async move {
            let mut jitter = of_task.jitter();
            let mut backoff = Backoff::new(OAUTH_RETRY_BASE, OAUTH_RETRY_CAP, of_task.jitter());
            while let Some(credential) = followed.upgrade() {
                let pause = match credential.fetch(&of_task).await {
                    Ok(lifetime) => {
                        credential.fetched.increment();
                        backoff.reset();
                        refresh_after(lifetime, &mut jitter)
                    }
                    Err(why) => {
                        credential.failed.increment();
                        tracing::warn!(
                            host = credential.client.endpoint.host,
                            "no token for an upstream can be had: {why}"
                        );
                        backoff.next_delay()
                    }
                };
                credential.is_settled.send_replace(true);
                // Whoever waits here must not be the last who holds it.
                let wanted = Arc::clone(&credential.wanted);
                drop(credential);
                let refused = async {
                    sleep(OAUTH_REFETCH_MIN).await;
                    wanted.notified().await;
                };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = refused => {}
                }
            }
        });
    }

    /// How long the new token is good.
    async fn fetch(&self, deps: &Deps) -> Result<Duration, String> {
        let asked_unix_ms = self.clock.unix_ms();
        let fetched = fetch(&self.client.endpoint, deps, ask(&self.client), OAUTH_ANSWER_BYTES_MAX);
        let (status, body) =
            timeout(OAUTH_FETCH_TIMEOUT, fetched).await.map_err(|_| "it takes too long".to_owned())??;
        let (header, lifetime) = read(status, &body)?;
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let expires_unix_ms = asked_unix_ms.saturating_add(lifetime_ms);
        self.token.store(Some(Arc::new(Token { header, expires_unix_ms })));
        Ok(lifetime)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Between half and three quarters of its life, so that there is time for another try, and a fleet does not ask together.
fn refresh_after(lifetime: Duration, jitter: &mut Jitter) -> Duration {
    let (half, quarter) = (lifetime / 2, lifetime / 4);
    let spread = jitter.below(u64::try_from(quarter.as_micros()).unwrap_or(u64::MAX));
    (half + Duration::from_micros(spread)).max(OAUTH_REFETCH_MIN)
}

/// The client authenticates as every authorization server must let it (RFC 6749 section 2.3.1).
fn ask(client: &ClientCredentials) -> Ask {
    let (id, secret) = (encoded(client.client_id.expose()), encoded(client.client_secret.expose()));
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let mut form = "grant_type=client_credentials".to_owned();
    let wanted = [
        ("scope", Some(client.scope.as_str()).filter(|scope| !scope.is_empty())),
        ("resource", client.resource.as_deref()),
    ];
    for (name, value) in wanted.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        form.push_str(&format!("&{name}={}", encoded(value)));
    }
    let mut headers = HeaderMap::new();
    if let Ok(mut basic) = HeaderValue::from_str(&basic) {
        basic.set_sensitive(true);
        headers.insert(AUTHORIZATION, basic);
    }
    headers.insert(ACCEPT, HeaderValue::from_static(JSON));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ask { method: Method::POST, headers, body: Bytes::from(form) }
}

/// `application/x-www-form-urlencoded`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte))
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The header and how long it is good, of what the authorization server answers. Nothing but its error's code is told of an answer.
fn read(status: StatusCode, body: &[u8]) -> Result<(HeaderValue, Duration), String> {
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    if status != StatusCode::OK {
        let is_code = |code: &&str| {
            code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let error = answer.as_ref().ok().and_then(|answer| answer.error.as_deref()).filter(is_code);
        return Err(format!("the answer is {status} ({})", error.unwrap_or("without an error code")));
    }
    let answer = answer.map_err(|_| "the answer is no token response".to_owned())?;
    if !answer.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err("the answer's `token_type` is not `Bearer`".to_owned());
    }
    let is_token = |token: &String| {
        !token.is_empty()
            && token.len() <= CREDENTIAL_BYTES_MAX
            && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let token =
        answer.access_token.filter(is_token).ok_or("the answer has no `access_token` that can be sent")?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string())?;
    header.set_sensitive(true);
    let said = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok((header, said.unwrap_or(OAUTH_LIFETIME_UNSAID)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_encoded_as_the_form_of_rfc_6749() {
        // RFC 6749, appendix B.
        assert_eq!(encoded(" %&+£€"), "+%25%26%2B%C2%A3%E2%82%AC");
    }

    #[test]
    fn an_answer_is_a_bearer_token_or_says_why_not_and_shows_nothing_else() {
        let ok = |body: &str| read(StatusCode::OK, body.as_bytes());
        let (header, lifetime) =
            ok(r#"{"access_token":"a.b","token_type":"bearer","expires_in":60,"more":1}"#).unwrap();
        assert_eq!((header.as_bytes(), lifetime), (&b"Bearer a.b"[..], Duration::from_secs(60)));
        assert!(header.is_sensitive());
        assert_eq!(ok(r#"{"access_token":"a","token_type":"Bearer"}"#).unwrap().1, OAUTH_LIFETIME_UNSAID);
        for wrong in [
            "",
            "hunter2",
            "{}",
            r#"{"access_token":"hunter2"}"#,
            r#"{"access_token":"hunter2","token_type":"mac"}"#,
            r#"{"access_token":"hunter2\r\nX: y","token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
        ] {
            let why = ok(wrong).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let refused = |body: &str| read(StatusCode::UNAUTHORIZED, body.as_bytes()).unwrap_err();
        assert!(
            refused(r#"{"error":"invalid_client","error_description":"hunter2"}"#).contains("invalid_client")
        );
        for body in [
            r#"{"error":"invalid_client","error_description":"hunter2"}"#,
            r#"{"error":"HUNTER2 hunter2"}"#,
            "hunter2",
        ] {
            assert!(!refused(body).contains("hunter2"), "{body}");
        }
    }

    #[test]
    fn a_token_is_fetched_again_before_it_expires_and_not_by_all_at_once() {
        let lifetime = Duration::from_secs(3_600);
        let after: Vec<_> =
            (0..100).map(|seed| refresh_after(lifetime, &mut Jitter::from_seed(seed))).collect();
        assert!(after.iter().all(|after| (lifetime / 2..lifetime * 3 / 4).contains(after)));
        assert!(after.iter().max().unwrap().saturating_sub(*after.iter().min().unwrap()) > lifetime / 8);
        assert_eq!(refresh_after(Duration::ZERO, &mut Jitter::from_seed(1)), OAUTH_REFETCH_MIN);
    }
}
