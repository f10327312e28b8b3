//! The operator as Capsule's manager is started: its flags, its environment, its defaults, its Lease.
//!
//! A Deployment or a unit file that was written for the peer starts this program without an edit. A flag whose effect is not
//! there is accepted and named in one log line.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::ArgAction;
use runtime::tls;

use crate::{
    control_planes,
    operator::{self, Component, Election},
    zap::Zap,
};

/// The Lease that the peer's leading replica holds. It is held beside our own, so that a peer that was forgotten cannot write.
const LEASE: &str = "42c733ea.clastix.capsule.io";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Namespace of the operator (environment: NAMESPACE).
    #[arg(long, env = "NAMESPACE")]
    namespace: Option<String>,
    /// ServiceAccount of the operator (environment: `SERVICE_ACCOUNT`).
    #[arg(long, env = "SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "capsule")]
    pod_name: String,
    /// Work on this cluster from outside of it, for development.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,

    /// Name of the CapsuleConfiguration to obey.
    #[arg(long, default_value = "default")]
    configuration_name: String,
    #[arg(long, default_value = ":8080")]
    metrics_addr: String,
    /// Where `/healthz` and `/readyz` answer.
    #[arg(long, default_value = ":10080")]
    health_probe_bind_address: String,
    /// Serve metrics with TLS, with the certificate in the files below. They are read at each connection.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    metrics_secure: bool,
    /// Folder of the two files.
    #[arg(long, default_value = "")]
    metrics_cert_path: String,
    #[arg(long, default_value = "tls.crt")]
    metrics_cert_name: PathBuf,
    #[arg(long, default_value = "tls.key")]
    metrics_cert_key: PathBuf,
    #[arg(long, default_value_t = 9443)]
    webhook_port: u16,
    /// Service in front of the webhooks, where the CapsuleConfiguration names none.
    #[arg(long, default_value = "capsule-webhook-service")]
    webhook_service_name: String,
    /// Its port.
    #[arg(long, default_value_t = 9443)]
    webhook_service_port: u16,
    /// Secret of the webhooks' certificate, where the CapsuleConfiguration names none or is not there.
    #[arg(long, default_value = webhooks::settings::TLS_SECRET)]
    tls_secret_name: String,
    /// ClusterRole that webhook configurations and admission policies end with; without it they end with the
    /// CapsuleConfiguration.
    #[arg(long)]
    owner_cluster_role: Option<String>,

    /// The Lease is held in any case.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    enable_leader_election: bool,
    /// Zero: 15s.
    #[arg(long, value_parser = duration_or_zero, default_value = "0")]
    leader_election_lease_duration: Duration,
    /// Zero: 10s.
    #[arg(long, value_parser = duration_or_zero, default_value = "0")]
    leader_election_renew_deadline: Duration,
    /// Zero: 2s.
    #[arg(long, value_parser = duration_or_zero, default_value = "0")]
    leader_election_retry_period: Duration,

    #[command(flatten)]
    zap: Zap,

    /// Print the version and end.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    version: bool,
    #[command(flatten)]
    without_effect: WithoutEffect,
}

/// Accepted, checked for nothing.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Accepted, without effect")]
struct WithoutEffect {
    /// Each controller has a number of workers of its own.
    #[arg(long)]
    workers: Option<String>,
    /// The operator is not ready until it knows everything, however long that takes.
    #[arg(long)]
    cache_sync_timeout: Option<String>,
    /// Requests are not throttled here; the API server's priority and fairness do.
    #[arg(long)]
    client_connection_qps: Option<String>,
    #[arg(long)]
    client_connection_burst: Option<String>,
    /// The certificate is read from its Secret.
    #[arg(long)]
    webhook_cert_path: Option<String>,
    #[arg(long)]
    webhook_cert_name: Option<String>,
    #[arg(long)]
    webhook_cert_key: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_http2: Option<String>,
    /// A profile is taken from outside, with the tools of the system.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_pprof: Option<String>,
    /// No traces are sent.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_tracing: Option<String>,
    #[arg(long)]
    tracing_sample_ratio: Option<String>,
    #[arg(long)]
    tracing_otlp_endpoint: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tracing_otlp_insecure: Option<String>,
    #[arg(long)]
    tracing_otlp_header: Vec<String>,
    #[arg(long, env = "CAPSULE_TRACING_OTLP_BASIC_AUTH_USERNAME", hide_env_values = true)]
    tracing_otlp_basic_auth_username: Option<String>,
    #[arg(long, env = "CAPSULE_TRACING_OTLP_BASIC_AUTH_PASSWORD", hide_env_values = true)]
    tracing_otlp_basic_auth_password: Option<String>,
    #[arg(long)]
    tracing_otlp_timeout: Option<String>,
    #[arg(long)]
    tracing_otlp_compression: Option<String>,
    #[arg(long)]
    tracing_otlp_tls_server_name: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tracing_otlp_tls_insecure_skip_verify: Option<String>,
}

