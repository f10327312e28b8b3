//! DataStores on a real API server, and control planes' accounts in a real etcd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests are here")]

use std::time::Duration;

use control_plane_controller::datastore::etcd::{Claim, EtcdStore, Held, StoreConfig, StoreError, Unrecorded};
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, TlsOptions};
use testbed::EtcdFixture;

fn config(etcd: &EtcdFixture) -> StoreConfig {
    StoreConfig {
        endpoints: vec![etcd.endpoint.clone()],
        ca_pem: etcd.ca_cert_pem.clone(),
        client_cert_pem: etcd.root_cert_pem.clone(),
        client_key_pem: etcd.root_key_pem.clone(),
    }
}

fn claim(schema: &str, user: &str, owner: &str) -> Claim {
    Claim {
        schema: schema.into(),
        user: user.into(),
        owner: owner.into(),
    }
}

/// A client as the API server of a control plane is one.
async fn tenant(etcd: &EtcdFixture, user: &str) -> Client {
    let pair = etcd.client_certificate(user);
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(&etcd.ca_cert_pem))
        .identity(Identity::from_pem(&pair.cert_pem, &pair.key_pem));
    let options = ConnectOptions::new()
        .with_tls(tls)
        .with_timeout(Duration::from_secs(10));
    Client::connect([etcd.url()], Some(options)).await.unwrap()
}

fn denied<T: std::fmt::Debug>(answer: Result<T, etcd_client::Error>) -> bool {
    answer.is_err_and(|error| error.to_string().contains("permission denied"))
}

/// Everything below a prefix, as root sees it.
async fn content(etcd: &EtcdFixture, prefix: &str) -> Vec<(String, String)> {
    let mut root = root(etcd).await;
    let found = root.get(prefix, Some(GetOptions::new().with_prefix())).await.unwrap();
    found
        .kvs()
        .iter()
        .map(|entry| (entry.key_str().unwrap().into(), entry.value_str().unwrap().into()))
        .collect()
}

async fn root(etcd: &EtcdFixture) -> Client {
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(&etcd.ca_cert_pem))
        .identity(Identity::from_pem(&etcd.root_cert_pem, &etcd.root_key_pem));
    Client::connect([etcd.url()], Some(ConnectOptions::new().with_tls(tls)))
        .await
        .unwrap()
}

#[tokio::test]
async fn two_control_planes_do_not_meet_even_when_one_name_begins_like_the_other() {
    let etcd = EtcdFixture::start().await;
    let mut store = EtcdStore::connect(&config(&etcd)).await.unwrap();
    let (one, other) = (claim("cp-a", "user-a", "uid-a"), claim("cp-aa", "user-aa", "uid-aa"));
    store.ensure(&one, Unrecorded::Refuse).await.unwrap();
    store.ensure(&other, Unrecorded::Refuse).await.unwrap();

    let (mut as_one, mut as_other) = (tenant(&etcd, "user-a").await, tenant(&etcd, "user-aa").await);
    as_one.put("/cp-a/registry/secrets/x", "oil", None).await.unwrap();
    as_other.put("/cp-aa/registry/secrets/x", "gas", None).await.unwrap();
    for (client, foreign) in [(&mut as_one, "/cp-aa/"), (&mut as_other, "/cp-a/")] {
        let all = || Some(GetOptions::new().with_prefix());
        assert!(denied(client.get(foreign, all()).await));
        assert!(denied(client.get("/cp-a", all()).await), "no prefix that covers both");
        assert!(denied(client.get("/", all()).await));
        assert!(
            denied(client.get("\0", Some(GetOptions::new().with_from_key())).await),
            "nor an open range"
        );
        assert!(denied(client.put(format!("{foreign}registry/x"), "stolen", None).await));
        assert!(denied(
            client
                .delete(foreign, Some(etcd_client::DeleteOptions::new().with_prefix()))
                .await
        ));
        assert!(denied(client.get("/cotenant.dev/", all()).await), "nor who has what");
        assert!(denied(client.put("/cotenant.dev/schemas/cp-a", "uid-aa", None).await));
        assert!(denied(client.user_list().await));
    }

    let neighbour = content(&etcd, "/cp-aa/").await;
    store.remove(&one, Unrecorded::Refuse).await.unwrap();
    store.remove(&one, Unrecorded::Refuse).await.unwrap();
    assert_eq!(content(&etcd, "/cp-a/").await, []);
    assert_eq!(content(&etcd, "/cp-aa/").await, neighbour);
    assert_eq!(
        content(&etcd, "/cotenant.dev/").await.len(),
        4,
        "the neighbour's two records, by name and by owner"
    );
    as_other.put("/cp-aa/registry/secrets/y", "gas", None).await.unwrap();
    assert!(as_one.get("/cp-a/", None).await.is_err(), "the user is gone");
    let users = etcd.etcdctl(&["user", "list"]).await.unwrap();
    assert_eq!(users.split_whitespace().collect::<Vec<_>>(), ["root", "user-aa"]);
}

