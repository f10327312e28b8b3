//! The operator: shared watches, admission on every replica, controllers on the one that leads.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use control_plane_controller::bundled_etcd::{self, BundledEtcd};
use ipnet::IpNet;
use kube::Client;
use runtime::{
    Shutdown, admin, controller,
    events::Recorder,
    lease::{self, Leader},
    metrics::Registry,
    telemetry,
};
use tenancy::control_plane::deputy::Trust;
use tokio::task::JoinSet;
use webhooks::{
    NotReady, Webhooks,
    configurations::Endpoint,
    node_ports::NodePorts,
    rule,
    settings::{self, Identity},
    view,
};

use crate::watches::Watches;

/// The Lease that the leading replica holds.
const LEASE: &str = "cotenant";
const USER_AGENT: &str = concat!("cotenant/", env!("CARGO_PKG_VERSION"));

/// Which half of the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Component {
    NamespaceTenants,
    ControlPlanes,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which halves run.
    #[arg(long, value_delimiter = ',', default_value = "namespace-tenants,control-planes")]
    components: Vec<Component>,
    /// Name of the CapsuleConfiguration to obey.
    #[arg(long, default_value = "default")]
    configuration_name: String,
    /// DataStore of control planes that name none; without it they wait until one is assigned.
    #[arg(long)]
    datastore: Option<String>,
    /// Service accounts, beside `default`, that authors may run control planes as.
    #[arg(long, value_delimiter = ',')]
    allowed_service_accounts: Vec<String>,
    /// What the image registries that authors name have to begin with; none allows any.
    #[arg(long, value_delimiter = ',')]
    allowed_registries: Vec<String>,
    /// Ports that API servers of the admin cluster give to Services on nodes, as their flag of this name says.
    #[arg(long, value_parser = port_range, default_value = "30000-32767")]
    service_node_port_range: RangeInclusive<i32>,
    /// Networks of the admin cluster, beside those of its Nodes and Services, to keep out of reach of hosted control planes.
    #[arg(long, value_delimiter = ',')]
    admin_networks: Vec<IpNet>,
    /// Name of the bundled etcd to keep certificates and the root user for.
    #[arg(long)]
    bundled_etcd: Option<String>,
    /// Service in front of the webhooks.
    #[arg(long, default_value = "cotenant-webhook-service")]
    webhook_service_name: String,
    /// Where API servers reach the webhooks when not through the Service, as `https://host:port`; for development.
    #[arg(long)]
    webhook_url: Option<String>,
    #[arg(long, default_value_t = 9443)]
    webhook_port: u16,
    /// Secret of the webhooks' certificate, where the CapsuleConfiguration names none or is not there.
    #[arg(long, default_value = settings::TLS_SECRET)]
    tls_secret_name: String,
    /// ClusterRole that webhook configurations and admission policies end with, so that they go with the release that it is
    /// of; without it they end with the CapsuleConfiguration.
    #[arg(long)]
    owner_cluster_role: Option<String>,
    #[arg(long, default_value = ":8080")]
    metrics_bind_address: String,
    #[arg(long, default_value = ":8081")]
    health_probe_bind_address: String,
    /// Namespace that the operator runs in; its Lease and its certificate lie there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "cotenant-system")]
    pod_namespace: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "cotenant")]
    pod_name: String,
    /// ServiceAccount that the operator runs as.
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "cotenant")]
    service_account: String,
    /// Work on this cluster from outside of it, for development.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Directives of the log filter.
    #[arg(long, default_value = "info")]
    log_filter: String,
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl Args {
    fn runs(&self, component: Component) -> bool {
        self.components.contains(&component)
    }

    /// What authors of control planes may have; admission and the controller go by the same.
    fn trust(&self) -> Trust {
        Trust {
            service_accounts: self.allowed_service_accounts.iter().cloned().collect(),
            registries: self.allowed_registries.clone(),
        }
    }
}

/// Runs until a signal, or until leadership is lost.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let format = match args.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &args.log_filter);
    // Two threads: admission must answer while a reconcile renders, and more would only hold memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(operate(args))
}

