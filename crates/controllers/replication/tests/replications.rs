//! Replications against a real API server: what appears, as whom it is written, what goes again, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

use std::time::Duration;

use api::capsule::v1beta2::{CapsuleConfiguration, GlobalTenantResource, Tenant, TenantResource};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::runtime::watcher;
use kube::{Client, Config, ResourceExt};
use runtime::metrics::Registry;
use runtime::{Shared, Shutdown};
use serde_json::{Value, json};
use testbed::unique;
use tokio::sync::OnceCell;

static SHARED: OnceCell<()> = OnceCell::const_new();

/// An administrator's client of the shared API server, where the controller runs in a thread of its own.
async fn bed() -> Client {
    let server = testbed::ApiServer::shared().await;
    let client = server.client().await;
    SHARED
        .get_or_init(|| async {
            install(&client).await;
            let kubeconfig = server.kubeconfig();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                        .await
                        .unwrap();
                    let client = runtime::client::build(config.clone(), "replication-tests").unwrap();
                    replication_controller::run(context(client, config)).await.unwrap();
                });
            });
        })
        .await;
    client
}

fn context(client: Client, config: Config) -> replication_controller::Context {
    let (registry, shutdown, all) = (Registry::new(), Shutdown::new(), watcher::Config::default);
    replication_controller::Context {
        config,
        namespace: "default".to_owned(),
        configuration_name: "default".to_owned(),
        tenants: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        namespaces: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        configurations: Shared::start(Api::all(client.clone()), all(), |_| {}, &shutdown),
        tenant_resources: Shared::start(
            Api::all(client.clone()),
            all(),
            replication_controller::trim_tenant_resource,
            &shutdown,
        ),
        global_tenant_resources: Shared::start(
            Api::all(client.clone()),
            all(),
            replication_controller::trim_global_tenant_resource,
            &shutdown,
        ),
        metrics: runtime::controller::Metrics::register(&registry),
        registry,
        shutdown,
        client,
    }
}

async fn install(client: &Client) {
    let definitions = [
        api::schema::crd::<Tenant>(),
        api::schema::crd::<CapsuleConfiguration>(),
        api::schema::crd::<TenantResource>(),
        api::schema::crd::<GlobalTenantResource>(),
    ];
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let params = PatchParams::apply("tests").force();
        api.patch(&definition.name_any(), &params, &Patch::Apply(&definition))
            .await
            .unwrap();
    }
    eventually("the definitions are served", || async {
        let all = ListParams::default();
        let served = Api::<Tenant>::all(client.clone()).list(&all).await.is_ok()
            && Api::<TenantResource>::all(client.clone()).list(&all).await.is_ok()
            && Api::<GlobalTenantResource>::all(client.clone())
                .list(&all)
                .await
                .is_ok()
            && Api::<CapsuleConfiguration>::all(client.clone())
                .list(&all)
                .await
                .is_ok();
        served.then_some(()).ok_or("not yet".to_owned())
    })
    .await;
}

