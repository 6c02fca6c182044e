//! Randomness as a parameter: seedable jitter for timing, and the crypto provider's generator for secrets.

use aws_lc_rs::rand;

/// Randomness for spreading load in time. Never for secrets.
#[derive(Debug, Clone)]
pub struct Jitter(fastrand::Rng);

impl Jitter {
    pub fn from_seed(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub fn from_entropy() -> Self {
        Self(fastrand::Rng::new())
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.u64(0..bound) }
    }
}

/// The operating system gave no randomness; nothing secret can be made.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random source failed; no secret can be made")]
pub struct RandomError;

/// 256 bits from the crypto provider as 43 characters of base64url: tokens, session ids.
///
/// # Errors
/// When the system has no randomness.
pub fn secret_token() -> Result<String, RandomError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(base64url(&bytes))
}

/// Unpadded base64url, RFC 4648 section 5.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = group >> (18 - 6 * place) & 0x3f;
            if let Some(letter) = ALPHABET.get(index as usize) {
                text.push(char::from(*letter));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_matches_the_rfc_vectors() {
        for (plain, encoded) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64url(plain.as_bytes()), encoded);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn tokens_differ_and_have_full_length() {
        let (a, b) = (secret_token().unwrap(), secret_token().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 43);
    }

    #[test]
    fn a_seed_replays() {
        let draw = |seed| {
            let mut jitter = Jitter::from_seed(seed);
            (0..8).map(|_| jitter.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
