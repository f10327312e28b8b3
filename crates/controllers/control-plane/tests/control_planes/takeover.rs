//! Objects as another operator left them: those that were observed, with key material of its kind, written by plain updates.

use std::collections::BTreeMap;
use std::fmt::Debug;

use api::kamaji::v1alpha1::TenantControlPlane;
use control_plane_controller::desired::identity::secret_checksum;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use pki::{Authority, Kubeconfig, LeafRequest, San};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bed::{World, eventually, merge, of, when};

const OBSERVED: &str = include_str!("../observed/admin-objects.yaml");
const RSA_CERTIFICATE: &str = include_str!("../../../../pki/tests/keys/rsa.crt");
const RSA_KEY: &str = include_str!("../../../../pki/tests/keys/rsa-pkcs1.key");
const RSA_PUBLIC: &str = include_str!("../../../../pki/tests/keys/rsa.pub");
/// As the API server names who writes with a program of that name.
const PEER: &str = "manager";

fn as_the_peer() -> PostParams {
    PostParams {
        field_manager: Some(PEER.to_owned()),
        ..PostParams::default()
    }
}

async fn leave<K>(api: &Api<K>, object: Value) -> K
where
    K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&as_the_peer(), &object).await.unwrap()
}

/// The observed objects in this namespace, of this control plane.
fn observed(world: &World, uid: &str) -> Vec<Value> {
    let text = OBSERVED
        .replace("<uid>", uid)
        .replace("<time>", "2026-11-20T12:00:00Z")
        .replace("<hash>", "0123456789abcdef0123456789abcdef")
        .replace("10.99.0.1", "192.0.2.10")
        .replace("namespace: default", &format!("namespace: {}", world.namespace));
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null() && !object["metadata"]["name"].as_str().unwrap().contains("konnectivity"))
        .collect()
}

/// What the peer's Secrets hold, by name. The authority and the keys for tokens are RSA.
struct Material {
    authority: Authority,
    store: Authority,
    namespace: String,
    uid: String,
}

impl Material {
    fn of(world: &World, uid: &str) -> Self {
        Self {
            authority: Authority::from_pem(RSA_CERTIFICATE, RSA_KEY).unwrap(),
            store: Authority::from_pem(&world.etcd.ca_cert_pem, &world.etcd.ca_key_pem).unwrap(),
            namespace: world.namespace.clone(),
            uid: uid.to_owned(),
        }
    }

