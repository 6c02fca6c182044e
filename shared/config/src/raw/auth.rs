//! `auth` and `identity`: who may use what, and what callers are called, as a document says it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::name_rule;
use crate::located::{Entries, Located};

/// Who may use the mounts. Without it nobody is asked for a credential. What is accepted for a request is what its mount says, or else
/// its listener, or else `accept`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Auth")]
pub(crate) struct RawAuth {
    /// What is accepted where neither mount nor listener says anything: `api_keys`, names of `issuers`, or `none` alone. Without it, all
    /// that is configured here.
    #[schemars(length(min = 1))]
    pub(crate) accept: Option<Located<Vec<Located<String>>>>,
    /// API keys, by the name of whoever has one. `ostler key new NAME` makes one.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) api_keys: Option<Located<Entries<RawApiKey>>>,
    /// Whose tokens (JWT) are accepted, by a name for use in `accept`.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) issuers: Option<Located<Entries<RawIssuer>>>,
    /// What listeners accept, by name. `mcp` is the data plane's own `--listen`.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) listeners: Option<Located<Entries<RawListenerAccess>>>,
    /// What mounts and bundles accept, by name, and the scopes that they want.
    #[schemars(extend("propertyNames" = name_rule()))]
    pub(crate) mounts: Option<Located<Entries<RawMountAccess>>>,
    /// The URL at which clients reach the data plane, without `/mcp`: `https://gateway.example`. Tokens must be made for it, or for the URL of
    /// the mount below it. Needed where there are `issuers`.
    pub(crate) resource: Option<Located<String>>,
}

/// One API key. The key itself is not in the config.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKey")]
pub(crate) struct RawApiKey {
    /// `sha256:` and the SHA-256 of the key in hexadecimal digits, or a reference to that.
    #[schemars(required, length(min = 1))]
    pub(crate) key: Option<Located<String>>,
    /// The mounts and bundles that it is good for; all without it.
    #[schemars(length(min = 1))]
    pub(crate) mounts: Option<Located<Vec<Located<String>>>>,
    /// The scopes that it has.
    pub(crate) scopes: Option<Located<Vec<Located<String>>>>,
}

/// An authorization server, by whose keys tokens are verified. The keys are fetched in the background, or given here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Issuer", extend("oneOf" = [{ "required": ["jwks"] }, { "required": ["jwks_url"] }]))]
pub(crate) struct RawIssuer {
    /// Its URL, exactly as its tokens say it in `iss`. Clients are sent there for a token.
    #[schemars(required, length(min = 1))]
    pub(crate) issuer: Option<Located<String>>,
    /// Its keys, a JSON Web Key Set (RFC 7517). May be a reference: `${file:/path}`.
    pub(crate) jwks: Option<Located<String>>,
    /// Where its keys are fetched, `https://`; plain `http://` on loopback alone.
    pub(crate) jwks_url: Option<Located<String>>,
    /// What its tokens may say in `aud` besides the URL of the data plane or of the mount.
    #[schemars(length(min = 1))]
    pub(crate) audiences: Option<Located<Vec<Located<String>>>>,
}

/// What a listener accepts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerAccess")]
pub(crate) struct RawListenerAccess {
    /// `api_keys`, names of `issuers`, or `none` alone.
    #[schemars(required, length(min = 1))]
    pub(crate) accept: Option<Located<Vec<Located<String>>>>,
}

/// What a mount or bundle accepts, and wants. A bundle must want what its mounts want.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MountAccess")]
pub(crate) struct RawMountAccess {
    /// `api_keys`, names of `issuers`, or `none` alone. Without it, what the listener accepts.
    #[schemars(length(min = 1))]
    pub(crate) accept: Option<Located<Vec<Located<String>>>>,
    /// Scopes that a credential must have, all of them.
    #[schemars(length(min = 1))]
    pub(crate) scopes: Option<Located<Vec<Located<String>>>>,
}

/// What callers are called in rules, limits and audit records. It decides about no access by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Identity")]
pub(crate) struct RawIdentity {
    /// Where it is taken from: the first that a request has. Without it, the token's subject, then the API key's name.
    #[schemars(length(min = 1))]
    pub(crate) sources: Option<Located<Vec<Located<RawSource>>>>,
    /// What becomes of a request that has none of them.
    #[schemars(extend("enum" = ["anonymous", "deny"], "default" = "anonymous"))]
    pub(crate) on_unresolved: Option<Located<String>>,
}

/// A word, or a map with one key.
#[derive(Debug)]
pub(crate) enum RawSource {
    Word(String),
    Map(Vec<(String, Located<String>)>),
}

// === impl RawSource ===

impl<'de> Deserialize<'de> for RawSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = RawSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`subject`, `api_key`, `session`, `{ claim: name }` or `{ header: x-name }`")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<RawSource, E> {
                Ok(RawSource::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSource, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawSource::Map(entries))
            }
        }

        deserializer.deserialize_any(SourceVisitor)
    }
}

impl JsonSchema for RawSource {
    fn schema_name() -> Cow<'static, str> {
        "IdentitySource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "`subject`: the token's `sub`. `api_key`: the key's name. `session`: a name made of the data plane's own session id. `claim`: a text claim of the token. `header`: a header, `x-…`, that whoever starts the agent sets; it is as true as whoever can set it.",
            "oneOf": [
                { "type": "string", "enum": ["subject", "api_key", "session"] },
                { "type": "object", "properties": { "claim": { "type": "string" } }, "required": ["claim"], "additionalProperties": false },
                { "type": "object", "properties": { "header": { "type": "string", "pattern": "^[xX]-" } }, "required": ["header"], "additionalProperties": false },
            ],
        })
    }
}
