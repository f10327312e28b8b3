//! Objects as JSON: they are fixed manifests with a few holes, and read best in that form.

use std::fmt;

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Value, json};

use api::kamaji::names::{PROJECT_LABEL, PROJECT_VALUE};

/// The kinds that are written into a tenant, in the order in which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// First: it owns the other objects of its add-on.
    ClusterRoleBinding,
    ClusterRole,
    Role,
    RoleBinding,
    ServiceAccount,
    ConfigMap,
    Service,
    Endpoints,
    EndpointSlice,
    Deployment,
    DaemonSet,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
}

impl Kind {
    fn group_and_version(self) -> (&'static str, &'static str) {
        match self {
            Self::ClusterRoleBinding | Self::ClusterRole | Self::Role | Self::RoleBinding => {
                ("rbac.authorization.k8s.io", "v1")
            }
            Self::ServiceAccount | Self::ConfigMap | Self::Service | Self::Endpoints => ("", "v1"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1"),
            Self::Deployment | Self::DaemonSet => ("apps", "v1"),
            Self::ValidatingAdmissionPolicy | Self::ValidatingAdmissionPolicyBinding => {
                ("admissionregistration.k8s.io", "v1")
            }
        }
    }

    pub fn api_version(self) -> String {
        match self.group_and_version() {
            ("", version) => version.to_owned(),
            (group, version) => format!("{group}/{version}"),
        }
    }

    /// As the API's paths name it.
    pub(super) fn resource(self) -> ApiResource {
        let (group, version) = self.group_and_version();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version(),
            kind: format!("{self:?}"),
            plural: self.plural().to_owned(),
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::ClusterRoleBinding => "clusterrolebindings",
            Self::ClusterRole => "clusterroles",
            Self::Role => "roles",
            Self::RoleBinding => "rolebindings",
            Self::ServiceAccount => "serviceaccounts",
            Self::ConfigMap => "configmaps",
            Self::Service => "services",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslices",
            Self::Deployment => "deployments",
            Self::DaemonSet => "daemonsets",
            Self::ValidatingAdmissionPolicy => "validatingadmissionpolicies",
            Self::ValidatingAdmissionPolicyBinding => "validatingadmissionpolicybindings",
        }
    }

    /// Whether a field of it that cannot be changed is one that others may have set wrongly, and nothing is lost by
    /// making the object anew.
    pub(super) fn is_replaceable(self) -> bool {
        matches!(
            self,
            Self::ClusterRoleBinding | Self::RoleBinding | Self::ConfigMap | Self::EndpointSlice
        )
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    pub kind: Kind,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<&'static str>,
    pub name: String,
}

impl Reference {
    pub(super) fn new(kind: Kind, namespace: Option<&'static str>, name: &str) -> Self {
        Self {
            kind,
            namespace,
            name: name.to_owned(),
        }
    }

    pub(super) fn api(&self, client: &Client) -> Api<DynamicObject> {
        let resource = self.kind.resource();
        match self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace {
            Some(namespace) => write!(f, "{:?} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{:?} {}", self.kind, self.name),
        }
    }
}

/// An object as it should be: the fields that are ours, and nothing the server fills in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Object {
    pub reference: Reference,
    /// Name of the ClusterRoleBinding that owns it, so that removing that removes the whole add-on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'static str>,
    /// The manifest, without the owner.
    pub manifest: Value,
}

impl Object {
    /// `content` holds everything but `apiVersion`, `kind` and the name.
    pub(super) fn new(kind: Kind, namespace: Option<&'static str>, name: &str, mut content: Value) -> Self {
        content["apiVersion"] = json!(kind.api_version());
        content["kind"] = json!(format!("{kind:?}"));
        content["metadata"]["name"] = json!(name);
        if let Some(namespace) = namespace {
            content["metadata"]["namespace"] = json!(namespace);
        }
        Self {
            reference: Reference::new(kind, namespace, name),
            owner: None,
            manifest: content,
        }
    }

    /// Marks an add-on's object as ours, which is what allows us to remove it.
    pub(super) fn labelled(mut self) -> Self {
        self.manifest["metadata"]["labels"][PROJECT_LABEL] = json!(PROJECT_VALUE);
        self
    }

    pub(super) fn owned_by(mut self, binding: &'static str) -> Self {
        self.owner = Some(binding);
        self
    }

    /// The manifest with the owner's UID in it.
    pub(super) fn with_owner(&self, uid: Option<&str>) -> Value {
        let mut manifest = self.manifest.clone();
        if let (Some(owner), Some(uid)) = (self.owner, uid) {
            manifest["metadata"]["ownerReferences"] = json!([{
                "apiVersion": Kind::ClusterRoleBinding.api_version(),
                "kind": "ClusterRoleBinding",
                "name": owner,
                "uid": uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }]);
        }
        manifest
    }
}

/// A subject of a binding.
pub(super) fn group(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name})
}

/// A subject of a binding.
pub(super) fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

/// A subject of a binding, in kube-system.
pub(super) fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
}

pub(super) fn cluster_role_binding(name: &str, role: &str, subjects: &[Value]) -> Object {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    Object::new(
        Kind::ClusterRoleBinding,
        None,
        name,
        json!({"roleRef": role, "subjects": subjects}),
    )
}

/// A Role that lets `subjects` read one ConfigMap, and its binding.
pub(super) fn config_map_reader(
    namespace: &'static str,
    name: &str,
    config_map: &str,
    subjects: &[Value],
) -> [Object; 2] {
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map], "verbs": ["get"]}
    ]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    [
        Object::new(Kind::Role, Some(namespace), name, json!({"rules": rules})),
        Object::new(
            Kind::RoleBinding,
            Some(namespace),
            name,
            json!({"roleRef": role, "subjects": subjects}),
        ),
    ]
}
