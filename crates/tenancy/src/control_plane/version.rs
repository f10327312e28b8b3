//! Which Kubernetes versions may be asked for, and which may follow which.

use crate::denial::Denial;

/// The newest minor version that is known to work: 1.36.
pub const NEWEST: Minor = Minor { major: 1, minor: 36 };

const FIELD: &str = "spec.kubernetes.version";

/// A Kubernetes version without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor {
    /// 1, so far.
    pub major: u64,
    /// 36 in 1.36.
    pub minor: u64,
}

impl std::fmt::Display for Minor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}.{}", self.major, self.minor)
    }
}

/// Reads `v1.36.3` or `1.36.3`, pre-releases included.
pub fn parse(version: &str) -> Result<semver::Version, Denial> {
    semver::Version::parse(version.strip_prefix('v').unwrap_or(version)).map_err(|error| {
        let message = format!(
            "unable to parse the desired Kubernetes version: {version:?} is not a version ({error}); write it as v{NEWEST_PATCH}, Kubernetes sets the form"
        );
        Denial::new(FIELD, "VersionInvalid", message)
    })
}

/// For messages: a version that would be right.
const NEWEST_PATCH: &str = "1.36.0";

/// The version without its patch level.
pub fn minor(version: &semver::Version) -> Minor {
    Minor {
        major: version.major,
        minor: version.minor,
    }
}

/// What is wrong with the version of a new control plane.
pub fn create(version: &str) -> Option<Denial> {
    let parsed = match parse(version) {
        Ok(parsed) => parsed,
        Err(denial) => return Some(denial),
    };
    (minor(&parsed) > NEWEST).then(|| {
        let message = format!(
            "unable to create a TenantControlPlane with a Kubernetes version greater than the supported one, actually {NEWEST}"
        );
        Denial::new(FIELD, "VersionNotSupported", message)
    })
}

/// What is wrong with going from one version to another. `installed` is what runs, once something does: a step that is
/// still under way is not followed by the next one.
pub fn change(from: &str, installed: Option<&str>, to: &str) -> Option<Denial> {
    let parsed = match parse(to) {
        Ok(parsed) => parsed,
        Err(denial) => return Some(denial),
    };
    let wanted = minor(&parsed);
    if wanted > NEWEST {
        let message = format!("unable to upgrade to a version greater than the supported one ({NEWEST})");
        return Some(Denial::new(FIELD, "VersionNotSupported", message));
    }
    // An old version that does not parse is older than this rule and cannot be compared with.
    let before = minor(&parse(from).ok()?);
    if wanted < before {
        let message = format!("unable to downgrade a TenantControlPlane from {from} to {to}");
        return Some(Denial::new(FIELD, "VersionDowngrade", message));
    }
    let sequential = |before: Minor| before.major == wanted.major && wanted.minor <= before.minor.saturating_add(1);
    if !sequential(before) {
        let message = format!(
            "unable to upgrade to a minor version in a non-sequential mode: {to} is more than one minor after {from}, and Kubernetes upgrades one at a time"
        );
        return Some(Denial::new(FIELD, "VersionSkipped", message));
    }
    let running = installed.and_then(|installed| parse(installed).ok())?;
    (wanted > before && !sequential(minor(&running))).then(|| {
        let message = format!(
            "unable to upgrade to a minor version in a non-sequential mode: the control plane still runs {running}, so wait until it runs {from}"
        );
        Denial::new(FIELD, "VersionSkipped", message)
    })
}

/// What to say about a version that is accepted. Images are tagged with the version as it is written, and Kubernetes'
/// tags begin with `v`.
pub fn warning(version: &str) -> Option<String> {
    (!version.starts_with('v') && parse(version).is_ok()).then(|| {
        format!(
            "{FIELD}: {version:?} is used as image tag as it is; the images of Kubernetes are tagged \"v{version}\""
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_kubernetes_writes_it("v1.36.3", None)]
    #[case::without_v("1.30.0", None)]
    #[case::very_old_is_fine("v1.23.6", None)]
    #[case::pre_release("v1.36.0-rc.1", None)]
    #[case::no_patch("v1.36", Some("VersionInvalid"))]
    #[case::empty("", Some("VersionInvalid"))]
    #[case::words("latest", Some("VersionInvalid"))]
    #[case::two_vs("vv1.36.0", Some("VersionInvalid"))]
    #[case::too_new("v1.37.0", Some("VersionNotSupported"))]
    #[case::patch_of_the_newest_does_not_count("v1.36.99", None)]
    #[case::another_major("v2.0.0", Some("VersionNotSupported"))]
    fn a_new_control_plane_has_a_version_that_exists(#[case] version: &str, #[case] reason: Option<&str>) {
        assert_eq!(
            create(version).map(|denial| denial.reason.to_string()).as_deref(),
            reason
        );
    }

    #[rstest]
    #[case::same("v1.35.1", Some("v1.35.1"), "v1.35.1", None)]
    #[case::one_up("v1.35.1", Some("v1.35.1"), "v1.36.0", None)]
    #[case::patch_up("v1.35.1", Some("v1.35.1"), "v1.35.9", None)]
    #[case::patch_down("v1.35.9", Some("v1.35.9"), "v1.35.1", None)]
    #[case::minor_down("v1.35.9", Some("v1.35.9"), "v1.34.9", Some("VersionDowngrade"))]
    #[case::two_up("v1.34.0", Some("v1.34.0"), "v1.36.0", Some("VersionSkipped"))]
    #[case::too_new("v1.36.0", Some("v1.36.0"), "v1.37.0", Some("VersionNotSupported"))]
    #[case::not_a_version("v1.36.0", Some("v1.36.0"), "v1.36", Some("VersionInvalid"))]
    #[case::step_upon_step("v1.35.0", Some("v1.34.2"), "v1.36.0", Some("VersionSkipped"))]
    #[case::nothing_runs_yet("v1.35.0", None, "v1.36.0", None)]
    #[case::other_change_while_upgrading("v1.36.0", Some("v1.34.0"), "v1.36.0", None)]
    #[case::older_than_the_rule("sometime", None, "v1.36.0", None)]
    fn versions_follow_each_other_one_minor_at_a_time(
        #[case] from: &str,
        #[case] installed: Option<&str>,
        #[case] to: &str,
        #[case] reason: Option<&str>,
    ) {
        assert_eq!(
            change(from, installed, to)
                .map(|denial| denial.reason.to_string())
                .as_deref(),
            reason
        );
    }

    #[test]
    fn texts_that_others_match_are_theirs() {
        let text = |denial: Option<Denial>| denial.unwrap().message;
        assert_eq!(
            text(create("v1.37.1")),
            "unable to create a TenantControlPlane with a Kubernetes version greater than the supported one, actually v1.36"
        );
        assert_eq!(
            text(change("v1.36.0", None, "v1.37.0")),
            "unable to upgrade to a version greater than the supported one (v1.36)"
        );
        assert_eq!(
            text(change("v1.35.0", None, "v1.34.0")),
            "unable to downgrade a TenantControlPlane from v1.35.0 to v1.34.0"
        );
        assert!(
            text(change("v1.33.0", None, "v1.35.0"))
                .starts_with("unable to upgrade to a minor version in a non-sequential mode")
        );
        assert!(text(create("x")).starts_with("unable to parse the desired Kubernetes version: "));
    }
}