    fn data(&self, name: &str) -> BTreeMap<String, ByteString> {
        let now = jiff::Timestamp::now();
        let leaf = |request: &LeafRequest, crt: &str, key: &str| {
            let pair = self.authority.issue(request).unwrap();
            vec![(crt.to_owned(), pair.cert_pem), (key.to_owned(), pair.key_pem)]
        };
        let client = |name: &str, groups: &[&str]| LeafRequest::client(name, groups, now);
        let ca = |names: [&str; 2]| {
            let pair = [RSA_CERTIFICATE, RSA_KEY];
            names
                .into_iter()
                .zip(pair)
                .map(|(key, pem)| (key.to_owned(), pem.to_owned()))
                .collect::<Vec<_>>()
        };
        let pairs = match name {
            "demo-ca" => [ca(["ca.crt", "ca.key"]), ca(["tls.crt", "tls.key"])].concat(),
            "demo-front-proxy-ca-certificate" => ca(["front-proxy-ca.crt", "front-proxy-ca.key"]),
            "demo-sa-certificate" => vec![
                ("sa.pub".to_owned(), RSA_PUBLIC.to_owned()),
                ("sa.key".to_owned(), RSA_KEY.to_owned()),
            ],
            "demo-api-server-certificate" => leaf(&self.server(now), "apiserver.crt", "apiserver.key"),
            "demo-api-server-kubelet-client-certificate" => leaf(
                &client("kube-apiserver-kubelet-client", &[]),
                "apiserver-kubelet-client.crt",
                "apiserver-kubelet-client.key",
            ),
            "demo-front-proxy-client-certificate" => leaf(
                &client("front-proxy-client", &[]),
                "front-proxy-client.crt",
                "front-proxy-client.key",
            ),
            "demo-admin-kubeconfig" => self.admin_kubeconfigs(),
            "demo-controller-manager-kubeconfig" => vec![self.kubeconfig(
                "controller-manager.conf",
                "https://127.0.0.1:31077",
                "system:kube-controller-manager",
                &[],
            )],
            "demo-scheduler-kubeconfig" => {
                vec![self.kubeconfig(
                    "scheduler.conf",
                    "https://127.0.0.1:31077",
                    "system:kube-scheduler",
                    &[],
                )]
            }
            "demo-datastore-config" => ["DB_CONNECTION_STRING", "DB_PASSWORD", "DB_SCHEMA", "DB_USER"]
                .into_iter()
                .zip(["", "5b8f4c1e-1111-4000-8000-000000000001", &self.uid, &self.uid])
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            "demo-datastore-certificate" => {
                let pair = self.store.issue(&client(&self.uid, &["system:masters"])).unwrap();
                vec![
                    ("ca.crt".to_owned(), self.store.cert_pem().to_owned()),
                    ("server.crt".to_owned(), pair.cert_pem),
                    ("server.key".to_owned(), pair.key_pem),
                ]
            }
            other => panic!("{other} was not expected"),
        };
        pairs
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())))
            .collect()
    }

    /// The names that the peer puts into it.
    fn server(&self, now: jiff::Timestamp) -> LeafRequest {
        let dns = [
            "node".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
            "localhost".to_owned(),
            "demo".to_owned(),
            format!("demo.{}.svc", self.namespace),
            format!("demo.{}.svc.cluster.local", self.namespace),
            "demo.example.test".to_owned(),
        ];
        let mut names: Vec<San> = dns.into_iter().map(San::Dns).collect();
        names.extend(["10.116.0.1", "192.0.2.10", "127.0.0.1"].map(|address| San::Ip(address.parse().unwrap())));
        LeafRequest::server("kube-apiserver", names, now)
    }

    fn admin_kubeconfigs(&self) -> Vec<(String, String)> {
        let outside = "https://192.0.2.10:31077";
        let inside = format!("https://demo.{}.svc:31077", self.namespace);
        let (admin, admins) = ("kubernetes-admin", ["kubeadm:cluster-admins"]);
        let (master, masters) = ("kubernetes-super-admin", ["system:masters"]);
        vec![
            self.kubeconfig("admin.conf", outside, admin, &admins),
            self.kubeconfig("admin.svc", &inside, admin, &admins),
            self.kubeconfig("super-admin.conf", outside, master, &masters),
            self.kubeconfig("super-admin.svc", &inside, master, &masters),
        ]
    }

    fn kubeconfig(&self, key: &str, server: &str, user: &str, groups: &[&str]) -> (String, String) {
        let request = LeafRequest::client(user, groups, jiff::Timestamp::now());
        let kubeconfig = Kubeconfig {
            cluster: "demo".to_owned(),
            server: server.to_owned(),
            ca_pem: RSA_CERTIFICATE.to_owned(),
            user: user.to_owned(),
            client: self.authority.issue(&request).unwrap(),
            namespace: None,
            tls_server_name: None,
        };
        (key.to_owned(), kubeconfig.to_yaml())
    }
}

impl World {
    /// A control plane `demo` with all its objects and its data, as a peer has left them.
    async fn left_by_a_peer(&self) -> TenantControlPlane {
        let mut wanted = observed(self, "").remove(0);
        let mut status = wanted.as_object_mut().unwrap().remove("status").unwrap();
        status["addons"].as_object_mut().unwrap().remove("konnectivity");
        status["kubernetesResources"]["ingress"] =
            json!({"name": "demo", "namespace": self.namespace, "loadBalancer": {}});
        wanted["spec"]["addons"].as_object_mut().unwrap().remove("konnectivity");
        let tcp: TenantControlPlane = leave(&self.api(), wanted).await;
        let uid = tcp.uid().unwrap();
        status["storage"]["setup"]["schema"] = json!(uid);
        status["storage"]["setup"]["user"] = json!(uid);
        let parameters = PatchParams {
            field_manager: Some(PEER.to_owned()),
            ..PatchParams::default()
        };
        self.api::<TenantControlPlane>()
            .patch_status("demo", &parameters, &Patch::Merge(json!({"status": status})))
            .await
            .unwrap();

        let material = Material::of(self, &uid);
        for mut object in observed(self, &uid).into_iter().skip(1) {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            object.as_object_mut().unwrap().remove("status");
            match object["kind"].as_str().unwrap() {
                "Secret" => {
                    let data = material.data(&name);
                    object["metadata"]["annotations"] = json!({"kamaji.clastix.io/checksum": secret_checksum(&data)});
                    object["data"] = serde_json::to_value(&data).unwrap();
                    leave::<Secret>(&self.api(), object).await;
                }
                "ConfigMap" => drop(leave::<ConfigMap>(&self.api(), object).await),
                "Service" => {
                    for key in ["clusterIP", "clusterIPs"] {
                        object["spec"].as_object_mut().unwrap().remove(key);
                    }
                    leave::<Service>(&self.api(), object).await;
                }
                "Deployment" => drop(leave::<Deployment>(&self.api(), object).await),
                other => panic!("{other} was not expected"),
            }
        }
        for command in [
            &["role", "add", &uid][..],
            &["user", "add", &uid, "--no-password"],
            &["user", "grant-role", &uid, &uid],
            &["put", &format!("/{uid}/registry/configmaps/default/kept"), "value"],
        ] {
            self.etcd.etcdctl(command).await.unwrap();
        }
        tcp
    }

