//! The shape `api`, one per test binary.

use kube::config::Kubeconfig;
use local::control_plane::{ControlPlane, Options};
use tokio::sync::OnceCell;

use crate::etcd::EtcdFixture;

/// etcd, kube-apiserver and kube-controller-manager, upstream's own; no node.
///
/// Calls webhooks at `https://127.0.0.1:PORT` (a `url` client configuration) that the test process serves. Everything
/// ends with the test process, also when that is killed.
#[derive(Debug)]
pub struct ApiServer {
    control_plane: ControlPlane,
    etcd: OnceCell<EtcdFixture>,
}

static SHARED: OnceCell<ApiServer> = OnceCell::const_new();

impl ApiServer {
    /// The one of this test binary, started by whoever asks first.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// One of the caller's own, for tests that stop it, or that count everything there is.
    pub async fn start() -> Self {
        Self::with_flags(Vec::new()).await
    }

    /// One of the caller's own with more flags of kube-apiserver.
    pub async fn with_flags(api_server_flags: Vec<String>) -> Self {
        crate::logs::start();
        let programs = explained(local::programs::locate());
        let options = Options {
            api_server_flags,
            ..Options::default()
        };
        let control_plane = explained(ControlPlane::start(&programs, options).await);
        Self {
            control_plane,
            etcd: OnceCell::new(),
        }
    }

    /// A client of an administrator (`system:masters`), in the calling test's runtime.
    pub async fn client(&self) -> kube::Client {
        explained(self.control_plane.client().await)
    }

    /// A client with a certificate for that user and those groups, in the calling test's runtime.
    pub async fn client_for(&self, user: &str, groups: &[&str]) -> kube::Client {
        explained(self.control_plane.client_for(user, groups).await)
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> Kubeconfig {
        explained(self.control_plane.kubeconfig())
    }

    /// A kubeconfig with a client certificate for that user and those groups.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Kubeconfig {
        explained(self.control_plane.kubeconfig_for(user, groups))
    }

    /// `https://address:port`
    pub fn url(&self) -> String {
        self.control_plane.url()
    }

    /// The certificate that signs serving and client certificates, PEM.
    pub fn ca_pem(&self) -> &str {
        self.control_plane.authority().cert_pem()
    }

    /// The programs underneath, to stop, look at or restart.
    pub fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// The outermost pid of each program.
    pub fn pids(&self) -> Vec<u32> {
        self.control_plane.pids()
    }

    /// Where logs and data are while this value lives.
    pub fn directory(&self) -> &std::path::Path {
        self.control_plane.directory()
    }

    /// A second etcd with TLS, client certificates, authentication and a root user, as a DataStore would name it.
    pub async fn etcd(&self) -> &EtcdFixture {
        self.etcd.get_or_init(EtcdFixture::start).await
    }
}

/// The value, or a failed test whose message holds the whole chain of causes.
pub(crate) fn explained<T>(result: local::Result<T>) -> T {
    result
        .map_err(anyhow::Error::from)
        .map_err(|error| format!("{error:#}"))
        .unwrap_or_else(|message| {
            #[expect(clippy::panic, reason = "a test bed that cannot start is a failed test")]
            {
                panic!("{message}")
            }
        })
}
