//! From the CapsuleConfiguration and how this process was started to what should be in the API server. Pure.

use api::capsule::v1beta2::{AdmissionClient, CapsuleConfiguration, UserKind, UserSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;

use std::collections::{BTreeMap, BTreeSet};

use crate::configurations::{self, Endpoint, Placement};
use crate::keeper::Desired;
use crate::labelling;
use crate::policies::{self, Administrators};
use crate::rule::{Component, Rule};
use crate::tls::Place;

/// Both kinds of configuration have this name unless the CapsuleConfiguration says otherwise.
pub const CAPSULE_CONFIGURATIONS: &str = "capsule-dynamic-webhook";
pub const KAMAJI_MUTATING: &str = "kamaji-mutating-webhook-configuration";
pub const KAMAJI_VALIDATING: &str = "kamaji-validating-webhook-configuration";
/// Where the certificate is kept unless a flag or the CapsuleConfiguration says otherwise.
pub const TLS_SECRET: &str = "capsule-tls";

/// Who and where this process is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Namespace of our pods, Service and Secret.
    pub namespace: String,
    pub service_account: String,
    /// How API servers reach us, where the CapsuleConfiguration does not say.
    pub endpoint: Endpoint,
    /// Where the certificate is kept, where the CapsuleConfiguration does not say.
    pub tls_secret: String,
    /// The ClusterRole that hooks and policies end with. `None`: they end with the CapsuleConfiguration.
    pub owner_cluster_role: Option<String>,
    pub components: BTreeSet<Component>,
}

