//! Tokens of an authorization server: whose are believed, for what, and what is known without asking it.

use std::path::Path;

use ostler_core::clock::WallClock;
use ostler_dataplane::{ConfigFrom, DataPlane};
use ostler_tests::support::eventually;
use ostler_tests::support::http::Ask;
use ostler_tests::support::issuer::{KeyServer, SigningKey, encoded, set};
use ostler_tests::support::server::FakeServer;
use ostler_tests::support::world::{initialize, options};
use serde_json::{Value, json};

use super::streams::{Client, ends, hears};
use super::{bearer, reason, turned_away};

const ISSUER: &str = "https://idp.example";
const RESOURCE: &str = "https://gateway.example";
const NOW_UNIX: u64 = 1_800_000_000;

fn document(server: &FakeServer, keys: Value) -> Value {
    let upstream = json!({"http": {"url": server.url()}});
    let mut issuer = json!({"issuer": ISSUER});
    issuer.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    json!({
        "version": 1,
        "upstreams": {"a": &upstream, "b": &upstream},
        "auth": {"resource": RESOURCE, "issuers": {"idp": issuer}, "mounts": {"b": {"scopes": ["b.read", "b.write"]}}},
    })
}

async fn serve(dir: &Path, document: &Value, clock: &WallClock) -> DataPlane {
    let file = dir.join("ostler.yaml");
    std::fs::write(&file, document.to_string()).unwrap();
    let options = options(&dir.join("state"), ConfigFrom::File(file));
    DataPlane::start(ostler_dataplane::Options { clock: clock.clone(), ..options }).await.unwrap()
}

fn clock() -> WallClock {
    WallClock::manual(NOW_UNIX * 1_000)
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": RESOURCE, "exp": NOW_UNIX + 600, "scope": "b.read b.write other"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn greet(dataplane: &DataPlane, path: &str, token: &str) -> Ask {
    Ask::mcp(dataplane.mcp_addr(), path, &initialize()).header("authorization", &bearer(token))
}