#[tokio::test]
async fn names_have_one_owner() {
    let etcd = EtcdFixture::start().await;
    let mut store = EtcdStore::connect(&config(&etcd)).await.unwrap();
    let oil = claim("oil", "olaf", "uid-oil");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    tenant(&etcd, "olaf").await.put("/oil/a", "1", None).await.unwrap();

    for thief in [claim("oil", "greta", "uid-gas"), claim("gas", "olaf", "uid-gas")] {
        for unrecorded in [Unrecorded::Refuse, Unrecorded::Adopt] {
            let refusal = store.ensure(&thief, unrecorded).await.unwrap_err();
            assert!(matches!(refusal, StoreError::Taken { .. }), "{refusal}");
            assert!(!refusal.is_transient());
        }
    }
    // What failed has left nothing, so that its names are free for others.
    assert_eq!(content(&etcd, "/cotenant.dev/").await.len(), 4);
    store
        .remove(&claim("oil", "olaf", "uid-gas"), Unrecorded::Adopt)
        .await
        .unwrap();
    assert_eq!(
        content(&etcd, "/oil/").await,
        [("/oil/a".to_owned(), "1".to_owned())],
        "only its owner removes it"
    );

    for name in ["root", "Root", "cotenant.dev", "a/b", ""] {
        for claim in [claim(name, "fine", "uid"), claim("fine", name, "uid")] {
            let refusal = store.ensure(&claim, Unrecorded::Refuse).await.unwrap_err();
            assert!(matches!(refusal, StoreError::Refused(_)), "{claim:?}: {refusal}");
        }
    }
    for claim in [
        claim("root", "olaf", "uid"),
        claim("oil", "root", "uid"),
        claim("cotenant.dev", "x", "uid"),
    ] {
        assert!(matches!(
            store.ensure(&claim, Unrecorded::Adopt).await,
            Err(StoreError::Refused(_))
        ));
        assert!(matches!(
            store.remove(&claim, Unrecorded::Adopt).await,
            Err(StoreError::Refused(_))
        ));
    }
}

