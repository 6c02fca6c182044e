//! Writes the JSON-RPC error that carries a [`Reason`], without a tree.
//!
//! The id goes in as raw JSON, so that it is echoed exactly. Text is escaped by serde_json; raw JSON is the caller's
//! promise. It must never be given anything of an upstream's that was not meant for the client.

use std::borrow::Cow;

use super::Reason;
use crate::message::json_text;

/// A JSON-RPC error response in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct ErrorBody<'a> {
    reason: Reason,
    id: Option<&'a str>,
    id_left_out: bool,
    message: Cow<'a, str>,
    mount: Option<&'a str>,
    request_id: Option<&'a str>,
    retryable: bool,
    retry_after_ms: Option<u64>,
    upstream: Option<&'a str>,
    available_mounts: Option<&'a [&'a str]>,
    fields: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> ErrorBody<'a> {
    pub fn new(reason: Reason) -> Self {
        ErrorBody {
            reason,
            id: None,
            id_left_out: false,
            message: Cow::Borrowed(reason.facts().meaning),
            mount: None,
            request_id: None,
            retryable: reason.retryable(),
            retry_after_ms: None,
            upstream: None,
            available_mounts: None,
            fields: Vec::new(),
        }
    }

    /// The refusal of a body that is no acceptable message, with the id as far as it could be read.
    pub fn of_envelope(error: &'a crate::EnvelopeError) -> Self {
        ErrorBody::new(Reason::from(error)).id(error.id.as_deref()).message(error.to_string())
    }

    /// The request's id as raw JSON ([`crate::Id::raw`]); `null` is written without one.
    pub fn id(mut self, raw: Option<&'a str>) -> Self {
        self.id = raw;
        self
    }

    /// Leaves the member out where there is no id, as the schemas from 2025-11-25 have it, which do not know `null`.
    pub fn id_left_out(mut self) -> Self {
        self.id_left_out = true;
        self
    }

    /// Instead of the reason's own line.
    pub fn message(mut self, message: impl Into<Cow<'a, str>>) -> Self {
        self.message = message.into();
        self
    }

    pub fn mount(mut self, mount: &'a str) -> Self {
        self.mount = Some(mount);
        self
    }

    pub fn request_id(mut self, request_id: &'a str) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// Instead of the reason's own word: a request that may have been executed must not be sent again unseen.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    pub fn upstream(mut self, upstream: &'a str) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// Sorted, and only those that this caller may use.
    pub fn available_mounts(mut self, mounts: &'a [&'a str]) -> Self {
        self.available_mounts = Some(mounts);
        self
    }

    /// Another member of `data`, as text.
    pub fn text_field(mut self, name: &'a str, text: &str) -> Self {
        self.fields.push((name, Cow::Owned(json_text(text))));
        self
    }

    /// Another member of `data`, as raw JSON.
    pub fn json_field(mut self, name: &'a str, json: impl Into<Cow<'a, str>>) -> Self {
        self.fields.push((name, json.into()));
        self
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_json().into_bytes()
    }

    pub fn to_json(&self) -> String {
        let facts = self.reason.facts();
        let mut json = String::with_capacity(384);
        json.push_str(r#"{"jsonrpc":"2.0""#);
        if self.id.is_some() || !self.id_left_out {
            member(&mut json, "id", self.id.unwrap_or("null"));
        }
        json.push_str(r#","error":{"code":"#);
        json.push_str(&facts.code.to_string());
        member(&mut json, "message", &json_text(&self.message));
        json.push_str(r#","data":{"reason":"#);
        json.push_str(&json_text(facts.name));
        text_member(&mut json, "mount", self.mount);
        member(&mut json, "retryable", if self.retryable { "true" } else { "false" });
        if let Some(retry_after_ms) = self.retry_after_ms {
            member(&mut json, "retry_after_ms", &retry_after_ms.to_string());
        }
        text_member(&mut json, "request_id", self.request_id);
        text_member(&mut json, "upstream", self.upstream);
        if let Some(mounts) = self.available_mounts {
            let mounts: Vec<String> = mounts.iter().map(|mount| json_text(mount)).collect();
            member(&mut json, "available_mounts", &format!("[{}]", mounts.join(",")));
        }
        for (name, value) in &self.fields {
            member(&mut json, name, value);
        }
        json.push_str("}}}");
        json
    }
}

fn text_member(json: &mut String, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        member(json, name, &json_text(text));
    }
}

fn member(json: &mut String, name: &str, value: &str) {
    json.push(',');
    json.push_str(&json_text(name));
    json.push(':');
    json.push_str(value);
}
