//! What a control plane should look like: pure functions from the object and what was observed to objects.
//!
//! The work has two halves, because the address of a control plane may be known only once its Service exists:
//! [`service::service`] first, then [`plan`] for everything else. A [`Plan`] holds decisions and no key material, so
//! that it can be shown to people; the rendered objects travel beside it.

pub mod certificates;
pub mod deployment;
pub mod disruption;
pub mod exposure;
pub(crate) mod flags;
pub mod gateway;
pub mod identity;
pub mod ingress;
pub mod kine;
pub mod konnectivity;
pub mod kubeadm_config;
pub mod kubeconfigs;
pub mod network_policy;
pub mod overrides;
mod profile;
pub mod rotation;
pub mod secrets;
pub mod service;
mod upgrade;

use std::collections::BTreeMap;

use api::kamaji::names::DATASTORE_SECRET_FINALIZER;
use api::kamaji::v1alpha1::{Driver, TenantControlPlane};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use pki::San;
use serde::Serialize;
use tenancy::control_plane::deputy::{self, Own, Trust};
use tenancy::control_plane::{
    arguments, effective, overrides as kinds_elsewhere, profile as tuned_for, storage, write_permissions,
};
use tenancy::denial::Denial;

use self::exposure::Exposure;
use self::network_policy::Destination;
use self::overrides::Override;
use self::secrets::{Recipe, SecretPlan, SecretRecipe};
pub(crate) use self::upgrade::deployed;
pub use self::upgrade::{VersionPlan, version_of};
use crate::admin_network::AdminNetwork;
use crate::datastore::pod_access::PodAccess;

/// Every Secret of a control plane, by component and in the order in which they are made. Its name is
/// `<control plane>-<component>`.
pub const SECRET_COMPONENTS: [&str; 11] = [
    "ca",
    "front-proxy-ca-certificate",
    "sa-certificate",
    "api-server-certificate",
    "api-server-kubelet-client-certificate",
    "front-proxy-client-certificate",
    "admin-kubeconfig",
    "controller-manager-kubeconfig",
    "scheduler-kubeconfig",
    "datastore-config",
    "datastore-certificate",
];

/// The same with those of what the control plane asks for.
pub fn secret_components(tcp: &TenantControlPlane) -> impl Iterator<Item = &'static str> {
    let tunnel = konnectivity::secret_components(tcp);
    SECRET_COMPONENTS.into_iter().chain(tunnel.iter().copied())
}

/// Why a control plane cannot go on for now. Not an error: a change elsewhere will wake it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Which condition says so.
    pub condition: &'static str,
    /// `CamelCase` reason of the condition.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Waiting {
    fn accepted(denial: &Denial, more: usize) -> Self {
        let more = match more {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Self {
            condition: crate::status::ACCEPTED,
            reason: denial.reason,
            message: format!("{}{more}", denial.message),
        }
    }

    pub(crate) fn address(message: String) -> Self {
        Self::exposed("AddressMissing", message)
    }

    pub(crate) fn exposed(reason: &'static str, message: String) -> Self {
        Self {
            condition: crate::status::EXPOSED,
            reason,
            message,
        }
    }

    pub(crate) fn datastore(reason: &'static str, message: String) -> Self {
        Self {
            condition: crate::status::DATASTORE,
            reason,
            message,
        }
    }
}

/// Why a spec is not carried out, if it is not: it reaches for what its author may not have, or asks for what nobody
/// does yet.
///
/// Admission has asked the same, but objects may be older than its rules, Secrets may lose their labels, and
/// administrators may trust less than they did.
pub fn refusal(tcp: &TenantControlPlane, own: &Own, trust: &Trust) -> Option<Waiting> {
    let mut denials = deputy::denials(tcp, own, trust);
    denials.extend(arguments::flags(arguments::extra_args(tcp)).0);
    denials.extend(tenancy::control_plane::konnectivity::denials(tcp));
    denials.extend(write_permissions::denials(&tcp.spec));
    denials.extend(kinds_elsewhere::entries(&tcp.spec));
    denials.extend(tuned_for::denial(tcp));
    let (first, more) = denials.split_first()?;
    Some(Waiting::accepted(first, more.len()))
}

/// The account of a control plane in its datastore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Account {
    /// Database, or prefix of the keys without slashes around it.
    pub schema: String,
    /// User.
    pub user: String,
}

impl Account {
    /// What the spec asks for, else the UID, which nobody else can have.
    pub fn asked(tcp: &TenantControlPlane, driver: Driver) -> Self {
        let uid = tcp.metadata.uid.as_deref().unwrap_or_default();
        let or = |asked: &Option<String>, own: String| asked.clone().filter(|asked| !asked.is_empty()).unwrap_or(own);
        Self {
            schema: or(&tcp.spec.data_store_schema, uid.to_owned()),
            user: or(&tcp.spec.data_store_username, storage::user_of(uid, driver)),
        }
    }