/// Asks again until the answer is good. The deadline is for a broken build, not for a slow machine.
async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let mut last = String::new();
    for _ in 0..600 {
        match ask().await {
            Ok(value) => return value,
            Err(reason) => last = reason,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: still not so: {last}")
}

/// A tenant with namespaces `<tenant>-a`, `<tenant>-b`, where the ServiceAccount `replicator` of the first may edit.
struct Stage {
    client: Client,
    tenant: Tenant,
}

impl Stage {
    async fn new(namespaces: &[&str]) -> Self {
        let client = bed().await;
        let tenant = json!({"metadata": {"name": unique("oil")}, "spec": {}});
        let tenant = Api::<Tenant>::all(client.clone())
            .create(&PostParams::default(), &serde_json::from_value(tenant).unwrap())
            .await
            .unwrap();
        let stage = Self { client, tenant };
        for namespace in namespaces {
            stage.namespace(namespace).await;
        }
        stage
    }

    fn name(&self, namespace: &str) -> String {
        format!("{}-{namespace}", self.tenant.name_any())
    }

    async fn namespace(&self, suffix: &str) {
        let (tenant, name) = (self.tenant.name_any(), self.name(suffix));
        let namespace = json!({"metadata": {
            "name": name, "labels": {"capsule.clastix.io/tenant": tenant, "env": suffix},
            "ownerReferences": [{"apiVersion": "capsule.clastix.io/v1beta2", "kind": "Tenant", "name": tenant, "uid": self.tenant.uid()}]}});
        Api::<Namespace>::all(self.client.clone())
            .create(&PostParams::default(), &serde_json::from_value(namespace).unwrap())
            .await
            .unwrap();
        let binding = json!({"metadata": {"name": "replicator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "replicator", "namespace": self.name("a")}]});
        Api::<RoleBinding>::namespaced(self.client.clone(), &name)
            .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
            .await
            .unwrap();
    }

    fn maps(&self, suffix: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.name(suffix))
    }

    fn replications(&self) -> Api<TenantResource> {
        Api::namespaced(self.client.clone(), &self.name("a"))
    }

    async fn map(&self, suffix: &str, name: &str, more: Value) {
        let mut object = json!({"metadata": {"name": name}, "data": {"from": suffix}});
        object["metadata"]["labels"] = more;
        self.maps(suffix)
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }

    /// Makes, or changes, a TenantResource in the first namespace.
    async fn replicate(&self, name: &str, mut spec: Value) {
        let defaults = json!({"resyncPeriod": "5s", "serviceAccount": {"name": "replicator"}});
        for (field, value) in defaults.as_object().unwrap() {
            if spec.get(field).is_none() {
                spec[field] = value.clone();
            }
        }
        let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantResource",
            "metadata": {"name": name}, "spec": spec});
        self.replications()
            .patch(name, &PatchParams::apply("author").force(), &Patch::Apply(&object))
            .await
            .unwrap();
    }

    /// Waits until `Ready` has this status and its message holds these words, for the spec that is there now.
    async fn judged(&self, name: &str, status: &str, words: &str) -> TenantResource {
        eventually(&format!("{name} is Ready={status}"), || async {
            let object = self.replications().get(name).await.unwrap();
            let known = object.status.clone().unwrap_or_default();
            let ready = known.conditions.iter().find(|it| it.type_ == "Ready");
            let is_so = known.observed_generation == object.metadata.generation
                && ready.is_some_and(|it| it.status == status && it.message.contains(words));
            is_so.then_some(object).ok_or(format!("{known:?}"))
        })
        .await
    }

    async fn absent(&self, suffix: &str, name: &str) {
        eventually(&format!("{name} is gone"), || async {
            let found = self.maps(suffix).get_opt(name).await.unwrap();
            found.is_none().then_some(()).ok_or(format!("{found:?}"))
        })
        .await;
    }

    async fn present(&self, suffix: &str, name: &str) -> ConfigMap {
        eventually(&format!("{name} is there"), || async {
            self.maps(suffix)
                .get_opt(name)
                .await
                .unwrap()
                .ok_or("not yet".to_owned())
        })
        .await
    }
}

fn raw(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"for": "{{ tenant.name }}"}})
}

