//! Control planes that are scaled as autoscalers do it, to nothing and back. There are no nodes: that pods are ready is said
//! in their status, as a kubelet would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use std::collections::BTreeMap;

use api::kamaji::v1alpha1::{Phase, TenantControlPlane};
use bed::{World, eventually, when};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

impl World {
    /// Reads the scale and writes another, which is all that an autoscaler does. Who is overtaken by another writer comes
    /// again.
    async fn scale(&self, name: &str, replicas: i32) {
        let control_planes: Api<TenantControlPlane> = self.api();
        eventually("the scale is written", || async {
            let version = control_planes.get_scale(name).await.unwrap().metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}});
            let written = control_planes
                .patch_scale(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            written.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Until the scale says so many, of pods that its selector finds.
    async fn until_scaled(&self, name: &str, replicas: i32) {
        let control_planes: Api<TenantControlPlane> = self.api();
        eventually(&format!("{name} has {replicas} pods"), || async {
            let scale = control_planes.get_scale(name).await.unwrap();
            let told = scale.status.clone().unwrap_or_default();
            when(told.replicas == replicas, || format!("{scale:?}"))?;
            let selector = ListParams::default().labels(&told.selector.unwrap());
            let pods = self.api::<Pod>().list(&selector).await.unwrap().items;
            let living = pods
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .count();
            when(living == usize::try_from(replicas).unwrap(), || {
                format!("{living} pods")
            })
        })
        .await;
    }

    async fn secrets(&self, name: &str) -> BTreeMap<String, (String, String)> {
        let mut objects = self.objects(name).await;
        objects.retain(|object, _| object.starts_with("Secret "));
        objects
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_sleeps_and_wakes_with_its_data_through_the_scale_subresource() {
    let world = World::new(&[]).await;
    let made = world.create_control_plane("oil", json!({})).await;
    world.until_ready("oil").await;
    let key = format!("/{}/registry/x", made.uid().unwrap());
    world.etcd.etcdctl(&["put", &key, "kept"]).await.unwrap();
    let secrets = world.secrets("oil").await;

    world.scale("oil", 3).await;
    world.until_scaled("oil", 3).await;
    world.until_ready("oil").await;

    world.scale("oil", 0).await;
    world.until_scaled("oil", 0).await;
    let asleep = world.until_carried_out("oil").await.status.unwrap();
    assert_eq!(asleep.phase(), Some(Phase::Sleeping));
    assert_eq!(asleep.installed_version(), Some("v1.36.3"));
    let said: BTreeMap<_, _> = asleep
        .conditions
        .iter()
        .map(|one| (one.type_.as_str(), (one.status.as_str(), one.reason.as_str())))
        .collect();
    assert_eq!(said["Ready"], ("False", "Sleeping"));
    assert_eq!(said["Deployed"], ("True", "Sleeping"));
    // Nothing is asked of who sleeps.
    assert_eq!(said["ClusterConfigured"], ("False", "Sleeping"));

    // Changes are taken while it sleeps, and do not wake it.
    world
        .change("oil", json!({"networkProfile": {"certSANs": ["oil.example"]}}))
        .await;
    world.until_carried_out("oil").await;
    let deployment = world.api::<Deployment>().get("oil").await.unwrap();
    assert_eq!(deployment.spec.unwrap().replicas, Some(0));

    world.scale("oil", 1).await;
    world.until_scaled("oil", 1).await;
    let awake = world.until_ready("oil").await.status.unwrap();
    assert_eq!(awake.storage.unwrap().setup.unwrap().schema, made.uid());
    let kept = world.etcd.etcdctl(&["get", &key, "--print-value-only"]).await.unwrap();
    assert_eq!(kept.trim(), "kept");
    // The same keys, but of the certificate that got a name.
    let mut after = world.secrets("oil").await;
    let mut before = secrets;
    let certificate = "Secret oil-api-server-certificate";
    assert_ne!(
        before.remove(certificate).unwrap().1,
        after.remove(certificate).unwrap().1
    );
    assert_eq!(before, after);
}
