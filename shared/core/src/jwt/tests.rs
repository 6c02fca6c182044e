//! Tokens against key sets, each signed by hand, so that what the library makes of them is judged by something else.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: Value) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({"keys": keys, "more": 1}).to_string().as_bytes())
}

fn token(header: &Value, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(header.to_string()), encoded(claims));
    let signature = encoded(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn claims() -> String {
    json!({"iss": ISSUER, "sub": "alice", "exp": 1_800_000_000}).to_string()
}

fn judged(token: &str, keys: &KeySet) -> Result<Map<String, Value>, Unproven> {
    Ok(Unverified::read(token)?.verify(keys, ISSUER)?.claims)
}

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn ec(pair: &EcdsaKeyPair) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": encoded(x), "y": encoded(y)})
}

fn es256(pair: &EcdsaKeyPair, header: &Value, claims: &str) -> String {
    token(header, claims, |message| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
}

fn rsa(pair: &RsaKeyPair) -> Value {
    let key = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    json!({"kty": "RSA", "kid": "rsa", "n": encoded(key.n), "e": encoded(key.e)})
}

fn rs256(pair: &RsaKeyPair, header: &Value) -> String {
    signed_by_rsa(pair, header, &RSA_PKCS1_SHA256)
}

fn signed_by_rsa(
    pair: &RsaKeyPair,
    header: &Value,
    encoding: &'static dyn aws_lc_rs::signature::RsaEncoding,
) -> String {
    token(header, &claims(), |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    })
}

#[test]
fn a_token_is_its_keys_alone() {
    let pair = pair();
    let header = json!({"alg": "ES256", "kid": "ec"});
    let good = es256(&pair, &header, &claims());
    let keys = set(json!([ec(&pair)])).unwrap();
    assert_eq!(judged(&good, &keys).unwrap()["sub"], "alice");
    assert_eq!(judged(&good, &set(json!([ec(&self::pair())])).unwrap()), Err(Unproven::Invalid));
    let other = es256(&pair, &json!({"alg": "ES256", "kid": "another"}), &claims());
    assert_eq!(judged(&other, &keys), Err(Unproven::UnknownKey));
    let unnamed = es256(&pair, &json!({"alg": "ES256"}), &claims());
    assert!(judged(&unnamed, &set(json!([ec(&self::pair()), ec(&pair)])).unwrap()).is_ok(), "each is tried");
    assert_eq!(
        Unverified::read(&good).unwrap().verify(&keys, "https://idp.example/"),
        Err(Unproven::Invalid)
    );

    let (message, signature) = good.rsplit_once('.').unwrap();
    for (end, why) in [
        (String::new(), Unproven::Invalid),
        (encoded([0; 64]), Unproven::Invalid),
        (signature[..signature.len() - 2].to_owned(), Unproven::Invalid),
        (format!("{signature}="), Unproven::Malformed),
        (format!("{signature}.more"), Unproven::Malformed),
        ("!".to_owned(), Unproven::Malformed),
    ] {
        assert_eq!(judged(&format!("{message}.{end}"), &keys), Err(why), "{end}");
    }
}

#[test]
fn a_key_is_known_again_by_what_it_is_and_not_by_its_name() {
    let (one, two) = (pair(), pair());
    let keys = set(json!([ec(&one)])).unwrap();
    let token = es256(&one, &json!({"alg": "ES256"}), &claims());
    let signer = Unverified::read(&token).unwrap().verify(&keys, ISSUER).unwrap().signer;
    let mut renamed = ec(&one);
    renamed["kid"] = json!("renamed");
    assert!(set(json!([ec(&two), renamed])).unwrap().has(&signer));
    assert!(!set(json!([ec(&two)])).unwrap().has(&signer), "another key by the same name");
}

#[test]
fn keys_of_each_known_kind_verify_what_they_signed() {
    let edwards = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(edwards.public_key())});
    let good = token(&json!({"alg": "EdDSA"}), &claims(), |message| edwards.sign(message).as_ref().to_vec());
    assert!(judged(&good, &set(json!([jwk])).unwrap()).is_ok());

    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let keys = set(json!([rsa(&pair)])).unwrap();
    let good = rs256(&pair, &json!({"alg": "RS256"}));
    assert!(judged(&good, &keys).is_ok());
    let mut jwk = rsa(&pair);
    jwk["alg"] = json!("PS256");
    let strict = set(json!([jwk])).unwrap();
    let padded = signed_by_rsa(&pair, &json!({"alg": "PS256"}), &RSA_PSS_SHA256);
    assert!(judged(&padded, &strict).is_ok());
    for (token, keys) in [(&padded, &keys), (&good, &strict)] {
        assert_eq!(judged(token, keys), Err(Unproven::Invalid), "an algorithm that the key is not for");
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (jwk, der) = (rsa(&pair), pair.public_key().as_der().unwrap());
    let keys = set(json!([jwk])).unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(der.as_ref())
    );
    for secret in [der.as_ref(), &modulus, pem.as_bytes(), jwk.to_string().as_bytes(), b""] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        for kid in [json!("rsa"), Value::Null] {
            let forged = token(&json!({"alg": "HS256", "kid": kid}), &claims(), |message| {
                hmac::sign(&secret, message).as_ref().to_vec()
            });
            assert_eq!(judged(&forged, &keys), Err(Unproven::Invalid));
        }
    }
    for alg in ["none", "None", "NONE", "", "ES256", "EdDSA", "HS512", "ES256K"] {
        let forged = token(&json!({"alg": alg, "kid": "rsa"}), &claims(), |_| Vec::new());
        assert_eq!(judged(&forged, &keys), Err(Unproven::Invalid), "{alg}");
    }
}

