//! The operator as Kamaji's manager is started: its flags, its environment, its defaults, its Lease.
//!
//! A Deployment that was written for the peer starts this program without an edit. A flag whose effect is not there is
//! accepted and named in one log line.

use std::path::PathBuf;

use clap::{ArgAction, Subcommand, builder::NonEmptyStringValueParser};
use ipnet::IpNet;

use crate::{
    control_planes,
    operator::{self, Component, Election},
    zap::Zap,
};

/// The Lease that the peer's leading replica holds. It is held beside our own, so that a peer that was forgotten cannot write.
const LEASE: &str = "kamaji.clastix.io";

#[derive(Debug, clap::Args)]
#[command(version)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator for hosted control planes.
    Manager(Box<Manager>),
}

impl Args {
    /// Runs until a signal, or until leadership is lost.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Manager(manager) => manager.run(),
        }
    }
}

#[derive(Debug, clap::Args)]
struct Manager {
    /// Namespace of the operator.
    #[arg(long, env = "POD_NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pod_namespace: String,
    /// ServiceAccount of the operator.
    #[arg(long, env = "SERVICE_ACCOUNT", value_parser = NonEmptyStringValueParser::new())]
    serviceaccount_name: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "kamaji")]
    pod_name: String,
    /// Work on this cluster from outside of it, for development.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,

    #[arg(long, default_value = ":8080")]
    metrics_bind_address: String,
    /// Where `/healthz` and `/readyz` answer.
    #[arg(long, default_value = ":8081")]
    health_probe_bind_address: String,
    /// The Lease is held in any case.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = ArgAction::Set)]
    leader_elect: bool,
    #[command(flatten)]
    election: Election,

    /// DataStore of control planes that name none; without it they wait until one is assigned.
    #[arg(long, default_value = "")]
    datastore: String,
    #[command(flatten)]
    control_planes: control_planes::Flags,
    /// As of `cotenant operator`.
    #[arg(long, value_delimiter = ',')]
    allowed_service_accounts: Vec<String>,
    /// As of `cotenant operator`.
    #[arg(long, value_delimiter = ',')]
    allowed_registries: Vec<String>,
    /// As of `cotenant operator`.
    #[arg(long, value_delimiter = ',')]
    allowed_hostnames: Vec<String>,
    /// As of `cotenant operator`.
    #[arg(long, value_delimiter = ',')]
    allowed_external_ips: Vec<IpNet>,
    /// As of `cotenant operator`.
    #[arg(long, value_delimiter = ',')]
    admin_networks: Vec<IpNet>,
    /// As of `cotenant operator`.
    #[arg(long, value_parser = operator::port_range, default_value = "30000-32767")]
    service_node_port_range: std::ops::RangeInclusive<i32>,
    /// As of `cotenant operator`.
    #[arg(long)]
    bundled_etcd: Option<String>,

    /// Service in front of the webhooks, on port 443.
    #[arg(long, default_value = "kamaji-webhook-service", value_parser = NonEmptyStringValueParser::new())]
    webhook_service_name: String,
    /// Where API servers reach the webhooks when not through the Service, as `https://host:port`; for development.
    #[arg(long)]
    webhook_url: Option<String>,
    #[arg(long, default_value_t = 9443)]
    webhook_port: u16,
    /// Secret of the webhooks' certificate. One without `ca.key` is somebody else's and is used as it is.
    #[arg(long, default_value = "kamaji-webhook-server-cert")]
    tls_secret_name: String,
    /// ClusterRole that webhook configurations end with.
    #[arg(long)]
    owner_cluster_role: Option<String>,

    #[command(flatten)]
    zap: Zap,
    #[command(flatten)]
    without_effect: WithoutEffect,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accepted, without effect")]
struct WithoutEffect {
    /// A profile is taken from outside, with the tools of the system.
    #[arg(long)]
    pprof_bind_address: Option<String>,
    /// Nothing is written to a disk.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tmp_directory: Option<String>,
    /// The certificate is read from its Secret.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    webhook_ca_path: Option<String>,
    /// Data is moved by the operator itself.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    migrate_image: Option<String>,
    /// Nothing is sent to anybody.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    disable_telemetry: Option<bool>,
}

impl WithoutEffect {
    fn given(&self) -> Vec<&'static str> {
        let texts = [
            ("pprof-bind-address", &self.pprof_bind_address),
            ("tmp-directory", &self.tmp_directory),
            ("webhook-ca-path", &self.webhook_ca_path),
            ("migrate-image", &self.migrate_image),
        ];
        let mut given: Vec<_> = texts
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name)
            .collect();
        // To ask for what is always so is no loss.
        if self.disable_telemetry == Some(false) {
            given.push("disable-telemetry=false");
        }
        given
    }
}

impl Manager {
    fn run(self) -> anyhow::Result<()> {
        let mut without_effect = self.without_effect.given();
        without_effect.extend(self.zap.without_effect());
        if !self.leader_elect {
            without_effect.push("leader-elect=false");
        }
        operator::run_with(self.into_operator(), move || {
            if !without_effect.is_empty() {
                tracing::info!(
                    flags = without_effect.join(", "),
                    "flags without effect here were given"
                );
            }
        })
    }

