//! What the operator may do, and for which of its halves: the source of the chart's RBAC. Each row says why.

use std::fmt::Write;

use serde_json::json;

/// Objects that are applied and carry an owner reference. Nobody deletes these; but where API servers enforce permissions on
/// owner references (admission plugin OwnerReferencesPermissionEnforcement), writing one takes the right to delete.
const APPLY_OWNED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const APIEXTENSIONS: &[&str] = &["apiextensions.k8s.io"];
const RBAC: &[&str] = &["rbac.authorization.k8s.io"];
const ADMISSION: &[&str] = &["admissionregistration.k8s.io"];
const CAPSULE: &[&str] = &["capsule.clastix.io"];
const KAMAJI: &[&str] = &["kamaji.clastix.io"];

/// Which objects of a kind.
enum Names {
    All,
    These(&'static [&'static str]),
    /// Those in this list that the chart's helper `cotenant.<name>` makes of its values. None if it is empty, and not all as RBAC
    /// would have it.
    Listed(&'static str),
}

struct Grant {
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    names: Names,
    verbs: &'static [&'static str],
}

const fn grant(
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Grant {
    named(groups, resources, Names::All, verbs)
}

const fn named(
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    names: Names,
    verbs: &'static [&'static str],
) -> Grant {
    Grant {
        groups,
        resources,
        names,
        verbs,
    }
}

