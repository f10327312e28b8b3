//! Flags that an author adds to the components, and the admission plugins they choose.
//!
//! The tenant cluster is the author's, so what weakens only that cluster (authorization modes, token files, anonymous
//! access) is theirs to decide. Three kinds of flags are not:
//!
//! - where the objects are held: another store, prefix or client certificate. Refused;
//! - which cluster a component talks to (`--kubeconfig`, `--master`). Refused;
//! - what the operator sets for the parts to find each other. For the API server and the scheduler the operator's
//!   value wins and users have had such flags in their manifests for years, so this is a warning.

use api::kamaji::v1alpha1::{ControlPlaneExtraArgs, KubernetesSpec};

use super::version::{self, Minor};
use crate::denial::Denial;

/// Flags of the API server that say where objects are held, or who else learns of them.
const STORE_FLAGS: &[&str] = &[
    "--etcd-servers",
    "--etcd-servers-overrides",
    "--etcd-prefix",
    "--etcd-cafile",
    "--etcd-certfile",
    "--etcd-keyfile",
    "--storage-backend",
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

/// Flags by which a component finds the API server that it works for.
const CLUSTER_FLAGS: &[&str] = &[
    "--kubeconfig",
    "--master",
    "--authentication-kubeconfig",
    "--authorization-kubeconfig",
];

/// Flags of the scheduler that always have the operator's value.
const MANAGED_SCHEDULER_FLAGS: &[&str] = &["--bind-address", "--leader-elect"];

/// Flags of the translator in front of an SQL store that say which store.
const KINE_FLAGS: &[&str] = &["--endpoint", "--listen-address"];

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
        ("apiServer", &args.api_server, STORE_FLAGS, MANAGED_API_SERVER_FLAGS),
        ("controllerManager", &args.controller_manager, CLUSTER_FLAGS, none),
        ("scheduler", &args.scheduler, CLUSTER_FLAGS, MANAGED_SCHEDULER_FLAGS),
        ("kine", &args.kine, KINE_FLAGS, none),
    ];
    for (component, args, refused, managed) in components {
        for (index, arg) in args.iter().enumerate() {
            let field = format!("spec.controlPlane.deployment.extraArgs.{component}[{index}]");
            let Some(flag) = flag(arg) else {
                let message = format!("{field}: {arg:?} is not a flag; write it as --flag=value");
                denials.push(Denial::new(field, "FlagInvalid", message));
                continue;
            };
            if refused.contains(&flag.as_str()) {
                let message = format!(
                    "{field}: {flag} says which store or cluster the component works for, which only the operator decides"
                );
                denials.push(Denial::new(field, "FlagManaged", message));
            } else if managed.contains(&flag.as_str()) {
                warnings.push(format!("{field}: {flag} has no effect, because the operator sets it"));
            }
        }
    }
    (denials, warnings)
}

/// The name of the flag, spelt as the table does. Kubernetes' parsers take `_` for `-`, and one dash before `v` only.
fn flag(arg: &str) -> Option<String> {
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

    #[test]
    fn the_other_components_work_for_their_own_cluster() {
        let args = ControlPlaneExtraArgs {
            controller_manager: vec!["--node-cidr-mask-size=26".into(), "--kubeconfig=/mine".into()],
            scheduler: vec!["--master=https://10.0.0.1".into(), "--leader-elect=false".into()],
            ..Default::default()
        };
        let (denials, warnings) = flags(&args);
        let fields: Vec<_> = denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.controlPlane.deployment.extraArgs.controllerManager[1]",
                "spec.controlPlane.deployment.extraArgs.scheduler[0]"
            ]
        );
        assert_eq!(warnings.len(), 1);
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
