//! Changes of a control plane, decided in memory and written as a merge patch. Pure.

use api::kamaji::v1alpha1::{TenantControlPlane, TenantControlPlaneStatus};
use kube::ResourceExt;
use serde_json::{Value, json};
use tenancy::control_plane::upgrade::{self, PATH_ANNOTATION};

/// How many replicas a control plane had before it was put to sleep.
const AWAKE_REPLICAS: &str = "cotenant.dev/awake-replicas";
/// As many as a new control plane gets.
const DEFAULT_REPLICAS: i32 = 2;

/// What was asked for, as a plan's heading.
pub(super) enum Title<'a> {
    Upgrade(&'a str),
    Sleep,
    Wake,
    Migrate(&'a str),
}

impl Title<'_> {
    pub(super) fn told(&self, tcp: &TenantControlPlane) -> String {
        let name = format!(
            "TenantControlPlane {}/{}",
            tcp.namespace().unwrap_or_default(),
            tcp.name_any()
        );
        match self {
            Self::Upgrade(version) => format!("upgrade {name} to {version}"),
            Self::Sleep => format!("put {name} to sleep"),
            Self::Wake => format!("wake {name}"),
            Self::Migrate(store) => format!("move {name} to DataStore {store}"),
        }
    }
}

/// Another version, and how to get there: `None` leaves the path as it is, an empty one goes by each minor's `.0`.
pub(super) fn upgrade(tcp: &mut TenantControlPlane, version: &str, path: Option<&[String]>) -> Result<(), String> {
    let old = tcp.clone();
    version.clone_into(&mut tcp.spec.kubernetes.version);
    if let Some(via) = path {
        let path = if via.is_empty() {
            "step".to_owned()
        } else {
            via.join(",")
        };
        tcp.metadata
            .annotations
            .get_or_insert_default()
            .insert(PATH_ANNOTATION.to_owned(), path);
    }
    match upgrade::change(&old, tcp) {
        Some(denial) if denial.reason == "VersionSkipped" => Err(format!("{} (`--step` writes it)", denial.message)),
        Some(denial) => Err(denial.message),
        None => Ok(()),
    }
}

/// No pods.
#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several edits, some of which can be refused"
)]
pub(super) fn sleep(tcp: &mut TenantControlPlane) -> Result<(), String> {
    let replicas = &mut tcp.spec.control_plane.deployment.replicas;
    if *replicas != 0 {
        let awake = replicas.to_string();
        *replicas = 0;
        tcp.annotations_mut().insert(AWAKE_REPLICAS.to_owned(), awake);
    }
    Ok(())
}

/// As many pods as there were, unless another number is given.
#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several edits, some of which can be refused"
)]
pub(super) fn wake(tcp: &mut TenantControlPlane, replicas: Option<i32>) -> Result<(), String> {
    let before = tcp.annotations().get(AWAKE_REPLICAS).and_then(|text| text.parse().ok());
    let before = before.filter(|count: &i32| (1..=100).contains(count));
    let now = &mut tcp.spec.control_plane.deployment.replicas;
    if *now == 0 || replicas.is_some() {
        *now = replicas.or(before).unwrap_or(DEFAULT_REPLICAS);
        tcp.annotations_mut().remove(AWAKE_REPLICAS);
    }
    Ok(())
}

/// Another store.
pub(super) fn migrate(tcp: &mut TenantControlPlane, datastore: &str) {
    tcp.spec.data_store = Some(datastore.to_owned());
}

/// What changed of the fields that commands change, as a merge patch for the version that was read. `None`: nothing.
pub(super) fn patch(before: &TenantControlPlane, after: &TenantControlPlane) -> Option<Value> {
    if before.spec == after.spec && before.metadata.annotations == after.metadata.annotations {
        return None;
    }
    let mut annotations = serde_json::Map::new();
    for key in [PATH_ANNOTATION, AWAKE_REPLICAS] {
        let (old, new) = (before.annotations().get(key), after.annotations().get(key));
        if old != new {
            annotations.insert(key.to_owned(), json!(new));
        }
    }
    let mut spec = json!({});
    if before.spec.kubernetes.version != after.spec.kubernetes.version {
        spec["kubernetes"]["version"] = json!(after.spec.kubernetes.version);
    }
    let replicas = |tcp: &TenantControlPlane| tcp.spec.control_plane.deployment.replicas;
    if replicas(before) != replicas(after) {
        spec["controlPlane"]["deployment"]["replicas"] = json!(replicas(after));
    }
    if before.spec.data_store != after.spec.data_store {
        spec["dataStore"] = json!(after.spec.data_store);
    }
    Some(json!({
        "metadata": {
            "uid": before.metadata.uid,
            "resourceVersion": before.metadata.resource_version,
            "annotations": annotations,
        },
        "spec": spec,
    }))
}

