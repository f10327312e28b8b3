//! Flags that an author adds to the components, and the admission plugins they choose.
//!
//! The tenant cluster is the author's, so what weakens only that cluster (authorization modes, token files, anonymous
//! access) is theirs to decide. Four kinds of flags are not:
//!
//! - where the objects are held: another store, prefix or client certificate. Refused;
//! - which cluster a component talks to, and as whom (`--kubeconfig`, `--master`, the scheduler's `--config`, whose file
//!   holds the same). Refused for every component;
//! - which files hold the authorities and keys that the operator mounts, where the author's flag would win. Refused;
//! - what the operator sets for the parts to find each other. For the API server and the scheduler the operator's
//!   value wins and users have had such flags in their manifests for years, so this is a warning.

use api::kamaji::v1alpha1::{ControlPlaneExtraArgs, KubernetesSpec, TenantControlPlane};

use super::version::{self, Minor};
use crate::denial::Denial;

/// The components, as `extraArgs` names them.
const COMPONENTS: [&str; 4] = [API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KINE];
const API_SERVER: &str = "apiServer";
const CONTROLLER_MANAGER: &str = "controllerManager";
const SCHEDULER: &str = "scheduler";
const KINE: &str = "kine";

/// Flags that only the operator sets.
struct Refused {
    /// Of which components.
    components: &'static [&'static str],
    flags: &'static [&'static str],
    /// What they say.
    what: &'static str,
}

/// Whatever only one component knows today is refused for all of them: a name costs nothing, and components learn flags.
const REFUSED: &[Refused] = &[
    Refused {
        components: &COMPONENTS,
        flags: &[
            "--etcd-servers",
            "--etcd-servers-overrides",
            "--etcd-prefix",
            "--etcd-cafile",
            "--etcd-certfile",
            "--etcd-keyfile",
            "--storage-backend",
            "--endpoint",
            "--listen-address",
        ],
        what: "which store holds the objects, and as whom it is asked",
    },
    Refused {
        components: &COMPONENTS,
        flags: &[
            "--kubeconfig",
            "--master",
            "--authentication-kubeconfig",
            "--authorization-kubeconfig",
            // A file that says the same as the flags above, and wins.
            "--config",
        ],
        what: "which cluster the component works for, and as whom",
    },
    // The author's flags win here, and what is in such a file may be published: root-ca-file goes into every namespace.
    Refused {
        components: &[CONTROLLER_MANAGER],
        flags: &[
            "--client-ca-file",
            "--cluster-signing-cert-file",
            "--cluster-signing-key-file",
            "--requestheader-client-ca-file",
            "--root-ca-file",
            "--service-account-private-key-file",
        ],
        what: "which of the operator's files hold the cluster's authorities and keys",
    },
];

/// Flags of the API server that always have the operator's value.
pub const MANAGED_API_SERVER_FLAGS: &[&str] = &[
    "--advertise-address",
    "--client-ca-file",
    "--enable-admission-plugins",
    "--endpoint-reconciler-type",
    "--etcd-compaction-interval",
    "--kubelet-client-certificate",
    "--kubelet-client-key",
    "--kubelet-preferred-address-types",
    "--proxy-client-cert-file",
    "--proxy-client-key-file",
    "--requestheader-allowed-names",
    "--requestheader-client-ca-file",
    "--secure-port",
    "--service-account-key-file",
    "--service-account-signing-key-file",
    "--service-cluster-ip-range",
    "--tls-cert-file",
    "--tls-private-key-file",
];

/// Flags of the scheduler that always have the operator's value.
const MANAGED_SCHEDULER_FLAGS: &[&str] = &["--bind-address", "--leader-elect"];