#[tokio::test]
async fn a_token_is_believed_by_its_signature_issuer_audience_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let (key, strange) = (SigningKey::new("one"), SigningKey::new("one"));
    let server = FakeServer::start("up").await;
    let config = document(&server, json!({"jwks": set(&[&key]).to_string()}));
    let dataplane = serve(dir.path(), &config, &clock()).await;
    for good in [
        claims(),
        with("aud", json!([RESOURCE, "other"])),
        with("aud", json!(format!("{RESOURCE}/mcp/a"))),
        with("aud", json!(format!("{RESOURCE}/"))),
        with("nbf", json!(NOW_UNIX)),
        with("exp", json!(NOW_UNIX as f64 + 0.5)),
    ] {
        for _ in 0..2 {
            let answer = greet(&dataplane, "/mcp/a", &key.token(&good)).send().await;
            assert_eq!(answer.status, 200, "{good}: {}", answer.text());
        }
    }
    let seen = server.seen().len();
    let header = |alg: &str| json!({"alg": alg, "kid": "one"});
    let unsigned = |alg: &str| {
        let parts = [header(alg), claims()].map(|part| encoded(part.to_string().as_bytes()));
        format!("{}.", parts.join("."))
    };
    let good = key.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let forged = encoded(with("sub", json!("admin")).to_string().as_bytes());
    for (word, token) in [
        ("token_invalid", unsigned("none")),
        ("token_invalid", unsigned("NONE")),
        ("token_invalid", unsigned("ES256")),
        ("token_invalid", format!("{head}.{forged}.{signature}")),
        ("token_invalid", format!("{head}.{body}.{}", encoded(&[0; 64]))),
        // The public key as the secret of a symmetric algorithm: by the key it is ES256 all the same.
        ("token_invalid", key.signed(&header("HS256"), &claims())),
        ("token_invalid", key.signed(&header("RS256"), &claims())),
        ("token_invalid", strange.token(&claims())),
        (
            "token_invalid",
            key.signed(&json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false}), &claims()),
        ),
        ("token_invalid", key.signed(&json!({"alg": "ES256", "kid": "one", "typ": "logout+jwt"}), &claims())),
        ("token_of_unknown_key", key.signed(&json!({"alg": "ES256", "kid": "../../one"}), &claims())),
        ("token_of_unknown_key", key.signed(&json!({"alg": "ES256", "kid": ""}), &claims())),
        (
            "token_of_unknown_key",
            key.signed(
                &json!({"alg": "ES256", "kid": "two", "jwk": strange.jwk(), "jku": "https://evil.example"}),
                &claims(),
            ),
        ),
        ("token_of_other_issuer", key.token(&with("iss", json!("https://idp.example/")))),
        ("token_of_other_issuer", key.token(&with("iss", json!("https://evil.example")))),
        ("token_of_other_issuer", key.token(&with("iss", Value::Null))),
        ("token_for_other_audience", key.token(&with("aud", json!("https://other.example")))),
        ("token_for_other_audience", key.token(&with("aud", json!(format!("{RESOURCE}/mcp/b"))))),
        ("token_for_other_audience", key.token(&with("aud", json!(format!("{RESOURCE}/mcp"))))),
        ("token_for_other_audience", key.token(&with("aud", json!(format!("{RESOURCE}.evil.example"))))),
        ("token_for_other_audience", key.token(&with("aud", Value::Null))),
        ("token_expired", key.token(&with("exp", json!(NOW_UNIX - 31)))),
        ("token_not_yet_valid", key.token(&with("nbf", json!(NOW_UNIX + 31)))),
        ("token_invalid", key.token(&with("exp", Value::Null))),
        ("token_invalid", key.token(&with("exp", json!("never")))),
        ("token_invalid", key.token(&with("exp", json!(-1)))),
        ("token_invalid", key.token(&with("nbf", json!("now")))),
        ("token_invalid", key.token(&with("sub", Value::Null))),
        ("token_invalid", key.token(&with("sub", json!("x".repeat(257))))),
        ("credential_malformed", format!("{good}=")),
        ("credential_malformed", format!("{head}.{body}.!")),
        ("credential_malformed", "a.b.c".to_owned()),
        ("credential_unknown", format!("{good}.more")),
    ] {
        let before = turned_away(&dataplane, word).await;
        let answer = greet(&dataplane, "/mcp/a", &token).send().await;
        assert_eq!(
            (answer.status.as_u16(), reason(&answer).as_str()),
            (401, "unauthorized"),
            "{word}: {token}"
        );
        assert_eq!(turned_away(&dataplane, word).await, before + 1, "{word}: {token}");
        let challenge = answer.header("www-authenticate").unwrap();
        let metadata =
            format!(r#"resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource/mcp/a""#);
        assert!(challenge.contains(&metadata) && challenge.contains("invalid_token"), "{challenge}");
    }
    let query = format!("/mcp/a?access_token={good}");
    assert_eq!(Ask::mcp(dataplane.mcp_addr(), &query, &initialize()).send().await.status, 401);
    assert_eq!(server.seen().len(), seen, "something went up");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_token_that_was_verified_is_good_until_it_expires_and_for_what_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::new("one");
    let server = FakeServer::start("up").await;
    let clock = clock();
    let config = document(&server, json!({"jwks": set(&[&key]).to_string()}));
    let dataplane = serve(dir.path(), &config, &clock).await;
    let token = key.token(&with("aud", json!(format!("{RESOURCE}/mcp/a"))));
    assert_eq!(greet(&dataplane, "/mcp/a", &token).send().await.status, 200);
    assert_eq!(
        greet(&dataplane, "/mcp/b", &token).send().await.status,
        401,
        "verified, and made for another mount"
    );
    clock.advance(629_000);
    assert_eq!(greet(&dataplane, "/mcp/a", &token).send().await.status, 200);
    clock.advance(2_000);
    assert_eq!(greet(&dataplane, "/mcp/a", &token).send().await.status, 401);
    assert_eq!(turned_away(&dataplane, "token_expired").await, 1);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_mount_wants_all_of_its_scopes_and_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::new("one");
    let server = FakeServer::start("up").await;
    let config = document(&server, json!({"jwks": set(&[&key]).to_string()}));
    let dataplane = serve(dir.path(), &config, &clock()).await;
    for (scope, status) in [
        (json!("b.read b.write"), 200),
        (json!(["b.write", "b.read"]), 200),
        (json!("b.read"), 403),
        (json!("b.read b.writer"), 403),
        (json!("B.READ B.WRITE"), 403),
        (Value::Null, 403),
    ] {
        let answer = greet(&dataplane, "/mcp/b", &key.token(&with("scope", scope.clone()))).send().await;
        assert_eq!(answer.status.as_u16(), status, "{scope}");
        if status == 403 {
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.contains(r#"error="insufficient_scope""#)
                    && challenge.contains(r#"scope="b.read b.write""#)
            );
        }
    }
    dataplane.shutdown().await;
}

#[tokio::test]
async fn metadata_says_to_everybody_where_tokens_are_had() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::new("one");
    let server = FakeServer::start("up").await;
    let config = document(&server, json!({"jwks": set(&[&key]).to_string()}));
    let dataplane = serve(dir.path(), &config, &clock()).await;
    let at = |path: &str| {
        Ask::new(dataplane.mcp_addr(), "GET", &format!("/.well-known/oauth-protected-resource{path}")).send()
    };
    for (path, resource) in [("", ""), ("/mcp/a", "/mcp/a"), ("/sse/a", "/sse/a"), ("/mcp", "/mcp")] {
        let answer = at(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/json")));
        let shown = answer.json();
        assert_eq!(shown["resource"], format!("{RESOURCE}{resource}"), "{shown}");
        assert_eq!(shown["authorization_servers"], json!([ISSUER]));
        assert_eq!(shown["bearer_methods_supported"], json!(["header"]));
    }
    assert_eq!(at("/mcp/b").await.json()["scopes_supported"], json!(["b.read", "b.write"]));
    for path in ["/mcp/a/b", "/other", "/mcp/a/b/c"] {
        assert_eq!(at(path).await.status, 404, "{path}");
    }
    let foreign = Ask::new(dataplane.mcp_addr(), "GET", "/.well-known/oauth-protected-resource")
        .header("host", "evil.example");
    assert_eq!(foreign.send().await.status, 403);
    dataplane.shutdown().await;
}

#[tokio::test]
async fn keys_are_fetched_in_the_background_kept_and_found_again_without_their_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let keys = KeyServer::start(&[&old]).await;
    let server = FakeServer::start("up").await;
    let mut config = document(&server, json!({"jwks_url": keys.url()}));
    config["upstreams"]["up"] = config["upstreams"]["a"].clone();
    let dataplane = serve(dir.path(), &config, &clock()).await;
    let status = async |dataplane: &DataPlane, key: &SigningKey| {
        greet(dataplane, "/mcp/a", &key.token(&claims())).send().await.status.as_u16()
    };
    eventually("the keys are there", async || (status(&dataplane, &old).await == 200).then_some(())).await;
    assert_eq!(status(&dataplane, &new).await, 401);
    let old_one = Client::connect(&dataplane, &old.token(&claims())).await;
    let (mut stream, feed) = old_one.listen(&server).await;
    hears(&mut stream, &feed).await;
    keys.publish(Some(&[&new]));
    // Asked for by the unknown key, once its time has come.
    eventually("the new key is known", async || (status(&dataplane, &new).await == 200).then_some(())).await;
    assert_eq!(status(&dataplane, &old).await, 401, "its issuer has taken it back");
    ends(&mut stream).await;
    keys.publish(None);
    dataplane.shutdown().await;
    let dataplane = super::belongs::started(|| async {
        let options = options(&dir.path().join("state"), ConfigFrom::File(dir.path().join("ostler.yaml")));
        DataPlane::start(ostler_dataplane::Options { clock: clock(), ..options }).await
    })
    .await;
    assert_eq!(status(&dataplane, &new).await, 200, "without its issuer");
    dataplane.shutdown().await;
}
