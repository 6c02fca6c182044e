//! An authorization server as far as its tokens go: keys, the set that it publishes, and whatever token a test wants signed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::http::StatusCode;
use axum::response::AppendHeaders;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A key, and what it is called.
#[derive(Debug)]
pub struct SigningKey {
    id: String,
    pair: EcdsaKeyPair,
}

/// A server that publishes keys.
#[derive(Debug)]
pub struct KeyServer {
    addr: SocketAddr,
    published: Arc<Mutex<Published>>,
    asked: Arc<AtomicUsize>,
    served: JoinHandle<()>,
}

/// What it answers.
#[derive(Debug, Clone)]
struct Published {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

// === impl SigningKey ===

impl SigningKey {
    /// # Panics
    /// Without randomness.
    pub fn new(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { id: id.to_owned(), pair }
    }

    /// As it is published.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": encoded(x), "y": encoded(y)})
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": "ES256", "typ": "at+jwt", "kid": self.id}), claims)
    }

    /// The same, with any header.
    ///
    /// # Panics
    /// Without randomness.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
        format!("{message}.{}", encoded(signature.as_ref()))
    }
}

// === impl KeyServer ===

impl KeyServer {
    /// # Panics
    /// When loopback has no port.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let published = Arc::new(Mutex::new(Published::keys(Some(keys))));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shown, counted) = (Arc::clone(&published), Arc::clone(&asked));
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let Published { status, location, body } =
                shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let location = location.map(|location| [("location", location)]);
            async move { (status, location.map(AppendHeaders), body) }
        };
        let router = Router::new().route("/keys", get(answer));
        let served = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self { addr, published, asked, served }
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.addr)
    }

    /// Publishes other keys, or fails.
    pub fn publish(&self, keys: Option<&[&SigningKey]>) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Published::keys(keys);
    }

    /// Says anything.
    ///
    /// # Panics
    /// When that is no status.
    pub fn say(&self, status: u16, location: Option<&str>, body: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let said = Published { status, location: location.map(str::to_owned), body: body.to_owned() };
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Published {
    fn keys(keys: Option<&[&SigningKey]>) -> Self {
        let status = if keys.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, location: None, body: keys.map(|keys| set(keys).to_string()).unwrap_or_default() }
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// A key set.
pub fn set(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

/// Base64url, as tokens have it.
pub fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