#[tokio::test]
async fn the_store_says_what_somebody_has_without_being_told_the_names() {
    let etcd = EtcdFixture::start().await;
    let mut store = EtcdStore::connect(&config(&etcd)).await.unwrap();
    let oil = claim("oil", "olaf", "uid-1");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    store
        .ensure(&claim("gas", "greta", "uid-11"), Unrecorded::Refuse)
        .await
        .unwrap();
    let held = |schemas: &[&str], users: &[&str]| Held {
        schemas: schemas.iter().map(ToString::to_string).collect(),
        users: users.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(store.held("uid-1", None).await.unwrap(), held(&["oil"], &["olaf"]));
    // Names of others, wherever they are claimed, are not added.
    let claimed = store.held("uid-1", Some(("gas", "greta"))).await.unwrap();
    assert_eq!(claimed, held(&["oil"], &["olaf"]));
    assert_eq!(store.held("uid", Some(("oil", "olaf"))).await.unwrap(), Held::default());

    // Recorded before there were entries by owner: found by name, and completed by the next pass.
    let mut root = root(&etcd).await;
    let prefix = etcd_client::DeleteOptions::new().with_prefix();
    root.delete("/cotenant.dev/owners/uid-1/", Some(prefix)).await.unwrap();
    assert_eq!(store.held("uid-1", None).await.unwrap(), Held::default());
    let named = store.held("uid-1", Some(("oil", "olaf"))).await.unwrap();
    assert_eq!(named, held(&["oil"], &["olaf"]));
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    assert_eq!(store.held("uid-1", None).await.unwrap(), named);

    store.remove(&oil, Unrecorded::Refuse).await.unwrap();
    assert_eq!(
        store.held("uid-1", Some(("oil", "olaf"))).await.unwrap(),
        Held::default()
    );
    assert_eq!(content(&etcd, "/cotenant.dev/owners/").await.len(), 2, "the other's");
}

#[tokio::test]
async fn what_an_older_operator_made_is_taken_over_by_its_owner_only() {
    let etcd = EtcdFixture::start().await;
    for command in [
        &["user", "add", "olaf", "--no-password"][..],
        &["role", "add", "oil"],
        &["role", "grant-permission", "oil", "readwrite", "/oil/", "/oil0"],
        &["role", "grant-permission", "oil", "readwrite", "/other/", "/other0"],
        &["user", "grant-role", "olaf", "oil"],
    ] {
        etcd.etcdctl(command).await.unwrap();
    }
    let mut as_oil = tenant(&etcd, "olaf").await;
    as_oil.put("/oil/a", "1", None).await.unwrap();
    root(&etcd).await.put("/left-behind/a", "1", None).await.unwrap();

    let mut store = EtcdStore::connect(&config(&etcd)).await.unwrap();
    for stranger in [
        claim("oil", "new", "uid"),
        claim("new", "olaf", "uid"),
        claim("left-behind", "new", "uid"),
    ] {
        let refusal = store.ensure(&stranger, Unrecorded::Refuse).await.unwrap_err();
        assert!(matches!(refusal, StoreError::Taken { .. }), "{refusal}");
    }
    let oil = claim("oil", "olaf", "uid-oil");
    store.ensure(&oil, Unrecorded::Adopt).await.unwrap();
    assert_eq!(content(&etcd, "/oil/").await, [("/oil/a".to_owned(), "1".to_owned())]);
    as_oil.put("/oil/b", "2", None).await.unwrap();
    assert!(
        denied(as_oil.get("/other/a", None).await),
        "what it had beyond its range is taken away"
    );
    assert!(matches!(
        store.ensure(&claim("oil", "x", "uid"), Unrecorded::Adopt).await,
        Err(StoreError::Taken { .. })
    ));
}

#[tokio::test]
async fn two_that_ask_for_one_name_at_once_do_not_both_get_it() {
    let etcd = EtcdFixture::start().await;
    let store = EtcdStore::connect(&config(&etcd)).await.unwrap();
    let attempts = (0..8).map(|number| {
        let mut store = store.clone();
        tokio::spawn(async move {
            let claim = claim("same", &format!("user-{number}"), &format!("uid-{number}"));
            store.ensure(&claim, Unrecorded::Refuse).await.is_ok()
        })
    });
    let mut winners = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        winners += usize::from(attempt.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_store_that_does_not_keep_tenants_apart_or_does_not_know_us_is_refused() {
    let etcd = EtcdFixture::start().await;
    let nobody = etcd.client_certificate("nobody");
    let as_nobody = StoreConfig {
        client_cert_pem: nobody.cert_pem,
        client_key_pem: nobody.key_pem,
        ..config(&etcd)
    };
    let refusal = EtcdStore::connect(&as_nobody).await.unwrap_err();
    assert!(matches!(refusal, StoreError::NotRoot { .. }), "{refusal:?}");

    let garbage = StoreConfig {
        client_cert_pem: "garbage".into(),
        ..config(&etcd)
    };
    assert_eq!(
        EtcdStore::connect(&garbage).await.unwrap_err().category(),
        "CredentialsInvalid"
    );

    etcd.etcdctl(&["auth", "disable"]).await.unwrap();
    let refusal = EtcdStore::connect(&config(&etcd)).await.unwrap_err();
    assert!(matches!(refusal, StoreError::AuthenticationDisabled), "{refusal:?}");

    etcd.stop().await;
    let refusal = EtcdStore::connect(&config(&etcd)).await.unwrap_err();
    assert_eq!(
        (refusal.category(), refusal.is_transient()),
        ("Unreachable", true),
        "{refusal:?}"
    );
}

mod controller {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
    use control_plane_controller::datastore::{self, Context};
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
    use kube::runtime::wait::{await_condition, conditions};
    use kube::runtime::watcher;
    use kube::{Api, Client, ResourceExt as _};
    use runtime::metrics::Registry;
    use runtime::{Shared, Shutdown};
    use serde_json::{Value, json};
    use testbed::{ApiServer, EtcdFixture};

    struct Running {
        client: Client,
        etcd: EtcdFixture,
        namespace: String,
        store: String,
        shutdown: Shutdown,
        registry: Registry,
        /// How often control planes were told of a Secret of each store.
        told: Arc<Mutex<BTreeMap<String, usize>>>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.shutdown.trigger();
        }
    }

    impl Running {
        /// A namespace, an etcd and the controller. Control planes of other tests do not count: they name other stores.
        async fn start(server: &ApiServer) -> Self {
            let client = server.client().await;
            let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
            for crd in api::crds() {
                let name = crd.name_any();
                let mut crd = serde_json::to_value(crd).unwrap();
                crd["apiVersion"] = json!("apiextensions.k8s.io/v1");
                crd["kind"] = json!("CustomResourceDefinition");
                let parameters = PatchParams::apply("test").force();
                definitions
                    .patch(&name, &parameters, &Patch::Apply(&crd))
                    .await
                    .unwrap();
                await_condition(definitions.clone(), &name, conditions::is_crd_established())
                    .await
                    .unwrap();
            }
            let namespace = testbed::unique("stores");
            let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
            Api::all(client.clone())
                .create(&PostParams::default(), &object)
                .await
                .unwrap();

            let shutdown = Shutdown::new();
            let (data_stores, control_planes) = (
                Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
                Shared::start(Api::all(client.clone()), watcher::Config::default(), |_| {}, &shutdown),
            );
            let told: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
            let tell = told.clone();
            let context = Context {
                client: client.clone(),
                data_stores,
                control_planes,
                default_data_store: None,
                on_secret: Box::new(move |store| *tell.lock().unwrap().entry(store.to_owned()).or_default() += 1),
            };
            let registry = Registry::new();
            let metrics = runtime::controller::Metrics::register(&registry);
            let stop = shutdown.clone();
            tokio::spawn(async move { datastore::run(context, &metrics, stop).await });
            let store = testbed::unique("etcd");
            Self {
                client,
                etcd: EtcdFixture::start().await,
                namespace,
                store,
                shutdown,
                registry,
                told,
            }
        }

        fn told(&self) -> usize {
            self.told.lock().unwrap().get(&self.store).copied().unwrap_or_default()
        }

        fn stores(&self) -> Api<DataStore> {
            Api::all(self.client.clone())
        }

        async fn create_store(&self) {
            let key =
                |key: &str| json!({"secretReference": {"name": "etcd", "namespace": self.namespace, "keyPath": key}});
            let object = json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
                "metadata": {"name": self.store},
                "spec": {
                    "driver": "etcd", "endpoints": [self.etcd.endpoint],
                    "tlsConfig": {
                        "certificateAuthority": {"certificate": key("ca.crt"), "privateKey": key("ca.key")},
                        "clientCertificate": {"certificate": key("root.crt"), "privateKey": key("root.key")},
                    },
                },
            });
            let object = serde_json::from_value(object).unwrap();
            self.stores().create(&PostParams::default(), &object).await.unwrap();
        }

        async fn write_secret(&self, root_cert: &str, root_key: &str) {
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "etcd"},
                "stringData": {
                    "ca.crt": self.etcd.ca_cert_pem, "ca.key": self.etcd.ca_key_pem,
                    "root.crt": root_cert, "root.key": root_key,
                },
            });
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
            api.patch("etcd", &PatchParams::apply("test").force(), &Patch::Apply(&object))
                .await
                .unwrap();
        }

        async fn create_control_plane(&self, name: &str) {
            let object: Value = json!({
                "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "metadata": {"name": name},
                "spec": {
                    "dataStore": self.store,
                    "controlPlane": {"service": {"serviceType": "ClusterIP"}},
                    "kubernetes": {"version": "v1.36.0"},
                },
            });
            let object = serde_json::from_value(object).unwrap();
            self.control_planes()
                .create(&PostParams::default(), &object)
                .await
                .unwrap();
        }

        /// How often the controller has looked at anything.
        fn runs(&self) -> u64 {
            let text = self.registry.encode();
            let prefix = "cotenant_operator_controller_runs_total{controller=\"datastore\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(prefix));
            line.map_or(0, |count| count.parse().unwrap())
        }

        fn control_planes(&self) -> Api<TenantControlPlane> {
            Api::namespaced(self.client.clone(), &self.namespace)
        }

        /// Waits until the condition has that status and reason; the object then.
        async fn until(&self, type_: &'static str, status: &'static str, reason: &'static str) -> DataStore {
            self.until_all(&[(type_, status, reason)]).await
        }

        async fn until_all(&self, wanted: &[(&'static str, &'static str, &'static str)]) -> DataStore {
            let wanted = wanted.to_vec();
            let shown = wanted.clone();
            let holds = move |store: Option<&DataStore>| {
                let conditions = store
                    .and_then(|store| store.status.as_ref())
                    .map(|status| &status.conditions);
                conditions.is_some_and(|conditions| {
                    wanted.iter().all(|(type_, status, reason)| {
                        conditions.iter().any(|condition| {
                            (
                                condition.type_.as_str(),
                                condition.status.as_str(),
                                condition.reason.as_str(),
                            ) == (*type_, *status, *reason)
                        })
                    })
                })
            };
            let waiting = await_condition(self.stores(), &self.store, holds);
            match tokio::time::timeout(Duration::from_secs(60), waiting).await {
                Ok(store) => store.unwrap().unwrap(),
                Err(tokio::time::error::Elapsed { .. }) => panic!(
                    "waited in vain for {shown:?}, but: {:?}",
                    self.stores().get(&self.store).await
                ),
            }
        }
    }

    const VALID: &str = "kamaji.clastix.io/DataStoreValidation";
    const DELETABLE: &str = "kamaji.clastix.io/DataStoreAllowedDeletion";
    const REACHABLE: &str = "cotenant.dev/DataStoreReachable";

    #[tokio::test]
    async fn a_store_says_what_it_lacks_and_gets_ready_when_it_lacks_nothing() {
        let running = Running::start(ApiServer::shared().await).await;
        running.create_store().await;
        let store = running.until(VALID, "False", "TLSConfigurationValidationFailed").await;
        let status = store.status.unwrap();
        assert!(!status.ready);
        let message = &status
            .conditions
            .iter()
            .find(|condition| condition.type_ == VALID)
            .unwrap()
            .message;
        assert!(
            message.contains(&format!("the Secret {}/etcd does not exist", running.namespace)),
            "{message}"
        );

        let root = (running.etcd.root_cert_pem.clone(), running.etcd.root_key_pem.clone());
        running.write_secret(&root.0, &root.1).await;
        let store = running
            .until_all(&[(VALID, "True", "DataStoreIsValid"), (REACHABLE, "True", "StoreAnswers")])
            .await;
        assert!(store.status.unwrap().ready);

        // A rotated Secret is noticed without anybody touching the DataStore.
        let nobody = running.etcd.client_certificate("nobody");
        running.write_secret(&nobody.cert_pem, &nobody.key_pem).await;
        let store = running.until(REACHABLE, "False", "NotAdministrator").await;
        assert!(store.status.unwrap().ready, "ready is about what exists");
        running.write_secret(&root.0, &root.1).await;
        running.until(REACHABLE, "True", "StoreAnswers").await;
    }

    #[tokio::test]
    async fn control_planes_are_told_of_a_secret_also_when_the_store_says_the_same_as_before() {
        let running = Running::start(ApiServer::shared().await).await;
        let root = (running.etcd.root_cert_pem.clone(), running.etcd.root_key_pem.clone());
        running.write_secret(&root.0, &root.1).await;
        running.create_store().await;
        let before = running.until(REACHABLE, "True", "StoreAnswers").await;
        let told = running.told();

        let api: Api<Secret> = Api::namespaced(running.client.clone(), &running.namespace);
        let patch = json!({"stringData": {"another": "value"}});
        api.patch("etcd", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
        let until_told = async {
            while running.told() == told {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), until_told).await.unwrap();
        let after = running.stores().get(&running.store).await.unwrap();
        assert_eq!(after.status, before.status);
    }

    #[tokio::test]
    async fn a_store_in_use_is_not_deleted() {
        let running = Running::start(ApiServer::shared().await).await;
        running
            .write_secret(&running.etcd.root_cert_pem, &running.etcd.root_key_pem)
            .await;
        running.create_store().await;
        let store = running.until(DELETABLE, "True", "DataStoreUnused").await;
        assert_eq!(store.finalizers(), ["kamaji.clastix.io/TenantControlPlane"]);

        running.create_control_plane("oil").await;
        running.create_control_plane("gas").await;
        running.until(DELETABLE, "False", "DataStoreStillUsed").await;
        let both = |store: Option<&DataStore>| {
            store
                .and_then(|store| store.status.as_ref())
                .is_some_and(|status| status.used_by.len() == 2)
        };
        let store = await_condition(running.stores(), &running.store, both)
            .await
            .unwrap()
            .unwrap();
        let users = ["gas", "oil"].map(|name| format!("{}/{name}", running.namespace));
        assert_eq!(store.status.unwrap().used_by, users);

        running
            .stores()
            .delete(&running.store, &DeleteParams::default())
            .await
            .unwrap();
        running
            .control_planes()
            .delete("oil", &DeleteParams::default())
            .await
            .unwrap();
        let one = |store: Option<&DataStore>| {
            store
                .and_then(|store| store.status.as_ref())
                .is_some_and(|status| status.used_by.len() == 1)
        };
        let store = await_condition(running.stores(), &running.store, one).await.unwrap();
        assert!(store.is_some(), "the other one still uses it");

        let uid = store.unwrap().uid().unwrap();
        running
            .control_planes()
            .delete("gas", &DeleteParams::default())
            .await
            .unwrap();
        await_condition(running.stores(), &running.store, conditions::is_deleted(&uid))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_store_that_is_down_says_so_until_it_is_back_and_nothing_is_written_in_between() {
        // An API server of its own: controllers of other tests would look at the store as well.
        let server = ApiServer::start().await;
        let running = Running::start(&server).await;
        running
            .write_secret(&running.etcd.root_cert_pem, &running.etcd.root_key_pem)
            .await;
        running.create_store().await;
        let up = running.until(REACHABLE, "True", "StoreAnswers").await;

        // Looked at again without anything to change: nothing is written.
        let runs = running.runs();
        let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
        let touched = running
            .stores()
            .patch(&running.store, &PatchParams::default(), &label)
            .await
            .unwrap();
        assert_ne!(touched.resource_version(), up.resource_version());
        while running.runs() < runs + 1 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let after = running.stores().get(&running.store).await.unwrap();
        assert_eq!(after.resource_version(), touched.resource_version());

        running.etcd.stop().await;
        let change = Patch::Merge(json!({"spec": {"endpoints": [running.etcd.endpoint, running.etcd.endpoint]}}));
        running
            .stores()
            .patch(&running.store, &PatchParams::default(), &change)
            .await
            .unwrap();
        let down = running.until(REACHABLE, "False", "Unreachable").await;
        assert!(down.status.as_ref().unwrap().ready);
        assert_eq!(down.status.unwrap().observed_generation, Some(2));

        running.etcd.restart().await;
        running.until(REACHABLE, "True", "StoreAnswers").await;
    }
}