#[test]
fn what_a_token_says_of_keys_is_never_looked_at() {
    let (pair, strange) = (pair(), pair());
    let keys = set(json!([ec(&pair)])).unwrap();
    for (name, value) in [
        ("jwk", ec(&strange)),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/chain")),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "ec"});
        header[name] = value;
        assert_eq!(judged(&es256(&strange, &header, &claims()), &keys), Err(Unproven::Invalid), "{name}");
        assert!(judged(&es256(&pair, &header, &claims()), &keys).is_ok(), "{name}");
    }
}

#[test]
fn what_is_no_access_token_is_not_taken_for_one() {
    let pair = pair();
    let keys = set(json!([ec(&pair)])).unwrap();
    let signed = |header: Value, claims: &str| judged(&es256(&pair, &header, claims), &keys);
    for typ in ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"] {
        assert!(signed(json!({"alg": "ES256", "typ": typ}), &claims()).is_ok(), "{typ}");
    }
    for header in [
        json!({"alg": "ES256", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "typ": "dpop+jwt"}),
        json!({"alg": "ES256", "typ": ""}),
        json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "crit": []}),
        json!({"typ": "JWT"}),
    ] {
        assert_eq!(signed(header.clone(), &claims()), Err(Unproven::Invalid), "{header}");
    }
    assert!(signed(json!({"alg": ["ES256"]}), &claims()).is_err());
    // A token within a token.
    let inner = es256(&pair, &json!({"alg": "ES256"}), &claims());
    for outer in [inner.clone(), json!(inner).to_string()] {
        assert!(signed(json!({"alg": "ES256", "cty": "JWT"}), &outer).is_err(), "{outer}");
    }
}

#[test]
fn claims_must_be_there_once_and_be_what_they_are() {
    let pair = pair();
    let keys = set(json!([ec(&pair)])).unwrap();
    let signed = |claims: &str| judged(&es256(&pair, &json!({"alg": "ES256"}), claims), &keys);
    for claims in [
        r#"{"iss":"https://idp.example"}"#,
        r#"{"iss":"https://idp.example","exp":null}"#,
        r#"{"iss":"https://idp.example","exp":"never"}"#,
        r#"{"iss":"https://idp.example","exp":-1}"#,
        r#"{"exp":1800000000}"#,
        r#"{"iss":["https://idp.example"],"exp":1800000000}"#,
        r#"{"iss":"https://evil.example","exp":1800000000}"#,
        r#"{"iss":"https://idp.example","iss":"https://evil.example","exp":1800000000}"#,
        r#"{"iss":"https://idp.example","exp":1,"exp":1800000000}"#,
        r#"{"iss":"https://idp.example","sub":"admin","exp":1800000000,"sub":"alice"}"#,
        r#"{"iss":"https://idp.example","sub":"admin","exp":1800000000,"s\u0075b":"alice"}"#,
        r#"{"iss":"https://idp.example","groups":1,"exp":1800000000,"groups":2}"#,
    ] {
        assert_eq!(signed(claims), Err(Unproven::Invalid), "{claims}");
    }
    for claims in [
        "",
        "[]",
        "1",
        "null",
        "{",
        r#"{"iss":"https://idp.example","exp":1800000000} "x""#,
        r#"{"iss":"https://idp.example","exp":[1800000000]}"#,
        r#"{"iss":"https://idp.example","exp":{"":1800000000}}"#,
    ] {
        assert!(signed(claims).is_err(), "{claims}");
    }
    let deep = format!(r#"{{"iss":"{ISSUER}","exp":1,"deep":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert!(signed(&deep).is_err());
    assert!(signed(r#"{"iss":"https://idp.example","exp":1800000000.5}"#).is_ok());
}

#[test]
fn what_is_no_public_key_for_signatures_is_passed_over() {
    let pair = pair();
    let with = |name: &str, value: Value| {
        let mut key = ec(&pair);
        key[name] = value;
        set(json!([key]))
    };
    assert!(with("use", "sig".into()).is_ok() && with("alg", "ES256".into()).is_ok());
    for (name, value) in [
        ("use", "enc".into()),
        ("key_ops", json!(["sign"])),
        ("alg", "HS256".into()),
        ("alg", "none".into()),
        ("alg", "RS256".into()),
        ("alg", "ES384".into()),
        ("crv", "secp256k1".into()),
        ("crv", "P-384".into()),
        ("crv", "Ed25519".into()),
        ("kty", "oct".into()),
        ("x", "AAAA".into()),
        ("x", "not base64!".into()),
        // Not on the curve.
        ("y", json!(encoded([1; 32]))),
    ] {
        assert_eq!(with(name, value.clone()).err(), Some(KeySetError::NoKey), "{name}: {value}");
    }
    for key in [
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "RSA", "n": encoded([0xff; 128]), "e": "AQAB"}),
        json!({"kty": "RSA", "n": encoded([0xff; 2_048]), "e": "AQAB"}),
        json!({"kty": "OKP", "crv": "X25519", "x": encoded([9; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": encoded([9; 31])}),
        json!({"kty": "EC"}),
        json!("key"),
    ] {
        assert_eq!(set(json!([key])).err(), Some(KeySetError::NoKey), "{key}");
        assert!(set(json!([key, ec(&pair)])).is_ok(), "beside a good one: {key}");
    }
    assert_eq!(KeySet::parse(b"{}").err(), Some(KeySetError::Malformed));
    assert_eq!(KeySet::parse(b"hunter2").err(), Some(KeySetError::Malformed));
    let many: Vec<_> = (0..=JWKS_KEYS_MAX).map(|_| ec(&pair)).collect();
    assert_eq!(set(many.into()).err(), Some(KeySetError::TooMany));
}
