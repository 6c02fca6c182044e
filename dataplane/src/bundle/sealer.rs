//! What clients keep for us and hand back: sealed, so that it says nothing, and bound to what it was made for, so that it is good
//! for nothing else. The key is the process's own and goes with it.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ostler_core::rng::{RandomError, secret_token};
use ostler_core::seal::SealKey;

/// Seals with a key that is made on first use.
#[derive(Debug, Default)]
pub(super) struct Sealer(OnceLock<SealKey>);

// === impl Sealer ===

impl Sealer {
    /// Seals a value for a context.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn seal(&self, context: &[u8], value: &str) -> Result<String, RandomError> {
        let key = match self.0.get() {
            Some(key) => key,
            None => {
                let key =
                    SealKey::of(secret_token()?.as_bytes(), "ostler bundle").map_err(|_| RandomError)?;
                self.0.get_or_init(|| key)
            }
        };
        Ok(URL_SAFE_NO_PAD.encode(key.seal(context, value.as_bytes())?))
    }

    /// The value; nothing unless it was sealed here, for this context.
    pub(super) fn open(&self, context: &[u8], sealed: &str) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        String::from_utf8(self.0.get()?.open(context, &sealed).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_where_it_was_sealed_and_for_what_it_was_sealed() {
        let (sealer, other) = (Sealer::default(), Sealer::default());
        let sealed = sealer.seal(b"this", "a secret").unwrap();
        other.seal(b"this", "").unwrap();
        assert_eq!(sealer.open(b"this", &sealed).as_deref(), Some("a secret"));
        assert!(sealer.open(b"that", &sealed).is_none() && other.open(b"this", &sealed).is_none());
        for nothing in ["", "A", "not base64!", "a secret"] {
            assert!(
                sealer.open(b"this", nothing).is_none() && Sealer::default().open(b"", nothing).is_none()
            );
        }
    }
}