impl WithoutEffect {
    /// Names of those that were given. Never a value: some are passwords.
    fn given(&self) -> Vec<&'static str> {
        let single = [
            ("workers", &self.workers),
            ("cache-sync-timeout", &self.cache_sync_timeout),
            ("client-connection-qps", &self.client_connection_qps),
            ("client-connection-burst", &self.client_connection_burst),
            ("webhook-cert-path", &self.webhook_cert_path),
            ("webhook-cert-name", &self.webhook_cert_name),
            ("webhook-cert-key", &self.webhook_cert_key),
            ("enable-http2", &self.enable_http2),
            ("enable-pprof", &self.enable_pprof),
            ("enable-tracing", &self.enable_tracing),
            ("tracing-sample-ratio", &self.tracing_sample_ratio),
            ("tracing-otlp-endpoint", &self.tracing_otlp_endpoint),
            ("tracing-otlp-insecure", &self.tracing_otlp_insecure),
            (
                "tracing-otlp-basic-auth-username",
                &self.tracing_otlp_basic_auth_username,
            ),
            (
                "tracing-otlp-basic-auth-password",
                &self.tracing_otlp_basic_auth_password,
            ),
            ("tracing-otlp-timeout", &self.tracing_otlp_timeout),
            ("tracing-otlp-compression", &self.tracing_otlp_compression),
            ("tracing-otlp-tls-server-name", &self.tracing_otlp_tls_server_name),
            (
                "tracing-otlp-tls-insecure-skip-verify",
                &self.tracing_otlp_tls_insecure_skip_verify,
            ),
        ];
        let mut given: Vec<_> = single
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name)
            .collect();
        if !self.tracing_otlp_header.is_empty() {
            given.push("tracing-otlp-header");
        }
        given
    }
}

impl Args {
    /// Runs until a signal, or until leadership is lost.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.version {
            println!("cotenant {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        let mut without_effect = self.without_effect.given();
        without_effect.extend(self.zap.without_effect());
        if !self.enable_leader_election {
            without_effect.push("enable-leader-election=false");
        }
        operator::run_with(self.into_operator()?, move || {
            if !without_effect.is_empty() {
                tracing::info!(
                    flags = without_effect.join(", "),
                    "flags without effect here were given"
                );
            }
        })
    }

    fn into_operator(self) -> anyhow::Result<operator::Args> {
        if self.metrics_secure && self.metrics_cert_path.is_empty() {
            bail!(
                "--metrics-secure is true and --metrics-cert-path is empty; it is the folder of the certificate for metrics"
            );
        }
        let metrics_tls = self.metrics_secure.then(|| tls::Files {
            certificate: Path::new(&self.metrics_cert_path).join(self.metrics_cert_name),
            key: Path::new(&self.metrics_cert_path).join(self.metrics_cert_key),
        });
        let or = |value: Duration, default: u64| {
            if value.is_zero() {
                Duration::from_secs(default)
            } else {
                value
            }
        };
        Ok(operator::Args {
            components: vec![Component::NamespaceTenants],
            configuration_name: self.configuration_name,
            datastore: None,
            allowed_service_accounts: Vec::new(),
            allowed_registries: Vec::new(),
            allowed_hostnames: Vec::new(),
            allowed_external_ips: Vec::new(),
            service_node_port_range: operator::SERVICE_NODE_PORTS,
            admin_networks: Vec::new(),
            bundled_etcd: None,
            control_planes: control_planes::Flags::default(),
            webhook_service_name: self.webhook_service_name,
            webhook_service_port: self.webhook_service_port,
            webhook_url: None,
            webhook_port: self.webhook_port,
            tls_secret_name: self.tls_secret_name,
            owner_cluster_role: self.owner_cluster_role,
            metrics_bind_address: self.metrics_addr,
            metrics_tls,
            health_probe_bind_address: self.health_probe_bind_address,
            pod_namespace: self
                .namespace
                .context("the environment variable NAMESPACE is not set; it is the namespace that the operator runs in")?,
            leases: vec![operator::LEASE.to_owned(), LEASE.to_owned()],
            election: Election {
                lease_duration: or(self.leader_election_lease_duration, 15),
                renew_deadline: or(self.leader_election_renew_deadline, 10),
                retry_period: or(self.leader_election_retry_period, 2),
            },
            pod_name: self.pod_name,
            service_account: self.service_account.context(
                "the environment variable SERVICE_ACCOUNT is not set; it is the ServiceAccount that the operator runs as",
            )?,
            kubeconfig: self.kubeconfig,
            log_filter: self.zap.filter(),
            log_format: self.zap.format(),
        })
    }
}