async fn operate(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("failed to listen for signals")?;
    let client = runtime::client::connect(args.kubeconfig.as_deref(), USER_AGENT).await?;
    let (registry, health) = (Registry::new(), admin::Health::new());
    let tenants = args.runs(Component::NamespaceTenants);
    let watches = Watches::start(&client, tenants, args.runs(Component::ControlPlanes), &shutdown);

    let webhooks = Webhooks::start(webhooks::Context {
        client: client.clone(),
        identity: identity(&args),
        namespace_tenants: watches
            .namespace_tenants
            .as_ref()
            .map(|watches| view::NamespaceTenants {
                tenants: watches.tenants.clone(),
                tenant_owners: watches.tenant_owners.clone(),
                namespaces: watches.namespaces.clone(),
                configurations: watches.configurations.clone(),
                configuration_name: args.configuration_name.clone(),
                storage_classes: watches.classes.storage.clone(),
                ingress_classes: watches.ingress_classes.clone(),
                tenant_resources: watches.tenant_resources.clone(),
                global_tenant_resources: watches.global_tenant_resources.clone(),
                priority_classes: watches.classes.priority.clone(),
                runtime_classes: watches.classes.runtime.clone(),
            }),
        control_planes: watches.control_planes.as_ref().map(|watches| view::ControlPlanes {
            control_planes: watches.planes.clone(),
            data_stores: watches.datastores.clone(),
            node_ports: NodePorts::of(&watches.services),
            default_data_store: args.datastore.clone(),
            node_port_range: args.service_node_port_range.clone(),
            trust: args.trust(),
        }),
        registry: registry.clone(),
        shutdown: shutdown.clone(),
    });
    // Each reason by itself, so that the probe's answer names the one that holds.
    for reason in NotReady::ALL {
        let webhooks = webhooks.clone();
        health.require(reason.to_string(), move || webhooks.ready() != Err(reason));
    }

    let metrics = admin::parse_address(&args.metrics_bind_address)?;
    let probes = admin::parse_address(&args.health_probe_bind_address)?;
    let admin = tokio::spawn(admin::serve(
        metrics,
        probes,
        registry.clone(),
        health,
        shutdown.clone(),
    ));
    let admission = tokio::spawn({
        let (webhooks, shutdown) = (webhooks.clone(), shutdown.clone());
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, args.webhook_port));
        async move {
            let served = webhooks.serve(address).await;
            // A replica that answers probes but not reviews is worse than none.
            shutdown.trigger();
            served
        }
    });

    let led = lead(&args, &client, &watches, &webhooks, &registry, &shutdown).await;
    shutdown.trigger();
    admission.await.context("admission panicked")??;
    admin.await.context("the admin server panicked")??;
    led
}

/// `30000-32767`, as API servers take it.
fn port_range(text: &str) -> Result<RangeInclusive<i32>, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (first > 0 && first <= last).then(|| i32::from(first)..=i32::from(last))
    });
    range.ok_or_else(|| "a range is two ports between 1 and 65535, like 30000-32767".to_owned())
}

fn identity(args: &Args) -> Identity {
    let component = |component: &Component| match component {
        Component::NamespaceTenants => rule::Component::NamespaceTenants,
        Component::ControlPlanes => rule::Component::ControlPlanes,
    };
    Identity {
        namespace: args.pod_namespace.clone(),
        service_account: args.service_account.clone(),
        endpoint: match &args.webhook_url {
            Some(url) => Endpoint::Url(url.clone()),
            None => Endpoint::Service {
                name: args.webhook_service_name.clone(),
                namespace: args.pod_namespace.clone(),
                port: 443,
                prefix: String::new(),
            },
        },
        tls_secret: args.tls_secret_name.clone(),
        owner_cluster_role: args.owner_cluster_role.clone(),
        components: args.components.iter().map(component).collect(),
    }
}

/// Waits for the Lease, then runs the controllers until the end.
async fn lead(
    args: &Args,
    client: &Client,
    watches: &Watches,
    webhooks: &Webhooks,
    registry: &Registry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let config = lease::Config::new(&args.pod_namespace, &[LEASE], lease::identity(&args.pod_name));
    let Some(leader) = Leader::acquire(client, config, shutdown).await else {
        return Ok(());
    };
    // The controllers end with the process and with leadership, whichever is first.
    let term = shutdown.child();
    tokio::spawn({
        let (lost, term) = (leader.lost().clone(), term.clone());
        async move {
            lost.cancelled().await;
            term.trigger();
        }
    });
    let mut controllers = Controllers {
        client,
        registry,
        metrics: controller::Metrics::register(registry),
        recorder: Recorder::new(client.clone(), "cotenant", Some(&args.pod_name)),
        term: term.clone(),
        running: JoinSet::new(),
    };
    controllers.configurations(webhooks);
    controllers.namespace_tenants(args, watches);
    controllers.quotas(watches);
    controllers.replications(args, watches);
    controllers.control_planes(args, watches);

    let mut outcome = Ok(());
    while let Some(ended) = controllers.running.join_next().await {
        let ended = ended.context("a controller panicked").and_then(|result| result);
        // Watches that end because the process does are no failure.
        if !term.is_triggered() {
            outcome = outcome.and(ended);
        }
        // They end together: with the term, or because one of them cannot go on.
        term.trigger();
    }
    if leader.lost().is_triggered() {
        bail!("another replica leads now");
    }
    leader.release().await;
    outcome
}