/// Admission plugins that newer API servers do not know any more, with the minor version that dropped them: naming one
/// keeps the API server from starting.
const GONE: &[(&str, Minor)] = &[
    ("DenyEscalatingExec", Minor { major: 1, minor: 21 }),
    ("DenyExecOnPrivileged", Minor { major: 1, minor: 21 }),
    ("PodSecurityPolicy", Minor { major: 1, minor: 25 }),
    ("SecurityContextDeny", Minor { major: 1, minor: 30 }),
    ("PersistentVolumeLabel", Minor { major: 1, minor: 31 }),
];

/// Admission plugins that older API servers do not know yet.
const NEW: &[(&str, Minor)] = &[
    ("DenyServiceExternalIPs", Minor { major: 1, minor: 21 }),
    ("PodSecurity", Minor { major: 1, minor: 22 }),
];

/// What is wrong with the flags, and what to say about those that have no effect.
pub fn flags(args: &ControlPlaneExtraArgs) -> (Vec<Denial>, Vec<String>) {
    let (mut denials, mut warnings) = (Vec::new(), Vec::new());
    let none: &[&str] = &[];
    let components = [
        (API_SERVER, &args.api_server, MANAGED_API_SERVER_FLAGS),
        (CONTROLLER_MANAGER, &args.controller_manager, none),
        (SCHEDULER, &args.scheduler, MANAGED_SCHEDULER_FLAGS),
        (KINE, &args.kine, none),
    ];
    for (component, args, managed) in components {
        for (index, arg) in args.iter().enumerate() {
            let field = format!("spec.controlPlane.deployment.extraArgs.{component}[{index}]");
            let Some(flag) = flag(arg) else {
                let message = format!("{field}: {arg:?} is not a flag; write it as --flag=value");
                denials.push(Denial::new(field, "FlagInvalid", message));
                continue;
            };
            if let Some(refused) = refused(component, &flag) {
                let message = format!("{field}: {flag} says {}, which only the operator decides", refused.what);
                denials.push(Denial::new(field, "FlagManaged", message));
            } else if managed.contains(&flag.as_str()) {
                warnings.push(format!("{field}: {flag} has no effect, because the operator sets it"));
            }
        }
    }
    (denials, warnings)
}

/// The flags of a control plane's author; none if nothing is written.
pub fn extra_args(tcp: &TenantControlPlane) -> &ControlPlaneExtraArgs {
    static NONE: ControlPlaneExtraArgs = ControlPlaneExtraArgs {
        api_server: Vec::new(),
        controller_manager: Vec::new(),
        scheduler: Vec::new(),
        kine: Vec::new(),
    };
    tcp.spec.control_plane.deployment.extra_args.as_ref().unwrap_or(&NONE)
}

fn refused(component: &str, flag: &str) -> Option<&'static Refused> {
    let mut rows = REFUSED.iter().filter(|row| row.components.contains(&component));
    rows.find(|row| row.flags.contains(&flag))
}

/// The name of the flag, spelt as the table does. Kubernetes' parsers take `_` for `-`, and one dash before `v` only.
pub(super) fn flag(arg: &str) -> Option<String> {
    let name = arg.split_once('=').map_or(arg, |(name, _)| name);
    if name == "-v" {
        return Some("--v".into());
    }
    let bare = name.strip_prefix("--")?;
    let fits = bare.starts_with(|char: char| char.is_ascii_alphanumeric())
        && bare
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
        && !arg.contains('\0');
    fits.then(|| format!("--{}", bare.replace('_', "-")))
}

