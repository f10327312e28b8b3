//! Rotation under the eyes of clients: a real API server on certificates that end in ten minutes gets new leaves, a new
//! authority and new service account keys, while clients of every kind ask it on new connections and none is refused.
//!
//! The Secrets are those of the plans; the test does what the kubelet does, which puts them into the pod's files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kamaji::v1alpha1::TenantControlPlane;
use control_plane_controller::apply;
use control_plane_controller::desired::certificates;
use control_plane_controller::desired::rotation::{self, TRUST_OLD_UNTIL};
use control_plane_controller::desired::secrets::{
    self, Action, Clock, KubeconfigRecipe, Reason, Recipe, SecretRecipe, text,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pki::San;
use serde_json::json;
use testbed::{ApiServer, eventually};

/// How long anything may take before a test gives up. An API server looks at its files once a minute.
const PATIENCE: Duration = Duration::from_mins(4);
const WINDOW: SignedDuration = SignedDuration::from_hours(24 * 30);
const ROTATE: &str = "certs.kamaji.clastix.io/rotate";

/// The Secrets of a control plane `demo` whose API server is the testbed's.
struct Secrets {
    tcp: TenantControlPlane,
    recipes: Vec<SecretRecipe>,
    stored: BTreeMap<String, Secret>,
}

impl Secrets {
    /// With an authority that its user brought: the one that the testbed's own client trusts, and nothing newer.
    fn new(server: &ApiServer) -> Self {
        let host = server
            .url()
            .trim_start_matches("https://")
            .trim_end_matches(":6443")
            .to_owned();
        let names = vec![San::parse(&host).unwrap(), San::parse("kubernetes").unwrap()];
        let mut recipes = certificates::recipes("demo", names);
        recipes.push(SecretRecipe {
            name: "demo-admin-kubeconfig".to_owned(),
            component: "admin-kubeconfig",
            lifecycle: Some("kubeconfig"),
            finalizer: None,
            recipe: Recipe::Kubeconfigs {
                cluster: "demo".to_owned(),
                entries: vec![KubeconfigRecipe {
                    key: "super-admin.conf",
                    server: server.url(),
                    user: "kubernetes-super-admin",
                    groups: &["system:masters"],
                }],
            },
        });
        let spec = json!({
            "controlPlane": {"service": {"serviceType": "NodePort"}},
            "kubernetes": {"version": "v1.36.3"},
        });
        let mut tcp = TenantControlPlane::new("demo", serde_json::from_value(spec).unwrap());
        tcp.metadata.namespace = Some("default".to_owned());
        tcp.metadata.uid = Some("5b8f4c1e-0000-4000-8000-000000000001".to_owned());
        let file = |name: &str| ByteString(std::fs::read(server.directory().join(name)).unwrap());
        let brought = Secret {
            data: Some(["ca.crt", "ca.key"].map(|name| (name.to_owned(), file(name))).into()),
            ..Secret::default()
        };
        Self {
            tcp,
            recipes,
            stored: [("demo-ca".to_owned(), brought)].into(),
        }
    }

    /// One pass at a time of the day. Gives what happened to each Secret that was not kept.
    fn pass(&mut self, now: Timestamp) -> BTreeMap<&'static str, Action> {
        let clock = Clock {
            now,
            renewal_window: WINDOW,
        };
        rotation::advance("demo", &mut self.stored, None);
        let outcome = secrets::plan(&self.recipes, &self.stored, None, clock).unwrap();
        for recipe in &self.recipes {
            let old = self.stored.get(&recipe.name);
            let written = apply::secret(&self.tcp, recipe, &outcome.data[&recipe.name], old, now);
            self.stored.insert(recipe.name.clone(), written);
        }
        let changed = outcome.plans.into_iter().filter(|plan| plan.action != Action::Keep);
        changed.map(|plan| (plan.component, plan.action)).collect()
    }

    fn annotate(&mut self, component: &str, key: &str, value: &str) {
        let secret = self.stored.get_mut(&format!("demo-{component}")).unwrap();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
    }

    fn text(&self, component: &str, key: &str) -> String {
        let data = self.stored[&format!("demo-{component}")].data.as_ref().unwrap();
        text(data, key).unwrap().to_owned()
    }

    fn kubeconfig(&self) -> pki::Kubeconfig {
        pki::Kubeconfig::parse(&self.text("admin-kubeconfig", "super-admin.conf")).unwrap()
    }

    /// Puts them into the API server's files, as the kubelet does.
    fn mount(&self, directory: &Path) {
        for (component, keys) in [
            ("ca", vec!["ca.crt", "ca.key"]),
            ("front-proxy-ca-certificate", vec!["front-proxy-ca.crt"]),
            ("api-server-certificate", vec!["apiserver.crt", "apiserver.key"]),
            (
                "front-proxy-client-certificate",
                vec!["front-proxy-client.crt", "front-proxy-client.key"],
            ),
            ("sa-certificate", vec!["sa.pub", "sa.key"]),
        ] {
            for key in keys {
                let temporary = directory.join(format!(".{key}"));
                std::fs::write(&temporary, self.text(component, key)).unwrap();
                std::fs::rename(temporary, directory.join(key)).unwrap();
            }
        }
    }
}