/// Both halves: their webhook configurations, and Events for people.
const OPERATOR: &[Grant] = &[
    // Made, put right when they drift, and removed under names that are no longer wanted. The names are a setting of the
    // CapsuleConfiguration, so they cannot be named here.
    grant(
        ADMISSION,
        &["validatingwebhookconfigurations", "mutatingwebhookconfigurations"],
        &["get", "list", "watch", "create", "update", "delete"],
    ),
    // Drift of policies is watched for by whichever half runs.
    grant(
        ADMISSION,
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        &["list", "watch"],
    ),
    // This very role: what is made above ends with it, and the reference takes its UID.
    named(
        RBAC,
        &["clusterroles"],
        Names::These(&[r#"{{ include "cotenant.clusterRole" (list . "operator") }}"#]),
        &["get"],
    ),
    // Where the API server will ask the hooks: they are registered when that answers.
    named(
        &[""],
        &["services"],
        Names::These(&[r#"{{ include "cotenant.fullname" . }}-webhook-service"#]),
        &["get"],
    ),
    // News, and counting news that repeats.
    grant(&["events.k8s.io"], &["events"], &["create", "patch"]),
];

const NAMESPACE_TENANTS: &[Grant] = &[
    // Who converts Tenants is put into their definition, and put right when it drifts. The watch is of this one name.
    named(
        APIEXTENSIONS,
        &["customresourcedefinitions"],
        Names::These(&["tenants.capsule.clastix.io"]),
        &["get", "list", "watch", "patch"],
    ),
    // The name label and the finalizer are patched.
    grant(CAPSULE, &["tenants"], &["get", "list", "watch", "patch"]),
    // Made with defaults when there is none, and left to people from then on.
    grant(CAPSULE, &["capsuleconfigurations"], &["get", "list", "watch", "create"]),
    grant(CAPSULE, &["tenants/status", "capsuleconfigurations/status"], &["patch"]),
    // The rules of a tenant, written out in its namespaces, and the status of those that people write.
    grant(CAPSULE, &["rulestatuses"], APPLY_OWNED),
    grant(CAPSULE, &["rulestatuses/status"], &["patch"]),
    // Owners that tenants select; their status says of which.
    grant(CAPSULE, &["tenantowners"], &["get", "list", "watch"]),
    grant(CAPSULE, &["tenantowners/status"], &["patch"]),
    // Owner references that block the tenant's deletion take this where API servers enforce permissions on them.
    grant(CAPSULE, &["tenants/finalizers"], &["update"]),
    // The finalizer of pools is patched; so are owners of claims and the release that they ask for. Delete is for the owners.
    grant(CAPSULE, &["resourcepools"], &["get", "list", "watch", "patch"]),
    grant(CAPSULE, &["resourcepoolclaims"], &["list", "watch", "patch", "delete"]),
    grant(
        CAPSULE,
        &["resourcepools/status", "resourcepoolclaims/status"],
        &["patch"],
    ),
    // As with tenants: the ResourceQuotas of a pool.
    grant(CAPSULE, &["resourcepools/finalizers"], &["update"]),
    // Quotas in the rules of tenants are kept as objects. Ledgers are made for quotas, and end with them.
    grant(
        CAPSULE,
        &["globalresourcequotas"],
        &["get", "list", "watch", "create", "update", "delete"],
    ),
    grant(CAPSULE, &["globalresourcequotas/status"], &["patch"]),
    grant(CAPSULE, &["globalresourcequotas/finalizers"], &["update"]),
    grant(
        CAPSULE,
        &["quantityledgers"],
        &["get", "list", "watch", "create", "delete"],
    ),
    // Custom quotas, and what they count where nobody gives more rights. Other kinds take a role of an administrator's.
    grant(CAPSULE, &["customquotas", "globalcustomquotas"], &["list", "watch"]),
    grant(
        CAPSULE,
        &["customquotas/status", "globalcustomquotas/status"],
        &["patch"],
    ),
    grant(
        CAPSULE,
        &["customquotas/finalizers", "globalcustomquotas/finalizers"],
        &["update"],
    ),
    grant(&[""], &["persistentvolumeclaims"], &["list", "watch"]),
    grant(
        &["apps"],
        &["deployments", "statefulsets", "daemonsets"],
        &["list", "watch"],
    ),
    grant(&["batch"], &["jobs", "cronjobs"], &["list", "watch"]),
    // Promises are written by every replica, with the version that was read.
    grant(CAPSULE, &["quantityledgers/status"], &["patch", "update"]),
    // Labels and annotations are patched; deletion is with the tenant; which ones are whose is asked at admission. Create is
    // there to be handed on: a role that gives a right can be made only by who has it.
    grant(
        &[""],
        &["namespaces"],
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    // The two policies of namespace tenants. Delete is for their owner references, as with all that is owned.
    grant(
        ADMISSION,
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        &["create"],
    ),
    named(
        ADMISSION,
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        Names::These(&["cotenant-managed-objects", "cotenant-namespace-ownership"]),
        &["get", "update", "delete"],
    ),
    // The one that labels objects of tenants.
    grant(
        ADMISSION,
        &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        &["create"],
    ),
    named(
        ADMISSION,
        &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
        Names::These(&["cotenant-tenant-labels", "cotenant-tenant-labels-of-kept-kinds"]),
        &["get", "update", "delete"],
    ),
    // What a tenant's namespaces hold: applied, and deleted when the tenant asks for it no more.
    grant(&[""], &["resourcequotas", "limitranges"], APPLY_OWNED),
    grant(&["networking.k8s.io"], &["networkpolicies"], APPLY_OWNED),
    grant(RBAC, &["rolebindings"], APPLY_OWNED),
    // What tenant users and owners live by. Watching finds those of an earlier configuration by their label.
    grant(
        RBAC,
        &["clusterroles", "clusterrolebindings"],
        &["list", "watch", "create"],
    ),
    named(
        RBAC,
        &["clusterroles", "clusterrolebindings"],
        Names::Listed("managedClusterRoles"),
        &["patch", "delete"],
    ),
    // Roles that RoleBindings and the ClusterRoleBinding may name although they give what the operator does not have.
    named(RBAC, &["clusterroles"], Names::Listed("managedClusterRoles"), &["bind"]),
    named(
        RBAC,
        &["clusterroles"],
        Names::Listed("bindableClusterRoles"),
        &["bind"],
    ),
    // Promotion of service accounts is decided by their labels.
    grant(&[""], &["serviceaccounts"], &["list", "watch"]),
    // Classes a tenant may use are listed in its status and checked at admission.
    grant(&["storage.k8s.io"], &["storageclasses"], &["list", "watch"]),
    grant(&["networking.k8s.io"], &["ingressclasses"], &["list", "watch"]),
    grant(&["scheduling.k8s.io"], &["priorityclasses"], &["list", "watch"]),
    grant(&["node.k8s.io"], &["runtimeclasses"], &["list", "watch"]),
    // The same of kinds that not every cluster serves; admission reads them when an object names one.
    grant(
        &["gateway.networking.k8s.io"],
        &["gatewayclasses"],
        &["get", "list", "watch"],
    ),
    grant(&["resource.k8s.io"], &["deviceclasses"], &["get", "list", "watch"]),
    // Hostnames of all Ingresses, once a tenant wants its own to be unique.
    grant(&["networking.k8s.io"], &["ingresses"], &["list", "watch"]),
    // Replications: the finalizer and the request to look again are patched. What they ask for is read and written as a
    // ServiceAccount, whose own rights are the limit.
    grant(
        CAPSULE,
        &["tenantresources", "globaltenantresources"],
        &["get", "list", "watch", "patch"],
    ),
    grant(
        CAPSULE,
        &["tenantresources/status", "globaltenantresources/status"],
        &["patch"],
    ),
    grant(&[""], &["serviceaccounts"], &["impersonate"]),
    // A claim that names a volume is checked against the tenant that the volume carries.
    // Bound ones get that tenant as a label.
    grant(&[""], &["persistentvolumes"], &["get", "list", "watch", "patch"]),
    // Labels and annotations that tenants ask for on these are patched. Metadata alone is read, once a tenant asks.
    grant(&[""], &["pods", "services"], &["get", "list", "watch", "patch"]),
    grant(
        &["discovery.k8s.io"],
        &["endpointslices"],
        &["get", "list", "watch", "patch"],
    ),
];

const CONTROL_PLANES: &[Grant] = &[
    // Finalizers are patched.
    grant(
        KAMAJI,
        &["tenantcontrolplanes", "datastores"],
        &["get", "list", "watch", "patch"],
    ),
    // What a predecessor wrote is taken out by a replacement.
    grant(KAMAJI, &["tenantcontrolplanes/status"], &["patch", "update"]),
    grant(KAMAJI, &["datastores/status"], &["patch"]),
    // Generators make kubeconfigs in the namespaces that they select by label.
    grant(KAMAJI, &["kubeconfiggenerators"], &["get", "list", "watch"]),
    grant(KAMAJI, &["kubeconfiggenerators/status"], &["patch"]),
    grant(&[""], &["namespaces"], &["list", "watch"]),
    // As with tenants.
    grant(KAMAJI, &["tenantcontrolplanes/finalizers"], &["update"]),
    // Keys and kubeconfigs are created or replaced in the version that was judged, never applied; a finalizer is patched.
    // Control planes and the Secrets of DataStores are in any namespace, under any name.
    grant(
        &[""],
        &["secrets"],
        &["get", "list", "watch", "create", "update", "patch", "delete"],
    ),
    grant(&[""], &["configmaps", "services"], APPLY_OWNED),
    // Which claims are a control plane's own, by their label.
    grant(&[""], &["persistentvolumeclaims"], &["list", "watch"]),
    grant(&["apps"], &["deployments"], APPLY_OWNED),
    grant(&["networking.k8s.io"], &["networkpolicies"], APPLY_OWNED),
    // What stands in front of control planes, and what keeps their replicas from being evicted at the same time; deleted when
    // it is asked for no more. All Ingresses are read, because a name belongs to who had it first.
    grant(&["networking.k8s.io"], &["ingresses"], APPLY_OWNED),
    grant(&["policy"], &["poddisruptionbudgets"], APPLY_OWNED),
    grant(&["gateway.networking.k8s.io"], &["tlsroutes"], APPLY_OWNED),
    // Which names others have.
    grant(
        &["gateway.networking.k8s.io"],
        &["httproutes", "grpcroutes"],
        &["list", "watch"],
    ),
    // Which ports a route is reached at.
    grant(&["gateway.networking.k8s.io"], &["gateways"], &["list", "watch"]),
    // What a control plane must not reach: addresses of Nodes, of Services and of the API server. Nodes are also where a
    // NodePort answers.
    grant(&[""], &["nodes"], &["list", "watch"]),
    grant(&["networking.k8s.io"], &["servicecidrs"], &["list", "watch"]),
    grant(&["discovery.k8s.io"], &["endpointslices"], &["list", "watch"]),
];

/// In the operator's own namespace: who leads, the serving certificate, and what is told about tenants.
const OWN_NAMESPACE: &[Grant] = &[
    // Looked at and renewed by the clock, not watched.
    grant(&["coordination.k8s.io"], &["leases"], &["get", "create", "update"]),
    // One Secret is watched by its name, which is a setting of the CapsuleConfiguration; a change of it takes no new rights.
    grant(&[""], &["secrets"], &["get", "list", "watch", "create", "update"]),
    // Reports of what audited limits let pass, one of each tenant.
    grant(&[""], &["configmaps"], &["get", "create", "update"]),
];

/// The chart's `templates/rbac.yaml`.
pub(crate) fn template() -> anyhow::Result<String> {
    let mut out = String::from(
        "{{- /* Generated by `cargo xtask generate` from crates/xtask/src/rbac.rs. */}}\n\
         {{- if and .Values.rbac.create (not (include \"cotenant.isExclusive\" .)) .Values.manager.rbac.create }}\n",
    );
    cluster_role(&mut out, "operator", None, OPERATOR)?;
    cluster_role(
        &mut out,
        "namespace-tenants",
        Some("namespace-tenants"),
        NAMESPACE_TENANTS,
    )?;
    cluster_role(&mut out, "control-planes", Some("control-planes"), CONTROL_PLANES)?;
    out.push_str("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n");
    out.push_str(&metadata(r#"{{ include "cotenant.fullname" . }}"#, true));
    out.push_str("rules:\n");
    out.push_str(&rules(OWN_NAMESPACE)?);
    out.push_str("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n");
    out.push_str(&metadata(r#"{{ include "cotenant.fullname" . }}"#, true));
    out.push_str(
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ include \"cotenant.fullname\" . }}}\n",
    );
    out.push_str(SUBJECT);
    out.push_str("{{- end }}\n");
    Ok(out)
}

const SUBJECT: &str = r#"subjects:
- kind: ServiceAccount
  name: {{ include "cotenant.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
"#;

fn cluster_role(out: &mut String, name: &str, component: Option<&str>, grants: &[Grant]) -> anyhow::Result<()> {
    if let Some(component) = component {
        writeln!(
            out,
            "{{{{- if has {component:?} (include \"cotenant.components\" . | fromJsonArray) }}}}"
        )?;
    }
    let name = format!("'{{{{ include \"cotenant.clusterRole\" (list . {name:?}) }}}}'");
    out.push_str("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n");
    out.push_str(&metadata(&name, false));
    out.push_str("rules:\n");
    out.push_str(&rules(grants)?);
    out.push_str("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n");
    out.push_str(&metadata(&name, false));
    writeln!(
        out,
        "roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}"
    )?;
    out.push_str(SUBJECT);
    if component.is_some() {
        out.push_str("{{- end }}\n");
    }
    Ok(())
}

fn metadata(name: &str, namespaced: bool) -> String {
    let namespace = if namespaced {
        "  namespace: {{ .Release.Namespace }}\n"
    } else {
        ""
    };
    format!(
        "metadata:\n  name: {name}\n{namespace}  labels:\n    {{{{- include \"cotenant.labels\" . | nindent 4 }}}}\n"
    )
}

fn rules(grants: &[Grant]) -> anyhow::Result<String> {
    let mut out = String::new();
    for grant in grants {
        let mut rule = json!({"apiGroups": grant.groups, "resources": grant.resources, "verbs": grant.verbs});
        if let Names::These(names) = grant.names {
            rule["resourceNames"] = json!(names);
        }
        let rule = serde_norway::to_string(&[rule])?;
        match grant.names {
            Names::All | Names::These(_) => out.push_str(&rule),
            Names::Listed(list) => {
                writeln!(out, "{{{{- with include \"cotenant.{list}\" $ | fromJsonArray }}}}")?;
                writeln!(out, "{rule}  resourceNames: {{{{ toJson . }}}}\n{{{{- end }}}}")?;
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_values_limit_a_rule_or_there_is_no_rule() {
        let grants = [
            grant(&[""], &["pods"], &["get"]),
            named(&["a"], &["bs"], Names::These(&["{{ c }}:d"]), &["get"]),
            named(&["a"], &["bs"], Names::Listed("mine"), &["bind"]),
        ];
        assert_eq!(
            rules(&grants).unwrap(),
            "\
- apiGroups:
  - ''
  resources:
  - pods
  verbs:
  - get
- apiGroups:
  - a
  resourceNames:
  - '{{ c }}:d'
  resources:
  - bs
  verbs:
  - get
{{- with include \"cotenant.mine\" $ | fromJsonArray }}
- apiGroups:
  - a
  resources:
  - bs
  verbs:
  - bind
  resourceNames: {{ toJson . }}
{{- end }}
"
        );
    }
}
