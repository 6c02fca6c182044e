//! Certificates of a listener, from PEM files that an operator names.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ostler_core::disk::open_regular;
use ostler_core::net::Stream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::provider;

/// Turns accepted streams into TLS streams. TLS 1.2 and up, ALPN `h2` and `http/1.1`. Clones are one and the same.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    config: ArcSwap<ServerConfig>,
    /// Chain and key, to be read again; none when they came with a config.
    files: Option<(PathBuf, PathBuf)>,
}

/// A PEM file that was read: its path, for errors, and what it held.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    pub path: &'a Path,
    pub text: &'a [u8],
}

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
        let config = read(certificate, key)?;
        Ok(Self::of(config, Some((certificate.to_owned(), key.to_owned()))))
    }

    /// Reads the files again that it was loaded from, for connections to come. What cannot be used changes nothing.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn reload(&self) -> Result<(), ServerTlsError> {
        if let Some((certificate, key)) = &self.0.files {
            self.0.config.store(Arc::new(read(certificate, key)?));
        }
        Ok(())
    }

    /// From what files held that were read already. The permissions of the key file are looked at all the same.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn from_pem(certificate: Pem<'_>, key: Pem<'_>) -> Result<Self, ServerTlsError> {
        Ok(Self::of(config_of(certificate, key)?, None))
    }

    /// Handshake with a client.
    ///
    /// # Errors
    /// When the handshake fails; only that connection is lost.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(self.0.config.load_full());
        let stream = acceptor.accept(stream).await?;
        Ok(Stream::Boxed(Box::new(stream)))
    }

    fn of(config: ServerConfig, files: Option<(PathBuf, PathBuf)>) -> Self {
        Self(Arc::new(Shared { config: ArcSwap::from_pointee(config), files }))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, ServerTlsError> {
    let chain = read_file(certificate).map_err(|error| ServerTlsError::Certificate {
        path: certificate.into(),
        reason: error.to_string(),
    })?;
    let private = read_file(key)
        .map_err(|error| ServerTlsError::Key { path: key.into(), reason: error.to_string() })?;
    config_of(Pem { path: certificate, text: &chain }, Pem { path: key, text: &private })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path)?.read_to_end(&mut content)?;
    Ok(content)
}

fn config_of(certificate: Pem<'_>, key: Pem<'_>) -> Result<ServerConfig, ServerTlsError> {
    refuse_world_readable(key.path)?;
    let chain = parse_chain(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(key.text)
        .map_err(|error| ServerTlsError::Key { path: key.path.into(), reason: error.to_string() })?;
    let mismatch = |cause| ServerTlsError::Mismatch {
        certificate: certificate.path.into(),
        key: key.path.into(),
        cause,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl fmt::Debug for Pem<'_> {
    /// Without the text, which may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.path.display())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn parse_chain(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let failed = |reason: String| ServerTlsError::Certificate { path: pem.path.into(), reason };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.text)
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
