//! Upgrades over several minor versions: Kubernetes goes one minor at a time, so a version further ahead is walked to.
//!
//! Whoever wants that says so on the object: [`PATH_ANNOTATION`] is `step`, or lists the versions to go by way of. What
//! is installed is recorded in the status once a version is Ready, so the path is found anew from the object each time and
//! nothing else has to be remembered: interrupted anywhere, it goes on from there. It never goes back: a step that has
//! begun is finished, whatever becomes of the annotation.

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{TenantControlPlane, TenantControlPlaneStatus};

use super::version::{self, Minor, minor, parse};
use crate::denial::Denial;

/// On a TenantControlPlane: `step`, or the versions to go by way of, separated by commas.
pub const PATH_ANNOTATION: &str = "cotenant.dev/upgrade-path";

const FIELD: &str = "metadata.annotations[cotenant.dev/upgrade-path]";

/// How a control plane gets past the minors in between: each minor's version where its author named one, else its `.0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(BTreeMap<Minor, String>);

/// Reads the annotation. `None`: there is none, and a version further ahead is refused.
pub fn path(tcp: &TenantControlPlane) -> Result<Option<Path>, Denial> {
    let annotations = tcp.metadata.annotations.as_ref();
    let Some(written) = annotations.and_then(|annotations| annotations.get(PATH_ANNOTATION)) else {
        return Ok(None);
    };
    if written == "step" {
        return Ok(Some(Path::default()));
    }
    let wrong = |problem: String| {
        let message = format!("{FIELD}: {problem}; write step, or the versions to go by way of, as in v1.34.9,v1.35.7");
        Denial::new(FIELD, "UpgradePathInvalid", message)
    };
    let mut by = BTreeMap::new();
    for item in written.split(',').map(str::trim) {
        let stop = parse(item).map_err(|_| {
            let shown: String = item.chars().take(63).collect();
            wrong(format!("{shown:?} is not a version"))
        })?;
        if by.insert(minor(&stop), item.to_owned()).is_some() {
            return Err(wrong(format!("{} is there twice", minor(&stop))));
        }
    }
    Ok(Some(Path(by)))
}

/// What is wrong with asking for another version: [`version::change`], but with a path there may be minors in between.
pub fn change(old: &TenantControlPlane, new: &TenantControlPlane) -> Option<Denial> {
    let (from, to) = (&old.spec.kubernetes.version, &new.spec.kubernetes.version);
    let installed = old
        .status
        .as_ref()
        .and_then(TenantControlPlaneStatus::installed_version);
    let mut denial = version::change(from, installed, to)?;
    if denial.reason != "VersionSkipped" || !same_major(installed.unwrap_or(from), to) {
        return Some(denial);
    }
    match path(new) {
        Ok(Some(_)) => None,
        Err(wrong) => Some(wrong),
        Ok(None) => {
            denial.message.push_str("; the annotation ");
            denial.message.push_str(PATH_ANNOTATION);
            denial.message.push_str(": step has them taken one after the other");
            Some(denial)
        }
    }
}

fn same_major(from: &str, to: &str) -> bool {
    let major = |version: &str| parse(version).ok().map(|version| version.major);
    major(from) == major(to)
}

/// The versions that are run one after the other to get from one to another, the last of them `to`. Empty if it is there
/// already. A version that does not parse is not walked to.
pub fn steps(path: &Path, from: &str, to: &str) -> Vec<String> {
    if from == to {
        return Vec::new();
    }
    let between = match (parse(from), parse(to)) {
        (Ok(from), Ok(to)) if from.major == to.major => from.minor.saturating_add(1)..to.minor,
        _ => 0..0,
    };
    let major = parse(to).map_or(1, |to| to.major);
    let stops = between.map(|stop| {
        let stop = Minor { major, minor: stop };
        path.0.get(&stop).cloned().unwrap_or_else(|| format!("{stop}.0"))
    });
    stops.chain([to.to_owned()]).collect()
}

/// How a control plane stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The version that was last seen Ready. `None`: none yet.
    pub installed: Option<&'a str>,
    /// The version that its pods are told to run. `None`: there are no pods.
    pub deployed: Option<&'a str>,
    /// Whether it is Ready, inside and out.
    pub ready: bool,
    /// Whether no pods are wanted.
    pub asleep: bool,
}

/// Which version runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is rendered.
    pub run: String,
    /// Why the version that was asked for is not, nor a step towards it.
    pub refused: Option<String>,
}

