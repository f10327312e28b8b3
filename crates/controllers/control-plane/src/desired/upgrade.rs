//! Which version runs: [`tenancy::control_plane::upgrade`], asked about a control plane as it is.

use api::kamaji::v1alpha1::{TenantControlPlane, TenantControlPlaneStatus};
use k8s_openapi::api::apps::v1::Deployment;
use serde::Serialize;
use tenancy::control_plane::upgrade::{self, Standing, Step};
use tenancy::control_plane::version::parse;

/// Which version runs after this pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionPlan {
    /// What is rendered.
    pub run: String,
    /// What the spec asks for, when it is refused, with the reason.
    pub refused: Option<String>,
}

/// The version of a control plane, beside what its status says is installed and its pods are told to run.
///
/// Admission says the same about what is asked for; this holds for what came past it. A refused version leaves what runs
/// as it is.
pub fn version_of(tcp: &TenantControlPlane, deployment: Option<&Deployment>) -> VersionPlan {
    let status = tcp.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let standing = Standing {
        installed: status.and_then(TenantControlPlaneStatus::installed_version),
        // One whose version cannot be told is not taken for none.
        deployed: deployment.map(|deployment| deployed(tcp, deployment).unwrap_or_default()),
        ready: conditions
            .iter()
            .any(|condition| condition.type_ == crate::status::READY && condition.status == "True"),
        asleep: tcp.spec.control_plane.deployment.replicas == 0,
    };
    let Step { run, refused } = upgrade::step(tcp, standing);
    VersionPlan { run, refused }
}

/// The version that the pods of a Deployment are told to run: the tag of the API server's image. Its suffix is not that of
/// the spec when somebody has changed that since; then it is what the tag begins with.
pub(crate) fn deployed<'a>(tcp: &TenantControlPlane, deployment: &'a Deployment) -> Option<&'a str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let api_server = pod
        .containers
        .iter()
        .find(|container| container.name == "kube-apiserver")?;
    let (_, tag) = api_server.image.as_deref()?.rsplit_once(':')?;
    let suffix = tcp
        .spec
        .control_plane
        .deployment
        .registry_settings
        .tag_suffix
        .as_deref();
    let ends = tag.find(|found: char| !matches!(found, 'v' | '.' | '0'..='9'));
    let release = &tag[..ends.unwrap_or(tag.len())];
    let stripped = tag.strip_suffix(suffix.unwrap_or_default());
    stripped.into_iter().chain([release]).find(|one| is_of_kubernetes(one))
}

/// Whether it is a version, and not one with somebody's suffix.
fn is_of_kubernetes(version: &str) -> bool {
    parse(version).is_ok_and(|version| {
        let ahead = ["alpha.", "beta.", "rc."];
        version.pre.is_empty() || ahead.iter().any(|ahead| version.pre.starts_with(ahead))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenancy::control_plane::upgrade::PATH_ANNOTATION;

    use super::*;

    fn tcp(wanted: &str, installed: Option<&str>, ready: &str) -> TenantControlPlane {
        let ready = json!([{"type": "Ready", "status": ready, "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let tcp = json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "metadata": {"name": "oil"},
            "spec": {"controlPlane": {"deployment": {"registrySettings": {"tagSuffix": "-eu"}},
                "service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": wanted}},
            "status": {"conditions": ready, "kubernetesResources": {"version": {"version": installed, "status": "Ready"}}},
        });
        serde_json::from_value(tcp).unwrap()
    }

    fn deployment(image: &str) -> Deployment {
        let containers: Value =
            json!([{"name": "kine", "image": "kine:v1"}, {"name": "kube-apiserver", "image": image}]);
        let deployment = json!({"spec": {"selector": {}, "template": {"spec": {"containers": containers}}}});
        serde_json::from_value(deployment).unwrap()
    }

    #[test]
    fn versions_rise_by_one_minor_at_most() {
        let rows = [
            (None, "v1.30.0", "v1.30.0", true),
            (Some("v1.35.7"), "v1.36.0", "v1.36.0", true),
            (Some("v1.36.3"), "v1.36.1", "v1.36.1", true),
            (Some("v1.34.0"), "v1.36.0", "v1.34.0", false),
            (Some("v1.36.0"), "v1.35.0", "v1.36.0", false),
            (Some("v1.36.0"), "newest", "v1.36.0", false),
        ];
        for (installed, wanted, run, allowed) in rows {
            let plan = version_of(&tcp(wanted, installed, "True"), None);
            assert_eq!(
                (plan.run.as_str(), plan.refused.is_none()),
                (run, allowed),
                "{installed:?} -> {wanted}"
            );
        }
    }

    #[test]
    fn a_path_is_walked_by_what_is_installed_deployed_and_ready() {
        let rows = [
            ("v1.34.2", "False", Some("kube-apiserver:v1.34.2-eu"), "v1.34.2"),
            ("v1.34.2", "False", None, "v1.35.0"),
            ("v1.34.2", "True", None, "v1.35.0"),
            (
                "v1.34.2",
                "False",
                Some("registry.k8s.io:5000/kube-apiserver:v1.35.0-eu"),
                "v1.35.0",
            ),
            ("v1.34.2", "False", Some("registry.k8s.io/kube-apiserver"), "v1.34.2"),
            ("v1.34.2", "False", Some("kube-apiserver:v1.35.0-us"), "v1.35.0"),
            ("v1.34.2", "False", Some("kube-apiserver:v1.35.0"), "v1.35.0"),
            (
                "v1.34.2",
                "False",
                Some("kube-apiserver:v1.35.0-rc.1-eu"),
                "v1.35.0-rc.1",
            ),
            ("v1.35.0", "True", Some("kube-apiserver:v1.35.0-eu"), "v1.36.3"),
        ];
        for (installed, ready, image, run) in rows {
            let mut tcp = tcp("v1.36.3", Some(installed), ready);
            let path = [(PATH_ANNOTATION.to_owned(), "step".to_owned())];
            tcp.metadata.annotations = Some(path.into());
            let deployment = image.map(deployment);
            assert_eq!(
                version_of(&tcp, deployment.as_ref()).run,
                run,
                "{installed} {ready} {image:?}"
            );
        }
    }

    #[test]
    fn a_suffix_that_is_taken_away_is_still_no_part_of_a_version() {
        let mut tcp = tcp("v1.35.0", None, "True");
        tcp.spec.control_plane.deployment.registry_settings.tag_suffix = None;
        for (tag, version) in [
            ("v1.35.0-eu", Some("v1.35.0")),
            ("v1.35.0-rc.1", Some("v1.35.0-rc.1")),
            ("latest", None),
        ] {
            let deployment = deployment(&format!("kube-apiserver:{tag}"));
            assert_eq!(deployed(&tcp, &deployment), version, "{tag}");
        }
    }
}
