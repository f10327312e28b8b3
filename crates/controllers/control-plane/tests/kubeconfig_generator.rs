//! KubeconfigGenerators against a real API server. The authority of the control plane is that of the API server itself, so
//! that what is made can be used: the server says who came in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use api::kamaji::v1alpha1::{DataStore, KubeconfigGenerator, TenantControlPlane};
use bed::operator::Operator;
use bed::{create, eventually, install, when};
use control_plane_controller::Settings;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use pki::{Authority, LeafRequest};
use serde_json::{Value, json};
use testbed::{ApiServer, unique};

struct World {
    server: ApiServer,
    client: Client,
    prod: String,
    test: String,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::start().await;
        let client = server.client().await;
        install(&client, api::schema::crd::<DataStore>()).await;
        install(&client, api::schema::crd::<TenantControlPlane>()).await;
        install(&client, api::schema::crd::<KubeconfigGenerator>()).await;
        let world = Self {
            server,
            client,
            prod: unique("prod"),
            test: unique("test"),
        };
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        for (name, stage) in [(&world.prod, "prod"), (&world.test, "test")] {
            create(
                &namespaces,
                json!({"metadata": {"name": name, "labels": {"stage": stage}}}),
            )
            .await;
        }
        world
    }

    fn operate(&self) -> Operator {
        Operator::start(&self.client, Settings::default())
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A control plane without a datastore, so that nobody but the test makes its Secrets.
    async fn control_plane(&self, namespace: &str, name: &str, port: i32) -> TenantControlPlane {
        let object = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"tier": "gold"}},
            "spec": {
                "dataStore": "none",
                "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "NodePort"}},
                "kubernetes": {"version": "v1.36.3"},
                "networkProfile": {"address": "192.0.2.10", "port": port},
            },
        });
        create(&Api::namespaced(self.client.clone(), namespace), object).await
    }

    /// The authority that the API server trusts.
    fn authority(&self) -> Authority {
        let file = |name: &str| std::fs::read_to_string(self.server.directory().join(name)).unwrap();
        Authority::from_pem(&file("ca.crt"), &file("ca.key")).unwrap()
    }

    /// Writes the Secrets of a control plane that its kubeconfigs are made of, as its own controller would.
    async fn credentials(&self, tcp: &TenantControlPlane, authority: &Authority) {
        let admin = pki::Kubeconfig {
            cluster: tcp.name_any(),
            server: self.server.url(),
            ca_pem: self.server.ca_pem().to_owned(),
            user: "kubernetes-admin".to_owned(),
            client: authority
                .issue(&LeafRequest::client("kubernetes-admin", &[], Timestamp::now()))
                .unwrap(),
            namespace: None,
            tls_server_name: None,
        };
        self.part(
            tcp,
            "ca",
            json!({"ca.crt": authority.cert_pem(), "ca.key": authority.key_pem()}),
        )
        .await;
        self.part(tcp, "admin-kubeconfig", json!({"admin.svc": admin.to_yaml()}))
            .await;
    }

    async fn part(&self, tcp: &TenantControlPlane, component: &str, data: Value) {
        let name = format!("{}-{component}", tcp.name_any());
        let object = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {
                    "kamaji.clastix.io/project": "kamaji",
                    "kamaji.clastix.io/name": tcp.name_any(),
                    "kamaji.clastix.io/component": component,
                },
                "ownerReferences": [tcp.controller_owner_ref(&()).unwrap()],
            },
            "stringData": data,
        });
        self.secrets(&tcp.namespace().unwrap())
            .patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// Until the status of a generator tells of so many targets and so many kubeconfigs.
    async fn until_status(&self, generator: &str, resources: i64, available: i64) -> KubeconfigGenerator {
        let api: Api<KubeconfigGenerator> = Api::all(self.client.clone());
        eventually(
            &format!("{generator} has {available} of {resources} kubeconfigs"),
            || async {
                let found = api.get(generator).await.map_err(|error| error.to_string())?;
                let status = found.status.clone().unwrap_or_default();
                when(
                    (status.resources, status.available_resources) == (resources, available)
                        && status.observed_generation == found.metadata.generation,
                    || format!("{status:?}"),
                )
                .map(|()| found)
            },
        )
        .await
    }

    /// The kubeconfig once it is another one than before.
    async fn until_value(&self, namespace: &str, name: &str, before: Option<&str>) -> (Secret, String) {
        eventually(&format!("a kubeconfig in {name}"), || async {
            let found = self.secrets(namespace).get_opt(name).await.map_err(|e| e.to_string())?;
            let found = found.ok_or("no Secret")?;
            let value = found.data.as_ref().and_then(|data| data.get("value"));
            let value = value.and_then(|value| String::from_utf8(value.0.clone()).ok());
            let value = value
                .filter(|value| Some(value.as_str()) != before)
                .ok_or("the old one")?;
            Ok((found, value))
        })
        .await
    }

    async fn until_gone(&self, namespace: &str, name: &str) {
        eventually(&format!("{name} is gone"), || async {
            let found = self.secrets(namespace).get_opt(name).await.map_err(|e| e.to_string())?;
            when(found.is_none(), || "it is there".to_owned())
        })
        .await;
    }
}

