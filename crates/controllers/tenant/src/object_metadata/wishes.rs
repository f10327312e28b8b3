//! Which tenants ask for labels and annotations of what.

use std::collections::HashMap;

use api::capsule::v1beta2::{Metadata, Tenant};
use kube::ResourceExt;
use runtime::shared::Change;
use tenancy::object_metadata::{of_pods, of_services};

/// What carries metadata of tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    Service,
    EndpointSlice,
    Volume,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Pod, Self::Service, Self::EndpointSlice, Self::Volume];
    /// Those in namespaces.
    pub(super) const OBJECTS: [Self; 3] = [Self::Pod, Self::Service, Self::EndpointSlice];

    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Volume => "PersistentVolume",
        }
    }

    /// What the tenant asks for on each object of this kind. A volume's label is not asked for, it is always kept.
    pub(super) fn wanted(self, tenant: &Tenant) -> Option<&Metadata> {
        match self {
            Self::Pod => of_pods(tenant),
            Self::Service | Self::EndpointSlice => of_services(tenant),
            Self::Volume => None,
        }
    }
}

/// What each tenant asks for.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// By UID.
    tenants: HashMap<String, Wish>,
}

#[derive(Debug, Default, PartialEq)]
struct Wish {
    pods: Option<Metadata>,
    services: Option<Metadata>,
}

impl Wishes {
    /// Takes a change in; whether the tenant is new or asks for something else than before.
    pub(super) fn note(&mut self, change: &Change<Tenant>) -> bool {
        let uid = change.object().uid().unwrap_or_default();
        match change {
            Change::Deleted(_) => self.tenants.remove(&uid).is_some(),
            Change::Applied(tenant) => {
                let wish = Wish {
                    pods: of_pods(tenant).cloned(),
                    services: of_services(tenant).cloned(),
                };
                if self.tenants.get(&uid) == Some(&wish) {
                    return false;
                }
                self.tenants.insert(uid, wish);
                true
            }
        }
    }

    /// Whether some tenant asks for something of this kind.
    pub(super) fn concern(&self, kind: Kind) -> bool {
        self.tenants.values().any(|wish| match kind {
            Kind::Pod => wish.pods.is_some(),
            Kind::Service | Kind::EndpointSlice => wish.services.is_some(),
            Kind::Volume => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn tenant(uid: &str, spec: &Value) -> Arc<Tenant> {
        let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant",
            "metadata": {"name": "oil", "uid": uid}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn concerned(wishes: &Wishes) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| wishes.concern(*kind)).collect()
    }

    #[test]
    fn a_kind_is_of_concern_while_a_tenant_asks() {
        let mut wishes = Wishes::default();
        assert_eq!(concerned(&wishes), []);
        let silent = tenant("u1", &json!({}));
        assert!(wishes.note(&Change::Applied(silent.clone())), "a new tenant");
        assert!(!wishes.note(&Change::Applied(silent.clone())), "nothing new");
        assert_eq!(concerned(&wishes), [Kind::Volume]);
        let metadata = json!({"additionalMetadata": {"labels": {"a": "b"}}});
        let services = tenant("u1", &json!({"serviceOptions": metadata}));
        assert!(wishes.note(&Change::Applied(services)));
        assert_eq!(concerned(&wishes), [Kind::Service, Kind::EndpointSlice, Kind::Volume]);
        let pods = tenant("u2", &json!({"podOptions": metadata}));
        assert!(wishes.note(&Change::Applied(pods.clone())));
        assert!(wishes.note(&Change::Applied(silent)));
        assert_eq!(concerned(&wishes), [Kind::Pod, Kind::Volume]);
        assert!(wishes.note(&Change::Deleted(pods)));
        assert_eq!(concerned(&wishes), [Kind::Volume]);
    }
}