    async fn replica_sets(&self) -> Vec<String> {
        let sets = self.api::<ReplicaSet>().list(&of("demo")).await.unwrap();
        sets.iter().map(ResourceExt::name_any).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_left_is_taken_over_in_place_with_one_rollout() {
    let world = World::with_node("default").await;
    let tcp = world.left_by_a_peer().await;
    let uid = tcp.uid().unwrap();
    eventually("the peer's pods are rolled out", || async {
        let sets = world.replica_sets().await;
        when(sets.len() == 1, || format!("{sets:?}"))
    })
    .await;
    let noted = json!({"metadata": {"annotations": {"example.test/note": "mine"}}});
    merge(&world.api::<Deployment>(), "demo", noted).await;
    let before = world.objects("demo").await;

    let operator = world.operate();
    eventually("it is carried out by us", || async {
        let status = world.control_plane("demo").await.status.unwrap();
        let deployed = status
            .conditions
            .iter()
            .any(|one| one.type_ == "Deployed" && one.reason == "PodsStarting");
        when(deployed, || format!("{:#?}", status.conditions))
    })
    .await;
    eventually("the rollout has begun", || async {
        let sets = world.replica_sets().await;
        when(sets.len() > 1, || format!("{sets:?}"))
    })
    .await;
    world.until_ready("demo").await;

    // Nothing was made anew, and what is secret was not even written.
    let after = world.objects("demo").await;
    for (name, (object, version)) in &before {
        assert_eq!(&after[name].0, object, "{name}");
        if name.starts_with("Secret ") {
            assert_eq!(&after[name].1, version, "{name}");
        }
    }
    // One rollout, with all that the peer wanted and we do not gone in it.
    let sets = world.replica_sets().await;
    assert_eq!(sets.len(), 2, "{sets:?}");
    let deployment = world.api::<Deployment>().get("demo").await.unwrap();
    assert_eq!(deployment.annotations()["example.test/note"], "mine");
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let text = serde_json::to_string(&pod).unwrap();
    assert!(!text.contains("konnectivity"), "{text}");
    assert!(text.contains(&format!("--etcd-prefix=/{uid}")), "{text}");
    let ports = world
        .api::<Service>()
        .get("demo")
        .await
        .unwrap()
        .spec
        .unwrap()
        .ports
        .unwrap();
    assert_eq!(ports.len(), 1, "{ports:?}");
    // What the peer reported and is not so any more is not reported.
    let status = world.control_plane("demo").await.status.unwrap();
    assert_eq!(status.kubernetes_resources.unwrap().ingress, None);
    // The data is where it was.
    let data = world
        .etcd
        .etcdctl(&["get", &format!("/{uid}/"), "--prefix"])
        .await
        .unwrap();
    assert!(data.contains("registry/configmaps/default/kept"), "{data}");
    operator.kill().await;

    // Another start of ours finds nothing to do. Only the Deployment's status may still be on its way.
    let rest = async || {
        let mut objects = world.objects("demo").await;
        objects.remove("Deployment demo");
        let deployment = world.api::<Deployment>().get("demo").await.unwrap();
        (objects, deployment.metadata.generation)
    };
    let rested = rest().await;
    let operator = world.operate();
    operator.until_rested_after(0).await;
    assert_eq!(rest().await, rested);
    operator.kill().await;
}
