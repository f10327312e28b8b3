//! CustomQuotas and GlobalCustomQuotas: what may be written into them, and what they promise and refuse, through two admission
//! servers that share the work. No controller runs here; what one would count is said by the tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::capsule::v1beta2::{CustomQuota, GlobalCustomQuota, QuantityLedger, QuantityLedgerStatus};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::replicas::{CONNECTIONS, second_replica};
use support::stage::{Stage, stage};
use support::until;
use testbed::unique;
use tokio::sync::OnceCell;

const LEDGERS: &str = "cotenant-system";
const HOOK: &str = "calculation.custom-quotas.validating.projectcapsule.dev";

static BOTH: OnceCell<()> = OnceCell::const_new();

/// A tenant with some namespaces, before two admission servers that API servers ask in turn.
struct Scene {
    stage: Stage,
    namespaces: Vec<String>,
}

async fn scene(namespaces: usize) -> Scene {
    BOTH.get_or_init(second_replica).await;
    let stage = stage(json!({})).await;
    let mut names = vec![stage.namespace.clone()];
    for index in 1..namespaces {
        let name = format!("{}-{index}", stage.tenant);
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::all(stage.owner.clone());
        until("a namespace", async || {
            api.create(&PostParams::default(), &namespace).await.ok()
        })
        .await;
        names.push(name);
    }
    Scene {
        stage,
        namespaces: names,
    }
}

/// ConfigMaps that want to be counted, by their size.
fn sizes() -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "path": ".data.size", "selectors": [{"matchLabels": {"counted": "yes"}}]}])
}

fn map(size: Option<&str>) -> Value {
    let data = size.map_or(json!({}), |size| json!({"size": size}));
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "m-", "labels": {"counted": "yes"}}, "data": data})
}

