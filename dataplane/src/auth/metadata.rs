//! Protected resource metadata (RFC 9728): where a client gets a token for a mount. It is told to everybody.

use ostler_config::{Accept, CompiledAuth};
use serde_json::json;

/// Where metadata stands, before the path of the resource (RFC 9728 section 3.1).
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The document of the resource at this path; nothing where no tokens are accepted.
pub(super) fn document(
    config: &CompiledAuth,
    accept: &Accept,
    path: &str,
    scopes: &[&str],
) -> Option<String> {
    let base = config.resource.as_ref()?;
    let servers: Vec<_> = config
        .issuers
        .iter()
        .filter(|issuer| accept.issuers.contains(&issuer.name))
        .map(|issuer| &issuer.issuer)
        .collect();
    if servers.is_empty() {
        return None;
    }
    let mut document = json!({
        "resource": format!("{base}{path}"),
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
    });
    if let Some(document) = document.as_object_mut().filter(|_| !scopes.is_empty()) {
        document.insert("scopes_supported".to_owned(), json!(scopes));
    }
    Some(document.to_string())
}

/// Where a client finds it.
pub(super) fn url(config: &CompiledAuth, path: &str) -> Option<String> {
    Some(format!("{}{WELL_KNOWN}{path}", config.resource.as_ref()?))
}
