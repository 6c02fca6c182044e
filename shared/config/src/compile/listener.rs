//! A listener with the content of its files, if this host lets it be opened.

use ostler_core::digest::Digest;

use crate::codes::Code;
use crate::compiled::{CompiledListener, CompiledTls, SecretFile, SecretString};
use crate::diagnostic::Diagnostic;
use crate::reference::{Source, Template};
use crate::validated::{Listener, ListenerTls};

use super::Host;
use super::resolve::{Resolver, flag_help};

pub(super) fn compile(
    listener: &Listener,
    part: Digest,
    host: &Host<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> CompiledListener {
    let mut resolver = Resolver::new(host, format!("listeners.{}", listener.name));
    let address = listener.address.to_string();
    if !host.allow_listen.matches(&address) {
        resolver.not_allowed(
            "address",
            format!("this data plane does not allow a listener on {address}"),
            flag_help("--allow-listen", &address),
        );
    }
    let tls = listener.tls.as_ref().and_then(|tls| self::tls(tls, &mut resolver));
    CompiledListener {
        name: listener.name.clone(),
        address: listener.address,
        tls,
        allowed_hosts: listener.allowed_hosts.iter().cloned().collect(),
        mounts: listener.mounts.clone(),
        unresolved: resolver.finish(diagnostics),
        part,
    }
}

fn tls(tls: &ListenerTls, resolver: &mut Resolver<'_>) -> Option<CompiledTls> {
    let certificate = file("tls.certificate", &tls.certificate, resolver);
    let key = file("tls.key", &tls.key, resolver);
    Some(CompiledTls { certificate: certificate?, key: key? })
}

fn file(path: &str, template: &Template, resolver: &mut Resolver<'_>) -> Option<SecretFile> {
    let text = SecretString::new(resolver.resolve(path, template)?);
    template.references().find_map(|reference| match &reference.source {
        Source::File(file) => Some(SecretFile { path: file.into(), text: text.clone() }),
        Source::Env(_) => None,
    })
}

/// What is said of a listener that the host allows and the system, or another socket of the process, does not let it open.
pub fn unbindable(listener: &CompiledListener, reason: &str, remedy: &str) -> Diagnostic {
    let message =
        format!("the listener `{}` cannot be opened on {}: {reason}", listener.name, listener.address);
    Diagnostic::new(Code::ListenerUnbindable, format!("listeners.{}.address", listener.name), message, remedy)
}

/// What is said of a certificate or key that was read and cannot be used; `reason` names the file and holds nothing of its
/// content.
pub fn unusable_tls(listener: &CompiledListener, reason: &str) -> Diagnostic {
    let message = format!("the listener `{}` has no usable certificate: {reason}", listener.name);
    let help = "correct the file where the data plane runs";
    Diagnostic::new(Code::BadResolvedValue, format!("listeners.{}.tls", listener.name), message, help)
}
