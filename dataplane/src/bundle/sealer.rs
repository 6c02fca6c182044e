//! What clients keep for us and hand back: sealed, so that it says nothing, and bound to what it was made for, so that it is good
//! for nothing else. The key is the process's own and goes with it.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ostler_core::rng::{RandomError, secret_token};
use ostler_core::seal::SealKey;

/// Whom a value is given to. Nobody else can hand it back: to others it is as if it did not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder(Option<(Box<str>, Box<str>)>);

/// Seals with a key that is made on first use.
#[derive(Debug, Default)]
pub(super) struct Sealer(OnceLock<SealKey>);

// === impl Holder ===

impl Holder {
    /// By the credential that a caller has shown: its issuer, and its subject there. All who show none are one.
    pub(super) fn of(principal: Option<(&str, &str)>) -> Self {
        Self(principal.map(|(issuer, subject)| (issuer.into(), subject.into())))
    }

    /// Where a value of this holder's is good: pieces with their lengths, so that no two places are written alike.
    pub(super) fn place(&self, bundle: &str, purpose: &[u8]) -> Vec<u8> {
        let (issuer, subject) = self.0.as_ref().map_or(("", ""), |(issuer, subject)| (issuer, subject));
        let is_known = [u8::from(self.0.is_some())];
        let pieces = [bundle.as_bytes(), &is_known, issuer.as_bytes(), subject.as_bytes(), purpose];
        let mut place = Vec::with_capacity(pieces.iter().map(|piece| piece.len() + 8).sum());
        for piece in pieces {
            place.extend_from_slice(&(piece.len() as u64).to_le_bytes());
            place.extend_from_slice(piece);
        }
        place
    }
}

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
    fn what_one_holder_is_given_is_nothing_in_anothers_hands() {
        let sealer = Sealer::default();
        let holders = [
            Holder::of(None),
            Holder::of(Some(("", ""))),
            Holder::of(Some(("", "ci"))),
            Holder::of(Some(("https://idp", "ci"))),
            Holder::of(Some(("https://idpc", "i"))),
        ];
        let places = |holder: &Holder| {
            [("all", "task"), ("al", "ltask"), ("all", "tasks")]
                .map(|(bundle, purpose)| holder.place(bundle, purpose.as_bytes()))
        };
        let all: Vec<_> = holders.iter().flat_map(places).collect();
        for (at, place) in all.iter().enumerate() {
            let sealed = sealer.seal(place, "t/1").unwrap();
            let opens: Vec<_> =
                (0..all.len()).filter(|other| sealer.open(&all[*other], &sealed).is_some()).collect();
            assert_eq!(opens, [at]);
        }
    }

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