/// What runs while this replica leads.
struct Controllers<'a> {
    client: &'a Client,
    registry: &'a Registry,
    metrics: controller::Metrics,
    recorder: Recorder,
    term: Shutdown,
    running: JoinSet<anyhow::Result<()>>,
}

impl Controllers<'_> {
    fn configurations(&mut self, webhooks: &Webhooks) {
        let (webhooks, term) = (webhooks.clone(), self.term.clone());
        self.running.spawn(async move {
            webhooks.keep_configurations(&term).await;
            Ok(())
        });
    }

    fn namespace_tenants(&mut self, args: &Args, watches: &Watches) {
        let Some(watches) = watches.namespace_tenants.clone() else {
            return;
        };
        let context = tenant_controller::Context {
            client: self.client.clone(),
            configuration_name: args.configuration_name.clone(),
            configuration_grace: tenant_controller::CONFIGURATION_GRACE,
            tls_secret: args.tls_secret_name.clone(),
            tenants: watches.tenants,
            tenant_owners: watches.tenant_owners,
            namespaces: watches.namespaces,
            configurations: watches.configurations,
            classes: watches.classes,
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            shutdown: self.term.clone(),
        };
        self.running
            .spawn(async move { tenant_controller::run(context).await.context("namespace tenants") });
    }

    fn quotas(&mut self, watches: &Watches) {
        let Some(watches) = &watches.namespace_tenants else {
            return;
        };
        let context = quota_controller::Context {
            client: self.client.clone(),
            namespaces: watches.namespaces.clone(),
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            shutdown: self.term.clone(),
        };
        self.running
            .spawn(async move { quota_controller::run(context).await.context("quotas") });
    }

    fn replications(&mut self, args: &Args, watches: &Watches) {
        let Some(watches) = watches.namespace_tenants.clone() else {
            return;
        };
        let context = replication_controller::Context {
            client: self.client.clone(),
            configuration_name: args.configuration_name.clone(),
            tenants: watches.tenants,
            namespaces: watches.namespaces,
            configurations: watches.configurations,
            tenant_resources: watches.tenant_resources,
            global_tenant_resources: watches.global_tenant_resources,
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.term.clone(),
        };
        self.running
            .spawn(async move { replication_controller::run(context).await.context("replications") });
    }

    fn control_planes(&mut self, args: &Args, watches: &Watches) {
        let Some(watches) = watches.control_planes.clone() else {
            return;
        };
        let (client, metrics, term) = (self.client.clone(), self.metrics.clone(), self.term.clone());
        if let Some(name) = args.bundled_etcd.clone() {
            let etcd = BundledEtcd {
                name,
                namespace: args.pod_namespace.clone(),
            };
            let (client, term) = (client.clone(), term.clone());
            self.running.spawn(async move {
                bundled_etcd::keep(client, etcd, term).await;
                Ok(())
            });
        }
        let settings = control_plane_controller::Settings {
            default_datastore: args.datastore.clone(),
            admin_networks: args.admin_networks.clone(),
            trust: args.trust(),
            ..Default::default()
        };
        let (recorder, registry) = (self.recorder.clone(), self.registry.clone());
        let watches = control_plane_controller::Watches::new(
            &client,
            watches.planes,
            watches.datastores,
            watches.services,
            control_plane_controller::Watches::nodes(&client, &term),
            &term,
        );
        self.running.spawn(async move {
            control_plane_controller::run(client, watches, recorder, settings, &registry, &metrics, term)
                .await
                .context("control planes")
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Operator {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &[&str]) -> Result<Args, clap::Error> {
        Operator::try_parse_from(["operator"].iter().chain(flags)).map(|operator| operator.args)
    }

    #[test]
    fn without_flags_nothing_belongs_to_a_release() {
        let args = args(&[]).unwrap();
        assert_eq!(args.service_node_port_range, 30000..=32767);
        assert_eq!(args.admin_networks, []);
        let identity = identity(&args);
        assert_eq!(
            (identity.tls_secret.as_str(), identity.owner_cluster_role),
            ("capsule-tls", None)
        );
    }

    #[test]
    fn networks_and_ports_of_the_admin_cluster_are_read_or_refused() {
        let args = |flag: &str| args(&[flag]);
        let networks = args("--admin-networks=10.0.0.0/8,fd00::/8").unwrap().admin_networks;
        assert_eq!(
            networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "fd00::/8"]
        );
        let ports = args("--service-node-port-range=1000-1000").unwrap();
        assert_eq!(ports.service_node_port_range, 1000..=1000);
        for bad in [
            "--admin-networks=10.0.0.1.2/8",
            "--service-node-port-range=30000",
            "--service-node-port-range=2-1",
            "--service-node-port-range=0-9",
            "--service-node-port-range=1-65536",
        ] {
            assert!(args(bad).is_err(), "{bad}");
        }
    }
}