/// Who the API server takes the bearer of a kubeconfig for: user and groups.
async fn who(kubeconfig: &str) -> (String, Vec<String>) {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    let client = Client::try_from(config.await.unwrap()).unwrap();
    let review = Api::<SelfSubjectReview>::all(client)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .unwrap();
    let user = review.status.unwrap().user_info.unwrap();
    (user.username.unwrap(), user.groups.unwrap())
}

fn serial(kubeconfig: &str) -> String {
    let kubeconfig = pki::Kubeconfig::parse(kubeconfig).unwrap();
    pki::inspect(&kubeconfig.client.cert_pem).unwrap().fingerprint
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selected_control_planes_get_a_kubeconfig_that_follows_what_it_is_made_of() {
    let world = World::new().await;
    let one = world.control_plane(&world.prod, "one", 31211).await;
    let two = world.control_plane(&world.prod, "two", 31212).await;
    let three = world.control_plane(&world.test, "three", 31213).await;
    for tcp in [&one, &three] {
        world.credentials(tcp, &world.authority()).await;
    }
    let _operator = world.operate();

    // Made for those that are selected by both selectors, and told of those where it is not possible yet.
    let generators: Api<KubeconfigGenerator> = Api::all(world.client.clone());
    create(
        &generators,
        json!({"metadata": {"name": "ops"}, "spec": {
            "namespaceSelector": {"matchLabels": {"stage": "prod"}},
            "tenantControlPlaneSelector": {"matchLabels": {"tier": "gold"}},
            "user": {"fromDefinition": "metadata.name"},
            "groups": [{"stringValue": "system:masters"}, {"stringValue": "ops"}],
        }}),
    )
    .await;
    let generator = world.until_status("ops", 2, 1).await;
    let errors = generator.status.unwrap().errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].resource, format!("{}/two", world.prod));
    assert_eq!(errors[0].message, "the admin kubeconfig is not yet generated");
    assert!(world.secrets(&world.test).get_opt("three-ops").await.unwrap().is_none());

    // It works, and it is named as its users expect.
    let (secret, made) = world.until_value(&world.prod, "one-ops", None).await;
    let (user, groups) = who(&made).await;
    assert_eq!(user, "one");
    assert!(
        groups.contains(&"system:masters".to_owned()) && groups.contains(&"ops".to_owned()),
        "{groups:?}"
    );
    let parsed: Value = serde_norway::from_str(&made).unwrap();
    assert_eq!(parsed["current-context"], "ops");
    assert_eq!(parsed["contexts"][0]["name"], "ops");
    assert_eq!(parsed["users"][0]["name"], "ops");
    assert_eq!(parsed["clusters"][0]["name"], "one");
    let label = |key: &str| secret.labels().get(&format!("kamaji.clastix.io/{key}")).cloned();
    assert_eq!(label("managed-by").as_deref(), Some("ops"));
    assert_eq!(label("managed-for").as_deref(), Some("one"));
    assert_eq!(label("certificate_lifecycle_controller").as_deref(), Some("kubeconfig"));
    assert_eq!(secret.owner_references()[0].uid, one.uid().unwrap());

    // What was missing comes, and the generator hears of it.
    world.credentials(&two, &world.authority()).await;
    assert!(world.until_status("ops", 2, 2).await.status.unwrap().errors.is_empty());

    // Somebody's hand is undone, with the certificate that was there or a new one.
    let secrets = world.secrets(&world.prod);
    let edit = json!({"stringData": {"value": made.replace("server: ", "server: https://elsewhere.example.test/")}});
    secrets
        .patch("one-ops", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .unwrap();
    eventually("the server is the control plane's again", || async {
        let found = secrets.get("one-ops").await.map_err(|error| error.to_string())?;
        let value = String::from_utf8(found.data.unwrap()["value"].0.clone()).unwrap();
        when(value == made, || value.clone())
    })
    .await;

    // A new certificate on demand.
    let ask = json!({"metadata": {"annotations": {"certs.kamaji.clastix.io/rotate": ""}}});
    secrets
        .patch("one-ops", &PatchParams::default(), &Patch::Merge(&ask))
        .await
        .unwrap();
    let (secret, rotated) = world.until_value(&world.prod, "one-ops", Some(&made)).await;
    assert_ne!(serial(&rotated), serial(&made));
    let at = &secret.annotations()["certs.kamaji.clastix.io/rotate"];
    assert!(at.parse::<Timestamp>().is_ok(), "{at}");
    assert_eq!(who(&rotated).await.0, "one");

    // Another user.
    let change = json!({"spec": {"user": {"fromDefinition": null, "stringValue": "robot"}}});
    generators
        .patch("ops", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
    let (_, renamed) = world.until_value(&world.prod, "one-ops", Some(&rotated)).await;
    assert_eq!(who(&renamed).await.0, "robot");

    // Another authority.
    let other = Authority::new("kubernetes", &[], pki::AUTHORITY_VALIDITY, Timestamp::now()).unwrap();
    world.credentials(&one, &other).await;
    eventually("the kubeconfig is of the new authority", || async {
        let found = secrets.get("one-ops").await.map_err(|error| error.to_string())?;
        let value = String::from_utf8(found.data.unwrap()["value"].0.clone()).unwrap();
        let client = pki::Kubeconfig::parse(&value).unwrap().client;
        when(pki::is_signed_by(&client.cert_pem, other.cert_pem()).unwrap(), || {
            "the old one".to_owned()
        })
    })
    .await;

    // What is selected no more goes, and so does everything with the generator; what it did not make stays.
    let foreign = json!({"metadata": {
        "name": "one-former",
        "labels": {"kamaji.clastix.io/name": "one", "kamaji.clastix.io/managed-by": "ops",
            "kamaji.clastix.io/managed-for": "one"},
        "ownerReferences": [one.controller_owner_ref(&()).unwrap()],
    }, "stringData": {"value": "by another program"}});
    create(&secrets, foreign).await;
    let tcps: Api<TenantControlPlane> = Api::namespaced(world.client.clone(), &world.prod);
    let unselected = json!({"metadata": {"labels": {"tier": "silver"}}});
    tcps.patch("two", &PatchParams::default(), &Patch::Merge(&unselected))
        .await
        .unwrap();
    world.until_gone(&world.prod, "two-ops").await;
    world.until_status("ops", 1, 1).await;
    generators.delete("ops", &DeleteParams::default()).await.unwrap();
    world.until_gone(&world.prod, "one-ops").await;
    assert!(secrets.get_opt("one-former").await.unwrap().is_some());
    assert!(secrets.get_opt("one-ca").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_is_told_and_takes_nothing_of_others() {
    let world = World::new().await;
    let tcp = world.control_plane(&world.prod, "one", 31221).await;
    world.credentials(&tcp, &world.authority()).await;
    let secrets = world.secrets(&world.prod);
    create(
        &secrets,
        json!({"metadata": {"name": "one-taken"}, "stringData": {"value": "somebody's"}}),
    )
    .await;
    let _operator = world.operate();
    let generators: Api<KubeconfigGenerator> = Api::all(world.client.clone());
    let user = json!({"stringValue": "ops"});
    for (name, spec, message) in [
        (
            "taken",
            json!({"user": user}),
            "the Secret one-taken is there and was not made by this generator; rename one of the two",
        ),
        (
            "ca",
            json!({"user": user}),
            "the name \"ca\" is one that a control plane's own Secrets end with; rename the generator",
        ),
        (
            "nowhere",
            json!({"user": {"fromDefinition": "metadata.nowhere"}}),
            "provided dot notation \"metadata.nowhere\" is not found",
        ),
        (
            "keyless",
            json!({"user": user, "controlPlaneEndpointFrom": "admin.txt"}),
            "spec.controlPlaneEndpointFrom: the Secret one-admin-kubeconfig has no kubeconfig under \"admin.txt\"; keys \
             are admin.conf, admin.svc, super-admin.conf and super-admin.svc",
        ),
    ] {
        create(&generators, json!({"metadata": {"name": name}, "spec": spec})).await;
        let found = world.until_status(name, 1, 0).await;
        assert_eq!(found.status.unwrap().errors[0].message, message, "{name}");
    }
    let both = json!({"metadata": {"name": "both"},
        "spec": {"user": {"stringValue": "ops", "fromDefinition": "metadata.name"}}});
    let refused = generators
        .create(&PostParams::default(), &serde_json::from_value(both).unwrap())
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("Either stringValue or fromDefinition must be set, but not both."),
        "{refused}"
    );
    let taken = secrets.get("one-taken").await.unwrap();
    assert_eq!(taken.data.unwrap()["value"].0, b"somebody's");
    let authority = secrets.get("one-ca").await.unwrap();
    assert!(authority.data.unwrap().contains_key("ca.key"));
}
