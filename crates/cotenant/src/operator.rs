//! The operator: shared watches, admission on every replica, controllers on the one that leads.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use control_plane_controller::bundled_etcd::{self, BundledEtcd};
use ipnet::IpNet;
use jiff::SignedDuration;
use kube::{Client, Config};
use runtime::{
    Shutdown, admin, controller,
    events::Recorder,
    lease::{self, Leader},
    metrics::Registry,
    telemetry, tls,
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

use crate::{control_planes, watches::Watches};

/// The Lease that the leading replica holds, before any other.
pub(crate) const LEASE: &str = "cotenant";
/// What API servers give to Services on nodes unless told otherwise.
pub(crate) const SERVICE_NODE_PORTS: RangeInclusive<i32> = 30000..=32767;
const USER_AGENT: &str = concat!("cotenant/", env!("CARGO_PKG_VERSION"));

/// Which half of the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Component {
    NamespaceTenants,
    ControlPlanes,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which halves run.
    #[arg(long, value_delimiter = ',', default_value = "namespace-tenants,control-planes")]
    pub(crate) components: Vec<Component>,
    /// Name of the CapsuleConfiguration to obey.
    #[arg(long, default_value = "default")]
    pub(crate) configuration_name: String,
    /// DataStore of control planes that name none; without it they wait until one is assigned.
    #[arg(long)]
    pub(crate) datastore: Option<String>,
    /// Service accounts, beside `default`, that authors may run control planes as.
    #[arg(long, value_delimiter = ',')]
    pub(crate) allowed_service_accounts: Vec<String>,
    /// What the image registries that authors name have to begin with; none allows any.
    #[arg(long, value_delimiter = ',')]
    pub(crate) allowed_registries: Vec<String>,
    /// Names that authors may have control planes reached by, as `api.oil.example` or `*.oil.example`; none allows any.
    #[arg(long, value_delimiter = ',')]
    pub(crate) allowed_hostnames: Vec<String>,
    /// Addresses, as ranges, that authors may have nodes of the admin cluster answer to with `allowAddressAsExternalIP`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) allowed_external_ips: Vec<IpNet>,
    /// Ports that API servers of the admin cluster give to Services on nodes, as their flag of this name says.
    #[arg(long, value_parser = port_range, default_value = "30000-32767")]
    pub(crate) service_node_port_range: RangeInclusive<i32>,
    /// Networks of the admin cluster, beside those of its Nodes and Services, to keep out of reach of hosted control planes.
    #[arg(long, value_delimiter = ',')]
    pub(crate) admin_networks: Vec<IpNet>,
    /// Name of the bundled etcd to keep certificates and the root user for.
    #[arg(long)]
    pub(crate) bundled_etcd: Option<String>,
    #[command(flatten)]
    pub(crate) control_planes: control_planes::Flags,
    /// Service in front of the webhooks.
    #[arg(long, default_value = "cotenant-webhook-service")]
    pub(crate) webhook_service_name: String,
    /// Where API servers reach the webhooks when not through the Service, as `https://host:port`; for development.
    #[arg(long)]
    pub(crate) webhook_url: Option<String>,
    /// Its port.
    #[arg(long, default_value_t = 443)]
    pub(crate) webhook_service_port: u16,
    #[arg(long, default_value_t = 9443)]
    pub(crate) webhook_port: u16,
    /// Secret of the webhooks' certificate, where the CapsuleConfiguration names none or is not there.
    #[arg(long, default_value = settings::TLS_SECRET)]
    pub(crate) tls_secret_name: String,
    /// ClusterRole that webhook configurations and admission policies end with, so that they go with the release that it is
    /// of; without it they end with the CapsuleConfiguration.
    #[arg(long)]
    pub(crate) owner_cluster_role: Option<String>,
    #[arg(long, default_value = ":8080")]
    pub(crate) metrics_bind_address: String,
    /// The certificate to serve metrics with; without it they are served in the clear.
    #[arg(skip)]
    pub(crate) metrics_tls: Option<tls::Files>,
    #[arg(long, default_value = ":8081")]
    pub(crate) health_probe_bind_address: String,
    /// Namespace that the operator runs in; its Lease and its certificate lie there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "cotenant-system")]
    pub(crate) pod_namespace: String,
    /// Leases that the leading replica holds, as `name` or `namespace/name`, in the order in which they are taken. Those of a
    /// program that must not run beside this one can be among them.
    #[arg(long, value_delimiter = ',', default_value = LEASE)]
    pub(crate) leases: Vec<String>,
    #[command(flatten)]
    pub(crate) election: Election,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "cotenant")]
    pub(crate) pod_name: String,
    /// ServiceAccount that the operator runs as.
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "cotenant")]
    pub(crate) service_account: String,
    /// Work on this cluster from outside of it, for development.
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Directives of the log filter.
    #[arg(long, default_value = "info")]
    pub(crate) log_filter: String,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How patient replicas are with the one that leads. Go's notation of durations.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Election {
    /// How long a Lease that is not renewed keeps others waiting.
    #[arg(long = "leader-election-lease-duration", value_parser = duration, default_value = "15s")]
    pub(crate) lease_duration: Duration,
    /// How long the leader goes on without renewing; less than the above.
    #[arg(long = "leader-election-renew-deadline", value_parser = duration, default_value = "10s")]
    pub(crate) renew_deadline: Duration,
    /// Between two tries; less than the above.
    #[arg(long = "leader-election-retry-period", value_parser = duration, default_value = "2s")]
    pub(crate) retry_period: Duration,
}

