//! Who may use the mounts, as the data plane asks it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use ostler_core::digest::Digest;
use ostler_core::name::ResourceName;

use crate::validated::{Accept, Identity, MountAccess};

use super::{HttpTransport, SecretString};

/// Who may use the mounts, and what they are called.
#[derive(Debug, Clone)]
pub struct CompiledAuth {
    /// What is accepted where neither mount nor listener says anything.
    pub accept: Accept,
    /// By the name of the listener.
    pub listeners: BTreeMap<ResourceName, Accept>,
    /// By the name of the mount or bundle.
    pub mounts: BTreeMap<ResourceName, MountAccess>,
    /// By the SHA-256 of the key. One whose reference has no value is not among them.
    pub keys: HashMap<Digest, Arc<CompiledKey>>,
    /// In the order of their names.
    pub issuers: Vec<CompiledIssuer>,
    /// The data plane's URL, without a `/` at its end.
    pub resource: Option<String>,
    pub identity: Identity,
    /// Of all of the above, resolved values hashed in.
    pub part: Digest,
}

#[derive(Debug)]
pub struct CompiledKey {
    pub name: ResourceName,
    /// The mounts and bundles that it is good for; `None` for all.
    pub mounts: Option<BTreeSet<ResourceName>>,
    pub scopes: BTreeSet<String>,
}

#[derive(Debug, Clone)]
pub struct CompiledIssuer {
    pub name: ResourceName,
    /// As `iss` says it.
    pub issuer: String,
    pub keys: KeySource,
    /// What `aud` may be besides the data plane's and the mount's URL.
    pub audiences: BTreeSet<String>,
}

/// Where an issuer's keys are from.
#[derive(Clone)]
pub enum KeySource {
    /// A key set; nothing if its reference has no value.
    Given(Option<SecretString>),
    Fetched(Box<HttpTransport>),
}

// === impl KeySource ===

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::Fetched(_) => f.write_str("Fetched"),
        }
    }
}