    fn into_operator(self) -> operator::Args {
        operator::Args {
            components: vec![Component::ControlPlanes],
            configuration_name: "default".to_owned(),
            datastore: Some(self.datastore).filter(|name| !name.is_empty()),
            control_planes: self.control_planes,
            allowed_service_accounts: self.allowed_service_accounts,
            allowed_registries: self.allowed_registries,
            allowed_hostnames: self.allowed_hostnames,
            allowed_external_ips: self.allowed_external_ips,
            service_node_port_range: self.service_node_port_range,
            admin_networks: self.admin_networks,
            bundled_etcd: self.bundled_etcd,
            webhook_service_name: self.webhook_service_name,
            webhook_service_port: 443,
            webhook_url: self.webhook_url,
            webhook_port: self.webhook_port,
            tls_secret_name: self.tls_secret_name,
            owner_cluster_role: self.owner_cluster_role,
            metrics_bind_address: self.metrics_bind_address,
            metrics_tls: None,
            health_probe_bind_address: self.health_probe_bind_address,
            pod_namespace: self.pod_namespace,
            leases: vec![operator::LEASE.to_owned(), LEASE.to_owned()],
            election: self.election,
            pod_name: self.pod_name,
            service_account: self.serviceaccount_name,
            kubeconfig: self.kubeconfig,
            log_filter: self.zap.filter(),
            log_format: self.zap.format(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::operator::LogFormat;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(flags: &[&str]) -> Result<Manager, clap::Error> {
        let pod = [
            "kamaji",
            "manager",
            "--pod-namespace=kamaji-system",
            "--serviceaccount-name=kamaji-controller-manager",
        ];
        let program = Program::try_parse_from(pod.iter().chain(flags))?;
        let Command::Manager(manager) = program.args.command;
        Ok(*manager)
    }

    #[test]
    fn without_flags_it_has_the_peers_names_and_ports() {
        let args = parsed(&[]).unwrap().into_operator();
        assert_eq!(args.components, [Component::ControlPlanes]);
        assert_eq!(args.datastore, None);
        assert_eq!(args.metrics_bind_address, ":8080");
        assert_eq!(args.health_probe_bind_address, ":8081");
        assert_eq!((args.webhook_port, args.webhook_service_port), (9443, 443));
        assert_eq!(args.webhook_service_name, "kamaji-webhook-service");
        assert_eq!(args.tls_secret_name, "kamaji-webhook-server-cert");
        assert_eq!(args.pod_namespace, "kamaji-system");
        assert_eq!(args.service_account, "kamaji-controller-manager");
        assert_eq!(args.leases, ["cotenant", "kamaji.clastix.io"]);
        assert_eq!(args.log_filter, "info");
        assert!(parsed(&[]).unwrap().leader_elect);
    }

    #[test]
    fn every_flag_of_the_peer_is_taken() {
        let every = [
            "--metrics-bind-address=:8181",
            "--health-probe-bind-address=127.0.0.1:8282",
            "--pprof-bind-address=:6060",
            "--leader-elect=false",
            "--tmp-directory=/tmp/kamaji",
            "--kine-image=rancher/kine:v0.11.10-amd64",
            "--datastore=main",
            "--migrate-image=mirror.example/kamaji:1",
            "--max-concurrent-tcp-reconciles=7",
            "--webhook-service-name=own-webhook-service",
            "--webhook-ca-path=/tmp/k8s-webhook-server/serving-certs/ca.crt",
            "--controller-reconcile-timeout=45s",
            "--cache-resync-period=1h",
            "--disable-telemetry",
            "--certificate-expiration-deadline=72h",
            "--zap-devel",
            "--zap-encoder=json",
            "--zap-log-level=error",
            "--zap-stacktrace-level=panic",
            "--zap-time-encoding=iso8601",
        ];
        let manager = parsed(&every).unwrap();
        assert!(!manager.leader_elect);
        assert_eq!(
            manager.without_effect.given(),
            [
                "pprof-bind-address",
                "tmp-directory",
                "webhook-ca-path",
                "migrate-image"
            ]
        );
        let args = manager.into_operator();
        assert_eq!(args.metrics_bind_address, ":8181");
        assert_eq!(args.health_probe_bind_address, "127.0.0.1:8282");
        assert_eq!(args.datastore.as_deref(), Some("main"));
        assert_eq!(args.webhook_service_name, "own-webhook-service");
        assert_eq!(args.log_filter, "error");
        assert!(matches!(args.log_format, LogFormat::Json));
        let settings = args.control_planes.settings();
        assert_eq!(settings.kine_image, "rancher/kine:v0.11.10-amd64");
        assert_eq!(settings.concurrency, 7);
        assert_eq!(settings.pass_within, Duration::from_secs(45));
        assert_eq!(settings.resync, Duration::from_hours(1));
        assert_eq!(settings.renewal_window, jiff::SignedDuration::from_hours(72));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for flag in [
            "--certificate-expiration-deadline=12h",
            "--controller-reconcile-timeout=0s",
            "--webhook-service-name=",
            "--tmp-directory=",
            "--migrate-image=",
            "--webhook-ca-path=",
            "--leader-elect=perhaps",
            "--zap-log-level=loud",
            "--no-such-flag",
        ] {
            assert!(parsed(&[flag]).is_err(), "{flag}");
        }
        for missing in ["--pod-namespace=", "--serviceaccount-name="] {
            let line = [
                "kamaji",
                "manager",
                "--pod-namespace=a",
                "--serviceaccount-name=b",
                missing,
            ];
            assert!(Program::try_parse_from(line).is_err(), "{missing}");
        }
    }
}
