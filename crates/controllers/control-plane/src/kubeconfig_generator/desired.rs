//! What a generator makes for one control plane. Pure.

use std::collections::BTreeSet;

use api::kamaji::names::ROTATE_ANNOTATION;
use api::kamaji::v1alpha1::{CompoundValue, KubeconfigGeneratorSpec, TenantControlPlane};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use pki::{Authority, KeyPair, Kubeconfig, LeafRequest};
use serde_json::Value;

use crate::desired::rotation::Signing;
use crate::desired::secrets::{self, Clock, Data, Reason, text};
use crate::desired::{SECRET_COMPONENTS, identity};

/// Key of the Secret.
pub(super) const VALUE: &str = "value";

/// Why a control plane has no kubeconfig of a generator. The texts are for the generator's status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the admin kubeconfig is not yet generated")]
    NoTemplate,
    #[error(
        "spec.controlPlaneEndpointFrom: the Secret {secret} has no kubeconfig under {key:?}; keys are admin.conf, admin.svc, super-admin.conf and super-admin.svc"
    )]
    NoSuchTemplate { secret: String, key: String },
    #[error("the certificate authority is not yet generated")]
    NoAuthority,
    #[error("provided dot notation \"{0}\" is not found")]
    NotFound(String),
    #[error("{0}: one of stringValue and fromDefinition must be set, and not be empty")]
    NoValue(String),
    #[error("the Secret {0} is there and was not made by this generator; rename one of the two")]
    NameTaken(String),
    #[error("the name {0:?} is one that a control plane's own Secrets end with; rename the generator")]
    ReservedName(String),
    #[error("failed to issue the certificate: {0}")]
    Issue(#[from] pki::Error),
    #[error("failed to {act} the Secret {name}: {reason}")]
    Kubernetes {
        act: &'static str,
        name: String,
        reason: String,
    },
}

/// Who a kubeconfig is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    user: String,
    groups: Vec<String>,
}

