//! Which members of a message matter, and where they stand.
//!
//! A key means something only in its place: `name` in `params` is a tool, in `params.arguments` it is data. Nothing
//! that is not listed here is looked at by the scan.

use crate::method;

/// The object that is being read.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Message,
    Params,
    Result,
    Meta,
    Error,
    Elsewhere,
}

/// A member that matters.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Field {
    /// A whole message: the body itself, or one of a batch.
    Message,
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    ErrorCode,
    ResultType,
    IsError,
    Name,
    Uri,
    TaskId,
    Arguments,
    ProgressToken,
    RequestId,
    InitializeVersion,
    Meta,
    MetaProtocolVersion,
    MetaClientCapabilities,
    MetaProgressToken,
    MetaSubscriptionId,
    MetaTraceparent,
    MetaTracestate,
    Other,
}

impl Place {
    #[inline]
    pub fn field(self, key: &str) -> Field {
        match self {
            Place::Elsewhere => Field::Other,
            Place::Message => match key {
                "jsonrpc" => Field::Jsonrpc,
                "id" => Field::Id,
                "method" => Field::Method,
                "params" => Field::Params,
                "result" => Field::Result,
                "error" => Field::Error,
                _ => Field::Other,
            },
            Place::Params => match key {
                "name" => Field::Name,
                "arguments" => Field::Arguments,
                "_meta" => Field::Meta,
                "uri" => Field::Uri,
                "taskId" => Field::TaskId,
                "progressToken" => Field::ProgressToken,
                "requestId" => Field::RequestId,
                "protocolVersion" => Field::InitializeVersion,
                _ => Field::Other,
            },
            Place::Result => match key {
                "resultType" => Field::ResultType,
                "isError" => Field::IsError,
                "_meta" => Field::Meta,
                "protocolVersion" => Field::InitializeVersion,
                _ => Field::Other,
            },
            Place::Error if key == "code" => Field::ErrorCode,
            Place::Error => Field::Other,
            Place::Meta => match key {
                "io.modelcontextprotocol/protocolVersion" => Field::MetaProtocolVersion,
                "io.modelcontextprotocol/clientCapabilities" => Field::MetaClientCapabilities,
                "io.modelcontextprotocol/subscriptionId" => Field::MetaSubscriptionId,
                "progressToken" => Field::MetaProgressToken,
                "traceparent" => Field::MetaTraceparent,
                "tracestate" => Field::MetaTracestate,
                _ => Field::Other,
            },
        }
    }

    /// Whether a key is another spelling of one that matters here. Readers that ignore case, as Go's do, would take it
    /// for that one, and run what was never judged.
    pub fn resembles(self, key: &str) -> bool {
        let listed: &[&str] = match self {
            Place::Message => &["jsonrpc", "id", "method", "params", "result", "error"],
            Place::Params => &[
                "name",
                "uri",
                "taskId",
                "arguments",
                "progressToken",
                "requestId",
                "protocolVersion",
                "_meta",
            ],
            Place::Meta => &[
                "io.modelcontextprotocol/protocolVersion",
                "io.modelcontextprotocol/clientCapabilities",
                "io.modelcontextprotocol/subscriptionId",
                "progressToken",
                "traceparent",
                "tracestate",
            ],
            // What a server answers is not what is judged.
            Place::Result | Place::Error | Place::Elsewhere => &[],
        };
        let is_ascii = key.is_ascii();
        listed.iter().any(|known| {
            *known != key
                && if is_ascii { known.eq_ignore_ascii_case(key) } else { folded(key).eq(folded(known)) }
        })
    }
}

/// The two characters that fold to an ASCII letter in Unicode are folded with it, as Go does.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    })
}

impl Field {
    /// What the member's value is, if it is an object.
    pub fn place(self) -> Place {
        match self {
            Field::Message => Place::Message,
            Field::Params => Place::Params,
            Field::Result => Place::Result,
            Field::Error => Place::Error,
            Field::Meta => Place::Meta,
            _ => Place::Elsewhere,
        }
    }

    /// Whether its value is read as text.
    pub fn is_text(self) -> bool {
        match self {
            Field::Jsonrpc
            | Field::Method
            | Field::ResultType
            | Field::Name
            | Field::Uri
            | Field::TaskId
            | Field::InitializeVersion
            | Field::MetaProtocolVersion
            | Field::MetaTraceparent
            | Field::MetaTracestate => true,
            Field::Message
            | Field::Id
            | Field::Params
            | Field::Result
            | Field::Error
            | Field::ErrorCode
            | Field::IsError
            | Field::Arguments
            | Field::ProgressToken
            | Field::RequestId
            | Field::Meta
            | Field::MetaClientCapabilities
            | Field::MetaProgressToken
            | Field::MetaSubscriptionId
            | Field::Other => false,
        }
    }

    /// Whether a parameter has a type that it must not have in a method that means something by it.
    pub fn mistyped(self, not_text: bool, not_token: bool) -> bool {
        match self {
            Field::Name | Field::Uri | Field::TaskId | Field::InitializeVersion => not_text,
            Field::ProgressToken | Field::RequestId => not_token,
            _ => false,
        }
    }

    /// Why a value of the wrong type is refused in a message with this method; `None` where the member means nothing.
    pub fn mistyped_in(self, method: &str) -> Option<&'static str> {
        let target = method::target(method);
        match self {
            Field::Name if target == Some(method::Target::Name) => Some("params.name must be a string"),
            Field::Uri if target == Some(method::Target::Uri) => Some("params.uri must be a string"),
            Field::TaskId if target == Some(method::Target::TaskId) => Some("params.taskId must be a string"),
            Field::InitializeVersion if method == method::INITIALIZE => {
                Some("params.protocolVersion must be a string")
            }
            Field::ProgressToken if method == method::NOTIFICATIONS_PROGRESS => {
                Some("params.progressToken must be a string or an integer, and short")
            }
            Field::RequestId if method == method::NOTIFICATIONS_CANCELLED => {
                Some("params.requestId must be a string or an integer, and short")
            }
            _ => None,
        }
    }
}
