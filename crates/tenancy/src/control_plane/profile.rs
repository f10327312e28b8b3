//! Control planes that are small on purpose: their author gives speed under load, or a quick change of leaders, for memory
//! and CPU time while nothing happens.
//!
//! What every control plane has is safe for every load, so it is not here. Each saving of a profile is measured alone
//! (`cargo xtask bench savings`), and is told with its price in the documentation of the annotation.

use api::kamaji::v1alpha1::TenantControlPlane;
use expressions::quantity::Quantity;
use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::denial::Denial;

/// On a TenantControlPlane: `small`. Without it, nothing is given up.
pub const ANNOTATION: &str = "cotenant.dev/profile";

const FIELD: &str = "metadata.annotations[cotenant.dev/profile]";

/// What the components of a control plane are tuned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Any load.
    #[default]
    Usual,
    /// Little memory and CPU time while nothing happens.
    Small,
}

/// Flags with dashes, each with its value. An author's flag of the same name comes before them.
pub type Flags = &'static [(&'static str, &'static str)];

/// A leader that ends without a word is followed after 60 s in place of 15, and says every ten seconds that it lives, in
/// place of every two.
const SELDOM_LEASES: Flags = &[
    ("leader-elect-lease-duration", "60s"),
    ("leader-elect-renew-deadline", "40s"),
    ("leader-elect-retry-period", "10s"),
];

impl Profile {
    /// How much garbage the components let grow, in percent of what they use; `None`: as the operator is told.
    pub fn gogc(self) -> Option<u32> {
        match self {
            Self::Usual => None,
            Self::Small => Some(20),
        }
    }

    /// Of the API server: the counts of its objects and the size of its store are not asked for, and missing in its metrics.
    pub fn api_server(self) -> Flags {
        match self {
            Self::Usual => &[],
            Self::Small => &[
                ("etcd-count-metric-poll-period", "0"),
                ("etcd-db-metric-poll-interval", "0"),
            ],
        }
    }

    /// Whether a component runs on one core at a time. With more, each of its hundreds of timers wakes threads on others that
    /// find nothing to do. With one, on a machine that is busy, controller managers were seen to start a second time. What is
    /// given more than one CPU has use for more.
    pub fn one_core(self, resources: Option<&ResourceRequirements>) -> bool {
        let given = resources.map(|resources| [&resources.requests, &resources.limits]);
        let given = given.into_iter().flatten().flatten();
        let many = given
            .filter_map(|amounts| Quantity::parse(amounts.get("cpu")?).ok())
            .any(|cpus| cpus > Quantity::ONE);
        self == Self::Small && !many
    }

    /// Of the controller manager and the scheduler.
    pub fn leases(self) -> Flags {
        match self {
            Self::Usual => &[],
            Self::Small => SELDOM_LEASES,
        }
    }
}

/// Reads the annotation.
///
/// # Errors
/// When it is none that is known.
pub fn profile(tcp: &TenantControlPlane) -> Result<Profile, Denial> {
    let annotations = tcp.metadata.annotations.as_ref();
    match annotations
        .and_then(|annotations| annotations.get(ANNOTATION))
        .map(String::as_str)
    {
        None => Ok(Profile::Usual),
        Some("small") => Ok(Profile::Small),
        Some(other) => {
            let shown: String = other.chars().take(63).collect();
            let message = format!("{FIELD}: {shown:?} is no profile; write small, or leave the annotation out");
            Err(Denial::new(FIELD, "ProfileUnknown", message))
        }
    }
}

/// What is wrong with it.
pub fn denial(tcp: &TenantControlPlane) -> Option<Denial> {
    profile(tcp).err()
}

/// What a change makes wrong.
pub(super) fn change(old: &TenantControlPlane, new: &TenantControlPlane) -> Option<Denial> {
    denial(new).filter(|found| denial(old).as_ref() != Some(found))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(written: Option<&str>) -> TenantControlPlane {
        let annotations = written.map(|written| json!({ANNOTATION: written}));
        serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "annotations": annotations},
            "spec": {"controlPlane": {"service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": "v1.36.3"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_profile_is_known_or_refused_in_words() {
        assert_eq!(profile(&tcp(None)), Ok(Profile::Usual));
        assert_eq!(profile(&tcp(Some("small"))), Ok(Profile::Small));
        for (written, shown) in [
            ("Small", "\"Small\""),
            ("", "\"\""),
            (&"x".repeat(5_000), &format!("{:?}", "x".repeat(63))),
        ] {
            let denial = profile(&tcp(Some(written))).unwrap_err();
            assert_eq!(denial.reason, "ProfileUnknown");
            assert_eq!(
                denial.message,
                format!(
                    "metadata.annotations[cotenant.dev/profile]: {shown} is no profile; write small, or leave the annotation out"
                )
            );
        }
    }

    #[test]
    fn only_a_change_to_what_is_unknown_is_refused() {
        let [none, small, unknown, other] = [None, Some("small"), Some("tiny"), Some("huge")].map(tcp);
        assert_eq!(change(&none, &small), None);
        assert_eq!(change(&unknown, &none), None);
        assert_eq!(change(&unknown, &unknown), None);
        assert!(change(&small, &unknown).is_some());
        assert!(change(&unknown, &other).is_some());
    }

    #[test]
    fn the_usual_profile_changes_nothing() {
        assert_eq!(Profile::Usual.gogc(), None);
        assert!(Profile::Usual.api_server().is_empty() && Profile::Usual.leases().is_empty());
    }

    #[rstest]
    #[case::nothing_said(json!({}), true)]
    #[case::a_part_of_one(json!({"requests": {"cpu": "500m"}}), true)]
    #[case::one(json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "1000m"}}), true)]
    #[case::more_asked_for(json!({"requests": {"cpu": "1001m"}}), false)]
    #[case::more_allowed(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}}), false)]
    #[case::memory_alone(json!({"limits": {"memory": "4Gi"}}), true)]
    fn small_ones_run_on_one_core_unless_they_are_given_more(#[case] resources: Value, #[case] expected: bool) {
        let resources = serde_json::from_value(resources).unwrap();
        assert_eq!(Profile::Small.one_core(Some(&resources)), expected);
        assert!(!Profile::Usual.one_core(Some(&resources)));
    }
}