async fn global(client: &Client, name: &str, spec: Value) {
    let object = json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "GlobalTenantResource",
        "metadata": {"name": name}, "spec": spec});
    Api::<GlobalTenantResource>::all(client.clone())
        .patch(name, &PatchParams::apply("author").force(), &Patch::Apply(&object))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_tenants_copies_raw_items_and_templates_fill_its_namespaces_as_its_service_account() {
    let stage = Stage::new(&["a", "b"]).await;
    stage.map("a", "source", json!({"copy": "yes", "app": "web"})).await;
    stage
        .replicate("all", json!({"resources": [{
            "namespacedItems": [{"kind": "ConfigMap", "namespace": stage.name("a"), "selector": {"matchLabels": {"copy": "yes"}}}],
            // Whatever namespace the author writes, the one that is filled gets it.
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "raw", "namespace": "kube-system"},
                "data": {"where": "{{ namespace }} of {{tenant.name}}"}}],
            "generators": [{"template": "{{ range .maps }}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: about-{{ .metadata.name }}\n\
                data:\n  from: {{ .data.from }}\n  in: {{ $.namespace.metadata.labels.env }}\n{{ end }}"}],
            "context": {"resources": [{"index": "maps", "kind": "ConfigMap", "name": "source", "namespace": stage.name("a")}]},
            "additionalMetadata": {"labels": {"by": "{{ tenant.name }}"}}
        }]}))
        .await;
    let object = stage.judged("all", "True", "").await;
    let status = object.status.clone().unwrap();
    let mut items: Vec<_> = status
        .processed_items
        .iter()
        .map(|it| format!("{} {} {}", it.namespace.rsplit_once('-').unwrap().1, it.name, it.origin))
        .collect();
    items.sort();
    assert_eq!(
        items,
        [
            "a about-source 0/generator-0-0",
            "a raw 0/raw-0",
            "b about-source 0/generator-0-0",
            "b raw 0/raw-0",
            "b source replica",
        ]
    );
    assert_eq!(status.size, 5);
    assert_eq!(status.service_account.unwrap().name, "replicator");
    assert!(
        status
            .processed_items
            .iter()
            .all(|it| it.status.as_ref().unwrap().created)
    );
    assert_eq!(object.finalizers(), ["controller.projectcapsule.dev/finalize"]);

    let raw = stage.present("b", "raw").await;
    assert_eq!(
        raw.data.as_ref().unwrap()["where"],
        format!("{} of {}", stage.name("b"), stage.tenant.name_any())
    );
    let labels = raw.labels();
    assert_eq!(labels["projectcapsule.dev/created-by"], "replications");
    assert_eq!(labels["projectcapsule.dev/managed-by"], "replications");
    assert_eq!(labels["by"], stage.tenant.name_any());
    let managers: Vec<_> = raw
        .managed_fields()
        .iter()
        .filter_map(|it| it.manager.clone())
        .collect();
    let suffix = format!("/{}/{}/0/raw-0/", stage.name("b"), stage.tenant.name_any());
    assert!(managers.iter().any(|it| it.ends_with(&suffix)), "{managers:?}");
    assert!(
        managers.iter().any(|it| it == "projectcapsule.dev/resource/controller"),
        "{managers:?}"
    );
    let copy = stage.present("b", "source").await;
    assert!(!copy.labels().contains_key("copy") && copy.labels()["app"] == "web");
    assert_eq!(stage.present("b", "about-source").await.data.unwrap()["in"], "b");
    let foreign = Api::<ConfigMap>::namespaced(stage.client.clone(), "kube-system")
        .get_opt("raw")
        .await
        .unwrap();
    assert!(foreign.is_none());

    // Asked to look again, it finds nothing to do, and takes the request off.
    let before = (raw.resource_version(), copy.resource_version());
    let request = json!({"metadata": {"annotations": {"reconcile.projectcapsule.dev/requestedAt": "now"}}});
    stage
        .replications()
        .patch("all", &PatchParams::default(), &Patch::Merge(request))
        .await
        .unwrap();
    eventually("the request is taken off", || async {
        let object = stage.replications().get("all").await.unwrap();
        object
            .annotations()
            .is_empty()
            .then_some(())
            .ok_or("still there".to_owned())
    })
    .await;
    let after = (
        stage.present("b", "raw").await.resource_version(),
        stage.present("b", "source").await.resource_version(),
    );
    assert_eq!(after, before);

    // A namespace that is made later is filled, and one that leaves the selection is emptied.
    stage.namespace("c").await;
    stage.present("c", "raw").await;
}