/// Admission plugins that the wanted version does not have.
pub fn admission_controllers(kubernetes: &KubernetesSpec) -> Vec<Denial> {
    // A version that does not parse is another rule's business.
    let Ok(wanted) = version::parse(&kubernetes.version).map(|wanted| version::minor(&wanted)) else {
        return Vec::new();
    };
    let lacks = |name: &str| {
        let at = |table: &[(&str, Minor)]| table.iter().find(|(known, _)| *known == name).map(|(_, minor)| *minor);
        match (at(GONE), at(NEW)) {
            (Some(gone), _) if wanted >= gone => Some(format!("was removed in Kubernetes {gone}")),
            (_, Some(new)) if wanted < new => Some(format!("came with Kubernetes {new}")),
            _ => None,
        }
    };
    let named = kubernetes.admission_controllers.iter().enumerate();
    named
        .filter_map(|(index, name)| {
            let field = format!("spec.kubernetes.admissionControllers[{index}]");
            let message = format!(
                "{field}: {name} {}; the API server of {} would not start with it",
                lacks(name)?,
                kubernetes.version
            );
            Some(Denial::new(field, "AdmissionControllerUnknown", message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::free("--audit-log-path=/audit/log", None, 0)]
    #[case::own_cluster_own_rules("--authorization-mode=AlwaysAllow", None, 0)]
    #[case::bare("--profiling", None, 0)]
    #[case::empty_value("--feature-gates=", None, 0)]
    #[case::managed("--secure-port=1", None, 1)]
    #[case::managed_with_underscores("--secure_port=1", None, 1)]
    #[case::another_store("--etcd-servers=https://10.0.0.1:2379", Some("FlagManaged"), 0)]
    #[case::another_store_with_underscores("--etcd_servers=https://10.0.0.1:2379", Some("FlagManaged"), 0)]
    #[case::a_part_elsewhere("--etcd-servers-overrides=/events#https://10.0.0.1", Some("FlagManaged"), 0)]
    #[case::a_neighbours_prefix("--etcd-prefix=/oil", Some("FlagManaged"), 0)]
    #[case::value_apart("--etcd-prefix", Some("FlagManaged"), 0)]
    #[case::a_word("etcd-prefix=/oil", Some("FlagInvalid"), 0)]
    #[case::verbosity("-v=2", None, 0)]
    #[case::one_dash("-etcd-prefix=/oil", Some("FlagInvalid"), 0)]
    #[case::nothing("--", Some("FlagInvalid"), 0)]
    #[case::three_dashes("---etcd-prefix=/oil", Some("FlagInvalid"), 0)]
    #[case::with_a_space("--etcd-prefix =/oil", Some("FlagInvalid"), 0)]
    fn the_api_servers_flags_keep_to_its_own_store(
        #[case] arg: &str,
        #[case] reason: Option<&str>,
        #[case] warnings: usize,
    ) {
        let args = ControlPlaneExtraArgs {
            api_server: vec![arg.into()],
            ..Default::default()
        };
        let (denials, warned) = flags(&args);
        assert_eq!(
            denials.first().map(|denial| denial.reason.to_string()).as_deref(),
            reason
        );
        assert_eq!(warned.len(), warnings);
    }

    #[rstest]
    #[case::kubeconfig("--kubeconfig=/mine")]
    #[case::kubeconfig_apart("--kubeconfig")]
    #[case::kubeconfig_for_authentication("--authentication-kubeconfig=/mine")]
    #[case::with_underscores("--authentication_kubeconfig=/mine")]
    #[case::kubeconfig_for_authorization("--authorization-kubeconfig=/mine")]
    #[case::address("--master=https://10.0.0.1")]
    #[case::file_with_all_of_it("--config=/mine/scheduler.yaml")]
    #[case::store("--etcd-servers=https://10.0.0.1:2379")]
    #[case::prefix("--etcd_prefix=/oil")]
    #[case::sql("--endpoint=postgres://10.0.0.1")]
    #[case::socket("--listen-address=0.0.0.0:2379")]
    fn no_component_works_for_another_cluster_or_store(#[case] arg: &str) {
        for component in COMPONENTS {
            assert_eq!(reasons(component, &[arg]), ["FlagManaged"], "{component}");
        }
    }

    #[rstest]
    #[case::a_word("kubeconfig=/mine")]
    #[case::value_of_the_flag_before("/mine")]
    #[case::empty("")]
    #[case::ends_of_flags("--")]
    #[case::one_dash("-kubeconfig=/mine")]
    #[case::verbosity_run_together("-v2")]
    #[case::expansion("--$(GOGC)")]
    #[case::nul("--v=\0")]
    fn no_component_takes_what_is_not_a_flag(#[case] arg: &str) {
        for component in COMPONENTS {
            assert_eq!(reasons(component, &[arg]), ["FlagInvalid"], "{component}");
        }
    }

    #[rstest]
    #[case::published("--root-ca-file=/etc/kubernetes/controller-manager.conf", true)]
    #[case::who_signs("--cluster-signing-key-file=/mine", true)]
    #[case::whom_tokens_come_from("--service_account_private_key_file=/mine", true)]
    #[case::whom_clients_come_from("--client-ca-file=/mine", true)]
    #[case::whom_the_api_server_comes_from("--requestheader-client-ca-file=/mine", true)]
    #[case::free("--node-cidr-mask-size=26", false)]
    #[case::ports_are_the_pods_own("--secure-port=11257", false)]
    fn the_controller_manager_keeps_the_operators_files(#[case] arg: &str, #[case] refused: bool) {
        assert_eq!(!reasons(CONTROLLER_MANAGER, &[arg]).is_empty(), refused);
    }

    #[test]
    fn what_the_operator_sets_for_the_scheduler_is_said() {
        let args = ControlPlaneExtraArgs {
            scheduler: vec!["--leader-elect=false".into(), "--v=4".into()],
            ..Default::default()
        };
        let (denials, warnings) = flags(&args);
        assert!(denials.is_empty());
        assert_eq!(
            warnings,
            [
                "spec.controlPlane.deployment.extraArgs.scheduler[0]: --leader-elect has no effect, because the operator sets it"
            ]
        );
    }

    fn reasons(component: &str, args: &[&str]) -> Vec<String> {
        let args: Vec<&str> = args.to_vec();
        let args: ControlPlaneExtraArgs = serde_json::from_value(serde_json::json!({ component: args })).unwrap();
        let denials = flags(&args).0;
        denials.into_iter().map(|denial| denial.reason.to_string()).collect()
    }

    #[rstest]
    #[case::gone("PodSecurityPolicy", "v1.36.0", true)]
    #[case::gone_exactly_then("PodSecurityPolicy", "v1.25.0", true)]
    #[case::there_still("PodSecurityPolicy", "v1.24.17", false)]
    #[case::not_there_yet("PodSecurity", "v1.21.0", true)]
    #[case::there_now("PodSecurity", "v1.36.0", false)]
    #[case::gone_long_ago("DenyEscalatingExec", "v1.30.0", true)]
    #[case::gone_lately("PersistentVolumeLabel", "v1.31.0", true)]
    #[case::always_there("NodeRestriction", "v1.36.0", false)]
    #[case::version_that_is_none("PodSecurityPolicy", "latest", false)]
    fn admission_plugins_exist_in_the_version(#[case] name: &str, #[case] version: &str, #[case] refused: bool) {
        let kubernetes = KubernetesSpec {
            version: version.into(),
            admission_controllers: vec!["ServiceAccount".into(), name.into()],
            ..Default::default()
        };
        let fields: Vec<_> = admission_controllers(&kubernetes)
            .into_iter()
            .map(|denial| denial.field)
            .collect();
        assert_eq!(fields.is_empty(), !refused);
        assert!(
            fields
                .iter()
                .all(|field| field == "spec.kubernetes.admissionControllers[1]")
        );
    }

    #[test]
    fn the_defaults_exist_in_every_version_that_people_run() {
        for version in ["v1.23.0", "v1.30.0", "v1.36.0"] {
            let kubernetes = KubernetesSpec {
                version: version.into(),
                ..Default::default()
            };
            assert!(admission_controllers(&kubernetes).is_empty());
        }
    }
}
