//! Certificates of a listener, from PEM files that an operator names.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_core::net::Stream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::provider;

/// Turns accepted streams into TLS streams. TLS 1.2 and up, ALPN `h2` and `http/1.1`.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

/// Files that give no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    #[error("certificate file {path} cannot be used: {reason}; it must hold a PEM certificate chain")]
    Certificate { path: PathBuf, reason: String },
    #[error("key file {path} cannot be used: {reason}; it must hold one PEM private key")]
    Key { path: PathBuf, reason: String },
    #[error("key file {path} is readable by everyone; run: chmod 600 {path}")]
    KeyReadable { path: PathBuf },
    #[error("certificate {certificate} and key {key} do not fit together: {cause}")]
    Mismatch { certificate: PathBuf, key: PathBuf, cause: rustls::Error },
}

impl ServerTls {
    /// Loads a chain and its key. A key that everyone can read is refused.
    ///
    /// # Errors
    /// [`ServerTlsError`] names the file and what is wrong with it.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, ServerTlsError> {
        refuse_world_readable(key)?;
        let chain = load_chain(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| ServerTlsError::Key { path: key.into(), reason: error.to_string() })?;
        let mismatch =
            |cause| ServerTlsError::Mismatch { certificate: certificate.into(), key: key.into(), cause };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(mismatch)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Handshake with a client.
    ///
    /// # Errors
    /// When the handshake fails; only that connection is lost.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let stream = self.0.accept(stream).await?;
        Ok(Stream::Boxed(Box::new(stream)))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let failed = |reason: String| ServerTlsError::Certificate { path: path.into(), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if chain.is_empty() { Err(failed("no certificate in it".to_owned())) } else { Ok(chain) }
}

#[cfg(unix)]
fn refuse_world_readable(path: &Path) -> Result<(), ServerTlsError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path)
        .map_err(|error| ServerTlsError::Key { path: path.into(), reason: error.to_string() })?;
    if metadata.permissions().mode() & 0o007 == 0 {
        Ok(())
    } else {
        Err(ServerTlsError::KeyReadable { path: path.into() })
    }
}

#[cfg(not(unix))]
fn refuse_world_readable(_path: &Path) -> Result<(), ServerTlsError> {
    Ok(())
}