#[tokio::test]
async fn what_a_tenant_may_not_reach_its_replication_does_not_reach() {
    let (stage, other) = (Stage::new(&["a", "b"]).await, Stage::new(&["a"]).await);
    let secret = json!({"metadata": {"name": "crown", "labels": {"copy": "yes"}}, "stringData": {"jewels": "canary"}});
    Api::<Secret>::namespaced(other.client.clone(), &other.name("a"))
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    let one = |block: Value| json!({"resources": [block]});
    let raw = |object: Value| one(json!({"rawItems": [object]}));
    let template = |text: &str| one(json!({"generators": [{"template": text}]}));
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "tr-escape"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let rows = [
        (
            "reads-by-name",
            one(json!({"namespacedItems": [{"kind": "Secret", "name": "crown", "namespace": other.name("a")}]})),
            "cross-namespace selection is not allowed",
        ),
        (
            "reads-by-label",
            one(
                json!({"namespacedItems": [{"kind": "Secret", "namespace": other.name("a"), "selector": {"matchLabels": {"copy": "yes"}}}]}),
            ),
            "cross-namespace selection is not allowed",
        ),
        (
            "reads-for-template",
            one(
                json!({"context": {"resources": [{"index": "x", "kind": "Secret", "name": "crown", "namespace": other.name("a")}]},
            "generators": [{"template": "{{ toYaml .x }}"}]}),
            ),
            "cross-namespace selection is not allowed",
        ),
        (
            "reads-what-is-not-there",
            one(json!({"namespacedItems": [{"kind": "Secret", "name": "x", "namespace": "no-such-place"}]})),
            "cross-namespace selection is not allowed",
        ),
        (
            "reads-nodes",
            one(json!({"context": {"resources": [{"kind": "Node"}]}})),
            "cluster-scoped kind Node is not allowed",
        ),
        (
            "reads-out-of-path",
            one(json!({"namespacedItems": [{"kind": "Secret", "name": "../../x"}]})),
            "names no object",
        ),
        (
            "kind-out-of-path",
            raw(json!({"apiVersion": "../../x/v1", "kind": "X", "metadata": {"name": "x"}})),
            "apiVersion",
        ),
        ("makes-role", raw(role.clone()), "cluster-scoped kind ClusterRole"),
        (
            "makes-role-by-template",
            template(&role.to_string()),
            "cluster-scoped kind ClusterRole",
        ),
        (
            "makes-namespace",
            raw(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tr-escape"}})),
            "cluster-scoped kind Namespace",
        ),
        (
            "makes-itself",
            raw(
                json!({"apiVersion": "capsule.clastix.io/v1beta2", "kind": "TenantResource", "metadata": {"name": "x"}, "spec": {}}),
            ),
            "cannot make replications",
        ),
        (
            "makes-binding",
            raw(
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "x"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": []}),
            ),
            "forbidden",
        ),
        (
            "bomb",
            template("{{ range until 9999 }}{{ range until 9999 }}xxxxxxxxxx{{ end }}{{ end }}"),
            "generators[0]",
        ),
        (
            "many",
            template(
                "{{ range until 600 }}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m{{ . }}}\n{{ end }}",
            ),
            "at most 500",
        ),
    ];
    for (name, spec, _) in &rows {
        stage.replicate(name, spec.clone()).await;
    }
    let mut nobody = raw(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}));
    nobody["serviceAccount"] = json!({"name": "nobody"});
    stage.replicate("runs-as-nobody", nobody).await;
    for (name, _, words) in &rows {
        stage.judged(name, "False", words).await;
    }
    stage.judged("runs-as-nobody", "False", "forbidden").await;
    for suffix in ["a", "b"] {
        let secrets = Api::<Secret>::namespaced(stage.client.clone(), &stage.name(suffix));
        assert!(secrets.get_opt("crown").await.unwrap().is_none());
    }
    assert!(
        Api::<ClusterRole>::all(stage.client.clone())
            .get_opt("tr-escape")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        Api::<Namespace>::all(stage.client.clone())
            .get_opt("tr-escape")
            .await
            .unwrap()
            .is_none()
    );
    let said = serde_json::to_string(&stage.replications().list(&ListParams::default()).await.unwrap()).unwrap();
    assert!(!said.contains("canary"));
}