impl Identity {
    /// Our user name.
    pub fn user_name(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

/// Everything that should be in the API server, with this bundle.
pub fn desired(
    rules: &[Rule],
    identity: &Identity,
    configuration: Option<&CapsuleConfiguration>,
    bundle: &str,
) -> Desired {
    let ourselves = identity.user_name();
    let spec = configuration
        .map(|configuration| configuration.spec.clone())
        .unwrap_or_default();
    let rules: Vec<Rule> = rules.iter().filter(|rule| (rule.wanted)(&spec)).copied().collect();
    let rules = rules.as_slice();
    let owner = match &identity.owner_cluster_role {
        // Its UID is read when the objects are written.
        Some(_) => None,
        None => configuration.and_then(owner),
    };
    let mut desired = Desired {
        owner_cluster_role: identity.owner_cluster_role.clone(),
        ..Desired::default()
    };
    if identity.components.contains(&Component::NamespaceTenants) {
        let admission = configuration.and_then(|configuration| configuration.spec.admission.as_ref());
        let component = Component::NamespaceTenants;
        let placement = match admission.and_then(|admission| admission.mutating.as_ref()) {
            Some(wanted) => placed(
                identity,
                &wanted.name,
                &wanted.labels,
                &wanted.annotations,
                &wanted.client,
                bundle,
            ),
            None => default_placement(identity, CAPSULE_CONFIGURATIONS, bundle),
        };
        let placement = Placement {
            owner: owner.clone(),
            ..placement
        };
        desired
            .mutating
            .push(configurations::mutating(rules, component, &ourselves, &placement));
        let placement = Placement {
            owner: owner.clone(),
            ..validating_placement(identity, configuration, bundle)
        };
        desired
            .validating
            .push(configurations::validating(rules, component, &ourselves, &placement));
        // The configuration has no place of its own for this; whoever put something before our hooks put it before this, too.
        desired.conversion = Some(configurations::conversion(&placement));
        let administrators = administrators(configuration);
        desired.policies = policies::policies(&ourselves, &administrators, owner.as_ref());
        desired.labelling = Some(labelling::policy(owner.as_ref()));
    }
    if identity.components.contains(&Component::ControlPlanes) {
        let component = Component::ControlPlanes;
        let placement = |name| Placement {
            owner: owner.clone(),
            ..default_placement(identity, name, bundle)
        };
        desired.mutating.push(configurations::mutating(
            rules,
            component,
            &ourselves,
            &placement(KAMAJI_MUTATING),
        ));
        desired.validating.push(configurations::validating(
            rules,
            component,
            &ourselves,
            &placement(KAMAJI_VALIDATING),
        ));
    }
    desired
}

/// Where API servers are told to ask validating hooks of namespace tenants, and the object that tells it.
pub(crate) fn validating_placement(
    identity: &Identity,
    configuration: Option<&CapsuleConfiguration>,
    bundle: &str,
) -> Placement {
    let admission = configuration.and_then(|configuration| configuration.spec.admission.as_ref());
    match admission.and_then(|admission| admission.validating.as_ref()) {
        Some(wanted) => placed(
            identity,
            &wanted.name,
            &wanted.labels,
            &wanted.annotations,
            &wanted.client,
            bundle,
        ),
        None => default_placement(identity, CAPSULE_CONFIGURATIONS, bundle),
    }
}

/// Where the certificate is kept, and the names it must carry: every way in which API servers may call us.
pub fn place(identity: &Identity, configuration: Option<&CapsuleConfiguration>) -> Place {
    let mut hosts = endpoint_hosts(&identity.endpoint);
    let mut secret = identity.tls_secret.clone();
    if let Some(configuration) = configuration {
        if !configuration.spec.overrides.tls_secret_name.is_empty() {
            secret.clone_from(&configuration.spec.overrides.tls_secret_name);
        }
        if let Some(admission) = &configuration.spec.admission {
            hosts.extend(service_hosts(&admission.service_name, &identity.namespace));
            let clients = [
                admission.mutating.as_ref().map(|wanted| &wanted.client),
                admission.validating.as_ref().map(|wanted| &wanted.client),
            ];
            for client in clients.into_iter().flatten() {
                hosts.extend(endpoint_hosts(&endpoint(identity, client)));
            }
        }
    }
    let mut seen = BTreeSet::new();
    let sans = hosts
        .iter()
        .filter_map(|host| pki::San::parse(host).ok())
        .filter(|san| seen.insert(san.clone()))
        .collect();
    Place {
        namespace: identity.namespace.clone(),
        secret,
        sans,
    }
}

/// Users and groups that the policies leave alone.
fn administrators(configuration: Option<&CapsuleConfiguration>) -> Administrators {
    let all: &[UserSpec] = configuration.map_or(&[], |configuration| &configuration.spec.administrators);
    let mut administrators = Administrators::default();
    for user in all {
        match user.kind {
            UserKind::Group => administrators.groups.push(user.name.clone()),
            UserKind::User | UserKind::ServiceAccount => administrators.users.push(user.name.clone()),
        }
    }
    administrators
}

/// What hooks and policies end with when no ClusterRole was named: hooks that nobody answers would refuse for ever. While we
/// run, they are made again without it.
fn owner(configuration: &CapsuleConfiguration) -> Option<OwnerReference> {
    configuration.owner_ref(&())
}

fn default_placement(identity: &Identity, name: &str, bundle: &str) -> Placement {
    Placement {
        name: name.to_owned(),
        endpoint: identity.endpoint.clone(),
        bundle: bundle.to_owned(),
        ..Placement::default()
    }
}

fn placed(
    identity: &Identity,
    name: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    client: &AdmissionClient,
    bundle: &str,
) -> Placement {
    let bundle = match &client.ca_bundle {
        // Somebody put a proxy in front of us, or keeps our certificate.
        Some(own) if !own.0.is_empty() => String::from_utf8_lossy(&own.0).into_owned(),
        _ => bundle.to_owned(),
    };
    Placement {
        name: if name.is_empty() {
            CAPSULE_CONFIGURATIONS.to_owned()
        } else {
            name.to_owned()
        },
        labels: labels.clone(),
        annotations: annotations.clone(),
        endpoint: endpoint(identity, client),
        bundle,
        owner: None,
    }
}

fn endpoint(identity: &Identity, client: &AdmissionClient) -> Endpoint {
    match (&client.url, &client.service) {
        (Some(url), _) if !url.is_empty() => Endpoint::Url(url.clone()),
        (_, Some(service)) => Endpoint::Service {
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            port: service.port.unwrap_or(443),
            prefix: service.path.clone().unwrap_or_default(),
        },
        _ => identity.endpoint.clone(),
    }
}

fn endpoint_hosts(endpoint: &Endpoint) -> Vec<String> {
    match endpoint {
        Endpoint::Url(url) => url
            .parse::<http::Uri>()
            .ok()
            .and_then(|uri| uri.host().map(str::to_owned))
            .into_iter()
            .collect(),
        Endpoint::Service { name, namespace, .. } => service_hosts(name, namespace),
    }
}

fn service_hosts(name: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
        format!("{name}.{namespace}"),
        name.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;
    use serde_json::json;

    fn identity() -> Identity {
        Identity {
            namespace: "cotenant-system".to_owned(),
            service_account: "cotenant".to_owned(),
            endpoint: Endpoint::Service {
                name: "cotenant-webhook-service".to_owned(),
                namespace: "cotenant-system".to_owned(),
                port: 443,
                prefix: String::new(),
            },
            tls_secret: "cotenant-tls".to_owned(),
            owner_cluster_role: None,
            components: BTreeSet::from([Component::NamespaceTenants, Component::ControlPlanes]),
        }
    }

    fn configuration(spec: &serde_json::Value) -> CapsuleConfiguration {
        serde_json::from_value(json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "CapsuleConfiguration",
            "metadata": {"name": "default", "uid": "7"}, "spec": spec}))
        .expect("a configuration")
    }

    fn names(desired: &Desired) -> (Vec<String>, Vec<String>) {
        (
            desired.validating.iter().map(kube::ResourceExt::name_any).collect(),
            desired.mutating.iter().map(kube::ResourceExt::name_any).collect(),
        )
    }

