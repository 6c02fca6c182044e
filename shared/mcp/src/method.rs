//! Method names and what a gateway knows about each: what it acts on, and whether its answer is a list.
//!
//! An unknown method is nothing special and passes; nothing here may refuse one.

pub const INITIALIZE: &str = "initialize";
pub const PING: &str = "ping";
pub const SERVER_DISCOVER: &str = "server/discover";
pub const SUBSCRIPTIONS_LISTEN: &str = "subscriptions/listen";
pub const TOOLS_LIST: &str = "tools/list";
pub const TOOLS_CALL: &str = "tools/call";
pub const PROMPTS_LIST: &str = "prompts/list";
pub const PROMPTS_GET: &str = "prompts/get";
pub const RESOURCES_LIST: &str = "resources/list";
pub const RESOURCES_TEMPLATES_LIST: &str = "resources/templates/list";
pub const RESOURCES_READ: &str = "resources/read";
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
pub const COMPLETION_COMPLETE: &str = "completion/complete";
pub const LOGGING_SET_LEVEL: &str = "logging/setLevel";
pub const TASKS_GET: &str = "tasks/get";
pub const TASKS_RESULT: &str = "tasks/result";
pub const TASKS_LIST: &str = "tasks/list";
pub const TASKS_CANCEL: &str = "tasks/cancel";
pub const TASKS_UPDATE: &str = "tasks/update";

pub const SAMPLING_CREATE_MESSAGE: &str = "sampling/createMessage";
pub const ELICITATION_CREATE: &str = "elicitation/create";
pub const ROOTS_LIST: &str = "roots/list";

pub const NOTIFICATIONS_INITIALIZED: &str = "notifications/initialized";
pub const NOTIFICATIONS_CANCELLED: &str = "notifications/cancelled";
pub const NOTIFICATIONS_PROGRESS: &str = "notifications/progress";
pub const NOTIFICATIONS_MESSAGE: &str = "notifications/message";
pub const NOTIFICATIONS_SUBSCRIPTIONS_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
pub const NOTIFICATIONS_TOOLS_LIST_CHANGED: &str = "notifications/tools/list_changed";
pub const NOTIFICATIONS_PROMPTS_LIST_CHANGED: &str = "notifications/prompts/list_changed";
pub const NOTIFICATIONS_RESOURCES_LIST_CHANGED: &str = "notifications/resources/list_changed";
pub const NOTIFICATIONS_RESOURCES_UPDATED: &str = "notifications/resources/updated";
pub const NOTIFICATIONS_ROOTS_LIST_CHANGED: &str = "notifications/roots/list_changed";

/// What a subscription calls a kind of list that changes, and how it is told (2026-07-28, `subscriptions/listen`).
pub const LIST_CHANGES: [(&str, &str); 3] = [
    ("toolsListChanged", NOTIFICATIONS_TOOLS_LIST_CHANGED),
    ("promptsListChanged", NOTIFICATIONS_PROMPTS_LIST_CHANGED),
    ("resourcesListChanged", NOTIFICATIONS_RESOURCES_LIST_CHANGED),
];

/// The parameter that names what a method acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `params.name`
    Name,
    /// `params.uri`
    Uri,
    /// `params.taskId`
    TaskId,
}

/// What the method acts on; `None` if it acts on nothing named.
pub fn target(method: &str) -> Option<Target> {
    match method {
        TOOLS_CALL | PROMPTS_GET => Some(Target::Name),
        RESOURCES_READ | RESOURCES_SUBSCRIBE | RESOURCES_UNSUBSCRIBE => Some(Target::Uri),
        TASKS_GET | TASKS_RESULT | TASKS_CANCEL | TASKS_UPDATE => Some(Target::TaskId),
        _ => None,
    }
}

/// Whether 2026-07-28 mirrors the target in `Mcp-Name`: subscriptions to resources and the task methods that it
/// removed have no header.
pub fn has_name_header(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ | TASKS_GET | TASKS_UPDATE | TASKS_CANCEL)
}

