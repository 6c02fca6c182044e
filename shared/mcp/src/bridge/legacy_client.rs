//! A legacy client before a modern upstream: its `initialize` answered from `server/discover`, its requests stamped with
//! what they must say of themselves, and what an upstream asks for turned into requests to the client.

use std::borrow::Cow;

use super::{
    BridgeError, META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_PREFIX,
    META_PROTOCOL_VERSION, META_SERVER_INFO, Members,
};
use crate::envelope::Envelope;
use crate::era::Revision;
use crate::message::{self, json_text};
use crate::method;

/// What a client said of itself in `initialize`, and has set since. Each of its requests says it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// An object, raw.
    capabilities: String,
    /// An object, raw.
    info: Option<String>,
    /// Of `logging/setLevel`; without it an upstream must not log.
    pub log_level: Option<String>,
    /// The revision that it was answered with.
    pub revision: Revision,
}

/// What an upstream wants to know before it goes on (`input_required`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequired {
    /// In their order.
    pub requests: Vec<InputRequest>,
    /// Raw; to be handed back as it is.
    pub state: Option<String>,
}

/// One of its questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequest {
    pub key: String,
    pub method: String,
    /// An object, raw.
    pub params: Option<String>,
}

/// What a request is sent again with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputResponses {
    /// Key and raw result.
    pub results: Vec<(String, String)>,
    /// As it came.
    pub state: Option<String>,
}

/// What a modern result is to a legacy client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its result; members that it does not know do it no harm.
    Complete,
    InputRequired(InputRequired),
}

/// What a legacy client may have of the capabilities that a modern server names.
const SERVER_CAPABILITIES: [&str; 6] =
    ["completions", "experimental", "logging", "prompts", "resources", "tools"];
/// What a modern server may have of the capabilities that a legacy client names. The tasks of 2025-11-25 are not those of the
/// extension, and neither is carried.
const CLIENT_CAPABILITIES: [&str; 5] = ["elicitation", "experimental", "extensions", "roots", "sampling"];
const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// What a modern server may ask for.
const INPUT_METHODS: [&str; 3] =
    [method::ELICITATION_CREATE, method::ROOTS_LIST, method::SAMPLING_CREATE_MESSAGE];

// === impl Caller ===

impl Caller {
    /// Reads the `params` of `initialize`.
    ///
    /// # Errors
    /// When they are not what `initialize` has.
    pub fn of_initialize(params: Option<&str>) -> Result<Self, BridgeError> {
        let params = Members::parse_optional(params, "params of initialize")?;
        let asked = params.text("protocolVersion").ok_or(BridgeError::Malformed("protocolVersion"))?;
        let mut capabilities = Members::parse_optional(params.get("capabilities"), "capabilities")?;
        capabilities.retain(|name| CLIENT_CAPABILITIES.contains(&name));
        if let Some(extensions) = capabilities.get("extensions") {
            let mut extensions = Members::parse(extensions, "extensions")?;
            extensions.take(TASKS_EXTENSION);
            let extensions = extensions.to_json();
            capabilities.set("extensions", extensions);
        }
        let info = params.get("clientInfo").map(|info| Members::parse(info, "clientInfo")).transpose()?;
        Ok(Self {
            capabilities: capabilities.to_json(),
            info: info.map(|info| info.to_json()),
            log_level: None,
            revision: answered(&asked),
        })
    }

    /// Whether the client can be asked this.
    pub fn can_answer(&self, method: &str) -> bool {
        let Ok(capabilities) = Members::parse(&self.capabilities, "capabilities") else { return false };
        match method {
            method::ELICITATION_CREATE => capabilities.get("elicitation").is_some(),
            method::ROOTS_LIST => capabilities.get("roots").is_some(),
            method::SAMPLING_CREATE_MESSAGE => capabilities.get("sampling").is_some(),
            _ => false,
        }
    }

    /// A request of the client's as the upstream wants it, with an id of the caller's choice.
    ///
    /// # Errors
    /// When the message is not what it was accepted as.
    pub fn request(
        &self,
        id: &str,
        envelope: &Envelope<'_>,
        responses: Option<&InputResponses>,
    ) -> Result<Vec<u8>, BridgeError> {
        let mut params = Members::parse_optional(envelope.params, "params")?;
        if let Some(responses) = responses {
            let mut results = Members::default();
            for (key, result) in &responses.results {
                results.set(key, &**result);
            }
            params.set("inputResponses", results.to_json());
            match &responses.state {
                Some(state) => params.set("requestState", &**state),
                None => drop(params.take("requestState")),
            }
        }
        self.stamp(id, &envelope.method, params)
    }

    /// `server/discover` in the client's name.
    ///
    /// # Errors
    /// Never for a caller that was read.
    pub fn discover(&self, id: &str) -> Result<Vec<u8>, BridgeError> {
        self.stamp(id, method::SERVER_DISCOVER, Members::default())
    }

