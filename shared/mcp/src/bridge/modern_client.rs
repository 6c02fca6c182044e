//! A modern client before a legacy upstream: `server/discover` answered from `initialize`, what a request says of itself
//! taken off it, results completed with what the era asks of them, and a server's requests turned into `input_required`.

use super::legacy_client::{InputRequest, InputResponses};
use super::{BridgeError, META_CLIENT_CAPABILITIES, META_LOG_LEVEL, META_PREFIX, META_SERVER_INFO, Members};
use crate::envelope::Envelope;
use crate::era::Revision;
use crate::error::{INVALID_PARAMS, LEGACY_RESOURCE_NOT_FOUND};
use crate::message::{self, json_text};
use crate::method;

/// What a modern request says of itself, and what is left of it for a legacy upstream.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of the client, as far as a legacy server may ask for it: an object, raw, in one order, so that equal ones are equal.
    pub capabilities: String,
    pub log_level: Option<String>,
    /// Answers to what the upstream had asked.
    pub responses: Option<InputResponses>,
    /// Raw; progress is reported under it.
    pub progress_token: Option<String>,
    pub method: String,
    /// An object, raw, without `_meta` and what only the modern era knows.
    pub params: Option<String>,
    /// What is left of `_meta`, raw.
    meta: Option<String>,
}

/// Lists and what they have to say about caching: methods whose complete results need `ttlMs` and `cacheScope`.
const CACHEABLE: [&str; 6] = [
    method::SERVER_DISCOVER,
    method::TOOLS_LIST,
    method::PROMPTS_LIST,
    method::RESOURCES_LIST,
    method::RESOURCES_TEMPLATES_LIST,
    method::RESOURCES_READ,
];
/// What a modern client may have of the capabilities that a legacy server names: tasks of 2025-11-25 are not those of the
/// extension.
const SERVER_CAPABILITIES: [&str; 6] =
    ["completions", "experimental", "logging", "prompts", "resources", "tools"];
/// What a legacy server may be told of a modern client's capabilities, and their parts.
const CLIENT_CAPABILITIES: [(&str, &[&str]); 3] =
    [("elicitation", &["form", "url"]), ("roots", &[]), ("sampling", &["context", "tools"])];

// === impl Request ===

impl Request {
    /// Takes a client's request apart.
    ///
    /// # Errors
    /// When the message is not what it was accepted as.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, BridgeError> {
        let mut params = Members::parse_optional(envelope.params, "params")?;
        let given = params.take("_meta");
        let mut meta = Members::parse_optional(given.as_deref(), "_meta")?;
        let offered = meta.take(META_CLIENT_CAPABILITIES);
        let offered = Members::parse_optional(offered.as_deref(), "clientCapabilities")?;
        let log_level = meta.text(META_LOG_LEVEL);
        meta.retain(|key| !key.starts_with(META_PREFIX));
        let progress_token = meta.get("progressToken").map(str::to_owned);
        let responses = responses(&mut params)?;
        Ok(Self {
            capabilities: capabilities(&offered),
            log_level,
            responses,
            progress_token,
            method: envelope.method.clone().into_owned(),
            params: (!params.is_empty()).then(|| params.to_json()),
            meta: (!meta.is_empty()).then(|| meta.to_json()),
        })
    }

    /// The request as a legacy upstream wants it, with a number as its id, and as its progress token if it has one: many
    /// clients share a session.
    ///
    /// # Errors
    /// Never for a request that was read.
    pub fn legacy(&self, number: u64) -> Result<Vec<u8>, BridgeError> {
        let number = number.to_string();
        let mut params = Members::parse_optional(self.params.as_deref(), "params")?;
        if let Some(meta) = &self.meta {
            let mut meta = Members::parse(meta, "_meta")?;
            if self.progress_token.is_some() {
                meta.set("progressToken", &*number);
            }
            params.set("_meta", meta.to_json());
        }
        Ok(match params.is_empty() {
            true => message::bare_request(&number, &self.method),
            false => message::request(&number, &self.method, &params.to_json()),
        })
    }
}

