//! RoleBindings in a tenant's namespaces.
//!
//! Their names are a hash of what they bind, because what a RoleBinding binds cannot be changed: another role or another
//! subject is another object. The hash is the peer's, so that bindings that it made are recognised.

use std::collections::BTreeMap;

use api::capsule::{
    names,
    v1beta2::{CoreOwner, Promotion, RoleBindingSpec, Tenant, UserKind, UserSpec},
};
use k8s_openapi::{
    api::rbac::v1::{RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube_core::ResourceExt;

use crate::{replicas, selector, subject};

const RBAC: &str = "rbac.authorization.k8s.io";

/// The RoleBindings that one namespace of the tenant should have, sorted by name, each once: those of the owners, the
/// tenant's additional ones, those of rules that select the namespace by its `labels`, and those of promoted ServiceAccounts.
///
/// `owners` are the effective ones ([`crate::ownership::effective`]), `promotions` those of the tenant's rules
/// ([`crate::promotion::by_rules`]).
pub fn role_bindings(
    tenant: &Tenant,
    owners: &[CoreOwner],
    promotions: &[Promotion],
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Vec<RoleBinding> {
    let mut bindings: BTreeMap<String, RoleBinding> = BTreeMap::new();
    let mut add = |binding: RoleBinding| {
        bindings.entry(binding.name_any()).or_insert(binding);
    };
    let none = BTreeMap::new();
    for owner in owners {
        let named = tenant.spec.owners.iter().find(|named| named.core.user == owner.user);
        let (labels, annotations) = named.map_or((&none, &none), |named| (&named.labels, &named.annotations));
        for role in &owner.cluster_roles {
            add(binding(
                tenant,
                namespace,
                role,
                vec![subject_of(&owner.user)],
                labels,
                annotations,
            ));
        }
    }
    let of_rules = tenant
        .spec
        .rules
        .iter()
        .filter(|rule| selector::selects(rule.namespace_selector.as_ref(), labels))
        .flat_map(|rule| rule.permissions.iter().flat_map(|permissions| &permissions.bindings));
    for RoleBindingSpec {
        cluster_role_name,
        subjects,
        labels,
        annotations,
    } in tenant.spec.additional_role_bindings.iter().chain(of_rules)
    {
        add(binding(
            tenant,
            namespace,
            cluster_role_name,
            subjects.clone(),
            labels,
            annotations,
        ));
    }
    let here = promotions
        .iter()
        .filter(|promotion| promotion.targets.iter().any(|target| target == namespace));
    for Promotion { core, .. } in here {
        for role in &core.cluster_roles {
            add(binding(
                tenant,
                namespace,
                role,
                vec![subject_of(&core.user)],
                &none,
                &none,
            ));
        }
    }
    bindings.into_values().collect()
}

/// A user, group or ServiceAccount as the subject of a binding.
pub fn subject_of(user: &UserSpec) -> Subject {
    if user.kind == UserKind::ServiceAccount
        && let Some((namespace, name)) = subject::service_account(&user.name)
    {
        return Subject {
            api_group: None,
            kind: user.kind.to_string(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
        };
    }
    // A ServiceAccount that is not named in full was refused at admission; as a user of that name it has no rights.
    let kind = if user.kind == UserKind::Group {
        UserKind::Group
    } else {
        UserKind::User
    };
    Subject {
        api_group: Some(RBAC.to_owned()),
        kind: kind.to_string(),
        name: user.name.clone(),
        namespace: None,
    }
}

fn binding(
    tenant: &Tenant,
    namespace: &str,
    cluster_role: &str,
    subjects: Vec<Subject>,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> RoleBinding {
    let hash = format!("{:x}", hash(cluster_role, &subjects));
    let mut labels = labels.clone();
    labels.extend(replicas::labels(tenant, names::ROLE_BINDING_LABEL, &hash));
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(format!("{}{hash}", names::ROLE_BINDING_PREFIX)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            owner_references: Some(vec![replicas::controller_reference(tenant)]),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some(RBAC.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: cluster_role.to_owned(),
        },
        subjects: Some(subjects),
    }
}

/// FNV-1a, 64 bits, over the role and each subject's group, kind, namespace and name; each text is preceded by its
/// length, so that no two lists of texts look the same.
fn hash(cluster_role: &str, subjects: &[Subject]) -> u64 {
    let mut hash = Fnv::default();
    hash.text(cluster_role);
    for subject in subjects {
        hash.text(subject.api_group.as_deref().unwrap_or_default());
        hash.text(&subject.kind);
        hash.text(subject.namespace.as_deref().unwrap_or_default());
        hash.text(&subject.name);
    }
    hash.0
}

/// <http://www.isthe.com/chongo/tech/comp/fnv/>
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn text(&mut self, text: &str) {
        // A usize has at most 64 bits.
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{settings, tenant};
    use crate::ownership::{self, Sources};
    use serde_json::json;

    /// The names are those that the peer gave to the bindings of such a tenant.
    #[test]
    fn bindings_have_the_names_that_are_known() {
        let oil = tenant("oil").with(json!({
            "owners": [
                {"kind": "User", "name": "olga"},
                {"kind": "Group", "name": "oil-admins"},
                {"kind": "ServiceAccount", "name": "system:serviceaccount:default:robot"},
            ],
            "additionalRoleBindings": [{"clusterRoleName": "view", "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "victor"},
            ]}],
        }));
        let oil = oil.build();
        let owners = ownership::effective(&oil, Sources::default(), &settings(json!({})));
        let bindings = role_bindings(&oil, &owners, &[], "oil-one", &BTreeMap::new());
        let said: Vec<_> = bindings
            .iter()
            .map(|binding| {
                let subject = &binding.subjects.as_ref().unwrap()[0];
                format!(
                    "{} {} {} {}",
                    binding.name_any(),
                    binding.role_ref.name,
                    subject.kind,
                    subject.name
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                "capsule:managed:1d10152c946d8b30 capsule-namespace-deleter Group oil-admins",
                "capsule:managed:37579fd1111689f8 admin Group oil-admins",
                "capsule:managed:3a2ff968677acd60 admin ServiceAccount robot",
                "capsule:managed:3a96a8be047439f4 view User victor",
                "capsule:managed:3e1bf7faf0e3bf17 admin User olga",
                "capsule:managed:9af39c378f60246f capsule-namespace-deleter User olga",
                "capsule:managed:cb9b7d74c4c392e8 capsule-namespace-deleter ServiceAccount robot",
            ]
        );
        assert_eq!(
            serde_json::to_value(&bindings[2]).unwrap(),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {
                    "name": "capsule:managed:3a2ff968677acd60",
                    "namespace": "oil-one",
                    "labels": {
                        "capsule.clastix.io/role-binding": "3a2ff968677acd60",
                        "projectcapsule.dev/managed-by": "controller",
                        "projectcapsule.dev/tenant": "oil",
                        "capsule.clastix.io/managed-by": "oil",
                    },
                    "ownerReferences": [{
                        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": "oil", "uid": "uid-of-oil",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
            })
        );
    }

    #[test]
    fn rules_bind_in_the_namespaces_that_they_select() {
        let oil = tenant("oil").with(json!({"rules": [{
            "namespaceSelector": {"matchLabels": {"env": "prod"}},
            "permissions": {"bindings": [{"clusterRoleName": "view", "subjects": [{"kind": "Group", "name": "audit"}]}]},
        }]}));
        let oil = oil.build();
        let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        assert_eq!(role_bindings(&oil, &[], &[], "oil-one", &prod).len(), 1);
        assert_eq!(role_bindings(&oil, &[], &[], "oil-two", &BTreeMap::new()).len(), 0);
    }

    #[test]
    fn promoted_service_accounts_are_bound_in_their_targets() {
        let oil = tenant("oil").build();
        let promotions: Vec<Promotion> = serde_json::from_value(json!([{
            "kind": "ServiceAccount", "name": "system:serviceaccount:oil-one:robot", "clusterRoles": ["view", "edit"],
            "targets": ["oil-one", "oil-two"],
        }]))
        .unwrap();
        let bound = |namespace: &str| {
            let bindings = role_bindings(&oil, &[], &promotions, namespace, &BTreeMap::new());
            let mut roles: Vec<String> = bindings
                .iter()
                .map(|binding| {
                    format!(
                        "{} {:?}",
                        binding.role_ref.name,
                        binding.subjects.as_ref().unwrap()[0].namespace
                    )
                })
                .collect();
            roles.sort();
            roles
        };
        assert_eq!(bound("oil-two"), [r#"edit Some("oil-one")"#, r#"view Some("oil-one")"#]);
        assert_eq!(bound("oil-three"), [""; 0]);
    }

    #[test]
    fn an_owners_labels_reach_its_bindings_and_cannot_replace_ours() {
        let oil = tenant("oil").with(json!({"owners": [{
            "kind": "User", "name": "olga", "clusterRoles": ["admin"],
            "labels": {"team": "a", "projectcapsule.dev/tenant": "gas"}, "annotations": {"note": "b"},
        }]}));
        let oil = oil.build();
        let owners = ownership::effective(&oil, Sources::default(), &settings(json!({})));
        let bindings = role_bindings(&oil, &owners, &[], "oil-one", &BTreeMap::new());
        assert_eq!(bindings[0].labels().get("team").map(String::as_str), Some("a"));
        assert_eq!(
            bindings[0]
                .labels()
                .get("projectcapsule.dev/tenant")
                .map(String::as_str),
            Some("oil")
        );
        assert_eq!(bindings[0].annotations().get("note").map(String::as_str), Some("b"));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Published test vectors.
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hash = Fnv::default();
            hash.bytes(text.as_bytes());
            assert_eq!(hash.0, expected, "{text}");
        }
    }
}