    /// What the status has on record. Whoever may write the status may write anything there, so this is a claim and no
    /// proof.
    pub fn recorded(tcp: &TenantControlPlane) -> Option<Self> {
        let setup = tcp.status.as_ref()?.storage.as_ref()?.setup.as_ref()?;
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        Some(Self {
            schema: given(&setup.schema)?,
            user: given(&setup.user)?,
        })
    }

    /// What a control plane seems to have: what is on record, else what it asks for. The store knows better.
    pub fn of(tcp: &TenantControlPlane) -> Self {
        Self {
            schema: effective::schema(tcp).unwrap_or_default().to_owned(),
            user: effective::user(tcp).unwrap_or_default().to_owned(),
        }
    }
}

/// What has to be known of a datastore to render a control plane on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatastoreFacts {
    /// Name of the DataStore object.
    pub name: String,
    /// Driver, as the object spells it.
    pub driver: String,
    /// `host:port` of each member.
    pub endpoints: Vec<String>,
    /// The same, as the pods reach them in the admin cluster's network.
    pub destinations: Vec<Destination>,
    /// How kine reaches it; `None` for an etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kine: Option<kine::Access>,
}

impl DatastoreFacts {
    /// What kine takes as the address of the store, of which it knows one. Empty for an etcd.
    fn connection_string(&self) -> String {
        let first = self.kine.and_then(|_| self.endpoints.first());
        first.cloned().unwrap_or_default()
    }
}

/// A control plane with every default and discovery resolved.
#[derive(Debug, Clone)]
pub struct Hosted<'a> {
    /// The object itself, for everything that is copied as it is.
    pub tcp: &'a TenantControlPlane,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The version that runs after this pass.
    pub version: String,
    /// Ranges of the tenant's Services.
    pub service_cidrs: Vec<String>,
    /// Ranges of the tenant's pods.
    pub pod_cidrs: Vec<String>,
    /// Where it is reached.
    pub exposure: Exposure,
    /// What its certificate answers to.
    pub server_names: Vec<San>,
    /// Its account in the datastore: as it seems, until the store was asked.
    pub account: Account,
    /// The datastore.
    pub datastore: DatastoreFacts,
    /// Kinds that are held in others.
    pub overrides: Vec<Override>,
    /// How much garbage the components let grow, in percent of what they use; `None` leaves it to Go, which takes 100.
    pub gogc: Option<u32>,
    /// Image of kine, unless the author chooses another.
    pub kine_image: String,
    /// Image of the operator's program.
    pub own_image: Option<String>,
}

impl<'a> Hosted<'a> {
    /// Resolves everything that is not a discovery.
    pub fn new(
        tcp: &'a TenantControlPlane,
        version: String,
        exposure: Exposure,
        datastore: DatastoreFacts,
        gogc: Option<u32>,
    ) -> Self {
        let owned = |ranges: Vec<&str>| ranges.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let service_cidrs = owned(effective::service_cidrs(&tcp.spec.network_profile));
        let pod_cidrs = owned(effective::pod_cidrs(&tcp.spec.network_profile));
        Self {
            name: tcp.name_any(),
            namespace: tcp.namespace().unwrap_or_default(),
            version,
            server_names: exposure::server_names(tcp, &exposure, &service_cidrs),
            service_cidrs,
            pod_cidrs,
            exposure,
            account: Account::of(tcp),
            datastore,
            overrides: Vec::new(),
            gogc: tuned_for::profile(tcp).unwrap_or_default().gogc().or(gogc),
            kine_image: kine::IMAGE.to_owned(),
            own_image: None,
            tcp,
        }
    }

    /// Where its stores are.
    fn destinations(&self) -> Vec<Destination> {
        let elsewhere = self.overrides.iter().map(|one| &one.datastore);
        let stores = std::iter::once(&self.datastore).chain(elsewhere);
        let mut destinations = Vec::new();
        for destination in stores.flat_map(|store| &store.destinations) {
            if !destinations.contains(destination) {
                destinations.push(destination.clone());
            }
        }
        destinations
    }

    /// `host:port` that nodes and people use.
    pub fn endpoint(&self) -> String {
        self.exposure.public()
    }

