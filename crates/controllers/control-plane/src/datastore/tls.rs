//! TLS to a store that is spoken to over a socket of our own.

use std::sync::Arc;

use pki::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::sql::{Cause, SqlError};

/// Whom to believe, and what to show.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The authority of the server's certificate. No other is believed.
    pub ca_pem: String,
    pub client: Option<KeyPair>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// The same for rustls; an error if the certificates are none.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, SqlError> {
        fn failed(error: impl Into<Cause>) -> SqlError {
            SqlError::Material(error.into())
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca_pem)? {
            roots.add(certificate).map_err(failed)?;
        }
        if roots.is_empty() {
            return Err(failed("the authority holds no certificate in PEM"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(failed)?;
                builder
                    .with_client_auth_cert(certificates(&pair.cert_pem)?, key)
                    .map_err(failed)?
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, SqlError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| SqlError::Material(error.into()))
}
