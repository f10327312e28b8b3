//! Quotas of namespaces, with two admission servers that share the work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test's own functions fail the test, and its tables are written for reading"
)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::capsule::v1beta2::{QuantityLedger, Tenant};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use support::hijack::refusal;
use support::replicas::{CONNECTIONS, second_replica};
use support::served::{TENANTS, served};
use support::until;
use tenancy::quota::places::ledger_name;
use testbed::unique;
use tokio::sync::OnceCell;

const LEDGERS: &str = "cotenant-system";

static BOTH: OnceCell<()> = OnceCell::const_new();

/// A tenant without namespaces, before two admission servers that API servers ask in turn.
struct Scene {
    masters: Client,
    owner: Client,
    tenant: Tenant,
}

async fn scene(quota: u32) -> Scene {
    let options = json!({"quota": quota, "forbiddenLabels": {"denied": ["secret"]}});
    BOTH.get_or_init(second_replica).await;
    let server = served().await.server;
    let (name, owner) = (unique("oil"), unique("alice"));
    let masters = server.client().await;
    let tenant: Tenant = serde_json::from_value(json!({
        "apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"owners": [{"kind": "User", "name": owner}], "namespaceOptions": options}}))
    .unwrap();
    let tenant = Api::all(masters.clone())
        .create(&PostParams::default(), &tenant)
        .await
        .unwrap();
    Scene {
        owner: server.client_for(&owner, &TENANTS).await,
        masters,
        tenant,
    }
}

impl Scene {
    async fn create(&self, name: &str, dry_run: bool) -> Result<Namespace, Error> {
        self.create_labelled(name, json!({}), dry_run).await
    }

    async fn create_labelled(&self, name: &str, labels: Value, dry_run: bool) -> Result<Namespace, Error> {
        let name = format!("{}-{name}", self.tenant.name_any());
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        // Whoever has no tenant yet by the watches of a replica waits for a moment: of the one that labels the
        // namespace, and of the one that validates it.
        let unknown = ["do not have any Tenant assigned", "was not assigned to a Tenant"];
        until("the tenant at every replica", async || {
            match Api::all(self.owner.clone()).create(&params, &namespace).await {
                Err(Error::Api(status)) if unknown.iter().any(|text| status.message.contains(text)) => None,
                other => Some(other),
            }
        })
        .await
    }

    async fn delete(&self, namespace: &str) {
        let api = Api::<Namespace>::all(self.masters.clone());
        let name = format!("{}-{namespace}", self.tenant.name_any());
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        until("the end of a namespace", async || {
            let found = api.get_opt(&name).await.unwrap();
            found.is_none().then_some(())
        })
        .await;
    }

    async fn namespaces(&self) -> usize {
        let labelled = ListParams::default().labels(&format!("capsule.clastix.io/tenant={}", self.tenant.name_any()));
        let api = Api::<Namespace>::all(self.masters.clone());
        api.list_metadata(&labelled).await.unwrap().items.len()
    }

    fn ledgers(&self) -> Api<QuantityLedger> {
        Api::namespaced(self.masters.clone(), LEDGERS)
    }

    async fn ledger(&self) -> Option<QuantityLedger> {
        let name = ledger_name(&self.tenant.uid().unwrap());
        self.ledgers().get_opt(&name).await.unwrap()
    }

    async fn write(&self, status: Value) {
        let name = ledger_name(&self.tenant.uid().unwrap());
        let api = self.ledgers();
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status})))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_at_once_through_two_replicas_three_pass_time_and_again() {
    for round in 0..5 {
        let scene = scene(3).await;
        let names: Vec<String> = (0..20).map(|index| index.to_string()).collect();
        let results = join_all(names.iter().map(|name| scene.create(name, false))).await;
        let (passed, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        for refused in refused {
            let (code, message) = refusal(refused);
            assert!(
                code == 403 && message.contains("Cannot exceed Namespace quota"),
                "{code}: {message}"
            );
        }
        assert_eq!((passed.len(), scene.namespaces().await), (3, 3), "round {round}");
        // What becomes free can be taken, by one of those who want it.
        let name = passed[0].as_ref().unwrap().name_any();
        scene.delete(name.rsplit('-').next().unwrap()).await;
        // Both replicas have to hear of it: a moment later, but long before a promise ends.
        let passed = until("a free place", async || {
            let names: Vec<String> = (20..30).map(|index| index.to_string()).collect();
            let results = join_all(names.iter().map(|name| scene.create(name, false))).await;
            let passed = results.iter().filter(|result| result.is_ok()).count();
            (passed > 0).then_some(passed)
        });
        let passed = tokio::time::timeout(Duration::from_secs(60), passed).await.unwrap();
        assert_eq!((passed, scene.namespaces().await), (1, 3), "round {round}");
    }
    let connections: Vec<usize> = CONNECTIONS.iter().map(|it| it.load(Ordering::Relaxed)).collect();
    assert!(
        connections.iter().all(|number| *number > 0),
        "both were asked: {connections:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_quota_holds_as_well_from_far_to_near() {
    let scene = scene(40).await;
    let names: Vec<String> = (0..60).map(|index| index.to_string()).collect();
    let results = join_all(names.iter().map(|name| scene.create(name, false))).await;
    let passed = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((passed, scene.namespaces().await), (40, 40));
}

#[tokio::test]
async fn what_is_refused_or_only_tried_takes_no_place() {
    let scene = scene(1).await;
    scene.create("dry", true).await.unwrap();
    let (code, message) = refusal(scene.create_labelled("refused", json!({"secret": "x"}), false).await);
    assert!(code == 403 && message.contains("secret"), "{code}: {message}");
    assert!(scene.ledger().await.is_none(), "nobody has written anything");
    scene.create("wet", false).await.unwrap();
    let (code, _) = refusal(scene.create("dry", true).await);
    assert_eq!(code, 403);
}

#[tokio::test]
async fn a_promise_of_a_replica_that_is_gone_ends_and_goes_with_the_tenant() {
    let scene = scene(1).await;
    scene.create("one", false).await.unwrap();
    scene.delete("one").await;
    let promise = |made: Timestamp| {
        let ends = made + tenancy::quota::places::TTL;
        json!({"allocated": "1", "reservations": [{"id": "gone", "usage": "1",
            "objectRef": {"apiVersion": "v1", "kind": "Namespace", "name": "never-made", "uid": "none"},
            "createdAt": made, "updatedAt": made, "expiresAt": ends}]})
    };
    let now = Timestamp::now();
    scene.write(promise(now)).await;
    let (code, _) = refusal(scene.create("two", false).await);
    assert_eq!(code, 403, "it may still come");
    scene
        .write(promise(
            now - tenancy::quota::places::TTL - SignedDuration::from_secs(1),
        ))
        .await;
    scene.create("two", false).await.unwrap();
    let ledger = scene.ledger().await.unwrap();
    let owners: Vec<&str> = ledger
        .owner_references()
        .iter()
        .map(|owner| owner.uid.as_str())
        .collect();
    assert_eq!(owners, [scene.tenant.uid().unwrap()]);
    let promised = ledger.status.unwrap().reservations;
    assert_eq!(promised.len(), 1, "the other one is gone");
}
