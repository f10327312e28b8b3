//! Who a replication is, as whom it acts, and as which field manager it writes.

use api::capsule::v1beta2::{Impersonation, ServiceAccountReference};

/// A TenantResource, or a GlobalTenantResource, which has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicationName {
    /// Namespace of a TenantResource.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// What stands for the namespace of a GlobalTenantResource in the names of field managers.
const CLUSTER: &str = "Cluster";
/// The longest name of a field manager, see `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.
const MANAGER_LENGTH: usize = 128;

impl ReplicationName {
    /// Whether a tenant wrote it.
    pub fn is_of_a_tenant(&self) -> bool {
        self.namespace.is_some()
    }

    /// `<hash>/<namespace>/<tenant>/<origin>/`: the field manager of one object of one origin. Names that would be longer than
    /// Kubernetes takes are replaced by a hash of all of them.
    pub fn manager(&self, namespace: &str, tenant: &str, origin: &str) -> String {
        let of = self.namespace.as_deref().unwrap_or(CLUSTER);
        let hash = base36(fnv1a(format!("{of}\0{}", self.name).as_bytes()));
        let names = format!("{namespace}/{tenant}/{origin}/");
        let manager = format!("{hash}/{names}");
        if manager.len() <= MANAGER_LENGTH {
            manager
        } else {
            format!("{hash}/{}/{origin}/", base36(fnv1a(names.as_bytes())))
        }
    }
}

impl std::fmt::Display for ReplicationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// FNV-1a over 64 bits, see <http://www.isthe.com/chongo/tech/comp/fnv/>. Not for secrets: it only makes names short.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(DIGITS[usize::try_from(number % 36).unwrap_or(0)]));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

/// As whom a replication reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// As a ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// As the operator. Only what administrators wrote.
    Operator,
}

/// The ServiceAccount that a TenantResource runs as if nobody names one: what a tenant wrote never runs as the operator.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

impl Identity {
    /// Of a TenantResource in this namespace: the one that it names, else the configuration's, else `default`; always one of
    /// its own namespace.
    pub fn of_tenant(namespace: &str, named: Option<&str>, configured: Option<&Impersonation>) -> Self {
        let configured = configured.map(|it| it.tenant_default_service_account.as_str());
        let name = named.or(configured.filter(|name| !name.is_empty()));
        Self::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.unwrap_or(DEFAULT_SERVICE_ACCOUNT).to_owned(),
        }
    }

    /// Of a GlobalTenantResource: the one that it names, else the configuration's, else the operator.
    pub fn global(named: Option<&ServiceAccountReference>, configured: Option<&Impersonation>) -> Self {
        if let Some(named) = named {
            return Self::ServiceAccount {
                namespace: named.namespace.clone(),
                name: named.name.clone(),
            };
        }
        match configured {
            Some(configured) if !configured.global_default_service_account.is_empty() => Self::ServiceAccount {
                namespace: configured.global_default_service_account_namespace.clone(),
                name: configured.global_default_service_account.clone(),
            },
            _ => Self::Operator,
        }
    }

    /// The user name. `None` for the operator, who needs no other.
    pub fn user(&self) -> Option<String> {
        match self {
            Self::ServiceAccount { namespace, name } => Some(format!("system:serviceaccount:{namespace}:{name}")),
            Self::Operator => None,
        }
    }

    /// As a status names it.
    pub fn reference(&self) -> Option<ServiceAccountReference> {
        match self {
            Self::ServiceAccount { namespace, name } => Some(ServiceAccountReference {
                name: name.clone(),
                namespace: namespace.clone(),
            }),
            Self::Operator => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(name: &str) -> ReplicationName {
        ReplicationName {
            namespace: None,
            name: name.to_owned(),
        }
    }

    #[test]
    fn hashes_are_those_of_the_published_test_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(base36(0), "0");
        assert_eq!(base36(35), "z");
        assert_eq!(base36(36), "10");
        assert_eq!(base36(u64::MAX), "3w5e11264sgsf");
    }

    #[test]
    fn managers_differ_by_replication_place_and_origin_and_fit() {
        let of = |replication: &ReplicationName, origin| replication.manager("oil-web", "oil", origin);
        let manager = of(&global("a"), "0/raw-0");
        let (hash, rest) = manager.split_once('/').unwrap();
        assert!(hash.len() <= 13);
        assert_eq!(rest, "oil-web/oil/0/raw-0/");
        assert_ne!(manager, of(&global("b"), "0/raw-0"));
        let of_tenant = ReplicationName {
            namespace: Some("x".to_owned()),
            name: "a".to_owned(),
        };
        assert_ne!(manager, of(&of_tenant, "0/raw-0"));
        let long = "n".repeat(63);
        let (one, other) = (
            global("a").manager(&long, &long, "0/raw-0"),
            global("a").manager(&long, "oil".repeat(20).as_str(), "0/raw-0"),
        );
        assert!(one.len() <= 128 && one.ends_with("/0/raw-0/"), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn what_a_tenant_wrote_runs_as_a_service_account_of_its_namespace() {
        let user = |named, configured: Option<&Impersonation>| Identity::of_tenant("oil-a", named, configured).user();
        let configured = Impersonation {
            tenant_default_service_account: "replicator".to_owned(),
            ..serde_json::from_value(serde_json::json!({})).unwrap()
        };
        assert_eq!(user(None, None).unwrap(), "system:serviceaccount:oil-a:default");
        assert_eq!(
            user(None, Some(&configured)).unwrap(),
            "system:serviceaccount:oil-a:replicator"
        );
        assert_eq!(
            user(Some("mine"), Some(&configured)).unwrap(),
            "system:serviceaccount:oil-a:mine"
        );
        assert_eq!(Identity::global(None, Some(&configured)), Identity::Operator);
    }
}
