//! A message while it is read, and the rules that need all of it.

use std::borrow::Cow;

use ostler_core::limits::MESSAGE_ID_BYTES_MAX;

use super::field::Field;
use super::lexer::Text;
use crate::envelope::{Envelope, Id, Kind};

/// A message while it is read: the envelope, and what is needed to judge it at its end.
pub(super) struct Draft<'a> {
    pub envelope: Envelope<'a>,
    pub version_seen: bool,
    pub method_seen: bool,
    pub id: IdState,
    /// Parameters that are there with a type they must not have, to be judged once the method is known.
    pub mistyped: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum IdState {
    Absent,
    Null,
    Good,
    Mistyped,
    Twice,
}

/// A value that was read.
pub(super) enum Value<'a> {
    Object,
    Array,
    Text(Text<'a>),
    Integer,
    Null,
    Other,
}

impl<'a> Draft<'a> {
    pub fn new() -> Self {
        Draft {
            envelope: Envelope::empty(),
            version_seen: false,
            method_seen: false,
            id: IdState::Absent,
            mistyped: Vec::new(),
        }
    }

    /// Takes a member that matters: its value as written, where that begins, and, if it is read as text, what it says.
    ///
    /// # Errors
    /// Why the message is unacceptable with it.
    pub fn take(
        &mut self,
        field: Field,
        raw: &'a str,
        start: usize,
        value: &Value<'a>,
        text: Option<Cow<'a, str>>,
    ) -> Result<(), &'static str> {
        let token = match value {
            Value::Text(_) | Value::Integer if raw.len() <= MESSAGE_ID_BYTES_MAX => Some(Id::new(raw, start)),
            _ => None,
        };
        // Absent and null say the same for a token; anything else that is not a token is refused.
        let token_mistyped = token.is_none() && !matches!(value, Value::Null);
        if field.mistyped(text.is_none(), token_mistyped) {
            self.mistyped.push(field);
        }
        let envelope = &mut self.envelope;
        match field {
            Field::Message | Field::Other | Field::Meta => {}
            Field::Jsonrpc => {
                self.version_seen = true;
                if text.is_none_or(|text| text != "2.0") {
                    return Err("jsonrpc must be \"2.0\"");
                }
            }
            Field::Id => {
                envelope.id = token;
                self.id = match value {
                    Value::Null => IdState::Null,
                    _ if token.is_some() => IdState::Good,
                    _ => IdState::Mistyped,
                };
            }
            Field::Method => {
                self.method_seen = true;
                envelope.method = text.unwrap_or_default();
                if envelope.method.is_empty() {
                    return Err("method must be a string that is not empty");
                }
            }
            Field::Params => {
                envelope.params = Some(raw);
                if !matches!(value, Value::Object) {
                    return Err("params must be an object");
                }
            }
            Field::Result => envelope.result = Some(raw),
            Field::Error => {
                envelope.error = Some(raw);
                if !matches!(value, Value::Object) {
                    return Err("error must be an object");
                }
            }
            Field::ErrorCode => {
                envelope.error_code = matches!(value, Value::Integer).then(|| raw.parse().ok()).flatten();
            }
            Field::ResultType => envelope.result_type = text,
            Field::IsError => envelope.is_error = raw == "true",
            Field::Arguments => envelope.arguments = Some(raw),
            Field::MetaTraceparent => envelope.meta.traceparent = text,
            Field::MetaTracestate => envelope.meta.tracestate = text,
            Field::MetaProtocolVersion => {
                envelope.meta.protocol_version = text;
                if envelope.meta.protocol_version.is_none() {
                    return Err("_meta: io.modelcontextprotocol/protocolVersion must be a string");
                }
            }
            Field::MetaClientCapabilities => {
                envelope.meta.client_capabilities = matches!(value, Value::Object).then_some(raw);
            }
            Field::MetaProgressToken => {
                envelope.meta.progress_token = token;
                if token_mistyped {
                    return Err("_meta: progressToken must be a string or an integer, and short");
                }
            }
            Field::MetaSubscriptionId => {
                envelope.meta.subscription_id = token;
                if token_mistyped {
                    return Err(
                        "_meta: io.modelcontextprotocol/subscriptionId must be a string or an integer, and short",
                    );
                }
            }
            Field::Name => envelope.name = text,
            Field::Uri => envelope.uri = text,
            Field::TaskId => envelope.task_id = text,
            Field::InitializeVersion => envelope.initialize_version = text,
            Field::ProgressToken => envelope.progress_token = token,
            Field::RequestId => envelope.request_id = token,
        }
        Ok(())
    }

    /// The id that a refusal may be answered to.
    pub fn answerable_id(&self) -> Option<&'a str> {
        self.envelope.id.filter(|_| self.id == IdState::Good).map(|id| id.raw())
    }

    pub fn verdict(&self) -> Result<Kind, &'static str> {
        let envelope = &self.envelope;
        if !self.version_seen {
            return Err("jsonrpc must be \"2.0\"");
        }
        match self.id {
            IdState::Mistyped => return Err("id must be a string or an integer, and short"),
            IdState::Twice => return Err("an object holds the same key twice"),
            IdState::Absent | IdState::Null | IdState::Good => {}
        }
        match (self.method_seen, envelope.result, envelope.error) {
            (true, None, None) => {
                let method = &envelope.method;
                if let Some(reason) = self.mistyped.iter().find_map(|field| field.mistyped_in(method)) {
                    return Err(reason);
                }
                match self.id {
                    IdState::Absent => Ok(Kind::Notification),
                    IdState::Good => Ok(Kind::Request),
                    _ => Err("id must be a string or an integer, and short"),
                }
            }
            (false, Some(_), None) | (false, None, Some(_)) if envelope.params.is_some() => {
                Err("a response must not have params")
            }
            (false, Some(_), None) if self.id == IdState::Good => Ok(Kind::Response { error: false }),
            (false, Some(_), None) => Err("a result must have an id"),
            (false, None, Some(_)) => Ok(Kind::Response { error: true }),
            (false, None, None) => Err("a message must have a method, a result or an error"),
            (true, _, _) => Err("a message with a method must have neither result nor error"),
            (false, Some(_), Some(_)) => Err("a response must not have both result and error"),
        }
    }
}
