//! What a request of 2026-07-28 must say of itself (base protocol, `_meta`), judged where no server of that era does: before a
//! child, which is not the HTTP server here, and before an upstream of the older era. It never looks at what a method means.

use ostler_mcp::{Envelope, Era, Reason, Revision, method};

use super::UpstreamError;

/// Whether what is behind may know revisions that Ostler does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// A server of the era, which refuses by itself a later revision that it does not have.
    ModernServer,
    /// A server of the older era: only what Ostler speaks can be served.
    LegacyServer,
}

/// Judges one request of the era.
///
/// # Errors
/// `invalid_params` for a key of `_meta` that is missing, `unsupported_protocol_version`, and `method_not_found` for a
/// handshake, which the era has not.
pub fn judge(envelope: &Envelope<'_>, behind: Behind) -> Result<(), UpstreamError> {
    if envelope.method == method::INITIALIZE {
        let detail = "revision 2026-07-28 has no `initialize`; send requests at once, each with its `_meta`";
        return Err(UpstreamError::new(Reason::MethodNotFound, detail));
    }
    let Some(version) = envelope.meta.protocol_version.as_deref() else {
        return Err(missing("io.modelcontextprotocol/protocolVersion"));
    };
    if envelope.meta.client_capabilities.is_none() {
        return Err(missing("io.modelcontextprotocol/clientCapabilities"));
    }
    let is_spoken = Revision::parse(version).is_some_and(Revision::is_modern);
    let may_be_spoken = behind == Behind::ModernServer && Era::of_version(version) == Era::Modern;
    if is_spoken || may_be_spoken { Ok(()) } else { Err(UpstreamError::unsupported_version(version)) }
}

fn missing(key: &'static str) -> UpstreamError {
    let detail = format!("params._meta must have `{key}` in revision 2026-07-28");
    UpstreamError::new(Reason::InvalidParams, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(meta: &str, behind: Behind) -> Option<Reason> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{meta}}}}}"#);
        judge(&Envelope::scan(body.as_bytes()).unwrap(), behind).err().map(|error| error.reason)
    }

    #[test]
    fn a_request_must_name_a_revision_that_can_be_served_and_its_clients_capabilities() {
        let meta = |version: &str| {
            format!(
                r#"{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
            )
        };
        let both = [Behind::ModernServer, Behind::LegacyServer];
        for behind in both {
            assert_eq!(verdict(&meta("2026-07-28"), behind), None);
            assert_eq!(verdict("{}", behind), Some(Reason::InvalidParams));
            let bare = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
            assert_eq!(verdict(bare, behind), Some(Reason::InvalidParams));
            for other in ["v999.0.0", "2025-11-25", ""] {
                assert_eq!(
                    verdict(&meta(other), behind),
                    Some(Reason::UnsupportedProtocolVersion),
                    "{other}"
                );
            }
        }
        // A later one is for a server of the era to judge, and for nobody else.
        let later = meta("2027-01-01");
        assert_eq!(verdict(&later, Behind::ModernServer), None);
        assert_eq!(verdict(&later, Behind::LegacyServer), Some(Reason::UnsupportedProtocolVersion));
    }
}