#[tokio::test]
async fn what_was_made_goes_and_what_was_adopted_stays() {
    let stage = Stage::new(&["a", "b"]).await;
    stage.map("b", "theirs", json!({"mine": "yes"})).await;
    let spec = |items: Value, adopt: bool| {
        json!({"settings": {"adopt": adopt}, "resources": [{
        "namespaceSelector": {"matchLabels": {"env": "b"}}, "rawItems": items}]})
    };
    stage
        .replicate("keep", spec(json!([raw("made"), raw("other"), raw("theirs")]), false))
        .await;
    stage.judged("keep", "False", "exists and cannot be adopted").await;
    assert!(!stage.present("b", "theirs").await.data.unwrap().contains_key("for"));

    stage
        .replicate("keep", spec(json!([raw("made"), raw("other"), raw("theirs")]), true))
        .await;
    stage.judged("keep", "True", "").await;
    let theirs = stage.present("b", "theirs").await;
    assert_eq!(theirs.labels()["projectcapsule.dev/managed-by"], "replications");
    assert!(!theirs.labels().contains_key("projectcapsule.dev/created-by"));
    assert_eq!(theirs.data.unwrap()["for"], stage.tenant.name_any());

    // `other` is wanted by another origin now: it stays, and is the same object.
    let uid = stage.present("b", "other").await.uid();
    stage.replicate("keep", spec(json!([raw("other")]), true)).await;
    stage.absent("b", "made").await;
    stage.judged("keep", "True", "").await;
    assert_eq!(stage.present("b", "other").await.uid(), uid);
    let theirs = stage.present("b", "theirs").await;
    assert_eq!(
        theirs.data.as_ref().unwrap().len(),
        1,
        "what was written is taken back: {theirs:?}"
    );
    assert!(!theirs.labels().contains_key("projectcapsule.dev/managed-by"));
    assert_eq!(theirs.labels()["mine"], "yes");

    stage
        .replications()
        .delete("keep", &DeleteParams::default())
        .await
        .unwrap();
    stage.absent("b", "other").await;
    eventually("the replication is gone", || async {
        let found = stage.replications().get_opt("keep").await.unwrap();
        found.is_none().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;

    let mut lasting = spec(json!([raw("lasting")]), false);
    lasting["pruningOnDelete"] = json!(false);
    stage.replicate("lasting", lasting).await;
    stage.judged("lasting", "True", "").await;
    stage
        .replications()
        .delete("lasting", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the replication is gone", || async {
        let found = stage.replications().get_opt("lasting").await.unwrap();
        found.is_none().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
    let left = stage.present("b", "lasting").await;
    assert!(left.labels().is_empty(), "{left:?}");
}

#[tokio::test]
async fn fields_of_others_are_a_conflict_unless_forced() {
    let stage = Stage::new(&["a"]).await;
    let theirs =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"for": "me"}});
    stage
        .maps("a")
        .patch("shared", &PatchParams::apply("somebody"), &Patch::Apply(&theirs))
        .await
        .unwrap();
    let spec = |force: bool| json!({"settings": {"adopt": true, "force": force}, "resources": [{"rawItems": [raw("shared")]}]});
    stage.replicate("forced", spec(false)).await;
    stage.judged("forced", "False", "conflict").await;
    assert_eq!(stage.present("a", "shared").await.data.unwrap()["for"], "me");
    stage.replicate("forced", spec(true)).await;
    stage.judged("forced", "True", "").await;
    assert_eq!(
        stage.present("a", "shared").await.data.unwrap()["for"],
        stage.tenant.name_any()
    );
}

