//! Bytes that only who has a secret can read: AES-256-GCM with a key that HKDF-SHA-256 makes of it. A sealed piece says
//! whether it was changed, and whether it lies where it was put; it does not say whether a newer one was taken away.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;

use crate::rng::RandomError;

/// A key of one secret for one purpose.
pub struct SealKey(LessSafeKey);

/// What was to be opened was sealed with another key or for another place, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open: they are another's, or were changed")]
pub struct Unopened;

impl SealKey {
    /// The key of a secret (RFC 5869). Each purpose has another; the secret itself must be unguessable.
    ///
    /// # Errors
    /// Never for keys of this length; the provider says so by its type.
    pub fn of(secret: &[u8], purpose: &str) -> Result<Self, Unopened> {
        let secret = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let info = [purpose.as_bytes()];
        let material = secret.expand(&info, &AES_256_GCM).map_err(|_| Unopened)?;
        Ok(Self(LessSafeKey::new(UnboundKey::from(material))))
    }

    /// Seals bytes for one place: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, RandomError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| RandomError)?;
        let mut body = bytes.to_vec();
        let sealed =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body);
        sealed.map_err(|_| RandomError)?;
        let mut whole = nonce.to_vec();
        whole.append(&mut body);
        Ok(whole)
    }

    /// Opens what was sealed with this key for this place.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Unopened)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(place), &mut body).map_err(|_| Unopened)?.len();
        body.truncate(opened);
        Ok(body)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_secret_purpose_and_place_alone() {
        let key = SealKey::of(b"secret", "purpose").unwrap();
        let sealed = key.seal(b"place", b"bytes").unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"bytes"));
        let opened = |secret: &[u8], purpose, place: &[u8]| {
            SealKey::of(secret, purpose).unwrap().open(place, &sealed).ok()
        };
        assert_eq!(opened(b"secret", "purpose", b"place").as_deref(), Some(&b"bytes"[..]));
        assert_eq!(opened(b"another", "purpose", b"place"), None);
        assert_eq!(opened(b"secret", "another", b"place"), None);
        assert_eq!(opened(b"secret", "purpose", b"another"), None);
    }

    #[test]
    fn a_changed_or_cut_byte_anywhere_does_not_open() {
        let key = SealKey::of(b"secret", "purpose").unwrap();
        let sealed = key.seal(b"", b"bytes").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"", &changed), Err(Unopened), "byte {at}");
            assert_eq!(key.open(b"", &sealed[..at]), Err(Unopened), "cut at {at}");
        }
    }

    #[test]
    fn the_same_bytes_are_never_sealed_alike() {
        let key = SealKey::of(b"secret", "purpose").unwrap();
        assert_ne!(key.seal(b"", b"bytes").unwrap(), key.seal(b"", b"bytes").unwrap());
    }
}
