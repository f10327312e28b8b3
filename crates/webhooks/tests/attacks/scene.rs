//! Two tenants who do not trust each other, what one of them has, and everybody who would like to have it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::{Value, json};
use testbed::unique;

use super::doors::{Doors, Resource};
use super::request::{OPERATOR, Place, send};
use crate::support::served::{TENANTS, US, configure, establish, served};
use crate::support::until;

/// How often something is made that depends on what was made just before.
const TRIES: usize = 1200;

/// Who asks. As far as RBAC is concerned, each of them may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A user who owns the tenant.
    Owner,
    /// A user in a group that owns it.
    Member,
    /// A ServiceAccount that owns it.
    OwnerAccount,
    /// A ServiceAccount that lives in the tenant and owns nothing.
    Account,
    /// Who owns another tenant.
    Neighbour,
    /// Whom no tenant knows.
    Stranger,
}

pub const EVERYBODY: [Actor; 6] = [
    Actor::Owner,
    Actor::Member,
    Actor::OwnerAccount,
    Actor::Account,
    Actor::Neighbour,
    Actor::Stranger,
];
/// Those that the tenants' users are held to.
pub const TENANT_USERS: [Actor; 5] = [
    Actor::Owner,
    Actor::Member,
    Actor::OwnerAccount,
    Actor::Account,
    Actor::Neighbour,
];
/// Those in whose name the tenant does not speak.
pub const NO_OWNERS: [Actor; 3] = [Actor::Account, Actor::Neighbour, Actor::Stranger];

/// The tenant under attack, its neighbour, and the clients of all.
pub struct Scene {
    pub doors: Doors,
    pub masters: Client,
    /// The operator.
    pub us: Client,
    pub actors: BTreeMap<Actor, Client>,
    /// The owner, who takes the first answer: other clients ask again for minutes while something is said not to run.
    pub hasty: Client,
    pub namespace: String,
    /// Name and UID of the other tenant.
    pub neighbour: (String, String),
    objects: BTreeMap<&'static str, Place>,
}

impl Scene {
    /// Makes one; `spec` is what the tenant has beside its owners.
    pub async fn new(spec: Value) -> Self {
        let server = served().await.server;
        let masters = server.client().await;
        for definition in api::crds() {
            if definition.spec.group == "capsule.clastix.io" && definition.spec.names.kind != "Tenant" {
                establish(&masters, &definition).await;
            }
        }
        configure(
            &masters,
            json!({"allowServiceAccountPromotion": true, "nodeMetadata": {"forbiddenLabels": {"denied": ["pool"]}}}),
        )
        .await;
        let (oil, gas, alice, bob) = (unique("oil"), unique("gas"), unique("alice"), unique("bob"));
        let (team, namespace) = (unique("team"), format!("{oil}-web"));
        let account = |name: &str| format!("system:serviceaccount:{namespace}:{name}");
        let accounts = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
        let actors = BTreeMap::from([
            (Actor::Owner, server.client_for(&alice, &TENANTS).await),
            (
                Actor::Member,
                server.client_for(&unique("carol"), &[TENANTS[0], &team]).await,
            ),
            (
                Actor::OwnerAccount,
                server.client_for(&account("owner"), &accounts).await,
            ),
            (Actor::Account, server.client_for(&account("robot"), &accounts).await),
            (Actor::Neighbour, server.client_for(&bob, &TENANTS).await),
            (Actor::Stranger, server.client_for(&unique("eve"), &["ordinary"]).await),
        ]);
        let kubeconfig = server.kubeconfig_for(&alice, &TENANTS);
        let mut hasty = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        hasty.default_retry = false;
        let mut scene = Self {
            hasty: hasty.try_into().unwrap(),
            doors: Doors::discover(&masters).await,
            us: server.client_for(US, &["system:masters"]).await,
            masters,
            actors,
            namespace: namespace.clone(),
            neighbour: (gas.clone(), String::new()),
            objects: BTreeMap::new(),
        };
        let owners = json!([{"kind": "User", "name": alice}, {"kind": "Group", "name": team},
            {"kind": "ServiceAccount", "name": account("owner")}]);
        let mut ours = json!({"metadata": {"name": oil}, "spec": {"owners": owners}});
        json_patch::merge(&mut ours["spec"], &spec);
        scene
            .make(&scene.masters, "capsule.clastix.io/v1beta2/tenants", ours)
            .await;
        let theirs = json!({"metadata": {"name": gas}, "spec": {"owners": [{"kind": "User", "name": bob}]}});
        let made = scene
            .make(&scene.masters, "capsule.clastix.io/v1beta2/tenants", theirs)
            .await;
        scene.neighbour.1 = made["metadata"]["uid"].as_str().unwrap().to_owned();
        for (actor, name) in [(Actor::Owner, namespace), (Actor::Neighbour, format!("{gas}-web"))] {
            scene
                .make(
                    scene.client(actor),
                    "v1/namespaces",
                    json!({"metadata": {"name": name}}),
                )
                .await;
            let account = Place {
                resource: Resource::of("v1/serviceaccounts"),
                namespace: Some(name),
                name: "default".to_owned(),
            };
            until("the default account", async || account.read(&scene.masters).await).await;
        }
        scene
    }

    pub fn client(&self, actor: Actor) -> &Client {
        &self.actors[&actor]
    }

    /// The tenant's name.
    pub fn tenant(&self) -> &str {
        self.namespace.trim_end_matches("-web")
    }

    /// Where a namespaced object of the tenant, or one of the cluster, is.
    pub fn place(&self, resource: &str, name: &str) -> Place {
        let resource = Resource::of(resource);
        let is_namespaced = self.doors.of(&resource).next().unwrap().is_namespaced;
        Place {
            namespace: is_namespaced.then(|| self.namespace.clone()),
            resource,
            name: name.to_owned(),
        }
    }

    /// The object under this word.
    pub fn object(&self, word: &str) -> &Place {
        self.objects
            .get(word)
            .unwrap_or_else(|| panic!("{word} is not in the scene"))
    }

    /// Makes an object and keeps it under a word.
    pub async fn put(&mut self, word: &'static str, by: Client, resource: &str, object: Value) {
        let made = self.make(&by, resource, object).await;
        self.objects
            .insert(word, self.place(resource, made["metadata"]["name"].as_str().unwrap()));
    }

    /// The same for one that is there.
    pub fn know(&mut self, word: &'static str, resource: &str, name: &str) {
        self.objects.insert(word, self.place(resource, name));
    }

    /// Applies as the operator applies, and so as anybody may say that he does.
    async fn make(&self, client: &Client, resource: &str, mut object: Value) -> Value {
        let place = self.place(resource, object["metadata"]["name"].as_str().unwrap());
        object["apiVersion"] = json!(place.resource.api_version());
        object["kind"] = json!(self.doors.of(&place.resource).next().unwrap().kind);
        let path = format!("{}?fieldManager={OPERATOR}", place.path(""));
        let mut said = None;
        for _ in 0..TRIES {
            let body = Some(object.clone());
            match send(client, Method::PATCH, &path, "application/apply-patch+yaml", body).await {
                Ok(made) => return made,
                Err(refusal) => said = Some(refusal),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path}: {said:?}")
    }
}
