//! An authorization server as far as its tokens go: keys, the set that it publishes, and whatever token a test wants signed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::http::StatusCode;
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
    published: Arc<Mutex<Option<Value>>>,
    served: JoinHandle<()>,
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
        let published = Arc::new(Mutex::new(Some(set(keys))));
        let shown = Arc::clone(&published);
        let router = Router::new().route(
            "/keys",
            get(move || {
                let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                async move { shown.map(|set| set.to_string()).ok_or(StatusCode::SERVICE_UNAVAILABLE) }
            }),
        );
        let served = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self { addr, published, served }
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.addr)
    }

    /// Publishes other keys, or fails.
    pub fn publish(&self, keys: Option<&[&SigningKey]>) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = keys.map(set);
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