impl Scene {
    /// A quota over the namespaces of the tenant, of which so much is counted. Returns when both admission servers know it.
    async fn global(&self, limit: &str, used: &str) -> GlobalCustomQuota {
        let quota = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalCustomQuota", "metadata": {"name": unique("quota")},
            "spec": {"limit": limit, "sources": sizes(),
                "namespaceSelectors": [{"matchLabels": {"capsule.clastix.io/tenant": self.stage.tenant}}]}});
        let api: Api<GlobalCustomQuota> = Api::all(self.stage.masters.clone());
        let quota = api
            .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
            .await
            .unwrap();
        self.known(&quota.name_any()).await;
        self.count(LEDGERS, &quota.name_any(), used).await;
        api.patch_status(&quota.name_any(), &PatchParams::default(), &Patch::Merge(ready()))
            .await
            .unwrap();
        self.settled().await;
        quota
    }

    /// The same of the first namespace.
    async fn namespaced(&self, limit: &str, used: &str, sources: Value) -> CustomQuota {
        let quota = quota_of(limit, sources);
        let api = self.quotas();
        let quota = api
            .create(&PostParams::default(), &serde_json::from_value(quota).unwrap())
            .await
            .unwrap();
        self.count(&self.namespaces[0], &quota.name_any(), used).await;
        quota
    }

    async fn of_sizes(&self, limit: &str, used: &str) -> CustomQuota {
        let quota = self.namespaced(limit, used, sizes()).await;
        self.known(&quota.name_any()).await;
        self.make_ready(&quota).await;
        self.settled().await;
        quota
    }

    async fn make_ready(&self, quota: &CustomQuota) {
        let api = self.quotas();
        api.patch_status(&quota.name_any(), &PatchParams::default(), &Patch::Merge(ready()))
            .await
            .unwrap();
    }

    fn quotas(&self) -> Api<CustomQuota> {
        Api::namespaced(self.stage.masters.clone(), &self.namespaces[0])
    }

    /// Both admission servers know the quota when nobody lets pass what it counts: nothing is counted yet.
    async fn known(&self, name: &str) {
        let refused = format!("{name:?} is not ready for generation 1");
        until("the hook, everywhere", async || {
            let tried = join_all((0..8).map(|_| self.create(0, map(Some("1")), true))).await;
            let is_refused = |tried: &Result<ConfigMap, Error>| {
                tried.as_ref().is_err_and(|error| error.to_string().contains(&refused))
            };
            tried.iter().all(is_refused).then_some(())
        })
        .await;
    }

    /// Both admission servers know that all is counted: whatever they say of an object, it is not that it is not.
    async fn settled(&self) {
        until("readiness, everywhere", async || {
            let tried = join_all((0..8).map(|_| self.create(0, map(Some("1")), true))).await;
            let is_unknown = |tried: &Result<ConfigMap, Error>| {
                tried
                    .as_ref()
                    .is_err_and(|error| error.to_string().contains("is not ready"))
            };
            (!tried.iter().any(is_unknown)).then_some(())
        })
        .await;
    }

    /// What a controller writes that counted so much.
    async fn count(&self, namespace: &str, name: &str, used: &str) {
        let ledger = json!({
            "apiVersion": "capsule.clastix.io/v1beta2", "kind": "QuantityLedger", "metadata": {"name": name},
            "spec": {"targetRef": {"kind": "CustomQuota", "name": name}}});
        let api: Api<QuantityLedger> = Api::namespaced(self.stage.masters.clone(), namespace);
        api.create(&PostParams::default(), &serde_json::from_value(ledger).unwrap())
            .await
            .unwrap();
        let status = json!({"status": {"allocated": used, "reserved": "0"}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn ledger(&self, namespace: &str, name: &str) -> QuantityLedgerStatus {
        let api: Api<QuantityLedger> = Api::namespaced(self.stage.masters.clone(), namespace);
        api.get(name).await.unwrap().status.unwrap()
    }

    /// What is allocated, and how many promises there are.
    async fn allocated(&self, quota: &CustomQuota) -> (String, usize) {
        let status = self.ledger(&self.namespaces[0], &quota.name_any()).await;
        (status.allocated.unwrap().0, status.reservations.len())
    }

    fn maps(&self, namespace: usize) -> Api<ConfigMap> {
        Api::namespaced(self.stage.owner.clone(), &self.namespaces[namespace])
    }

    async fn create(&self, namespace: usize, map: Value, dry_run: bool) -> Result<ConfigMap, Error> {
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        self.maps(namespace)
            .create(&params, &serde_json::from_value(map).unwrap())
            .await
    }

    async fn resize(&self, map: &ConfigMap, size: &str) -> Result<ConfigMap, Error> {
        let patch = json!({"data": {"size": size}});
        self.maps(0)
            .patch(&map.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
    }
}

fn ready() -> Value {
    json!({"status": {"observedGeneration": 1, "targets": [], "claims": [], "usage": {}, "conditions": [{
        "type": "Ready", "status": "True", "reason": "Succeeded", "message": "reconciled",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

/// The message of a refusal by this hook.
fn refused_by<T: std::fmt::Debug>(hook: &str, result: Result<T, Error>) -> String {
    let (code, message) = refusal(result);
    assert!(
        code == 403 && message.contains(&format!("{hook:?}")),
        "{code}: {message}"
    );
    message
}

fn quota_of(limit: &str, sources: Value) -> Value {
    json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "CustomQuota", "metadata": {"name": unique("quota")},
        "spec": {"limit": limit, "sources": sources}})
}

#[tokio::test]
async fn of_fifty_at_once_in_five_namespaces_through_two_replicas_twelve_pass() {
    let scene = Arc::new(scene(5).await);
    let quota = scene.global("24", "0").await;
    let creates = (0..50).map(|index| {
        let scene = scene.clone();
        tokio::spawn(async move { scene.create(index % 5, map(Some("2")), false).await })
    });
    let results: Vec<_> = join_all(creates).await.into_iter().map(Result::unwrap).collect();
    let (passed, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for refused in refused {
        let message = refused_by(HOOK, refused);
        let expected = format!(
            "creating resource exceeds limit for GlobalCustomQuota {:?} (requested=2, currentUsed=0, available=0, limit=24, \
             inflightReserved=24)",
            quota.name_any()
        );
        assert!(message.contains(&expected), "{message}");
    }
    assert_eq!(passed.len(), 12);
    let ledger = scene.ledger(LEDGERS, &quota.name_any()).await;
    assert_eq!(
        (ledger.reservations.len(), ledger.allocated.unwrap().0.as_str()),
        (12, "24")
    );
    let uids: Vec<String> = passed.into_iter().map(|map| map.unwrap().uid().unwrap()).collect();
    assert!(
        ledger.reservations.iter().all(|it| uids.contains(&it.object_ref.uid)),
        "every promise is for an object that is there"
    );
    let connections: Vec<usize> = CONNECTIONS.iter().map(|it| it.load(Ordering::Relaxed)).collect();
    assert!(
        connections.iter().all(|number| *number > 0),
        "both were asked: {connections:?}"
    );
}

#[tokio::test]
async fn a_change_takes_what_it_adds_and_a_deletion_leaves_a_hint() {
    let scene = scene(1).await;
    let quota = scene.of_sizes("10", "1").await;
    let made = scene.create(0, map(Some("4")), false).await.unwrap();
    assert_eq!(scene.allocated(&quota).await, ("5".to_owned(), 1));
    scene.resize(&made, "7").await.unwrap();
    assert_eq!(scene.allocated(&quota).await, ("8".to_owned(), 2));
    let message = refused_by(HOOK, scene.resize(&made, "10").await);
    let expected = "updating resource exceeds limit for CustomQuota";
    assert!(message.contains(expected), "{message}");
    assert!(
        message.contains("(requested=3, currentUsed=1, available=2, limit=10, inflightReserved=7)"),
        "{message}"
    );

    // What becomes less, leaves or goes is free when it has been counted.
    scene.resize(&made, "2").await.unwrap();
    let leaving = json!({"metadata": {"labels": {"counted": null}}});
    scene
        .maps(0)
        .patch(&made.name_any(), &PatchParams::default(), &Patch::Merge(leaving))
        .await
        .unwrap();
    assert_eq!(scene.allocated(&quota).await, ("8".to_owned(), 2));
    let other = scene.create(0, map(Some("1")), false).await.unwrap();
    scene
        .maps(0)
        .delete(&other.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let ledger = scene.ledger(&scene.namespaces[0], &quota.name_any()).await;
    let hints: Vec<&str> = ledger
        .pending_deletes
        .iter()
        .map(|it| it.object_ref.uid.as_str())
        .collect();
    let (made, other) = (made.uid().unwrap(), other.uid().unwrap());
    assert_eq!(hints, [made.as_str(), &made, &other]);
}

#[tokio::test]
async fn a_dry_run_is_refused_like_any_other_and_takes_nothing() {
    let scene = scene(1).await;
    let quota = scene.of_sizes("2", "0").await;
    scene.create(0, map(Some("2")), true).await.unwrap();
    scene.create(0, map(Some("2")), true).await.unwrap();
    refused_by(HOOK, scene.create(0, map(Some("3")), true).await);
    assert_eq!(scene.allocated(&quota).await, ("0".to_owned(), 0));
}

#[tokio::test]
async fn what_one_quota_refuses_is_given_back_by_the_others() {
    let scene = scene(1).await;
    let small = scene.of_sizes("5", "0").await;
    let large = scene.of_sizes("9", "8").await;
    let message = refused_by(HOOK, scene.create(0, map(Some("2")), false).await);
    assert!(message.contains(&large.name_any()), "{message}");
    assert_eq!(scene.allocated(&small).await, ("0".to_owned(), 0));
    assert_eq!(scene.allocated(&large).await, ("8".to_owned(), 0));
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_and_what_is_not_counted_is_not_asked_about() {
    let scene = scene(1).await;
    scene.of_sizes("5", "0").await;
    let message = refused_by(HOOK, scene.create(0, map(None), false).await);
    assert!(message.contains("did not resolve to any value"), "{message}");
    let message = refused_by(HOOK, scene.create(0, map(Some("much")), false).await);
    assert!(message.contains("\"much\" is not a quantity"), "{message}");
    let free = json!({"metadata": {"generateName": "m-"}, "data": {"size": "much"}});
    scene.create(0, free, false).await.unwrap();
}

#[tokio::test]
async fn a_status_is_recorded_and_never_refused() {
    let scene = scene(1).await;
    let sources = json!([{"apiVersion": "v1", "kind": "Pod", "path": ".status.message",
        "selectors": [{"fieldSelectors": [".status.message"]}]}]);
    let quota = scene.namespaced("3", "1", sources).await;
    scene.make_ready(&quota).await;
    scene.stage.has_account().await;
    let pod: Pod = scene
        .stage
        .create(
            &scene.stage.owner,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}, "spec": {
                "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]}}),
        )
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(scene.stage.masters.clone(), &scene.namespaces[0]);
    let mut size = 4;
    until("a recorded status", async || {
        size += 1;
        let status = json!({"status": {"message": size.to_string()}});
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        let (allocated, promises) = scene.allocated(&quota).await;
        (promises > 0 && allocated.parse::<i32>().unwrap() > 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_scale_takes_what_it_adds() {
    let scene = scene(1).await;
    let labels = json!({"app": "web"});
    let deployment: Deployment = scene
        .stage
        .create(
            &scene.stage.owner,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"size": "counted"}},
                "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]}}}}),
        )
        .await
        .unwrap();
    // What else a source reads is in the object, not in the Scale.
    let sources = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "path": ".spec.replicas",
        "selectors": [{"matchLabels": {"size": "counted"}, "celExpressions": ["object.kind == 'Deployment'"]}]}]);
    let quota = scene.namespaced("3", "1", sources).await;
    let api: Api<Deployment> = Api::namespaced(scene.stage.owner.clone(), &scene.namespaces[0]);
    let scale = async |replicas: i32, dry_run: bool| {
        let params = PatchParams {
            dry_run,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale("web", &params, &patch).await
    };
    let unready = "is not ready for generation 1";
    until("the hook, everywhere", async || {
        let tried = join_all((0..8).map(|_| scale(2, true))).await;
        let is_refused =
            |tried: &Result<_, Error>| tried.as_ref().is_err_and(|error| error.to_string().contains(unready));
        tried.iter().all(is_refused).then_some(())
    })
    .await;
    scene.make_ready(&quota).await;
    until("readiness, everywhere", async || {
        let tried = join_all((0..8).map(|_| scale(2, true))).await;
        tried.iter().all(Result::is_ok).then_some(())
    })
    .await;
    scale(3, false).await.unwrap();
    assert_eq!(scene.allocated(&quota).await, ("3".to_owned(), 1));
    let message = refused_by(HOOK, scale(4, false).await);
    assert!(
        message.contains("updating resource exceeds limit for CustomQuota"),
        "{message}"
    );
    let ledger = scene.ledger(&scene.namespaces[0], &quota.name_any()).await;
    let promise = &ledger.reservations[0].object_ref;
    assert_eq!(
        (
            promise.api_version.as_str(),
            promise.kind.as_str(),
            promise.uid.as_str()
        ),
        ("apps/v1", "Deployment", deployment.uid().unwrap().as_str())
    );
    scale(0, false).await.unwrap();
}

#[tokio::test]
async fn a_namespace_has_an_end_of_quotas() {
    let scene = scene(1).await;
    let create = || async {
        // About what nobody makes here.
        let sources = json!([{"apiVersion": "example.com/v1", "kind": "Nothing", "op": "count"}]);
        let quota = serde_json::from_value::<CustomQuota>(quota_of("1", sources)).unwrap();
        scene.quotas().create(&PostParams::default(), &quota).await
    };
    // What the admission servers have not heard of they do not count.
    let mut refused = None;
    for _ in 0..60 {
        if let Err(error) = create().await {
            refused = Some(error);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let refused: Result<CustomQuota, Error> = Err(refused.expect("an end"));
    let message = refused_by("namespaced.custom-quotas.validating.projectcapsule.dev", refused);
    assert!(message.contains("a namespace has at most 50"), "{message}");
}

#[tokio::test]
async fn a_quota_says_what_is_wrong_with_it() {
    let scene = scene(1).await;
    let source = |more: Value| {
        let mut source = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        json_patch::merge(&mut source, &more);
        json!([source])
    };
    let write = async |limit: &str, sources: Value| {
        let quota = serde_json::from_value::<CustomQuota>(quota_of(limit, sources)).unwrap();
        let result = scene.quotas().create(&PostParams::default(), &quota).await;
        refused_by("namespaced.custom-quotas.validating.projectcapsule.dev", result)
    };
    for (limit, more, expected) in [
        (
            "0",
            json!({"op": "count"}),
            "spec.limit: quantity must not be negative or 0",
        ),
        ("1", json!({"path": "data"}), "spec.sources[0].path: "),
        ("1", json!({"cel": "object.data."}), "spec.sources[0].cel: line 1"),
        ("1", json!({"cel": "true"}), "spec.sources[0].cel: "),
        (
            "1",
            json!({"op": "count", "selectors": [{"celExpressions": ["quantity('1')"]}]}),
            "spec.sources[0].selectors[0].celExpressions: ",
        ),
    ] {
        let message = write(limit, source(more)).await;
        assert!(message.contains(expected), "{message}");
    }

    let quota = scene.namespaced("5", "3", sizes()).await;
    let mut used = ready();
    used["status"]["usage"] = json!({"used": "3", "available": "2"});
    let api = scene.quotas();
    let (name, params) = (quota.name_any(), PatchParams::default());
    api.patch_status(&name, &params, &Patch::Merge(used)).await.unwrap();
    let lower = api
        .patch(&name, &params, &Patch::Merge(json!({"spec": {"limit": "2"}})))
        .await;
    let message = refused_by("namespaced.custom-quotas.validating.projectcapsule.dev", lower);
    assert!(message.contains("spec.limit: 2 is less than 3"), "{message}");
    let other = json!({"spec": {"sources": source(json!({"op": "count"}))}});
    let other = api.patch(&name, &params, &Patch::Merge(other)).await;
    let message = refused_by("namespaced.custom-quotas.validating.projectcapsule.dev", other);
    assert!(message.contains("cannot change while 3 is used"), "{message}");
    api.patch(&name, &params, &Patch::Merge(json!({"spec": {"limit": "3"}})))
        .await
        .unwrap();
}