/// Decides it: what was asked for if that is within reach, else the next version on the path.
///
/// On a path, a further minor begins only when the control plane is Ready on the version before. One that sleeps takes the first step
/// in its sleep and the next ones awake, because nobody would see a sleeping one fail.
pub fn step(tcp: &TenantControlPlane, standing: Standing<'_>) -> Step {
    let wanted = tcp.spec.kubernetes.version.as_str();
    let run = |version: &str| Step {
        run: version.to_owned(),
        refused: None,
    };
    let Some(installed) = standing.installed.filter(|installed| *installed != wanted) else {
        return run(wanted);
    };
    let begun = standing.deployed.filter(|deployed| is_next_minor(installed, deployed));
    let refused = |denial: &Denial| Step {
        run: begun.unwrap_or(installed).to_owned(),
        refused: Some(format!(
            "the required upgrade plan is not available: {}",
            denial.message
        )),
    };
    let skipped = match version::change(installed, None, wanted) {
        Some(denial) if denial.reason != "VersionSkipped" || !same_major(installed, wanted) => return refused(&denial),
        skipped => skipped,
    };
    let path = match (path(tcp), skipped) {
        (Ok(Some(path)), _) => path,
        (Ok(None) | Err(_), None) => return run(wanted),
        (Ok(None), Some(denial)) | (Err(denial), Some(_)) => return refused(&denial),
    };
    let steps = steps(&path, installed, wanted);
    let next = steps.first().map_or(wanted, String::as_str);
    match begun {
        Some(begun) if steps.len() > 1 => run(begun),
        // Without pods there is nothing that a step could make worse.
        None if is_next_minor(installed, next)
            && !(standing.ready || standing.asleep || standing.deployed.is_none()) =>
        {
            run(installed)
        }
        _ => run(next),
    }
}

fn is_next_minor(from: &str, to: &str) -> bool {
    match (parse(from), parse(to)) {
        (Ok(from), Ok(to)) => from.major == to.major && from.minor.checked_add(1) == Some(to.minor),
        _ => false,
    }
}