    #[test]
    fn without_a_configuration_everything_has_its_usual_name() {
        let wanted = desired(RULES, &identity(), None, "PEM");
        assert_eq!(
            names(&wanted),
            (
                vec![
                    "capsule-dynamic-webhook".into(),
                    "kamaji-validating-webhook-configuration".into()
                ],
                vec![
                    "capsule-dynamic-webhook".into(),
                    "kamaji-mutating-webhook-configuration".into()
                ],
            )
        );
        assert_eq!(wanted.policies.len(), 2);
        let place = place(&identity(), None);
        assert_eq!(
            (place.namespace.as_str(), place.secret.as_str()),
            ("cotenant-system", "cotenant-tls")
        );
        let sans: Vec<String> = place.sans.iter().map(ToString::to_string).collect();
        assert_eq!(
            sans,
            [
                "cotenant-webhook-service.cotenant-system.svc",
                "cotenant-webhook-service.cotenant-system.svc.cluster.local",
                "cotenant-webhook-service.cotenant-system",
                "cotenant-webhook-service",
            ]
        );
    }

    #[test]
    fn one_component_alone_registers_its_own_hooks_only() {
        let identity = Identity {
            components: BTreeSet::from([Component::ControlPlanes]),
            ..identity()
        };
        let wanted = desired(RULES, &identity, None, "PEM");
        assert_eq!(
            names(&wanted),
            (
                vec!["kamaji-validating-webhook-configuration".into()],
                vec!["kamaji-mutating-webhook-configuration".into()]
            )
        );
        assert_eq!(wanted.policies, []);
        assert_eq!(wanted.conversion, None);
    }

    #[test]
    fn the_configuration_names_objects_endpoints_and_the_secret() {
        let configuration = configuration(&json!({
            "overrides": {"TLSSecretName": "own-tls"},
            "admission": {
                "serviceName": "hooks-of-old",
                "validating": {
                    "name": "own-validating", "labels": {"team": "red"}, "client": {"url": "https://10.0.0.9:8443/hooks"}},
                "mutating": {"client": {"service": {"name": "hooks", "namespace": "ns", "path": "/x/"}}}}}));
        let wanted = desired(RULES, &identity(), Some(&configuration), "PEM");
        assert_eq!(names(&wanted).0[0], "own-validating");
        assert_eq!(names(&wanted).1[0], "capsule-dynamic-webhook");
        let validating = &wanted.validating[0];
        assert_eq!(validating.metadata.labels.as_ref().expect("labels")["team"], "red");
        assert_eq!(
            validating.metadata.owner_references.as_ref().expect("an owner")[0].uid,
            "7"
        );
        let mut hooks = validating.webhooks.iter().flatten();
        let hook = hooks
            .find(|hook| hook.name.starts_with("config."))
            .expect("the hook of configurations");
        assert_eq!(
            hook.client_config.url.as_deref(),
            Some("https://10.0.0.9:8443/hooks/config/validating")
        );
        let conversion = wanted
            .conversion
            .as_ref()
            .and_then(|conversion| conversion.webhook.as_ref());
        let config = conversion.and_then(|webhook| webhook.client_config.as_ref());
        assert_eq!(
            config.and_then(|config| config.url.as_deref()),
            Some("https://10.0.0.9:8443/hooks/convert")
        );
        let hook = &wanted.mutating[0].webhooks.as_ref().expect("hooks")[0];
        let service = hook.client_config.service.as_ref().expect("a service");
        assert_eq!((service.name.as_str(), service.port), ("hooks", Some(443)));
        assert_eq!(service.path.as_deref(), Some("/x/defaults"));
        let place = place(&identity(), Some(&configuration));
        assert_eq!(place.secret, "own-tls");
        let sans: Vec<String> = place.sans.iter().map(ToString::to_string).collect();
        for name in [
            "10.0.0.9",
            "hooks.ns.svc",
            "hooks-of-old.cotenant-system.svc",
            "hooks-of-old.cotenant-system.svc.cluster.local",
            "cotenant-webhook-service.cotenant-system.svc",
        ] {
            assert!(sans.contains(&name.to_owned()), "{name} is missing in {sans:?}");
        }
    }

    #[test]
    fn the_hook_for_nodes_is_there_when_the_configuration_limits_them() {
        let hooks = |configuration: Option<&CapsuleConfiguration>| {
            let wanted = desired(RULES, &identity(), configuration, "PEM");
            let hooks = wanted.validating[0].webhooks.clone().expect("hooks");
            hooks.iter().filter(|hook| hook.name.starts_with("nodes.")).count()
        };
        assert_eq!(hooks(None), 0);
        assert_eq!(hooks(Some(&configuration(&json!({})))), 0);
        let limits = json!({"nodeMetadata": {"forbiddenLabels": {"denied": ["zone"]}}});
        assert_eq!(hooks(Some(&configuration(&limits))), 1);
    }

    #[test]
    fn administrators_of_the_configuration_are_left_alone_by_the_policies() {
        let configuration = configuration(&json!({"administrators": [
            {"kind": "User", "name": "adam"}, {"kind": "Group", "name": "platform"},
            {"kind": "ServiceAccount", "name": "system:serviceaccount:ci:robot"}]}));
        let found = administrators(Some(&configuration));
        assert_eq!(found.users, ["adam", "system:serviceaccount:ci:robot"]);
        assert_eq!(found.groups, ["platform"]);
    }
}