/// A client with connections of its own.
async fn client(kubeconfig: &pki::Kubeconfig) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig.to_yaml()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    Client::try_from(config.await.unwrap()).unwrap()
}

async fn who(client: Client) -> Result<String, String> {
    let asked = Api::<SelfSubjectReview>::all(client)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let review = asked.map_err(|error| runtime::report::chain(&error))?;
    let user = review.status.unwrap().user_info.unwrap();
    Ok(user.username.unwrap())
}

/// Somebody who asks again and again, each time on a new connection, until told to stop.
struct Asker {
    name: &'static str,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    refusals: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Asker {
    fn start(name: &'static str, kubeconfig: pki::Kubeconfig) -> Self {
        let (stop, asked, refusals) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::default(),
        );
        let task = tokio::spawn({
            let (stop, asked, refusals): (_, _, Arc<Mutex<Vec<String>>>) =
                (stop.clone(), asked.clone(), Arc::clone(&refusals));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(refusal) = who(client(&kubeconfig).await).await {
                        refusals.lock().unwrap().push(refusal);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        Self {
            name,
            stop,
            asked,
            refusals,
            task,
        }
    }

    /// Until it has asked some more.
    async fn goes_on(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually(PATIENCE, self.name, || async {
            let asked = self.asked.load(Ordering::Relaxed);
            if asked > before + 5 {
                Ok(())
            } else {
                Err(format!("asked {asked} times"))
            }
        })
        .await;
    }

    async fn was_never_refused(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let refusals = self.refusals.lock().unwrap();
        assert!(refusals.is_empty(), "{}: {refusals:#?}", self.name);
    }
}

async fn until_served(what: &str, kubeconfig: &pki::Kubeconfig) {
    eventually(PATIENCE, what, || async {
        who(client(kubeconfig).await).await.map(|_| ())
    })
    .await;
}

async fn until_refused(what: &str, kubeconfig: &pki::Kubeconfig) {
    eventually(PATIENCE, what, || async {
        match who(client(kubeconfig).await).await {
            Ok(user) => Err(format!("it came in as {user}")),
            Err(_) => Ok(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_is_refused_while_leaves_and_authority_are_replaced() {
    let server = ApiServer::start().await;
    let mut secrets = Secrets::new(&server);

    // Leaves that end in ten minutes, of an authority that the user brought.
    let now = Timestamp::now();
    let long_ago = now - pki::LEAF_VALIDITY + SignedDuration::from_mins(10);
    secrets.pass(long_ago);
    let ends = pki::inspect(&secrets.text("api-server-certificate", "apiserver.crt"))
        .unwrap()
        .not_after;
    assert!(ends.duration_since(now) <= SignedDuration::from_mins(10), "{ends}");
    secrets.mount(server.directory());
    let first = secrets.kubeconfig();
    until_served("the first kubeconfig", &first).await;
    let first_asker = Asker::start("with the first kubeconfig", first.clone());

    // They are renewed by the clock.
    let renewed = secrets.pass(now);
    for leaf in [
        "api-server-certificate",
        "api-server-kubelet-client-certificate",
        "front-proxy-client-certificate",
        "admin-kubeconfig",
    ] {
        assert_eq!(renewed.get(leaf), Some(&Action::Issue(Reason::Expiring)), "{leaf}");
    }
    assert_eq!(renewed.len(), 4, "{renewed:?}");
    secrets.mount(server.directory());
    let second = secrets.kubeconfig();
    let second_asker = Asker::start("with the renewed kubeconfig", second.clone());
    second_asker.goes_on().await;
    first_asker.goes_on().await;
    first_asker.was_never_refused().await;

    // The authority is replaced; both are trusted on either side.
    secrets.annotate("ca", ROTATE, "");
    let replaced = secrets.pass(now);
    assert_eq!(replaced.get("ca"), Some(&Action::Issue(Reason::RotationRequested)));
    assert_eq!(
        replaced.get("api-server-certificate"),
        Some(&Action::Issue(Reason::OtherAuthority))
    );
    assert_eq!(secrets.pass(now), BTreeMap::new(), "the second pass changes nothing");
    let both = secrets.text("ca", "ca.crt");
    assert_eq!(pki::inspect_all(&both).unwrap().len(), 2);
    let third = secrets.kubeconfig();
    assert_eq!(third.ca_pem, both, "kubeconfigs trust both");
    // A client whose kubeconfig is new before the API server's files are.
    let third_asker = Asker::start("with a kubeconfig of the new authority", third.clone());
    third_asker.goes_on().await;
    secrets.mount(server.directory());
    // One that trusts the new authority alone, and comes with a certificate that only it stands for.
    let mut only_new = third.clone();
    only_new.ca_pem = pki::first_certificate(&both).unwrap();
    only_new.client.cert_pem = pki::first_certificate(&third.client.cert_pem).unwrap();
    until_served("the API server has the new authority", &only_new).await;
    second_asker.goes_on().await;
    third_asker.goes_on().await;
    second_asker.was_never_refused().await;

    // When the overlap ends, the old authority is nobody's any more, and the new one's clients do not notice.
    secrets.annotate("ca", TRUST_OLD_UNTIL, &now.to_string());
    let ended = secrets.pass(now + SignedDuration::from_secs(1));
    assert_eq!(ended.get("ca"), Some(&Action::Repair));
    assert_eq!(ended.get("api-server-certificate"), None, "leaves stay: {ended:?}");
    assert_eq!(pki::inspect_all(&secrets.text("ca", "ca.crt")).unwrap().len(), 1);
    assert_eq!(secrets.pass(now), BTreeMap::new());
    assert_eq!(secrets.kubeconfig().client, third.client, "the certificate stays");
    secrets.mount(server.directory());
    until_refused("the old authority's client", &second).await;
    until_served("the new authority's client", &secrets.kubeconfig()).await;
    third_asker.goes_on().await;
    third_asker.was_never_refused().await;
}

async fn token(client: &Client) -> String {
    let request = json!({"spec": {"audiences": [], "expirationSeconds": 3600}});
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let made = api
        .create_token_request("robot", &PostParams::default(), &request)
        .await;
    made.unwrap().status.unwrap().token.unwrap()
}

async fn bearer(server: &ApiServer, token: &str) -> Result<String, String> {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "robot",
        "clusters": [{"name": "demo", "cluster": {"server": server.url(), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "robot", "user": {"token": token}}],
        "contexts": [{"name": "robot", "context": {"cluster": "demo", "user": "robot"}}],
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    who(Client::try_from(config.await.unwrap()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_old_service_account_keys_are_good_until_the_overlap_ends() {
    let mut server = ApiServer::start().await;
    let mut secrets = Secrets::new(&server);
    let now = Timestamp::now();
    secrets.pass(now);
    let restart = async |server: &mut ApiServer, secrets: &Secrets| {
        secrets.mount(server.directory());
        server.control_plane().restart_api_server().await.unwrap();
        client(&secrets.kubeconfig()).await
    };
    let admin = restart(&mut server, &secrets).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    let robot: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "robot"}})).unwrap();
    accounts.create(&PostParams::default(), &robot).await.unwrap();
    let robot = "system:serviceaccount:default:robot".to_owned();
    let old = token(&admin).await;
    assert_eq!(bearer(&server, &old).await, Ok(robot.clone()));

    // First all API servers learn the new key, while the old one signs.
    secrets.annotate("sa-certificate", ROTATE, "");
    let asked = secrets.pass(now);
    assert_eq!(
        asked.get("sa-certificate"),
        Some(&Action::Issue(Reason::RotationRequested))
    );
    let old_key = secrets.text("sa-certificate", "sa.key");
    let admin = restart(&mut server, &secrets).await;
    let between = token(&admin).await;
    assert_eq!(bearer(&server, &old).await, Ok(robot.clone()));

    // Then the new one signs, and a server that has not heard of that yet takes its tokens already.
    let swapped = secrets.pass(now);
    assert_eq!(swapped.get("sa-certificate"), Some(&Action::Repair));
    assert_ne!(secrets.text("sa-certificate", "sa.key"), old_key);
    let admin = restart(&mut server, &secrets).await;
    let new = token(&admin).await;
    for token in [&old, &between, &new] {
        assert_eq!(bearer(&server, token).await, Ok(robot.clone()));
    }
    assert_eq!(secrets.pass(now), BTreeMap::new(), "nothing is left to do");

    // Until the overlap ends.
    secrets.annotate("sa-certificate", TRUST_OLD_UNTIL, &now.to_string());
    secrets.pass(now + SignedDuration::from_secs(1));
    restart(&mut server, &secrets).await;
    assert_eq!(bearer(&server, &new).await, Ok(robot));
    for token in [&old, &between] {
        let refused = bearer(&server, token).await.unwrap_err();
        assert!(refused.contains("Unauthorized"), "{refused}");
    }
}
