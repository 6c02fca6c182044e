//! TLS with the one crypto provider. All names of rustls stay in this crate; everything else sees streams.

mod client;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{Alpn, ClientTls, ClientTlsError};
pub use server::{Pem, ServerTls, ServerTlsError};

/// The one crypto provider. Never rustls' process-wide default, which panics when two providers are linked.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
