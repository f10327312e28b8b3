use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::rbac::v1::Subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capsule::names;

/// What kind of subject a name stands for. Ordered as lists of owners are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum UserKind {
    /// A user, by the name in certificate or token.
    #[default]
    User,
    /// Everybody in a group.
    Group,
    /// A ServiceAccount, by its full name `system:serviceaccount:<namespace>:<name>`.
    ServiceAccount,
}

impl UserKind {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::ServiceAccount => "ServiceAccount",
        }
    }
}

impl fmt::Display for UserKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user, a group or a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// What the name stands for.
    pub kind: UserKind,
    /// The name. A ServiceAccount's is `system:serviceaccount:<namespace>:<name>`.
    pub name: String,
}

/// A subject with the ClusterRoles that it has in a tenant's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoreOwner {
    /// The subject.
    #[serde(flatten)]
    pub user: UserSpec,
    /// ClusterRoles that the subject is bound to in every namespace of the tenant.
    #[serde(default = "default_owner_cluster_roles")]
    pub cluster_roles: Vec<String>,
}

pub(super) fn default_owner_cluster_roles() -> Vec<String> {
    names::DEFAULT_OWNER_CLUSTER_ROLES.map(str::to_owned).to_vec()
}

/// An owner of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The subject and its roles.
    #[serde(flatten)]
    pub core: CoreOwner,
    /// Labels for the owner's RoleBindings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the owner's RoleBindings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Cluster-scoped objects that the owner may reach through the tenant proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_settings: Vec<ProxySetting>,
}

/// What an owner may do with one kind of cluster-scoped object, through the tenant proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySetting {
    /// The kind of object.
    pub kind: ProxyKind,
    /// What may be done.
    pub operations: Vec<ProxyOperation>,
}

/// Kinds that the tenant proxy filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProxyKind {
    #[default]
    Nodes,
    StorageClasses,
    IngressClasses,
    PriorityClasses,
    RuntimeClasses,
    PersistentVolumes,
}

/// Operations that the tenant proxy can pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProxyOperation {
    List,
    Update,
    Delete,
}

/// A RoleBinding to keep in namespaces of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleBindingSpec {
    /// The ClusterRole that is given.
    pub cluster_role_name: String,
    /// Who gets it.
    #[schemars(extend("minItems" = 1))]
    pub subjects: Vec<Subject>,
    /// Labels for the RoleBinding.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the RoleBinding.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
