//! Which resource a kind is, and whether it is in namespaces: by the API server's discovery, remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use api::capsule::v1beta2::VersionKind;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{ApiCapabilities, Scope};
use kube::{Client, discovery};
use tenancy::name::is_dns_subdomain;
use tenancy::replication::object::Kind;

use crate::error::words;

/// More kinds than any cluster has.
const MOST: usize = 2_000;

/// A kind as it is served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    pub(crate) is_cluster_scoped: bool,
}

/// What discovery said. A kind never changes its scope, and one that is gone answers 404 to whoever uses it.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    known: Mutex<HashMap<(String, String), Served>>,
}

impl Kinds {
    /// The kind of an object.
    pub(crate) async fn exactly(&self, client: &Client, kind: &Kind) -> Result<Served, String> {
        self.of(client, &kind.api_version(), &kind.kind).await
    }

    /// The kind that a reference names. A group alone means its preferred version.
    pub(crate) async fn referred(&self, client: &Client, kind: &VersionKind) -> Result<Served, String> {
        let api_version = match kind.api_version.as_str() {
            "" => "v1",
            given => given,
        };
        self.of(client, api_version, &kind.kind).await
    }

    async fn of(&self, client: &Client, api_version: &str, kind: &str) -> Result<Served, String> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        // It becomes part of a path that is asked with our own rights.
        if !api_version.split('/').all(is_dns_subdomain) || api_version.split('/').count() > 2 {
            return Err(format!(
                "apiVersion {api_version:?} is none; it is v1, or group/version"
            ));
        }
        let found = if api_version.contains('.') && !api_version.contains('/') {
            let group = discovery::group(client, api_version).await;
            group.map(|group| group.recommended_kind(kind))
        } else {
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
            discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, kind))
                .await
                .map(Some)
        };
        let (resource, capabilities): (ApiResource, ApiCapabilities) = match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(kube::Error::Discovery(_)) => {
                return Err(format!("no kind {kind:?} is served in {api_version:?}"));
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(format!("no kind {kind:?} is served in {api_version:?}"));
            }
            Err(error) => {
                return Err(format!(
                    "failed to look up kind {kind:?} in {api_version:?}: {}",
                    words(&error)
                ));
            }
        };
        let served = Served {
            resource,
            is_cluster_scoped: capabilities.scope == Scope::Cluster,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, served.clone());
        Ok(served)
    }
}