    /// `tools/list` in the client's name, for the page after a raw cursor.
    ///
    /// # Errors
    /// Never for a caller that was read.
    pub fn list_tools(&self, id: &str, cursor: Option<&str>) -> Result<Vec<u8>, BridgeError> {
        let mut params = Members::default();
        if let Some(cursor) = cursor {
            params.set("cursor", cursor);
        }
        self.stamp(id, method::TOOLS_LIST, params)
    }

    /// `subscriptions/listen` for what a legacy client hears unasked: that lists changed, and the resources that it has
    /// subscribed to.
    ///
    /// # Errors
    /// Never for a caller that was read.
    pub fn listen<'u>(
        &self,
        id: &str,
        uris: impl IntoIterator<Item = &'u str>,
    ) -> Result<Vec<u8>, BridgeError> {
        let uris: Vec<_> = uris.into_iter().map(json_text).collect();
        let mut wanted = Members::default();
        for (kind, _) in method::LIST_CHANGES {
            wanted.set(kind, "true");
        }
        if !uris.is_empty() {
            wanted.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        let mut params = Members::default();
        params.set("notifications", wanted.to_json());
        self.stamp(id, method::SUBSCRIPTIONS_LISTEN, params)
    }

    fn stamp(&self, id: &str, method: &str, mut params: Members<'_>) -> Result<Vec<u8>, BridgeError> {
        let given = params.take("_meta");
        let mut meta = Members::parse_optional(given.as_deref(), "_meta")?;
        // What a legacy client has there of the modern protocol's is not its own to say.
        meta.retain(|key| !key.starts_with(META_PREFIX));
        meta.set(META_PROTOCOL_VERSION, json_text(Revision::LATEST.as_str()));
        meta.set(META_CLIENT_CAPABILITIES, &*self.capabilities);
        if let Some(info) = &self.info {
            meta.set(META_CLIENT_INFO, &**info);
        }
        if let Some(level) = &self.log_level {
            meta.set(META_LOG_LEVEL, json_text(level));
        }
        params.set("_meta", meta.to_json());
        Ok(message::request(id, method, &params.to_json()))
    }
}

/// The result of `initialize`, of what the upstream discovered to us. `name` is who it is if it does not say.
///
/// # Errors
/// When it is no result of `server/discover`.
pub fn initialize_result(discovered: &str, revision: Revision, name: &str) -> Result<String, BridgeError> {
    let discovered = Members::parse(discovered, "the result of server/discover")?;
    let offered = discovered.get("capabilities").ok_or(BridgeError::Malformed("capabilities"))?;
    let mut capabilities = Members::parse(offered, "capabilities")?;
    capabilities.retain(|name| SERVER_CAPABILITIES.contains(&name));
    let meta = Members::parse_optional(discovered.get("_meta"), "_meta")?;
    let nameless = || Cow::Owned(format!(r#"{{"name":{},"version":"unknown"}}"#, json_text(name)));
    let mut result = Members::default();
    result.set("protocolVersion", json_text(revision.as_str()));
    result.set("capabilities", capabilities.to_json());
    result.set("serverInfo", meta.get(META_SERVER_INFO).map_or_else(nameless, Cow::Borrowed));
    if let Some(instructions) = discovered.get("instructions") {
        result.set("instructions", instructions);
    }
    Ok(result.to_json())
}

/// What a result means to the client.
///
/// # Errors
/// When it is of a type that a legacy client has no word for, as a task's, or asks for what servers may not ask.
pub fn outcome(result: &str, result_type: Option<&str>) -> Result<Outcome, BridgeError> {
    match result_type {
        None | Some("complete") => Ok(Outcome::Complete),
        Some("input_required") => input_required(result).map(Outcome::InputRequired),
        Some(_) => Err(BridgeError::NoCarrier("a result of this type")),
    }
}

fn input_required(result: &str) -> Result<InputRequired, BridgeError> {
    let result = Members::parse(result, "the result")?;
    let asked = Members::parse_optional(result.get("inputRequests"), "inputRequests")?;
    let mut requests = Vec::new();
    for (key, request) in asked.iter() {
        let request = Members::parse(request, "a request of inputRequests")?;
        let method = request.text("method").ok_or(BridgeError::Malformed("a request of inputRequests"))?;
        if !INPUT_METHODS.contains(&&*method) {
            return Err(BridgeError::NoCarrier("a request of this method"));
        }
        requests.push(InputRequest {
            key: key.to_owned(),
            method,
            params: request.get("params").map(str::to_owned),
        });
    }
    let state = result.get("requestState").map(str::to_owned);
    if requests.is_empty() && state.is_none() {
        return Err(BridgeError::Malformed("an input_required result without a question"));
    }
    Ok(InputRequired { requests, state })
}

/// The revision that a client is answered with: the one it asked for if that has a handshake, else the newest that has.
fn answered(asked: &str) -> Revision {
    Revision::parse(asked).filter(|revision| !revision.is_modern()).unwrap_or(Revision::LATEST_LEGACY)
}

#[cfg(test)]
mod tests;
