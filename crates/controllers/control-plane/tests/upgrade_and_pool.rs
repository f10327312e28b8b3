//! Control planes that walk to a version further ahead, and control planes that are placed in a pool of DataStores. There
//! are no nodes: that pods are ready is said in their status, as a kubelet would.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use bed::{World, create, eventually, merge, when};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

impl World {
    async fn until_installed(&self, name: &str, version: &str) {
        eventually(&format!("{name} has {version}"), || async {
            self.make_pods_ready(name).await;
            let status = self.control_plane(name).await.status.unwrap_or_default();
            when(status.installed_version() == Some(version), || format!("{status:#?}"))
        })
        .await;
    }

    /// The version that the pods are told to run.
    async fn runs(&self, name: &str) -> String {
        let deployment: Deployment = self.api().get(name).await.unwrap();
        let containers = deployment.spec.unwrap().template.spec.unwrap().containers;
        let api_server = containers.into_iter().find(|one| one.name == "kube-apiserver").unwrap();
        api_server.image.unwrap().rsplit_once(':').unwrap().1.to_owned()
    }

    /// Says of a control plane that it is Ready, as a pass does that finds its API server answering and all set up inside.
    async fn say_ready(&self, name: &str) {
        let mut status = serde_json::to_value(self.control_plane(name).await.status).unwrap();
        let conditions = status["conditions"].as_array_mut().unwrap();
        let ready = conditions.iter_mut().find(|one| one["type"] == "Ready").unwrap();
        ready["status"] = json!("True");
        let patch = json!({"status": {"conditions": conditions}});
        let control_planes: Api<TenantControlPlane> = self.api();
        control_planes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    async fn until_runs(&self, name: &str, version: &str) {
        eventually(&format!("{name} is told to run {version}"), || async {
            self.say_ready(name).await;
            let runs = self.runs(name).await;
            when(runs == version, || runs)
        })
        .await;
    }

    async fn annotate(&self, name: &str, annotations: Value, spec: Value) {
        let changes = json!({"metadata": {"annotations": annotations}, "spec": spec});
        merge(&self.api::<TenantControlPlane>(), name, changes).await;
    }

    async fn reason(&self, name: &str, type_: &str) -> String {
        let status = self.control_plane(name).await.status.unwrap_or_default();
        let condition = status.conditions.into_iter().find(|one| one.type_ == type_);
        condition.map(|one| one.reason).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_two_minors_ahead_is_walked_to_while_the_control_plane_is_ready() {
    let world = World::new(&[]).await;
    world
        .create_control_plane("walker", json!({"kubernetes": {"version": "v1.34.2"}}))
        .await;
    world.until_carried_out("walker").await;
    world.until_installed("walker", "v1.34.2").await;

    // Nobody asked for steps.
    world
        .change("walker", json!({"kubernetes": {"version": "v1.36.3"}}))
        .await;
    eventually("the jump is refused", || async {
        let reason = world.reason("walker", "Deployed").await;
        when(reason == "UpgradeRefused", || reason)
    })
    .await;
    assert_eq!(world.runs("walker").await, "v1.34.2");

    // Not before it is Ready.
    world
        .annotate("walker", json!({"cotenant.dev/upgrade-path": "v1.35.7"}), json!({}))
        .await;
    eventually("the path is known", || async {
        let reason = world.reason("walker", "Deployed").await;
        when(reason != "UpgradeRefused", || reason)
    })
    .await;
    assert_eq!(world.runs("walker").await, "v1.34.2");
    world.until_runs("walker", "v1.35.7").await;

    // And the next one not before that one is.
    world.until_installed("walker", "v1.35.7").await;
    assert_eq!(world.runs("walker").await, "v1.35.7");
    world.until_runs("walker", "v1.36.3").await;
    world.until_installed("walker", "v1.36.3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeping_control_plane_takes_one_step_in_its_sleep() {
    let world = World::new(&[]).await;
    let asleep = json!({"kubernetes": {"version": "v1.34.2"}, "controlPlane": {"deployment": {"replicas": 0}}});
    world.create_control_plane("sleeper", asleep).await;
    world.until_installed("sleeper", "v1.34.2").await;
    let spec = json!({"kubernetes": {"version": "v1.36.3"}});
    world
        .annotate("sleeper", json!({"cotenant.dev/upgrade-path": "step"}), spec)
        .await;
    eventually("the first step is taken", || async {
        let runs = world.runs("sleeper").await;
        when(runs == "v1.35.0", || runs)
    })
    .await;
    world.until_carried_out("sleeper").await;
    let status = world.control_plane("sleeper").await.status.unwrap();
    assert_eq!(
        status.installed_version(),
        Some("v1.34.2"),
        "nobody saw the step succeed"
    );
    world
        .change("sleeper", json!({"controlPlane": {"deployment": {"replicas": 1}}}))
        .await;
    world.until_installed("sleeper", "v1.35.0").await;
    assert_eq!(world.runs("sleeper").await, "v1.35.0");
}

async fn pooled(world: &World, name: &str) {
    let default: DataStore = Api::all(world.client.clone()).get("default").await.unwrap();
    create::<DataStore>(
        &Api::all(world.client.clone()),
        json!({
            "metadata": {"name": name, "labels": {"cotenant.dev/pool": "shared"},
                "annotations": {"cotenant.dev/max-control-planes": "1"}},
            "spec": default.spec,
        }),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_without_a_store_fill_a_pool_and_wait_when_it_is_full() {
    let world = World::new(&[]).await;
    for store in ["first", "second"] {
        pooled(&world, store).await;
    }
    let plane = |name: &str| {
        json!({
            "metadata": {"name": name, "annotations": {"cotenant.dev/pool": "shared"}},
            "spec": {
                "controlPlane": {"deployment": {"replicas": 0}, "service": {"serviceType": "ClusterIP"}},
                "kubernetes": {"version": "v1.36.3"}, "networkProfile": {"port": 6443},
            },
        })
    };
    let control_planes: Api<TenantControlPlane> = world.api();
    let names = ["one", "three", "two"];
    for name in names {
        create::<TenantControlPlane>(&control_planes, plane(name)).await;
    }
    let placed = async || {
        let all = control_planes.list(&ListParams::default()).await.unwrap();
        let mut stores: Vec<_> = all.into_iter().filter_map(|tcp| tcp.spec.data_store).collect();
        stores.sort_unstable();
        stores
    };
    let late = eventually("two are placed and one waits", || async {
        let stores = placed().await;
        when(stores == ["first", "second"], || format!("{stores:?}"))?;
        let all = control_planes.list(&ListParams::default()).await.unwrap();
        let late = all.into_iter().find(|tcp| tcp.spec.data_store.is_none()).unwrap();
        let conditions = late.status.clone().unwrap_or_default().conditions;
        let condition = conditions.iter().find(|one| one.type_ == "DataStoreReady");
        let told = condition.is_some_and(|one| {
            one.reason == "NoPlace" && one.message.contains("first is full (1 of 1 control planes, 0 awake")
        });
        when(told, || format!("{conditions:#?}")).map(|()| late.name_any())
    })
    .await;

    // More room takes it, and it says why.
    let patch = json!({"metadata": {"annotations": {"cotenant.dev/max-control-planes": "2"}}});
    let stores: Api<DataStore> = Api::all(world.client.clone());
    merge(&stores, "second", patch).await;
    eventually("the third one is placed", || async {
        let stores = placed().await;
        when(stores == ["first", "second", "second"], || format!("{stores:?}"))
    })
    .await;
    let reason = world.control_plane(&late).await.annotations()["cotenant.dev/placement"].clone();
    assert!(
        reason.starts_with("second of pool shared: 1 of 2 control planes") && reason.contains("not first is full"),
        "{reason}"
    );
    for name in names {
        world.until_carried_out(name).await;
    }
    eventually("the stores of the pool are measured", || async {
        let measured = stores
            .get("first")
            .await
            .unwrap()
            .annotations()
            .get("cotenant.dev/size")
            .cloned();
        let bytes: Option<u64> = measured.and_then(|size| size.parse().ok());
        when(bytes > Some(0), || format!("{bytes:?}"))
    })
    .await;
    let default = stores.get("default").await.unwrap();
    assert!(
        !default.annotations().contains_key("cotenant.dev/size"),
        "it is in no pool"
    );
}
