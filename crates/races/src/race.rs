//! What is raced for: one row per kind of limit.

use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::bed::resource;

const CAPSULE: &str = "capsule.clastix.io/v1beta2";
/// What every pod asks for, and what nobody may have: a pod that asks for it shows who refuses.
const DISK: [&str; 2] = ["1Mi", "2Ti"];
/// A size that no limit allows.
const HUGE: i64 = 1_000_000;

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Race {
    /// `namespaceOptions.quota` of a Tenant.
    Namespaces,
    /// `resourceQuotas` of a Tenant with scope `Tenant`, over pods.
    Tenant,
    /// A ResourcePool, through claims.
    Pool,
    /// A CustomQuota in each namespace, over sizes that ConfigMaps tell.
    Custom,
    /// A GlobalCustomQuota over the same.
    GlobalCustom,
    /// A GlobalResourceQuota over pods.
    Global,
}

impl Race {
    pub const ALL: [Self; 6] = [
        Self::Namespaces,
        Self::Tenant,
        Self::Pool,
        Self::Custom,
        Self::GlobalCustom,
        Self::Global,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Tenant => "tenant",
            Self::Pool => "pool",
            Self::Custom => "custom",
            Self::GlobalCustom => "global-custom",
            Self::Global => "global",
        }
    }

    /// The limit that so many clients race for: less than they would have.
    pub(crate) fn limit(self, clients: usize, namespaces: usize) -> i64 {
        let clients = match self {
            Self::Namespaces => return 3,
            Self::Custom => clients / namespaces.max(1),
            _ => clients,
        };
        i64::try_from(clients / 2).unwrap_or(i64::MAX).max(3)
    }

    /// Whether each namespace has a limit of its own.
    pub(crate) fn is_of_a_namespace(self) -> bool {
        self == Self::Custom
    }

    /// Whether what is taken is written into ledgers, one for each limit.
    pub(crate) fn has_ledgers(self) -> bool {
        self != Self::Pool
    }

    /// How many clients there are when a size asks for so many. For three namespaces twenty are enough, and not too few.
    pub(crate) fn clients(self, asked: usize) -> usize {
        if self == Self::Namespaces { 20 } else { asked }
    }

    /// The spec of the tenant, besides owners.
    pub(crate) fn tenant(self, limit: i64) -> Value {
        let hard = json!({"pods": limit.to_string(), "requests.ephemeral-storage": "1Ti"});
        match self {
            Self::Namespaces => json!({"namespaceOptions": {"quota": limit}}),
            Self::Tenant => json!({"resourceQuotas": {"scope": "Tenant", "items": [{"hard": hard}]}}),
            _ => json!({}),
        }
    }

    /// The quotas over the namespaces of a tenant, named after it.
    pub(crate) fn quotas(self, tenant: &str, namespaces: &[String], limit: i64) -> Vec<(ApiResource, Value)> {
        let all = json!([{"matchLabels": {"capsule.clastix.io/tenant": tenant}}]);
        let hard = json!({"pods": limit.to_string()});
        let sources = json!([{"apiVersion": "v1", "kind": "ConfigMap", "path": ".data.size",
            "selectors": [{"matchLabels": {"race": tenant}}]}]);
        let quota = |kind: &str, plural: &str, namespace: Option<&String>, spec: Value| {
            let object = json!({"apiVersion": CAPSULE, "kind": kind,
                "metadata": {"name": tenant, "namespace": namespace}, "spec": spec});
            (resource(CAPSULE, kind, plural), object)
        };
        match self {
            Self::Namespaces | Self::Tenant => Vec::new(),
            Self::Pool => {
                let spec = json!({"quota": {"hard": hard}, "selectors": all});
                vec![quota("ResourcePool", "resourcepools", None, spec)]
            }
            Self::Custom => {
                let spec = json!({"limit": limit.to_string(), "options": {}, "sources": sources});
                let of = |namespace| quota("CustomQuota", "customquotas", Some(namespace), spec.clone());
                namespaces.iter().map(of).collect()
            }
            Self::GlobalCustom => {
                let spec = json!({"limit": limit.to_string(), "options": {}, "sources": sources,
                    "namespaceSelectors": all});
                vec![quota("GlobalCustomQuota", "globalcustomquotas", None, spec)]
            }
            Self::Global => {
                let hard = json!({"pods": limit.to_string(), "requests.ephemeral-storage": "1Ti"});
                let spec = json!({"quota": {"hard": hard}, "namespaceSelectors": all});
                vec![quota("GlobalResourceQuota", "globalresourcequotas", None, spec)]
            }
        }
    }

    /// What clients make.
    pub(crate) fn made(self) -> ApiResource {
        match self {
            Self::Namespaces => resource("v1", "Namespace", "namespaces"),
            Self::Tenant | Self::Global => resource("v1", "Pod", "pods"),
            Self::Pool => resource(CAPSULE, "ResourcePoolClaim", "resourcepoolclaims"),
            Self::Custom | Self::GlobalCustom => resource("v1", "ConfigMap", "configmaps"),
        }
    }

    /// One of these, whose name ends with what nobody else's does. Where all have the same size, `size` is not looked at.
    pub(crate) fn object(self, tenant: &str, ending: &str, size: i64) -> Value {
        let metadata = json!({"name": format!("{tenant}-{ending}"), "labels": {"race": tenant}});
        let mut object = match self {
            Self::Namespaces => json!({}),
            Self::Tenant | Self::Global => {
                let disk = if size == HUGE { DISK[1] } else { DISK[0] };
                json!({"spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
                    "resources": {"requests": {"ephemeral-storage": disk}}}]}})
            }
            Self::Pool => json!({"spec": {"pool": tenant, "claim": {"pods": size.to_string()}}}),
            Self::Custom | Self::GlobalCustom => json!({"data": {"size": size.to_string()}}),
        };
        let kind = self.made();
        object["apiVersion"] = json!(kind.api_version);
        object["kind"] = json!(kind.kind);
        object["metadata"] = metadata;
        object
    }

    /// One that no limit allows.
    pub(crate) fn huge(self, tenant: &str) -> Value {
        self.object(tenant, "huge", HUGE)
    }

    /// What gives one of them another size, if it can have one.
    pub(crate) fn resized(self, size: i64) -> Option<Value> {
        match self {
            Self::Namespaces | Self::Tenant | Self::Global => None,
            Self::Pool => Some(json!({"spec": {"claim": {"pods": size.to_string()}}})),
            Self::Custom | Self::GlobalCustom => Some(json!({"data": {"size": size.to_string()}})),
        }
    }

    /// What is summed up, and the label that it has.
    pub(crate) fn counted(self, tenant: &str) -> (ApiResource, String) {
        match self {
            Self::Pool => (
                resource("v1", "ResourceQuota", "resourcequotas"),
                format!("projectcapsule.dev/pool={tenant}"),
            ),
            Self::Namespaces => (self.made(), format!("capsule.clastix.io/tenant={tenant}")),
            _ => (self.made(), format!("race={tenant}")),
        }
    }

    /// What one of these adds to the sum.
    pub(crate) fn amount(self, object: &DynamicObject) -> i64 {
        let number = |pointer| {
            let text = object.data.pointer(pointer).and_then(Value::as_str);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        match self {
            Self::Namespaces | Self::Tenant | Self::Global => 1,
            Self::Pool => number("/spec/hard/pods"),
            Self::Custom | Self::GlobalCustom => number("/data/size"),
        }
    }

    /// Whether a request for too much is refused at once. Claims wait instead.
    pub(crate) fn refuses(self) -> bool {
        self != Self::Pool
    }

    /// What a refusal of what is huge says when the limit is in force at every replica; `None` where another sign is needed.
    /// Hooks are asked before the API server's own quotas.
    pub(crate) fn refusal(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Namespaces | Self::Pool => None,
            _ => Some(&["admission webhook", "exceed"]),
        }
    }
}