/// What a change brings with it that its fields do not say.
pub(super) fn follows(before: &TenantControlPlane, after: &TenantControlPlane) -> Vec<String> {
    let mut told = Vec::new();
    let status = before.status.as_ref();
    let replicas = |tcp: &TenantControlPlane| tcp.spec.control_plane.deployment.replicas;
    let wanted = &after.spec.kubernetes.version;
    if before.spec.kubernetes.version != *wanted {
        let installed = status.and_then(TenantControlPlaneStatus::installed_version);
        let from = installed.unwrap_or(&before.spec.kubernetes.version);
        let path = upgrade::path(after).ok().flatten().unwrap_or_default();
        let steps = upgrade::steps(&path, from, wanted);
        told.push(format!(
            "it runs {from}, then {}; pods are replaced as spec.controlPlane.deployment.strategy says",
            steps.join(", then ")
        ));
        if steps.len() > 1 {
            told.push("each version begins when the one before is Ready".to_owned());
        }
        if let Some((oldest, newest)) = upgrade::kubelets(wanted) {
            told.push(format!(
                "its nodes keep their kubelets, which have to be {oldest} to {newest}"
            ));
        }
    }
    match (replicas(before), replicas(after)) {
        (before, 0) if before != 0 => {
            told.push(
                "its API server stops answering; pods on its nodes go on, and nothing reschedules them".to_owned(),
            );
            told.push("its data, address and certificates stay".to_owned());
        }
        (0, after) if after != 0 => told.push(format!("its API server answers again; replicas: {after}")),
        _ => {}
    }
    let recorded = status.and_then(|status| status.storage.as_ref()?.data_store_name.as_deref());
    let from = recorded.or(before.spec.data_store.as_deref());
    if let (Some(from), Some(to)) = (from, after.spec.data_store.as_deref())
        && from != to
    {
        told.push(format!(
            "its data is copied from DataStore {from} to {to}; reads and writes go on while it is copied"
        ));
        told.push(format!(
            "writes wait while the pods follow; then its data and account in DataStore {from} are deleted"
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(version: &str, replicas: i32) -> TenantControlPlane {
        serde_json::from_value(json!({
            "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
            "metadata": {"name": "oil", "namespace": "prod", "uid": "u", "resourceVersion": "7"},
            "spec": {"dataStore": "hdd", "controlPlane": {"deployment": {"replicas": replicas},
                "service": {"serviceType": "ClusterIP"}}, "kubernetes": {"version": version}},
        }))
        .unwrap()
    }

    #[test]
    fn two_minors_ahead_need_a_path() {
        let before = tcp("v1.34.2", 1);
        let error = upgrade(&mut before.clone(), "v1.36.3", None).unwrap_err();
        assert!(error.ends_with("(`--step` writes it)"), "{error}");
        let mut after = before.clone();
        upgrade(&mut after, "v1.36.3", Some(&["v1.35.7".to_owned()])).unwrap();
        assert_eq!(
            patch(&before, &after).unwrap(),
            json!({"metadata": {"uid": "u", "resourceVersion": "7",
                "annotations": {"cotenant.dev/upgrade-path": "v1.35.7"}},
                "spec": {"kubernetes": {"version": "v1.36.3"}}})
        );
        assert_eq!(
            follows(&before, &after),
            [
                "it runs v1.34.2, then v1.35.7, then v1.36.3; pods are replaced as spec.controlPlane.deployment.strategy says",
                "each version begins when the one before is Ready",
                "its nodes keep their kubelets, which have to be v1.33 to v1.36",
            ]
        );
    }

    #[test]
    fn who_sleeps_wakes_with_as_many_replicas() {
        let before = tcp("v1.36.3", 3);
        let mut asleep = before.clone();
        sleep(&mut asleep).unwrap();
        assert_eq!(asleep.spec.control_plane.deployment.replicas, 0);
        let mut twice = asleep.clone();
        sleep(&mut twice).unwrap();
        assert_eq!(patch(&asleep, &twice), None);
        let mut awake = asleep.clone();
        wake(&mut awake, None).unwrap();
        assert_eq!(awake.spec, before.spec);
        assert_eq!(
            patch(&asleep, &awake).unwrap()["metadata"]["annotations"],
            json!({"cotenant.dev/awake-replicas": null})
        );
        wake(&mut asleep, Some(1)).unwrap();
        assert_eq!(asleep.spec.control_plane.deployment.replicas, 1);
        let mut never = tcp("v1.36.3", 0);
        wake(&mut never, None).unwrap();
        assert_eq!(never.spec.control_plane.deployment.replicas, 2);
    }

    #[test]
    fn another_store_is_another_store() {
        let before = tcp("v1.36.3", 1);
        let mut after = before.clone();
        migrate(&mut after, "hdd");
        assert_eq!(patch(&before, &after), None);
        migrate(&mut after, "ssd");
        assert_eq!(patch(&before, &after).unwrap()["spec"], json!({"dataStore": "ssd"}));
        assert_eq!(
            follows(&before, &after),
            [
                "its data is copied from DataStore hdd to ssd; reads and writes go on while it is copied",
                "writes wait while the pods follow; then its data and account in DataStore hdd are deleted",
            ]
        );
    }
}