impl Identity {
    /// Resolves what the spec asks for against one control plane.
    pub(super) fn of(spec: &KubeconfigGeneratorSpec, tcp: &TenantControlPlane) -> Result<Self, Failure> {
        // Serialised only for those who look into it.
        let mut definition: Option<Value> = None;
        let mut resolve = |field: String, value: &CompoundValue| {
            let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            match (given(&value.string_value), given(&value.from_definition)) {
                (Some(text), None) => Ok(text),
                (None, Some(path)) => {
                    let definition = definition.get_or_insert_with(|| serde_json::to_value(tcp).unwrap_or_default());
                    let found = look_up(definition, &path).filter(|found| !found.is_empty());
                    found.map(str::to_owned).ok_or(Failure::NotFound(path))
                }
                _ => Err(Failure::NoValue(field)),
            }
        };
        let groups = spec.groups.iter().enumerate();
        Ok(Self {
            user: resolve("spec.user".to_owned(), &spec.user)?,
            groups: groups
                .map(|(index, group)| resolve(format!("spec.groups[{index}]"), group))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The string at a path of names joined by dots.
fn look_up<'a>(definition: &'a Value, path: &str) -> Option<&'a str> {
    path.split('.').try_fold(definition, |at, name| at.get(name))?.as_str()
}

/// Name of the Secret of a generator for a control plane.
pub(super) fn secret_name(tcp: &TenantControlPlane, generator: &str) -> Result<String, Failure> {
    if SECRET_COMPONENTS.contains(&generator) || generator.starts_with("konnectivity-") {
        return Err(Failure::ReservedName(generator.to_owned()));
    }
    Ok(format!("{}-{generator}", tcp.name_any()))
}

/// What the kubeconfigs of a control plane are made of.
pub(super) struct Template {
    kubeconfig: Kubeconfig,
    authority: Authority,
    chain: String,
}

impl Template {
    /// Reads both from the Secrets of the control plane. `key` says which kubeconfig.
    pub(super) fn read(
        tcp: &TenantControlPlane,
        admin: Option<&Secret>,
        authority: Option<&Secret>,
        key: &str,
    ) -> Result<Self, Failure> {
        let ours = |secret: &&Secret| identity::ownership(tcp, &secret.metadata) == identity::Ownership::Ours;
        let data = |secret: Option<&'_ Secret>| secret.filter(ours).and_then(|secret| secret.data.clone());
        let kubeconfigs: Data = data(admin).ok_or(Failure::NoTemplate)?;
        let unknown = || Failure::NoSuchTemplate {
            secret: admin.map(ResourceExt::name_any).unwrap_or_default(),
            key: key.to_owned(),
        };
        let kubeconfig = text(&kubeconfigs, key).ok_or_else(unknown)?;
        let authority = data(authority).ok_or(Failure::NoAuthority)?;
        let signing = Signing::read(&authority, ("ca.crt", "ca.key")).ok_or(Failure::NoAuthority)?;
        Ok(Self {
            kubeconfig: Kubeconfig::parse(kubeconfig).map_err(|_| unknown())?,
            authority: Authority::from_pem(&signing.cert, &signing.key)?,
            chain: signing.chain,
        })
    }

    fn render(&self, generator: &str, client: KeyPair) -> Kubeconfig {
        Kubeconfig {
            user: generator.to_owned(),
            client,
            ..self.kubeconfig.clone()
        }
    }
}

/// What is to be stored, and until when it serves.
pub(super) struct Decision {
    pub(super) yaml: String,
    /// Why it is another one than what is there.
    pub(super) changed: Option<Reason>,
    /// When it has to be made anew.
    pub(super) renewal: Option<Timestamp>,
}

/// Decides about one kubeconfig. The certificate that is there is kept while it serves.
pub(super) fn decide(
    generator: &str,
    identity: &Identity,
    template: &Template,
    old: Option<&Secret>,
    clock: Clock,
) -> Result<Decision, Failure> {
    let judged = judge(identity, template, old, clock);
    let (client, mut changed) = match judged {
        Ok(client) => (client, None),
        Err(reason) => {
            let groups: Vec<&str> = identity.groups.iter().map(String::as_str).collect();
            let request = LeafRequest::client(&identity.user, &groups, clock.now);
            let mut client = template
                .authority
                .issue(&secrets::within(request, &template.authority))?;
            client.cert_pem.push_str(&template.chain);
            (client, Some(reason))
        }
    };
    let renewal = pki::inspect(&client.cert_pem).ok();
    let renewal = renewal.map(|info| info.renewal_at(clock.renewal_window));
    let wanted = template.render(generator, client).to_yaml_in(generator);
    let stored = old.and_then(|old| text(old.data.as_ref()?, VALUE));
    if changed.is_none() && stored.is_none_or(|stored| !secrets::alike(stored, &wanted)) {
        changed = Some(Reason::OtherServer);
    }
    Ok(Decision {
        yaml: wanted,
        changed,
        renewal,
    })
}

/// The client pair that is there, if it serves.
fn judge(identity: &Identity, template: &Template, old: Option<&Secret>, clock: Clock) -> Result<KeyPair, Reason> {
    let old = old.ok_or(Reason::Missing)?;
    if old.annotations().get(ROTATE_ANNOTATION).is_some_and(String::is_empty) {
        return Err(Reason::RotationRequested);
    }
    let unreadable = || Reason::Unreadable(VALUE.to_owned());
    let stored = old.data.as_ref().and_then(|data| text(data, VALUE));
    let client = Kubeconfig::parse(stored.ok_or_else(unreadable)?)
        .map_err(|_| unreadable())?
        .client;
    let authority = template.authority.cert_pem();
    secrets::judge_leaf(&client.cert_pem, &client.key_pem, authority, &identity.user, clock)?;
    let groups = pki::inspect(&client.cert_pem).map_err(|_| unreadable())?.organizations;
    let set = |groups: &[String]| groups.iter().cloned().collect::<BTreeSet<_>>();
    if set(&groups) != set(&identity.groups) {
        return Err(Reason::OtherSubject);
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(user: &Value, groups: &Value) -> KubeconfigGeneratorSpec {
        serde_json::from_value(json!({"user": user, "groups": groups})).unwrap()
    }

    #[test]
    fn a_user_is_a_text_or_stands_in_the_definition() {
        let tcp = crate::desired::tests::tcp();
        let rows = [
            (json!({"stringValue": "ops"}), Ok("ops")),
            (json!({"fromDefinition": "metadata.name"}), Ok("demo")),
            (json!({"fromDefinition": "spec.kubernetes.version"}), Ok("v1.36.3")),
            (
                json!({"fromDefinition": "metadata.nothing"}),
                Err("provided dot notation \"metadata.nothing\" is not found"),
            ),
            (
                json!({"fromDefinition": "spec.networkProfile.port"}),
                Err("provided dot notation \"spec.networkProfile.port\" is not found"),
            ),
            (
                json!({"fromDefinition": "."}),
                Err("provided dot notation \".\" is not found"),
            ),
            (
                json!({}),
                Err("spec.user: one of stringValue and fromDefinition must be set, and not be empty"),
            ),
            (
                json!({"stringValue": "a", "fromDefinition": "metadata.name"}),
                Err("spec.user: one of stringValue and fromDefinition must be set, and not be empty"),
            ),
        ];
        for (user, expected) in rows {
            let found = Identity::of(&spec(&user, &json!([])), &tcp).map(|identity| identity.user);
            let found = found.map_err(|failure| failure.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{user}");
        }
    }

    #[test]
    fn groups_name_their_place_when_they_are_missing() {
        let tcp = crate::desired::tests::tcp();
        let groups = json!([{"stringValue": "a"}, {"fromDefinition": "metadata.namespace"}]);
        let identity = Identity::of(&spec(&json!({"stringValue": "ops"}), &groups), &tcp).unwrap();
        assert_eq!(identity.groups, ["a", "default"]);
        let failure = Identity::of(&spec(&json!({"stringValue": "ops"}), &json!([{}])), &tcp).unwrap_err();
        assert!(failure.to_string().starts_with("spec.groups[0]: "), "{failure}");
    }

    #[test]
    fn a_generator_does_not_take_the_names_of_a_control_planes_own_secrets() {
        let tcp = crate::desired::tests::tcp();
        assert_eq!(secret_name(&tcp, "ops").unwrap(), "demo-ops");
        for reserved in ["ca", "admin-kubeconfig", "datastore-config", "konnectivity-certificate"] {
            assert!(secret_name(&tcp, reserved).is_err(), "{reserved}");
        }
    }
}
