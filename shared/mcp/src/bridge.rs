//! Messages of one era as messages of the other, for mounts whose client and upstream do not share one.
//!
//! Values are carried as they were written: arguments, content and whatever the bridge does not know keep their bytes.
//! What an era has no word for is left out by name, never by accident. It must hold nothing between messages, and must
//! never decide whether to bridge.
//!
//! | file | whose requests |
//! |---|---|
//! | `legacy_client` | of a client up to 2025-11-25, to an upstream of 2026-07-28 |
//! | `modern_client` | of a client of 2026-07-28, to an upstream up to 2025-11-25 |
//! | `members` | an object taken apart and put together, values untouched |
//! | `mirror` | `Mcp-Param-*` of a call, by its tool's schema |

pub mod legacy_client;
mod members;
pub mod mirror;
pub mod modern_client;

pub use members::Members;

/// `_meta` of a modern request.
pub const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const META_CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// `_meta` of a modern result.
pub const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// `_meta` of what comes on a `subscriptions/listen` stream.
pub const META_SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// What all of the protocol's own keys in a modern `_meta` begin with.
const META_PREFIX: &str = "io.modelcontextprotocol/";

/// A message that has no counterpart in the other era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// What the upstream or the client said is not what its era says there.
    #[error("{0} is not what the protocol says it is")]
    Malformed(&'static str),
    /// It means something that the other era cannot say.
    #[error("{0} cannot be carried between protocol eras")]
    NoCarrier(&'static str),
}