    /// Every Secret, in the order in which they are made.
    pub fn secret_recipes(&self) -> Vec<SecretRecipe> {
        let mut recipes = certificates::recipes(&self.name, self.server_names.clone());
        recipes.extend(kubeconfigs::recipes(&self.name, &self.namespace, &self.exposure));
        recipes.push(SecretRecipe {
            name: format!("{}-datastore-config", self.name),
            component: "datastore-config",
            lifecycle: None,
            finalizer: Some(DATASTORE_SECRET_FINALIZER),
            recipe: Recipe::DatastoreAccount {
                connection_string: self.datastore.connection_string(),
                schema: self.account.schema.clone(),
                user: self.account.user.clone(),
            },
        });
        recipes.push(match self.datastore.kine {
            None => certificates::datastore_recipe(&self.name, &self.account.user),
            Some(access) => certificates::shared_datastore_recipe(&self.name, access.tls),
        });
        recipes.extend(konnectivity::recipes(self.tcp));
        debug_assert!(
            recipes
                .iter()
                .map(|recipe| recipe.component)
                .eq(secret_components(self.tcp))
        );
        recipes
    }
}

/// Everything that was decided about a control plane, without any key material. What `explain` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Which version runs.
    pub version: VersionPlan,
    /// Where it is reached.
    pub exposure: Exposure,
    /// Its account in the datastore.
    pub account: Account,
    /// The datastore.
    pub datastore: DatastoreFacts,
    /// Kinds that are held in others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What its pods must not reach.
    pub out_of_reach: AdminNetwork,
    /// What happens to each Secret.
    pub secrets: Vec<SecretPlan>,
}

/// Objects that need nothing of the datastore but where it is. They are put right whether it answers or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Surroundings {
    /// What kubeadm would say.
    pub kubeadm_config: ConfigMap,
    /// What the pods may reach.
    pub network_policy: NetworkPolicy,
    /// What sends the API server's connections through the tunnel, if there is one.
    pub egress_selector: Option<ConfigMap>,
}

/// Renders what surrounds the pods.
pub fn surroundings(hosted: &Hosted<'_>, admin: &AdminNetwork, dns_labels: &BTreeMap<String, String>) -> Surroundings {
    Surroundings {
        kubeadm_config: kubeadm_config::kubeadm_config(hosted),
        network_policy: network_policy::network_policy(hosted.tcp, admin, &hosted.destinations(), dns_labels),
        egress_selector: konnectivity::egress_selector(hosted.tcp),
    }
}

/// The objects of a plan, with key material.
pub struct Objects {
    /// Recipes and data of all Secrets, in the order in which they are written.
    pub secrets: Vec<(SecretRecipe, secrets::Data)>,
    /// The pods.
    pub deployment: Deployment,
    /// Checksums of the Secrets, by component.
    pub checksums: BTreeMap<&'static str, String>,
    /// When the first certificate has to be replaced.
    pub next_renewal: Option<jiff::Timestamp>,
}

/// Recipes only: the data are private keys.
impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let recipes: Vec<&SecretRecipe> = self.secrets.iter().map(|(recipe, _)| recipe).collect();
        f.debug_struct("Objects")
            .field("secrets", &recipes)
            .field("checksums", &self.checksums)
            .field("next_renewal", &self.next_renewal)
            .finish_non_exhaustive()
    }
}

/// Decides about credentials and pods of a control plane whose address is known. Without the datastore's part, which is
/// while the store is not ready, what came from it stays as it is.
///
/// # Errors
/// When something has to be signed and its signer is not there.
pub fn plan(
    hosted: &Hosted<'_>,
    refused_version: Option<String>,
    existing: &BTreeMap<String, Secret>,
    datastore: Option<&PodAccess>,
    admin: &AdminNetwork,
    clock: secrets::Clock,
) -> Result<(Plan, Objects), secrets::Error> {
    let recipes = hosted.secret_recipes();
    let mut credentials = secrets::plan(&recipes, existing, datastore, clock)?;
    let checksums: BTreeMap<&'static str, String> = recipes
        .iter()
        .map(|recipe| {
            (
                recipe.component,
                identity::secret_checksum(&credentials.data[&recipe.name]),
            )
        })
        .collect();
    let plan = Plan {
        version: VersionPlan {
            run: hosted.version.clone(),
            refused: refused_version,
        },
        exposure: hosted.exposure.clone(),
        account: hosted.account.clone(),
        datastore: hosted.datastore.clone(),
        overrides: hosted.overrides.clone(),
        out_of_reach: admin.clone(),
        secrets: credentials.plans,
    };
    let mut deployment = deployment::deployment(hosted, &checksums);
    rotation::signing_certificate(
        &mut deployment,
        &hosted.name,
        &credentials.data[&format!("{}-ca", hosted.name)],
    );
    let objects = Objects {
        deployment,
        secrets: recipes
            .into_iter()
            .map(|recipe| {
                let data = credentials.data.remove(&recipe.name).unwrap_or_default();
                (recipe, data)
            })
            .collect(),
        checksums,
        next_renewal: credentials.next_renewal,
    };
    Ok((plan, objects))
}

#[cfg(test)]
pub(crate) mod tests;