/// Whether the answer is a catalogue, from which policy may hide entries.
fn is_list(method: &str) -> bool {
    matches!(method, TOOLS_LIST | PROMPTS_LIST | RESOURCES_LIST | RESOURCES_TEMPLATES_LIST)
}

/// Whether the method makes an upstream do or reveal something, as opposed to describing itself.
pub fn is_call(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ)
}

/// Whether policy judges it as a call: whatever makes an upstream do or reveal something, and whatever is not known. The others
/// keep a conversation going: handshakes, lists, notifications, what follows a call.
pub fn is_governed(method: &str) -> bool {
    !(is_list(method)
        || is_notification(method)
        || is_of_task(method)
        || matches!(
            method,
            INITIALIZE
                | PING
                | SERVER_DISCOVER
                | SUBSCRIPTIONS_LISTEN
                | RESOURCES_UNSUBSCRIBE
                | LOGGING_SET_LEVEL
        ))
}

/// Whether it is about a task, which a call has begun.
pub fn is_of_task(method: &str) -> bool {
    matches!(method, TASKS_GET | TASKS_RESULT | TASKS_LIST | TASKS_CANCEL | TASKS_UPDATE)
}

/// Whether an unknown method is a known one in other letters or with other marks around it, so that a server that is not strict
/// may take it for that.
pub fn resembles_known(method: &str) -> bool {
    let letters = |text: &str| -> Vec<char> {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    if KNOWN.contains(&method) {
        return false;
    }
    let found = letters(method);
    KNOWN.iter().any(|known| letters(known) == found)
}

/// Whether a repeated request changes nothing, so that it may be sent again after a lost session or connection.
pub fn is_repeatable(method: &str) -> bool {
    is_list(method)
        || matches!(
            method,
            PING | SERVER_DISCOVER
                | PROMPTS_GET
                | RESOURCES_READ
                | COMPLETION_COMPLETE
                | TASKS_GET
                | TASKS_LIST
        )
}

pub fn is_notification(method: &str) -> bool {
    method.starts_with("notifications/")
}

/// A name for metrics and logs that cannot be chosen by a client: the method if it is known, else `other`.
pub fn label(method: &str) -> &'static str {
    known(method).unwrap_or("other")
}

/// The name of a known method, for whatever outlives the message that holds it.
pub fn known(method: &str) -> Option<&'static str> {
    KNOWN.iter().copied().find(|known| *known == method)
}

const KNOWN: [&str; 33] = [
    TOOLS_CALL,
    TOOLS_LIST,
    INITIALIZE,
    PING,
    NOTIFICATIONS_INITIALIZED,
    NOTIFICATIONS_CANCELLED,
    NOTIFICATIONS_PROGRESS,
    SERVER_DISCOVER,
    SUBSCRIPTIONS_LISTEN,
    PROMPTS_LIST,
    PROMPTS_GET,
    RESOURCES_LIST,
    RESOURCES_TEMPLATES_LIST,
    RESOURCES_READ,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    COMPLETION_COMPLETE,
    LOGGING_SET_LEVEL,
    TASKS_GET,
    TASKS_RESULT,
    TASKS_LIST,
    TASKS_CANCEL,
    TASKS_UPDATE,
    SAMPLING_CREATE_MESSAGE,
    ELICITATION_CREATE,
    ROOTS_LIST,
    NOTIFICATIONS_MESSAGE,
    NOTIFICATIONS_SUBSCRIPTIONS_ACKNOWLEDGED,
    NOTIFICATIONS_TOOLS_LIST_CHANGED,
    NOTIFICATIONS_PROMPTS_LIST_CHANGED,
    NOTIFICATIONS_RESOURCES_LIST_CHANGED,
    NOTIFICATIONS_RESOURCES_UPDATED,
    NOTIFICATIONS_ROOTS_LIST_CHANGED,
];

#[cfg(test)]
mod tests;
