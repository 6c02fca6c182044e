//! The credential in a request's head (RFC 6750 section 2.1). Nowhere else is one looked for: not in the query, not in the body, not in
//! a cookie.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ostler_core::limits::CREDENTIAL_BYTES_MAX;

use super::Denial;

const SCHEME: &str = "bearer ";

/// The token of the one `Authorization` header.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Denial> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denial::Missing)?;
    // Of two, one would be judged and the other meant.
    if values.next().is_some() {
        return Err(Denial::Ambiguous);
    }
    if value.len() > CREDENTIAL_BYTES_MAX {
        return Err(Denial::TooLarge);
    }
    let text = value.to_str().map_err(|_| Denial::Malformed)?;
    let (scheme, token) = text.split_at_checked(SCHEME.len()).ok_or(Denial::Malformed)?;
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case(SCHEME) && is_token { Ok(token) } else { Err(Denial::Malformed) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<String, Denial> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        token(&headers).map(str::to_owned)
    }

    #[test]
    fn the_scheme_is_known_in_any_case_and_the_token_is_taken_as_it_is() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(read(&[&format!("{scheme} aB.c-_~+/=")]), Ok("aB.c-_~+/=".to_owned()));
        }
    }

    #[test]
    fn anything_else_is_no_credential() {
        assert_eq!(read(&[]), Err(Denial::Missing));
        for malformed in
            ["", "Bearer", "Bearer ", "Bearer  a", "Bearer a b", "Bearer a,b c", "Basic a", "Bearerabc", "a"]
        {
            assert_eq!(read(&[malformed]), Err(Denial::Malformed), "{malformed:?}");
        }
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(Denial::Ambiguous));
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(CREDENTIAL_BYTES_MAX))]), Err(Denial::TooLarge));
    }
}
