//! A message while it is read, and the rules that need all of it.

use super::field::Field;
use crate::envelope::{Envelope, Kind};

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