impl Election {
    fn check(&self) -> anyhow::Result<()> {
        let (lease, renew, retry) = (self.lease_duration, self.renew_deadline, self.retry_period);
        // Leases count in whole seconds.
        if !(Duration::ZERO < retry && retry < renew && renew < Duration::from_secs(lease.as_secs())) {
            bail!(
                "--leader-election-lease-duration, -renew-deadline and -retry-period are {lease:?}, {renew:?} and {retry:?}; \
                 each has to be longer than the next, and the first is counted in whole seconds"
            );
        }
        Ok(())
    }
}

/// `15s`, `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "a duration is a number with a unit, like 15s, 1m30s or 500ms".to_owned())
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
            hostnames: self.allowed_hostnames.clone(),
            external_ips: self.allowed_external_ips.clone(),
        }
    }
}

/// Runs until a signal, or until leadership is lost.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    run_with(args, || ())
}

/// The same, and does `first` as soon as there is a log.
pub(crate) fn run_with(args: Args, first: impl FnOnce()) -> anyhow::Result<()> {
    let format = match args.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &args.log_filter);
    first();
    // Two threads: admission must answer while a reconcile renders, and more would only hold memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(operate(args))
}

async fn operate(args: Args) -> anyhow::Result<()> {
    args.election.check()?;
    let shutdown = Shutdown::on_signals().context("failed to listen for signals")?;
    let config = runtime::client::configure(args.kubeconfig.as_deref()).await?;
    let client = runtime::client::build(config.clone(), USER_AGENT)?;
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
                custom_quotas: watches.custom_quotas.clone(),
                global_custom_quotas: watches.global_custom_quotas.clone(),
                global_resource_quotas: watches.global_resource_quotas.clone(),
                quantity_ledgers: watches.quantity_ledgers.clone(),
                pools: watches.pools.clone(),
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
        args.metrics_tls.clone(),
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

    let led = lead(&args, (&config, &client), &watches, &webhooks, &registry, &shutdown).await;
    shutdown.trigger();
    admission.await.context("admission panicked")??;
    admin.await.context("the admin server panicked")??;
    led
}

/// `30000-32767`, as API servers take it.
pub(crate) fn port_range(text: &str) -> Result<RangeInclusive<i32>, String> {
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
                port: i32::from(args.webhook_service_port),
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
    (config, client): (&Config, &Client),
    watches: &Watches,
    webhooks: &Webhooks,
    registry: &Registry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let names: Vec<&str> = args.leases.iter().map(String::as_str).collect();
    let patience = lease::Config {
        duration: args.election.lease_duration,
        renew_deadline: args.election.renew_deadline,
        retry: args.election.retry_period,
        ..lease::Config::new(&args.pod_namespace, &names, lease::identity(&args.pod_name))
    };
    let Some(leader) = Leader::acquire(client, patience, shutdown).await else {
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
        config,
        registry,
        metrics: controller::Metrics::register(registry),
        recorder: recorder(args, client, watches),
        term: term.clone(),
        running: JoinSet::new(),
    };
    controllers.configurations(webhooks);
    controllers.namespace_tenants(args, watches);
    controllers.quotas(args, watches);
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

/// Events about what is in no namespace are where the configuration says.
fn recorder(args: &Args, client: &Client, watches: &Watches) -> Recorder {
    let recorder = Recorder::new(client.clone(), "cotenant", Some(&args.pod_name));
    let Some(watches) = &watches.namespace_tenants else {
        return recorder;
    };
    let (configurations, name) = (watches.configurations.clone(), args.configuration_name.clone());
    recorder.with_home(move || Some(configurations.get(None, &name)?.spec.events.namespace.clone()))
}

/// What runs while this replica leads.
struct Controllers<'a> {
    client: &'a Client,
    /// What that client was made of.
    config: &'a Config,
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
            namespace: args.pod_namespace.clone(),
            configuration_name: args.configuration_name.clone(),
            configuration_grace: tenant_controller::CONFIGURATION_GRACE,
            tls_secret: args.tls_secret_name.clone(),
            tenants: watches.tenants,
            tenant_owners: watches.tenant_owners,
            namespaces: watches.namespaces,
            configurations: watches.configurations,
            quantity_ledgers: watches.quantity_ledgers,
            classes: watches.classes,
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            shutdown: self.term.clone(),
        };
        self.running
            .spawn(async move { tenant_controller::run(context).await.context("namespace tenants") });
    }

    fn quotas(&mut self, args: &Args, watches: &Watches) {
        let Some(watches) = &watches.namespace_tenants else {
            return;
        };
        let context = quota_controller::Context {
            client: self.client.clone(),
            namespace: args.pod_namespace.clone(),
            namespaces: watches.namespaces.clone(),
            custom_quotas: watches.custom_quotas.clone(),
            global_custom_quotas: watches.global_custom_quotas.clone(),
            quantity_ledgers: watches.quantity_ledgers.clone(),
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
            config: self.config.clone(),
            namespace: args.pod_namespace.clone(),
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
        let namespaces = watches.namespace_tenants.as_ref().map(|of| of.namespaces.clone());
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
            ..args.control_planes.settings()
        };
        let (recorder, registry) = (self.recorder.clone(), self.registry.clone());
        let watches = control_plane_controller::Watches::new(
            &client,
            watches.planes,
            watches.datastores,
            watches.services,
            control_plane_controller::Watches::nodes(&client, &term),
            namespaces.unwrap_or_else(|| control_plane_controller::Watches::namespaces(&client, &term)),
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
