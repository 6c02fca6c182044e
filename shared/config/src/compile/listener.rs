//! A listener with the content of its files, if this host lets it be opened.

use ostler_core::digest::Digest;

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