/// As [`operator::duration`], and `0`.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => operator::duration(text),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::operator::LogFormat;

    #[derive(Debug, Parser)]
    struct Manager {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(flags: &[&str]) -> Result<Args, clap::Error> {
        let pod = ["manager", "--namespace=capsule-system", "--service-account=capsule"];
        Manager::try_parse_from(pod.iter().chain(flags)).map(|manager| manager.args)
    }

    #[test]
    fn without_flags_it_has_the_peers_names_ports_and_times() {
        let args = parsed(&[]).unwrap().into_operator().unwrap();
        assert_eq!(args.components, [Component::NamespaceTenants]);
        assert_eq!(args.configuration_name, "default");
        assert_eq!(args.metrics_bind_address, ":8080");
        assert_eq!(args.health_probe_bind_address, ":10080");
        assert_eq!((args.webhook_port, args.webhook_service_port), (9443, 9443));
        assert_eq!(args.webhook_service_name, "capsule-webhook-service");
        assert_eq!(args.tls_secret_name, "capsule-tls");
        assert_eq!(args.pod_namespace, "capsule-system");
        assert_eq!(args.service_account, "capsule");
        assert_eq!(args.leases, ["cotenant", "42c733ea.clastix.capsule.io"]);
        let seconds = Duration::from_secs;
        assert_eq!(args.election.lease_duration, seconds(15));
        assert_eq!(args.election.renew_deadline, seconds(10));
        assert_eq!(args.election.retry_period, seconds(2));
        assert_eq!(args.log_filter, "info");
        assert_eq!(args.metrics_tls, None);
    }

    #[test]
    fn every_flag_of_the_peer_is_taken() {
        let every = [
            "--configuration-name=main",
            "--enable-leader-election",
            "--leader-election-lease-duration=1m0s",
            "--leader-election-renew-deadline",
            "40s",
            "--leader-election-retry-period=500ms",
            "--workers=8",
            "--cache-sync-timeout=0",
            "--client-connection-qps=50.5",
            "--client-connection-burst",
            "100",
            "--enable-pprof=true",
            "--enable-tracing",
            "--tracing-sample-ratio=0.5",
            "--tracing-otlp-endpoint=otel:4317",
            "--tracing-otlp-insecure=false",
            "--tracing-otlp-header=a=b",
            "--tracing-otlp-header=c=d",
            "--tracing-otlp-basic-auth-username=alice",
            "--tracing-otlp-basic-auth-password=secret",
            "--tracing-otlp-timeout=10s",
            "--tracing-otlp-compression=gzip",
            "--tracing-otlp-tls-server-name=otel",
            "--tracing-otlp-tls-insecure-skip-verify",
            "--metrics-addr=:8181",
            "--metrics-secure",
            "--metrics-cert-path=/certs",
            "--metrics-cert-name=metrics.crt",
            "--metrics-cert-key=metrics.key",
            "--webhook-port=9555",
            "--webhook-cert-path=/tmp/k8s-webhook-server/serving-certs",
            "--webhook-cert-name=tls.crt",
            "--webhook-cert-key=tls.key",
            "--enable-http2=false",
            "--zap-log-level=4",
            "--zap-encoder=json",
            "--zap-devel",
            "--zap-stacktrace-level=panic",
            "--zap-time-encoding=iso8601",
        ];
        let args = parsed(&every).unwrap();
        let given = args.without_effect.given();
        // The rest of the flags, less the second header.
        assert_eq!(given.len(), 20, "{given:?}");
        assert!(!given.concat().contains("secret"));
        let args = args.into_operator().unwrap();
        assert_eq!((args.configuration_name.as_str(), args.webhook_port), ("main", 9555));
        assert_eq!(args.metrics_bind_address, ":8181");
        let (certificate, key) = ("/certs/metrics.crt".into(), "/certs/metrics.key".into());
        assert_eq!(args.metrics_tls, Some(tls::Files { certificate, key }));
        assert_eq!(args.election.lease_duration, Duration::from_mins(1));
        assert_eq!(args.election.renew_deadline, Duration::from_secs(40));
        assert_eq!(args.election.retry_period, Duration::from_millis(500));
        assert_eq!(args.log_filter, "debug");
        assert!(matches!(args.log_format, LogFormat::Json));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        for flag in [
            "--leader-election-lease-duration=15",
            "--leader-election-lease-duration=-15s",
            "--zap-log-level=loud",
            "--zap-encoder=xml",
            "--metrics-secure=perhaps",
            "--webhook-port=70000",
            "--no-such-flag",
        ] {
            assert!(parsed(&[flag]).is_err(), "{flag}");
        }
        let refused = |args: Args| args.into_operator().unwrap_err().to_string();
        assert!(refused(parsed(&["--metrics-secure"]).unwrap()).contains("--metrics-cert-path is empty"));
        let args = Args {
            namespace: None,
            ..parsed(&[]).unwrap()
        };
        assert!(refused(args).starts_with("the environment variable NAMESPACE is not set"));
        let args = Args {
            service_account: None,
            ..parsed(&[]).unwrap()
        };
        assert!(refused(args).starts_with("the environment variable SERVICE_ACCOUNT is not set"));
    }
}
