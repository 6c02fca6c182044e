//! What a token claims once it was verified (JWT, RFC 7519; as an access token, RFC 9068): who is meant, by whom, for what, and when.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::digest::Digest;
use ostler_core::jwt::Proven;
use ostler_core::limits::{IDENTITY_BYTES_MAX, TOKEN_LEEWAY};
use serde_json::{Map, Value};

use super::Denial;

/// What a valid token says.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) scopes: BTreeSet<String>,
    pub(super) expires_unix: u64,
    not_before_unix: u64,
    pub(super) all: Arc<Map<String, Value>>,
    /// The key that signed it.
    pub(super) signer: Digest,
}

// === impl Claims ===

impl Claims {
    /// Reads what was proven.
    ///
    /// # Errors
    /// [`Denial::InvalidToken`] for a claim that is missing, or is not what it must be.
    pub(super) fn read(proven: Proven) -> Result<Self, Denial> {
        let Proven { claims: all, signer } = proven;
        let text = |name: &str| all.get(name).and_then(Value::as_str);
        let subject = text("sub").filter(|text| !text.is_empty() && text.len() <= IDENTITY_BYTES_MAX);
        Ok(Self {
            issuer: text("iss").ok_or(Denial::InvalidToken)?.to_owned(),
            subject: subject.ok_or(Denial::InvalidToken)?.to_owned(),
            audiences: texts(all.get("aud"), false),
            scopes: texts(all.get("scope").or_else(|| all.get("scp")), true).into_iter().collect(),
            expires_unix: seconds(all.get("exp")).ok_or(Denial::InvalidToken)?,
            not_before_unix: match all.get("nbf") {
                None => 0,
                given => seconds(given).ok_or(Denial::InvalidToken)?,
            },
            all: Arc::new(all),
            signer,
        })
    }

    /// Until it has expired.
    pub(super) fn left(&self, now_unix_ms: u64) -> Duration {
        let end_ms = self.expires_unix.saturating_add(TOKEN_LEEWAY.as_secs()).saturating_mul(1_000);
        Duration::from_millis(end_ms.saturating_sub(now_unix_ms))
    }

    /// Whether it is valid at that time.
    pub(super) fn check_time(&self, now_unix_ms: u64) -> Result<(), Denial> {
        let (now, leeway) = (now_unix_ms / 1_000, TOKEN_LEEWAY.as_secs());
        if now >= self.expires_unix.saturating_add(leeway) {
            return Err(Denial::Expired);
        }
        if now.saturating_add(leeway) < self.not_before_unix {
            return Err(Denial::NotYetValid);
        }
        Ok(())
    }
}

/// One text or a list of them. Scopes are one text with spaces.
fn texts(value: Option<&Value>, splits: bool) -> Vec<String> {
    let words = |text: &str| match splits {
        true => text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        false => vec![text.to_owned()],
    };
    match value {
        Some(Value::String(text)) => words(text),
        Some(Value::Array(items)) => {
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction.
fn seconds(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    // Beyond what a float tells apart there are no dates.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let whole = |number: f64| (0.0..1e15).contains(&number).then_some(number as u64);
    value.as_u64().or_else(|| whole(value.as_f64()?))
}
