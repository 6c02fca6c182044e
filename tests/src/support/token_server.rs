//! An authorization server as far as it gives tokens to clients: what it was asked, and what it answers from now on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a client sent.
#[derive(Debug, Clone)]
pub struct Asked {
    pub authorization: String,
    pub form: String,
}

/// Gives `token-1`, `token-2` and so on.
#[derive(Debug)]
pub struct TokenServer {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    served: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    asked: Vec<Asked>,
    given: usize,
    /// Of a token, in seconds; it gives none without it.
    lifetime: Option<u64>,
}

impl TokenServer {
    /// # Panics
    /// When loopback has no port.
    pub async fn start(lifetime: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { asked: Vec::new(), given: 0, lifetime }));
        let shared = Arc::clone(&state);
        let answer = move |headers: HeaderMap, form: String| {
            let answered = lock(&shared).answer(&headers, form);
            async move { answered }
        };
        let router = Router::new().route("/token", post(answer));
        let served = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self { addr, state, served }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.addr)
    }

    /// From now on it gives tokens that live so long, or none.
    pub fn give(&self, lifetime: Option<u64>) {
        lock(&self.state).lifetime = lifetime;
    }

    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }
}

impl State {
    fn answer(&mut self, headers: &HeaderMap, form: String) -> (StatusCode, String) {
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
        self.asked.push(Asked { authorization: authorization.unwrap_or_default().to_owned(), form });
        let Some(lifetime) = self.lifetime else {
            let error = json!({"error": "invalid_client", "error_description": "hunter2"});
            return (StatusCode::UNAUTHORIZED, error.to_string());
        };
        self.given += 1;
        let token: Value = json!({
            "access_token": format!("token-{}", self.given), "token_type": "Bearer", "expires_in": lifetime,
        });
        (StatusCode::OK, token.to_string())
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.served.abort();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