/// The oldest and the newest kubelets that an API server of this version serves: up to three minors older, and none newer
/// (Kubernetes' version skew policy). `None`: the version does not parse.
pub fn kubelets(api_server: &str) -> Option<(Minor, Minor)> {
    let newest = minor(&parse(api_server).ok()?);
    let oldest = Minor {
        minor: newest.minor.saturating_sub(3),
        ..newest
    };
    Some((oldest, newest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn tcp(version: &str, path: Option<&str>, installed: Option<&str>) -> TenantControlPlane {
        let annotations = path.map_or(Value::Null, |path| json!({PATH_ANNOTATION: path}));
        let tcp = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "annotations": annotations},
            "spec": {"controlPlane": {"service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": version}},
            "status": {"kubernetesResources": {"version": {"version": installed, "status": "Ready"}}},
        });
        serde_json::from_value(tcp).unwrap()
    }

    fn standing<'a>(installed: &'a str, deployed: &'a str) -> Standing<'a> {
        Standing {
            installed: Some(installed),
            deployed: Some(deployed),
            ready: true,
            asleep: false,
        }
    }

    #[rstest]
    #[case::nowhere("v1.35.0", "v1.35.0", &[])]
    #[case::patch("v1.35.0", "v1.35.4", &["v1.35.4"])]
    #[case::one("v1.35.9", "v1.36.3", &["v1.36.3"])]
    #[case::three("v1.33.2", "v1.36.3", &["v1.34.0", "v1.35.7", "v1.36.3"])]
    #[case::nonsense("sometime", "v1.36.3", &["v1.36.3"])]
    fn a_path_has_every_minor_once(#[case] from: &str, #[case] to: &str, #[case] expected: &[&str]) {
        let by = path(&tcp("v1.36.3", Some("v1.35.7"), None)).unwrap().unwrap();
        assert_eq!(steps(&by, from, to), expected);
    }

    #[rstest]
    #[case::no_path(None, Some("VersionSkipped"))]
    #[case::step(Some("step"), None)]
    #[case::by_way_of(Some("v1.34.2, v1.35.7"), None)]
    #[case::words(Some("slowly"), Some("UpgradePathInvalid"))]
    #[case::twice(Some("v1.35.1,v1.35.7"), Some("UpgradePathInvalid"))]
    #[case::empty(Some(""), Some("UpgradePathInvalid"))]
    fn minors_are_skipped_on_a_path_only(#[case] path: Option<&str>, #[case] reason: Option<&str>) {
        let old = tcp("v1.33.2", None, Some("v1.33.2"));
        let new = tcp("v1.36.3", path, Some("v1.33.2"));
        let denial = change(&old, &new);
        assert_eq!(denial.as_ref().map(|denial| denial.reason), reason);
        if path.is_none() {
            let message = denial.unwrap().message;
            assert!(
                message.starts_with("unable to upgrade to a minor version in a non-sequential mode")
                    && message.ends_with(
                        "; the annotation cotenant.dev/upgrade-path: step has them taken one after the other"
                    ),
                "{message}"
            );
        }
    }

    #[rstest]
    #[case::down("v1.34.0", "v1.33.0", "VersionDowngrade")]
    #[case::too_far("v1.34.0", "v1.37.0", "VersionNotSupported")]
    #[case::another_major("v0.34.0", "v1.36.0", "VersionSkipped")]
    fn a_path_changes_nothing_else(#[case] from: &str, #[case] to: &str, #[case] reason: &str) {
        let denial = change(&tcp(from, None, Some(from)), &tcp(to, Some("step"), Some(from)));
        assert_eq!(denial.map(|denial| denial.reason), Some(reason));
    }

    #[test]
    fn a_step_upon_a_step_is_a_longer_path() {
        let old = tcp("v1.35.4", None, Some("v1.34.2"));
        let new = |path| tcp("v1.36.3", path, Some("v1.34.2"));
        assert_eq!(
            change(&old, &new(None)).map(|denial| denial.reason),
            Some("VersionSkipped")
        );
        assert_eq!(change(&old, &new(Some("step"))), None);
        let next = step(&new(Some("step")), standing("v1.34.2", "v1.35.4"));
        assert_eq!(next.run, "v1.35.4", "what was begun is finished, with its patch level");
    }

    #[test]
    fn the_next_version_is_run_when_the_last_one_is_ready() {
        let tcp = tcp("v1.36.3", Some("step"), None);
        let run = |installed, deployed, ready, asleep| {
            let standing = Standing {
                ready,
                asleep,
                ..standing(installed, deployed)
            };
            step(&tcp, standing).run
        };
        assert_eq!(
            run("v1.34.2", "v1.34.2", false, false),
            "v1.34.2",
            "not while it is not Ready"
        );
        assert_eq!(run("v1.34.2", "v1.34.2", true, false), "v1.35.0");
        assert_eq!(run("v1.34.2", "v1.35.0", false, false), "v1.35.0", "under way");
        assert_eq!(
            run("v1.34.2", "v1.34.2", false, true),
            "v1.35.0",
            "the first step in its sleep"
        );
        assert_eq!(run("v1.34.2", "v1.35.0", false, true), "v1.35.0", "and no further");
        assert_eq!(run("v1.35.0", "v1.35.0", false, false), "v1.35.0", "nor the last step");
        assert_eq!(run("v1.35.0", "v1.35.0", true, false), "v1.36.3");
        assert_eq!(run("v1.35.0", "v1.36.0", false, false), "v1.36.3", "under way");
        assert_eq!(
            run("v1.36.0", "v1.36.0", false, false),
            "v1.36.3",
            "patches are no steps"
        );
        assert_eq!(run("v1.36.3", "v1.36.3", true, false), "v1.36.3");
    }

    #[test]
    fn without_a_path_nothing_is_skipped_and_nothing_goes_back() {
        let plain = tcp("v1.36.3", None, None);
        let step = |installed, deployed| step(&plain, standing(installed, deployed));
        let refused = step("v1.34.2", "v1.34.2");
        assert_eq!(refused.run, "v1.34.2");
        assert!(
            refused
                .refused
                .unwrap()
                .starts_with("the required upgrade plan is not available: ")
        );
        assert_eq!(
            step("v1.34.2", "v1.35.0").run,
            "v1.35.0",
            "the annotation was taken off half-way"
        );
        assert_eq!(step("v1.35.4", "v1.35.4").run, "v1.36.3", "one minor needs no path");
    }

    #[test]
    fn kubelets_may_be_three_minors_older() {
        let (oldest, newest) = kubelets("v1.36.3").unwrap();
        assert_eq!(
            (oldest.to_string(), newest.to_string()),
            ("v1.33".into(), "v1.36".into())
        );
        assert_eq!(kubelets("latest"), None);
    }

    proptest! {
        /// From anywhere, one step after the other arrives, through every minor, never backwards.
        #[test]
        fn steps_arrive(from in 20_u64..36, patch in 0_u64..9, up in 0_u64..12, with_path: bool) {
            let to = (from + up).min(36);
            let wanted = format!("v1.{to}.3");
            let tcp = tcp(&wanted, with_path.then_some("step"), None);
            let mut installed = format!("v1.{from}.{patch}");
            let mut minors = vec![from];
            for _ in 0..20 {
                let next = step(&tcp, standing(&installed, &installed));
                if next.run == installed {
                    break;
                }
                let reached = parse(&next.run).unwrap().minor;
                prop_assert!(reached - minors.last().unwrap() <= 1);
                minors.push(reached);
                installed = next.run;
            }
            let arrived = with_path || up <= 1 || to - from <= 1;
            prop_assert_eq!(installed == wanted, arrived);
        }

        /// Whatever the annotation says, there is an answer.
        #[test]
        fn any_annotation_is_answered(text in "\\PC{0,20}") {
            let tcp = tcp("v1.36.3", Some(&text), None);
            let next = step(&tcp, standing("v1.33.0", "v1.33.0"));
            prop_assert_eq!(path(&tcp).is_err(), next.refused.is_some());
        }
    }
}
