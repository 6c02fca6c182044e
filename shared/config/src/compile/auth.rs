//! Who may use the mounts, with the digests of keys and the key sets that references lead to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::uri::PathAndQuery;
use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::jwt::KeySet;

use crate::codes::Code;
use crate::compiled::{CompiledAuth, CompiledIssuer, CompiledKey, HttpTransport, KeySource, SecretString};
use crate::diagnostic::Diagnostic;
use crate::parts::PartKind;
use crate::validate::auth::key_digest;
use crate::validate::listener::BOOTSTRAP;
use crate::validate::url::{self, Target};
use crate::validated::{Auth, IssuerKeys, Validated};

use super::resolve::Resolver;
use super::{Host, part_digest};

pub(super) fn compile(
    config: &Validated,
    host: &Host<'_>,
    before: Option<&Arc<CompiledAuth>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Arc<CompiledAuth> {
    let auth = config.auth();
    diagnostics.extend(host.listen.and_then(|listen| open(auth, listen)));
    let mut resolver = Resolver::new(host, "auth".to_owned());
    let mut part = DigestBuilder::new();
    for kind in [PartKind::Auth, PartKind::Identity] {
        part.update(part_digest(config, &kind, kind.as_str()).as_bytes());
    }
    let keys = keys(auth, &mut resolver, &mut part);
    let issuers = auth
        .issuers
        .iter()
        .map(|(name, issuer)| {
            let keys = match &issuer.keys {
                IssuerKeys::Fetched(url) => KeySource::Fetched(Box::new(fetched(url))),
                IssuerKeys::Given(set) => {
                    let path = format!("issuers.{name}.jwks");
                    let text = resolver.resolve(&path, set).filter(|text| {
                        let read = KeySet::parse(text.as_bytes());
                        if let Err(error) = &read {
                            resolver.unusable(&path, set, &format!("the key set cannot be used: {error}"));
                        }
                        read.is_ok()
                    });
                    part.update(text.as_deref().unwrap_or_default().as_bytes());
                    KeySource::Given(text.map(SecretString::new))
                }
            };
            let (issuer, audiences) = (issuer.issuer.clone(), issuer.audiences.clone());
            CompiledIssuer { name: name.clone(), issuer, keys, audiences }
        })
        .collect();
    // What has no value lets nobody in; the others stay.
    let _ = resolver.finish(diagnostics);
    let part = part.finish();
    if let Some(before) = before.filter(|before| before.part == part) {
        return Arc::clone(before);
    }
    Arc::new(CompiledAuth {
        accept: auth.default_accept(),
        listeners: auth.listeners.clone(),
        mounts: auth.mounts.clone(),
        keys,
        issuers,
        resource: auth.resource.clone(),
        identity: config.identity().clone(),
        part,
    })
}

/// What is said of a config that would open the data plane's own listener to the network.
fn open(auth: &Auth, listen: SocketAddr) -> Option<Diagnostic> {
    if listen.ip().is_loopback() || !auth.is_open(BOOTSTRAP) {
        return None;
    }
    let message = format!("`--listen {listen}` would let everybody on the network use every mount");
    let help = format!(
        "say in `auth` what is accepted (`ostler key new NAME` makes a key), or `auth: {{ listeners: {{ {BOOTSTRAP}: {{ accept: [none] }} }} }}` if that is meant, or start the data plane with `--listen` on loopback"
    );
    Some(Diagnostic::new(Code::OpenToNetwork, "auth".to_owned(), message, help))
}

/// Where something is fetched that the data plane needs itself; its URL was judged with the document.
pub(super) fn fetched(text: &str) -> HttpTransport {
    let Target { url, https, host, port } = url::parse(text).unwrap_or_else(|_| Target::nowhere());
    let path_and_query = url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let host_header = HttpTransport::host_header(&url);
    let headers = HeaderMap::new();
    HttpTransport { url, https, host, port, path_and_query, host_header, headers, oauth: None }
}

fn keys(
    auth: &Auth,
    resolver: &mut Resolver<'_>,
    part: &mut DigestBuilder,
) -> HashMap<Digest, Arc<CompiledKey>> {
    let mut keys: HashMap<_, Arc<CompiledKey>> = HashMap::with_capacity(auth.api_keys.len());
    for (name, key) in &auth.api_keys {
        let path = format!("api_keys.{name}.key");
        let Some(text) = resolver.resolve(&path, &key.key) else { continue };
        let Some(digest) = key_digest(text.trim()) else {
            resolver.unusable(&path, &key.key, "the value is not `sha256:` and 64 hexadecimal digits");
            continue;
        };
        part.update(digest.as_bytes());
        if let Some(other) = keys.get(&digest) {
            // One key would be two callers.
            resolver.conflicting(&path, &format!("the key is that of `{}` too", other.name));
            continue;
        }
        let key = CompiledKey { name: name.clone(), mounts: key.mounts.clone(), scopes: key.scopes.clone() };
        keys.insert(digest, Arc::new(key));
    }
    keys
}
