//! The flags that the operator of a cluster runs with, read from its Deployment: what it decides depends on them.

use std::str::FromStr;

use anyhow::Context;
use control_plane_controller::Settings;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Client, api::Api, api::ListParams};

/// Label of the operator's Deployment, in whichever namespace and under whichever name it was released.
const OPERATOR: &str = "app.kubernetes.io/name=cotenant,app.kubernetes.io/component=operator";

/// Flags as written: `--name=value`, or `--name` and `value`. Empty where there is no operator in the cluster, or where the
/// Deployment may not be read; then all is taken to be as without flags.
#[derive(Debug, Default)]
pub(crate) struct OperatorFlags(Vec<String>);

impl OperatorFlags {
    /// Reads them. `None` when no Deployment was found, which a person should hear about.
    pub(crate) async fn read(client: &Client) -> Option<Self> {
        let operators = Api::<Deployment>::all(client.clone());
        let found = operators.list(&ListParams::default().labels(OPERATOR)).await.ok()?;
        found.items.first().map(Self::of)
    }

    fn of(deployment: &Deployment) -> Self {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let containers = pod.into_iter().flat_map(|pod| &pod.containers);
        let mut operator = containers
            .filter_map(|container| container.args.as_ref())
            .filter(|args| args.first().is_some_and(|command| command == "operator"));
        Self(operator.next().cloned().unwrap_or_default())
    }

    /// The value of a flag; of several, the last.
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().enumerate().rev().find_map(|(at, arg)| {
            let rest = arg.strip_prefix("--")?.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value),
                None if rest.is_empty() => self.0.get(at + 1).map(String::as_str),
                None => None,
            }
        })
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.value(name).into_iter().flat_map(|value| value.split(','));
        values.filter(|value| !value.is_empty())
    }

    fn networks<N>(&self, name: &str) -> anyhow::Result<Vec<N>>
    where
        N: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let parsed = self.list(name).map(|network| {
            network
                .parse()
                .with_context(|| format!("the operator's --{name} has {network:?}, which is not a network"))
        });
        parsed.collect()
    }

    /// Name of the CapsuleConfiguration that the operator obeys.
    pub(crate) fn configuration_name(&self) -> &str {
        self.value("configuration-name")
            .unwrap_or(api::capsule::names::DEFAULT_CONFIGURATION)
    }

    /// What its decisions about control planes depend on.
    ///
    /// # Errors
    /// When a value does not read, which an operator would not start with.
    pub(crate) fn control_planes(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings {
            default_datastore: self.value("datastore").map(str::to_owned),
            ..Settings::default()
        };
        settings.trust.service_accounts = self.list("allowed-service-accounts").map(str::to_owned).collect();
        settings.trust.registries = self.list("allowed-registries").map(str::to_owned).collect();
        settings.admin_networks = self.networks("admin-networks")?;
        settings.trust.hostnames = self.list("allowed-hostnames").map(str::to_owned).collect();
        settings.trust.external_ips = self.networks("allowed-external-ips")?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn flags(args: &Value) -> OperatorFlags {
        let deployment = json!({"metadata": {"name": "cotenant"}, "spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "sidecar", "args": ["--datastore=theirs"]}, {"name": "manager", "args": args}]}}}});
        OperatorFlags::of(&serde_json::from_value(deployment).unwrap())
    }

    #[test]
    fn flags_are_read_as_the_operator_reads_them() {
        let flags = flags(&json!([
            "operator",
            "--datastores=no",
            "--datastore=first",
            "--datastore",
            "default",
            "--allowed-registries=mirror.local,other.local",
            "--admin-networks=10.0.0.0/8,fd00::/8",
            "--configuration-name=mine",
            "--allowed-service-accounts=hosted",
            "--allowed-hostnames=*.oil.example",
            "--allowed-external-ips=192.0.2.0/24"
        ]));
        assert_eq!(flags.configuration_name(), "mine");
        let settings = flags.control_planes().unwrap();
        assert_eq!(settings.default_datastore.as_deref(), Some("default"));
        assert_eq!(settings.trust.registries, ["mirror.local", "other.local"]);
        assert!(settings.trust.service_accounts.contains("hosted"));
        assert_eq!(settings.trust.hostnames, ["*.oil.example"]);
        assert_eq!(settings.trust.external_ips[0].to_string(), "192.0.2.0/24");
        let networks: Vec<_> = settings.admin_networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "fd00::/8"]);
    }

    #[test]
    fn without_flags_all_is_at_its_defaults() {
        let flags = flags(&json!(["operator"]));
        assert_eq!(flags.configuration_name(), "default");
        let settings = flags.control_planes().unwrap();
        assert_eq!(
            (settings.default_datastore, settings.admin_networks),
            (None, Vec::new())
        );
    }

    #[test]
    fn a_network_that_is_none_is_said() {
        let error = flags(&json!(["operator", "--admin-networks=10.0.0"]))
            .control_planes()
            .unwrap_err();
        assert!(error.to_string().contains("10.0.0"), "{error}");
    }
}