/// The result of `server/discover`, of what the upstream answered to `initialize`.
///
/// # Errors
/// When that is no result of `initialize`.
pub fn discover_result(initialized: &str) -> Result<String, BridgeError> {
    let initialized = Members::parse(initialized, "the result of initialize")?;
    let offered = initialized.get("capabilities").ok_or(BridgeError::Malformed("capabilities"))?;
    let mut capabilities = Members::parse(offered, "capabilities")?;
    capabilities.retain(|name| SERVER_CAPABILITIES.contains(&name));
    let mut result = Members::default();
    result.set("supportedVersions", format!(r#"["{}"]"#, Revision::LATEST.as_str()));
    result.set("capabilities", capabilities.to_json());
    if let Some(instructions) = initialized.get("instructions") {
        result.set("instructions", instructions);
    }
    let result = result.to_json();
    self::result(method::SERVER_DISCOVER, &result, initialized.get("serverInfo"))
}

/// A legacy result as a modern one. `server` is the upstream's `serverInfo`, raw.
///
/// # Errors
/// When it is no object.
pub fn result(method: &str, result: &str, server: Option<&str>) -> Result<String, BridgeError> {
    let mut result = Members::parse(result, "the result")?;
    // A legacy server's word for something else is no type of a modern result.
    result.set("resultType", r#""complete""#);
    if CACHEABLE.contains(&method) {
        // What nobody promised is not kept, and not shared.
        result.set("ttlMs", "0");
        result.set("cacheScope", r#""private""#);
    }
    if let Some(server) = server {
        let given = result.take("_meta");
        let mut meta = Members::parse_optional(given.as_deref(), "_meta")?;
        meta.set(META_SERVER_INFO, server);
        result.set("_meta", meta.to_json());
        return Ok(result.to_json());
    }
    Ok(result.to_json())
}

/// A legacy error as a modern one: -32002 must not be sent any more.
///
/// # Errors
/// When it is no object.
pub fn error(error: &str, code: Option<i64>) -> Result<String, BridgeError> {
    let mut error = Members::parse(error, "the error")?;
    if code == Some(i64::from(LEGACY_RESOURCE_NOT_FOUND)) {
        error.set("code", INVALID_PARAMS.to_string());
    }
    Ok(error.to_json())
}

/// The `input_required` result that asks the client what a server has asked us. `state` is ours, as text.
pub fn input_required(requests: &[InputRequest], state: &str) -> String {
    let mut asked = Members::default();
    for InputRequest { key, method, params } in requests {
        let mut request = Members::default();
        request.set("method", json_text(method));
        if let Some(params) = params {
            request.set("params", &**params);
        }
        asked.set(key, request.to_json());
    }
    let mut result = Members::default();
    result.set("resultType", r#""input_required""#);
    result.set("inputRequests", asked.to_json());
    result.set("requestState", json_text(state));
    result.to_json()
}

fn responses(params: &mut Members<'_>) -> Result<Option<InputResponses>, BridgeError> {
    let state = params.take("requestState").map(std::borrow::Cow::into_owned);
    let Some(answers) = params.take("inputResponses") else {
        return Ok(state.map(|state| InputResponses { results: Vec::new(), state: Some(state) }));
    };
    let answers = Members::parse(&answers, "inputResponses")?;
    let results = answers.iter().map(|(key, result)| (key.to_owned(), result.to_owned())).collect();
    Ok(Some(InputResponses { results, state }))
}

/// In one order and without what a legacy server has no word for. There are few such sets, however clients write them.
fn capabilities(offered: &Members<'_>) -> String {
    let mut kept = Members::default();
    for (name, parts) in CLIENT_CAPABILITIES {
        let Some(Ok(value)) = offered.get(name).map(|value| Members::parse(value, name)) else { continue };
        let mut known = Members::default();
        for part in parts {
            if value.get(part).is_some_and(|part| part.starts_with('{')) {
                known.set(part, "{}");
            }
        }
        kept.set(name, known.to_json());
    }
    kept.to_json()
}

#[cfg(test)]
mod tests;