#[tokio::test]
async fn one_waits_for_another_and_a_cordoned_one_for_nothing() {
    let stage = Stage::new(&["a"]).await;
    let spec = |name: &str| json!({"dependsOn": [{"name": "first"}], "resources": [{"rawItems": [raw(name)]}]});
    stage.replicate("second", spec("two")).await;
    stage.judged("second", "False", "dependency first not found").await;
    stage
        .replicate(
            "first",
            json!({"resources": [{"rawItems": [{"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}}]}]}),
        )
        .await;
    stage.judged("first", "False", "no kind").await;
    stage.judged("second", "False", "dependency first not ready").await;
    assert!(stage.maps("a").get_opt("two").await.unwrap().is_none());
    stage
        .replicate("first", json!({"resources": [{"rawItems": [raw("one")]}]}))
        .await;
    stage.judged("second", "True", "").await;
    stage.present("a", "two").await;

    stage
        .replicate(
            "first",
            json!({"cordoned": true, "resources": [{"rawItems": [raw("three")]}]}),
        )
        .await;
    eventually("it is cordoned", || async {
        let status = stage
            .replications()
            .get("first")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        let is_so = status
            .conditions
            .iter()
            .any(|it| it.type_ == "Cordoned" && it.status == "True" && it.message == "is cordoned");
        is_so.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    stage.present("a", "one").await;
    assert!(stage.maps("a").get_opt("three").await.unwrap().is_none());
}

#[tokio::test]
async fn a_global_replication_fills_namespaces_tenants_or_the_cluster_once() {
    let stage = Stage::new(&["a", "b"]).await;
    let tenant = stage.tenant.name_any();
    let label = json!({"metadata": {"labels": {"pick": tenant}}});
    Api::<Tenant>::all(stage.client.clone())
        .patch(&tenant, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let picked = json!({"matchLabels": {"pick": tenant}});
    let (each, once, never) = (unique("each"), unique("once"), unique("none"));
    global(
        &stage.client,
        &each,
        json!({"tenantSelector": picked, "resyncPeriod": "1h", "resources": [{"rawItems": [raw("everywhere")]}]}),
    )
    .await;
    let role = |name: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": []});
    global(&stage.client, &once, json!({"tenantSelector": picked, "scope": "Tenant", "resources": [{"rawItems": [role("{{ tenant.name }}-role")]}]})).await;
    global(
        &stage.client,
        &never,
        json!({"scope": "None", "tenantSelector": picked, "resources": [{"rawItems": [role(&never)]}]}),
    )
    .await;
    for suffix in ["a", "b"] {
        let made = stage.present(suffix, "everywhere").await;
        assert_eq!(made.data.unwrap()["for"], tenant);
    }
    // A namespace that comes later does not wait for the resync.
    stage.namespace("later").await;
    let made = stage.present("later", "everywhere").await;
    let object = Api::<GlobalTenantResource>::all(stage.client.clone())
        .get(&each)
        .await
        .unwrap();
    eventually("the owner is there", || async {
        let made = stage.present("later", "everywhere").await;
        let owned = made.owner_references().iter().any(|it| it.uid == object.uid().unwrap());
        owned.then_some(()).ok_or(format!("{made:?}"))
    })
    .await;
    assert!(made.uid().is_some());
    let roles = Api::<ClusterRole>::all(stage.client.clone());
    for name in [format!("{tenant}-role"), never.clone()] {
        eventually("the role is there", || async {
            roles.get_opt(&name).await.unwrap().map(|_| ()).ok_or("no".to_owned())
        })
        .await;
    }
    let all = Api::<GlobalTenantResource>::all(stage.client.clone());
    let status = eventually("the status is there", || async {
        let status = all.get(&never).await.unwrap().status.unwrap_or_default();
        (status.size == 1)
            .then_some(status.clone())
            .ok_or(format!("{status:?}"))
    })
    .await;
    assert_eq!(status.selected_tenants, std::slice::from_ref(&tenant));
    let item = &status.processed_items[0];
    assert_eq!((item.tenant.as_str(), item.namespace.as_str()), ("None", ""));
    assert!(item.status.as_ref().unwrap().cluster_scoped);

    // A tenant that is selected no more loses what it got, and the one that goes takes all of it.
    let label = json!({"metadata": {"labels": {"pick": null}}});
    Api::<Tenant>::all(stage.client.clone())
        .patch(&tenant, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    stage.absent("a", "everywhere").await;
    all.delete(&never, &DeleteParams::default()).await.unwrap();
    eventually("the role is gone", || async {
        let found = roles.get_opt(&never).await.unwrap();
        found.is_none().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
}

/// A part of an object that several make.
fn part(name: &str, key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: "yes"}})
}

#[tokio::test]
async fn what_several_replications_of_a_tenant_make_goes_with_the_last_of_them() {
    let stage = Stage::new(&["a", "b"]).await;
    let spec = |key: &str| {
        json!({"resources": [{
        "namespaceSelector": {"matchLabels": {"env": "b"}}, "rawItems": [part("together", key)]}]})
    };
    let has = async |keys: &[&str]| {
        eventually(&format!("it has {keys:?}"), || async {
            let map = stage.present("b", "together").await;
            let data = map.data.clone().unwrap_or_default();
            let is_so = data.keys().map(String::as_str).eq(keys.iter().copied());
            is_so.then_some(map.uid()).ok_or(format!("{map:?}"))
        })
        .await
    };
    stage.replicate("one", spec("one")).await;
    stage.judged("one", "True", "").await;
    let uid = has(&["one"]).await;
    stage.replicate("two", spec("two")).await;
    stage.judged("two", "True", "").await;
    assert_eq!(has(&["one", "two"]).await, uid);
    // Another account is another author, though of the same tenant.
    let binding = json!({"metadata": {"name": "another"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "another", "namespace": stage.name("a")}]});
    Api::<RoleBinding>::namespaced(stage.client.clone(), &stage.name("b"))
        .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    let mut other = spec("three");
    other["serviceAccount"] = json!({"name": "another"});
    stage.replicate("three", other).await;
    stage.judged("three", "False", "exists and cannot be adopted").await;

    stage
        .replications()
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(has(&["two"]).await, uid);
    let labels = stage.present("b", "together").await.metadata.labels.unwrap();
    assert_eq!(labels["projectcapsule.dev/created-by"], "replications");
    stage
        .replications()
        .delete("two", &DeleteParams::default())
        .await
        .unwrap();
    stage.absent("b", "together").await;
}

#[tokio::test]
async fn global_replications_make_objects_together_and_each_is_an_owner() {
    let stage = Stage::new(&["a"]).await;
    let (client, tenant) = (stage.client.clone(), stage.tenant.name_any());
    let label = json!({"metadata": {"labels": {"pick": tenant}}});
    Api::<Tenant>::all(client.clone())
        .patch(&tenant, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let selector = json!({"matchLabels": {"pick": tenant}});
    let names = [unique("global"), unique("global")];
    for (name, key) in names.iter().zip(["one", "two"]) {
        let spec = json!({"resyncPeriod": "5s", "tenantSelector": selector, "resources": [{"rawItems": [part("together", key)]}]});
        global(&client, name, spec).await;
        eventually("its part is there", || async {
            let map = stage.present("a", "together").await;
            let is_there = map.data.as_ref().is_some_and(|data| data.contains_key(key));
            is_there.then_some(()).ok_or(format!("{map:?}"))
        })
        .await;
    }
    let owners = |map: &ConfigMap| -> Vec<String> {
        let owners = map.owner_references().iter();
        owners.map(|owner| owner.name.clone()).collect()
    };
    eventually("both own it", || async {
        let map = stage.present("a", "together").await;
        (owners(&map) == names).then_some(()).ok_or(format!("{map:?}"))
    })
    .await;
    let replications: Api<GlobalTenantResource> = Api::all(client.clone());
    replications.delete(&names[0], &DeleteParams::default()).await.unwrap();
    eventually("the other one has it alone", || async {
        let map = stage.present("a", "together").await;
        let keys: Vec<_> = map.data.iter().flat_map(|data| data.keys()).collect();
        (owners(&map) == names[1..] && keys == ["two"])
            .then_some(())
            .ok_or(format!("{map:?}"))
    })
    .await;
    replications.delete(&names[1], &DeleteParams::default()).await.unwrap();
    stage.absent("a", "together").await;
}

#[tokio::test]
async fn a_label_alone_makes_nothing_a_replications_own() {
    let stage = Stage::new(&["a"]).await;
    stage
        .map("a", "marked", json!({"projectcapsule.dev/created-by": "replications"}))
        .await;
    let spec = |adopt: bool| json!({"settings": {"adopt": adopt}, "resources": [{"rawItems": [raw("marked")]}]});
    stage.replicate("takes", spec(false)).await;
    stage.judged("takes", "False", "exists and cannot be adopted").await;
    // What is adopted is not deleted afterwards, whatever its label says.
    stage.replicate("takes", spec(true)).await;
    stage.judged("takes", "True", "").await;
    stage
        .replications()
        .delete("takes", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the replication is gone", || async {
        let found = stage.replications().get_opt("takes").await.unwrap();
        found.is_none().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
    let left = stage.present("a", "marked").await;
    assert_eq!(left.data.unwrap().keys().collect::<Vec<_>>(), ["from"]);
}

#[tokio::test]
async fn a_replication_that_may_no_longer_delete_goes_all_the_same() {
    let stage = Stage::new(&["a"]).await;
    stage
        .replicate("strays", json!({"resources": [{"rawItems": [raw("stray")]}]}))
        .await;
    stage.judged("strays", "True", "").await;
    Api::<RoleBinding>::namespaced(stage.client.clone(), &stage.name("a"))
        .delete("replicator", &DeleteParams::default())
        .await
        .unwrap();
    // Authorizers learn of it a moment later, and the copy would go.
    let user = format!("system:serviceaccount:{}:replicator", stage.name("a"));
    let asked = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": {
        "namespace": stage.name("a"), "verb": "delete", "resource": "configmaps", "name": "stray"}}});
    let asked: SubjectAccessReview = serde_json::from_value(asked).unwrap();
    eventually("it may no longer delete", || async {
        let reviews = Api::<SubjectAccessReview>::all(stage.client.clone());
        let answered = reviews.create(&PostParams::default(), &asked).await.unwrap();
        let may = answered.status.unwrap().allowed;
        (!may).then_some(()).ok_or("it may".to_owned())
    })
    .await;
    stage
        .replications()
        .delete("strays", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the replication is gone", || async {
        let found = stage.replications().get_opt("strays").await.unwrap();
        found.is_none().then_some(()).ok_or(format!("{found:?}"))
    })
    .await;
    stage.present("a", "stray").await;
}

#[tokio::test]
async fn what_one_replication_reads_is_bounded() {
    let stage = Stage::new(&["a", "b"]).await;
    for number in 0..20 {
        let object = json!({"metadata": {"name": format!("large-{number}"), "labels": {"copy": "yes"}},
            "data": {"text": "x".repeat(900 * 1024)}});
        stage
            .maps("a")
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }
    let items = json!([{"kind": "ConfigMap", "selector": {"matchLabels": {"copy": "yes"}}}]);
    stage
        .replicate("reads", json!({"resources": [{"namespacedItems": items}]}))
        .await;
    stage
        .judged("reads", "False", "what the replication reads takes more than")
        .await;
    stage
        .replicate("lists", json!({"resources": [{"rawItems": vec![raw("x"); 501]}]}))
        .await;
    stage.judged("lists", "False", "rawItems has 501 entries").await;
}

#[tokio::test]
async fn a_tenant_that_fails_stops_no_other() {
    let (good, bad) = (Stage::new(&["a"]).await, Stage::new(&["a"]).await);
    let group = unique("group");
    for (stage, kind) in [(&good, "good"), (&bad, "bad")] {
        let labels = json!({"metadata": {"labels": {"group": group, "kind": kind}}});
        Api::<Tenant>::all(stage.client.clone())
            .patch(&stage.tenant.name_any(), &PatchParams::default(), &Patch::Merge(labels))
            .await
            .unwrap();
    }
    let spec = |items: Value, template: &str| {
        json!({"resyncPeriod": "5s", "scope": "Namespace", "tenantSelector": {"matchLabels": {"group": group}},
            "resources": [{"rawItems": items, "generators": [{"template": template}]}]})
    };
    global(&good.client, &group, spec(json!([raw("first"), raw("second")]), "")).await;
    for stage in [&good, &bad] {
        stage.present("a", "second").await;
    }
    let failing = "{{ if eq .tenant.metadata.labels.kind \"bad\" }}{{ fail \"no\" }}{{ end }}";
    global(&good.client, &group, spec(json!([raw("first"), raw("third")]), failing)).await;
    for stage in [&good, &bad] {
        stage.present("a", "third").await;
    }
    good.absent("a", "second").await;
    bad.present("a", "second").await;
    let all = Api::<GlobalTenantResource>::all(good.client.clone());
    eventually("it says what failed", || async {
        let status = all.get(&group).await.unwrap().status.unwrap_or_default();
        let is_so = status
            .conditions
            .iter()
            .any(|it| it.type_ == "Ready" && it.message.contains("generators[0]"));
        is_so.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    all.delete(&group, &DeleteParams::default()).await.unwrap();
}
