//! Tokens (JWT, RFC 7519) and the published keys that verify them (JSON Web Key Set, RFC 7517). Parsing, signatures and the claims that are the
//! same everywhere are `jsonwebtoken`'s; what it leaves to its caller is here.
//!
//! Which algorithm is used is the key's to say, never a token's. Symmetric keys are passed over: a set that is published would give them away, and
//! a public key must never be taken for one. What a token says of keys (`jku`, `jwk`, `x5u`, `x5c`) is never looked at.
//!
//! Neither time nor audience is judged here: the library would read the system's clock, and who an audience is depends on what is asked for.

use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header, Validation, dangerous, decode,
    decode_header,
};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::digest::{Digest, DigestBuilder};
use crate::limits::{JWKS_KEYS_MAX, RSA_MODULUS_BYTES_MAX, RSA_MODULUS_BYTES_MIN};

/// Keys to verify with.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

/// Text that is no key set, or has no key to verify with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("it is not a JSON Web Key Set")]
    Malformed,
    #[error("it has no public key for a known algorithm")]
    NoKey,
    #[error("it has more than {JWKS_KEYS_MAX} keys")]
    TooMany,
}

/// A token of which nothing is believed yet.
#[derive(Debug)]
pub struct Unverified<'t> {
    text: &'t str,
    header: Header,
    issuer: Option<String>,
}

/// What keeps a token from being believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It has not the three parts of a token.
    Malformed,
    /// It is of another kind, has a wrong signature, or lacks a claim that it must have.
    Invalid,
    /// It names a key that the set does not have: the set may be old.
    UnknownKey,
}

/// What a token proved to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Proven {
    pub claims: Map<String, Value>,
    /// The key that signed it.
    pub signer: Digest,
}

/// One public key and the one algorithm that it is for.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    digest: Digest,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// The one claim that is read before it is believed: it says whose keys to try.
#[derive(Deserialize)]
struct Named {
    iss: Option<String>,
}

/// Claims, each of which stands there once: of two, one would be judged and the other meant (RFC 7519 section 4).
struct Unique(Map<String, Value>);

// === impl KeySet ===

impl KeySet {
    /// Reads a set. Keys of kinds that are not known, or for other uses, are passed over (RFC 7517 section 5).
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let raw: RawSet = serde_json::from_slice(text).map_err(|_| KeySetError::Malformed)?;
        if raw.keys.len() > JWKS_KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<_> = raw.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// Whether a key is among them that has signed something.
    pub fn has(&self, signer: &Digest) -> bool {
        self.0.iter().any(|key| key.digest == *signer)
    }
}

// === impl Unverified ===

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Unproven::Malformed`] and [`Unproven::Invalid`].
    pub fn read(text: &'t str) -> Result<Self, Unproven> {
        let header = decode_header(text).map_err(unproven)?;
        // An access token or one that does not say (RFC 9068 section 4), and no extension that would have to be understood
        // (RFC 7515 section 4.1.11).
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_access_token) {
            return Err(Unproven::Invalid);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "it says by whose keys the token is verified, which say it again"
        )]
        let named: Named = dangerous::insecure_decode_claims(text).map_err(unproven)?;
        Ok(Self { text, header, issuer: named.iss })
    }

    /// Whose it says it is.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// What it claims, if one of these keys signed it for this issuer, by the algorithm that the key is for, and it says when it ends.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn verify(&self, keys: &KeySet, issuer: &str) -> Result<Proven, Unproven> {
        let id = self.header.kid.as_deref();
        let mut named =
            keys.0.iter().filter(|key| id.is_none_or(|id| key.id.as_deref() == Some(id))).peekable();
        if named.peek().is_none() {
            return Err(Unproven::UnknownKey);
        }
        let mut why = Unproven::Invalid;
        for key in named.filter(|key| key.algorithm == self.header.alg) {
            match decode::<Unique>(self.text, &key.key, &validation(key.algorithm, issuer)) {
                Ok(proven) => return Ok(Proven { claims: proven.claims.0, signer: key.digest }),
                Err(error) => why = unproven(error),
            }
        }
        Err(why)
    }
}

/// What holds at any time and for any audience.
fn validation(algorithm: Algorithm, issuer: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::from(["exp", "iss"].map(str::to_owned));
    validation.set_issuer(&[issuer]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn unproven(error: Error) -> Unproven {
    match error.into_kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => Unproven::Malformed,
        ErrorKind::Json(error) if error.classify() != Category::Data => Unproven::Malformed,
        _ => Unproven::Invalid,
    }
}

// === impl Key ===

impl Key {
    fn read(raw: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(raw).ok()?;
        let common = &jwk.common;
        let is_for_signatures =
            common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
                && common.key_operations.as_ref().is_none_or(|uses| uses.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return None;
        }
        let default = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let algorithm = match common.key_algorithm {
            None => default,
            Some(named) => Algorithm::try_from(named).ok()?,
        };
        // What a key says of itself must be what it is.
        let is_rsa = default.family() == AlgorithmFamily::Rsa;
        let is_itself =
            if is_rsa { algorithm.family() == AlgorithmFamily::Rsa } else { algorithm == default };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let is_usable = is_itself && is_key(&key, algorithm);
        let digest = digest(&key, algorithm);
        is_usable.then_some(Self { id: jwk.common.key_id, algorithm, key, digest })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?} {:?})", self.id, self.algorithm)
    }
}

/// Tells it from every other key, whatever either is called.
fn digest(key: &DecodingKey, algorithm: Algorithm) -> Digest {
    let mut digest = DigestBuilder::new();
    digest.update(format!("{algorithm:?}").as_bytes());
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => digest.update(bytes),
        DecodingKeyKind::RsaModulusExponent { n, e } => digest.update(n).update(e),
    };
    digest.finish()
}

/// Whether signatures can be verified with it, which the library finds out with each.
fn is_key(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match (key.kind(), algorithm) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, _) => {
            (RSA_MODULUS_BYTES_MIN..=RSA_MODULUS_BYTES_MAX).contains(&n.len())
                && RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES256) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES384) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) => {
            ParsedPublicKey::new(&ED25519, bytes).is_ok()
        }
        _ => false,
    }
}

// === impl Unique ===

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UniqueVisitor;

        impl<'de> Visitor<'de> for UniqueVisitor {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands there twice"));
                    }
                }
                Ok(Unique(claims))
            }
        }

        deserializer.deserialize_map(UniqueVisitor)
    }
}

#[cfg(test)]
mod tests;
