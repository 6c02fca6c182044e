//! An issuer of tokens with a key of its own, for cases in which clients show one.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ostler_core::clock::WallClock;
use serde_json::{Value, json};

pub(crate) struct Issuer(EcdsaKeyPair);

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

impl Issuer {
    pub(crate) const NAME: &'static str = "https://issuer.example";

    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?))
    }

    /// Its key set (RFC 7517).
    pub(crate) fn keys(&self) -> Value {
        // An uncompressed point is one byte and two numbers.
        let (x, y) = self.0.public_key().as_ref().split_at(33);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "bench", "use": "sig",
            "x": encoded(x.get(1..).unwrap_or_default()), "y": encoded(y),
        }]})
    }

    /// A token for a resource (RFC 9068).
    pub(crate) fn token(&self, audience: &str) -> anyhow::Result<String> {
        let expires = WallClock::system().unix_ms() / 1_000 + LIFETIME.as_secs();
        let claims = json!({"iss": Self::NAME, "sub": "bench", "aud": audience, "exp": expires});
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "bench"});
        let parts = [header, claims].map(|part| encoded(part.to_string().as_bytes()));
        let message = parts.join(".");
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes())?;
        Ok(format!("{message}.{}", encoded(signature.as_ref())))
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
