//! Verification of servers that Ostler connects to: the system's certificate authorities, or those of a named file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_core::net::Stream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::provider;

/// Which protocol a client wants to speak inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    Http1,
    H2,
}

/// Turns connected streams into TLS streams whose server is verified. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

/// Trust that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    #[error("certificate authority file {path} cannot be used: {reason}; it must hold PEM certificates")]
    Authority { path: PathBuf, reason: String },
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

impl ClientTls {
    /// Trusts what the system trusts, or the web's common authorities where the system has no list.
    ///
    /// # Errors
    /// When the provider offers no usable protocol version.
    pub fn system(alpn: Alpn) -> Result<Self, ClientTlsError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a certificate authority of the system was skipped");
        }
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self::with_roots(roots, alpn)
    }

    /// Trusts only the authorities in a PEM file.
    ///
    /// # Errors
    /// When the file holds none.
    pub fn from_file(path: &Path, alpn: Alpn) -> Result<Self, ClientTlsError> {
        let failed = |reason: String| ClientTlsError::Authority { path: path.into(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("no certificate in it".to_owned()));
        }
        Self::with_roots(roots, alpn)
    }

    /// Handshake with the server of that name.
    ///
    /// # Errors
    /// When the name is no server name or the server cannot be verified.
    pub async fn connect(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = self.0.connect(name, stream).await?;
        Ok(Stream::Boxed(Box::new(stream)))
    }

    fn with_roots(roots: RootCertStore, alpn: Alpn) -> Result<Self, ClientTlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match alpn {
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
            Alpn::H2 => vec![b"h2".to_vec()],
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}
