//! What a store gives to the pods of a control plane so that they get in: it ends in the control plane's Secrets.

use pki::KeyPair;

/// What pods show to a store, and whom they believe.
#[derive(Clone, PartialEq, Eq)]
pub enum PodTls {
    /// Each control plane has a client certificate of its own, signed with this authority. etcd.
    Signed { authority: KeyPair },
    /// All show the client certificate of the DataStore, if it has one; the password tells them apart. SQL.
    Shared {
        authority_pem: String,
        client: Option<KeyPair>,
    },
    /// The DataStore has no `tlsConfig`.
    Plain,
}

/// The values are private keys.
impl std::fmt::Debug for PodTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Signed { .. } => "Signed",
            Self::Shared { .. } => "Shared",
            Self::Plain => "Plain",
        })
    }
}

/// User and password of the DataStore itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedLogin {
    pub user: String,
    pub password: String,
}

/// Everything together.
#[derive(Clone, PartialEq, Eq)]
pub struct PodAccess {
    pub tls: PodTls,
    /// What pods log in with where control planes have no users of their own. NATS; `None` elsewhere.
    pub login: Option<SharedLogin>,
}

impl std::fmt::Debug for PodAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodAccess")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl From<PodTls> for PodAccess {
    fn from(tls: PodTls) -> Self {
        Self { tls, login: None }
    }
}
