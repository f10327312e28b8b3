//! Which credentials a control plane has, whether what exists still serves, and what is made anew.
//!
//! One table of recipes drives everything: a recipe says what a Secret must hold, [`judge`] says of an existing Secret
//! whether it does, and [`issue`] makes what is missing. Valid material is never replaced, whatever its kind of key:
//! a control plane that comes from Kamaji keeps its RSA keys until they rotate, a user's own authority stays.
//!
//! Leaves are judged against the authority that *will* be there after the pass. When the authority is replaced all of
//! its leaves follow in the same pass, and no state in between is remembered anywhere.

use std::collections::BTreeMap;

use api::kamaji::names;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use pki::{Authority, Kubeconfig, LEAF_VALIDITY, LeafRequest, San, Usage};
use serde::Serialize;

use super::identity;
use super::rotation::{self, Signing};
use crate::datastore::pod_access::{PodAccess, PodTls};

/// The contents of a Secret.
pub type Data = BTreeMap<String, ByteString>;

/// Who signs a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Signer {
    /// The control plane's own authority.
    ControlPlane,
    /// The authority for aggregated API servers.
    FrontProxy,
    /// The authority of the datastore.
    Datastore,
}

/// One kubeconfig of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KubeconfigRecipe {
    /// Key in the Secret.
    pub key: &'static str,
    /// URL of the API server.
    pub server: String,
    /// User, which is the certificate's common name.
    pub user: &'static str,
    /// Groups, which are the certificate's organisations.
    pub groups: &'static [&'static str],
}

/// What a Secret must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Recipe {
    /// A self-signed authority.
    Authority {
        /// Which leaves it signs.
        signer: Signer,
        /// Common name and only DNS name.
        common_name: &'static str,
        /// Keys of certificate and private key.
        keys: (&'static str, &'static str),
        /// Further keys that hold copies, for Cluster API.
        copies: Option<(&'static str, &'static str)>,
    },
    /// The key pair that signs service account tokens.
    ServiceAccountKeys,
    /// A certificate with its key.
    Leaf {
        /// Who signs.
        signer: Signer,
        /// Keys of certificate and private key.
        keys: (&'static str, &'static str),
        /// Key that holds the signer's certificate, if the Secret carries it.
        authority_key: Option<&'static str>,
        /// Common name.
        common_name: String,
        /// Whether it is for a server, else for a client.
        server: bool,
        /// Names that it must carry.
        #[serde(serialize_with = "as_text")]
        sans: Vec<San>,
    },
    /// Kubeconfigs with a client certificate each.
    Kubeconfigs {
        /// Name of the cluster entry.
        cluster: String,
        /// One per key.
        entries: Vec<KubeconfigRecipe>,
    },
    /// The account in the datastore, in the form that kine takes as environment.
    DatastoreAccount {
        /// First endpoint for drivers that are reached by connection string, else empty.
        connection_string: String,
        /// Database, or prefix without the leading slash.
        schema: String,
        /// User of the datastore.
        user: String,
    },
    /// Certificates of a datastore that all of its control planes share; empty where it is reached in the clear.
    SharedCertificates,
}

fn as_text<S: serde::Serializer>(sans: &[San], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sans.iter().map(ToString::to_string))
}

/// A Secret of a control plane, as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRecipe {
    /// Name of the Secret.
    pub name: String,
    /// Value of the component label.
    pub component: &'static str,
    /// Value of the lifecycle label, for Secrets whose certificates expire.
    pub lifecycle: Option<&'static str>,
    /// Finalizer that holds it, if any.
    pub finalizer: Option<&'static str>,
    /// What it holds.
    pub recipe: Recipe,
}

/// Why a Secret is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// There is none.
    Missing,
    /// A key of it is missing or cannot be parsed.
    Unreadable(String),
    /// Certificate and private key do not belong together.
    ForeignKey,
    /// The signer is another one than the control plane has, or is being replaced itself.
    OtherAuthority,
    /// The certificate ends soon, or has ended.
    Expiring,
    /// Names that clients use are not in the certificate.
    MissingNames(Vec<String>),
    /// The certificate is for somebody else.
    OtherSubject,
    /// The kubeconfig points elsewhere.
    OtherServer,
    /// The contents were changed by another hand.
    Tampered,
    /// Somebody asked for it with the rotation annotation.
    RotationRequested,
}

/// What happens to a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Action {
    /// It serves; nothing is written.
    Keep,
    /// Its material serves; labels, owner, checksum or copies are put right.
    Repair,
    /// Its material is made anew.
    Issue(Reason),
}

/// A decision about one Secret. Holds no material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretPlan {
    /// Name of the Secret.
    pub name: String,
    /// Value of the component label.
    pub component: &'static str,
    /// What happens.
    pub action: Action,
}

/// A Secret could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The signer is not there, or its material cannot be read.
    #[error("failed to read the authority that signs {secret}")]
    Signer {
        /// Name of the Secret.
        secret: String,
        /// Why.
        #[source]
        source: pki::Error,
    },
    /// Nobody gave the material of the signer.
    #[error("failed to sign {secret}: its authority has no private key here")]
    NoSigner {
        /// Name of the Secret.
        secret: String,
    },
    /// Issuing failed.
    #[error("failed to issue {secret}")]
    Issue {
        /// Name of the Secret.
        secret: String,
        /// Why.
        #[source]
        source: pki::Error,
    },
}

/// Time and thresholds of a pass.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Time of the pass.
    pub now: Timestamp,
    /// How long before its end a certificate is replaced.
    pub renewal_window: SignedDuration,
}

/// Authorities by what they sign.
pub type Signers = BTreeMap<Signer, Signing>;

/// The result of a pass over all recipes.
#[derive(Default)]
pub struct Outcome {
    /// One row per recipe, in their order.
    pub plans: Vec<SecretPlan>,
    /// The Secrets that have to be written, in that order, named by recipe.
    pub data: BTreeMap<String, Data>,
    /// When the first certificate has to be replaced.
    pub next_renewal: Option<Timestamp>,
}

/// Decisions only: the data are private keys.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome")
            .field("plans", &self.plans)
            .field("next_renewal", &self.next_renewal)
            .finish_non_exhaustive()
    }
}

/// Judges every Secret in order and makes what is missing.
///
/// `datastore` is what the datastore gives; without it, what comes from there cannot be judged and stays as it is. The
/// same input gives the same decisions; only new key material differs.
pub fn plan(
    recipes: &[SecretRecipe],
    existing: &BTreeMap<String, Secret>,
    datastore: Option<&PodAccess>,
    clock: Clock,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let mut signers = Signers::new();
    if let Some(PodTls::Signed { authority }) = datastore.map(|access| &access.tls) {
        signers.insert(
            Signer::Datastore,
            Signing {
                cert: authority.cert_pem.clone(),
                key: authority.key_pem.clone(),
                chain: String::new(),
            },
        );
    }
    for wanted in recipes {
        let old = existing.get(&wanted.name);
        let given = datastore.and_then(|access| given(&wanted.recipe, access));
        let paused = old.filter(|old| old.annotations().contains_key(names::PAUSED_ANNOTATION));
        let untouched = paused.map(|old| old.data.clone().unwrap_or_default());
        let judged = match untouched.or_else(|| unjudged(wanted, old, &signers, datastore.is_some())) {
            Some(data) => Ok(data),
            None => match &given {
                Some(data) => old.map(|_| data.clone()).ok_or(Reason::Missing),
                None => judge(wanted, old, &signers, clock),
            },
        };
        let (action, data) = match judged {
            Ok(data) => {
                let old = old.expect("only an existing Secret serves");
                // The API server keeps no empty data.
                let differs = old.data.as_ref().map_or(!data.is_empty(), |held| *held != data);
                let repaired = paused.is_none() && (differs || !metadata_serves(wanted, old, &data));
                (if repaired { Action::Repair } else { Action::Keep }, data)
            }
            Err(reason) => match given {
                Some(data) => (Action::Issue(reason), data),
                None => (Action::Issue(reason), issue(wanted, old, &signers, clock)?),
            },
        };
        if let Recipe::Authority { signer, keys, .. } = &wanted.recipe {
            signers.extend(Signing::read(&data, *keys).map(|signing| (*signer, signing)));
        }
        outcome.next_renewal = outcome
            .next_renewal
            .into_iter()
            .chain(renewal(&wanted.recipe, &data, clock))
            .chain(old.and_then(rotation::ends).filter(|end| *end > clock.now))
            .min();
        outcome.plans.push(SecretPlan {
            name: wanted.name.clone(),
            component: wanted.component,
            action,
        });
        outcome.data.insert(wanted.name.clone(), data);
    }
    Ok(outcome)
}

/// The data of a Secret that depends on the datastore, which cannot be asked now.
fn unjudged(wanted: &SecretRecipe, old: Option<&Secret>, signers: &Signers, answers: bool) -> Option<Data> {
    let old = old?;
    let data = old.data.clone().unwrap_or_default();
    match &wanted.recipe {
        Recipe::Leaf { signer, .. } => (*signer == Signer::Datastore && !signers.contains_key(signer)).then_some(data),
        Recipe::SharedCertificates => (!answers).then_some(data),
        // Whose login it is, the store's or the control plane's own, was decided when it was written.
        Recipe::DatastoreAccount {
            connection_string,
            schema,
            ..
        } if !answers && is_untouched(old, &data) => {
            let (user, password) = (text(&data, "DB_USER")?, text(&data, "DB_PASSWORD")?);
            Some(account(connection_string, schema, user, password))
        }
        _ => None,
    }
}

/// The password is only as good as the checksum beside it: a changed one is not ours and is replaced.
fn is_untouched(secret: &Secret, data: &Data) -> bool {
    let password = text(data, "DB_PASSWORD").unwrap_or_default();
    !password.is_empty() && annotated_checksum(secret) == Some(identity::secret_checksum(data).as_str())
}

/// What a Secret holds because the datastore says so, and not by any decision here.
fn given(recipe: &Recipe, access: &PodAccess) -> Option<Data> {
    match (recipe, &access.tls, &access.login) {
        (
            Recipe::DatastoreAccount {
                connection_string,
                schema,
                ..
            },
            _,
            Some(login),
        ) => Some(account(connection_string, schema, &login.user, &login.password)),
        (Recipe::SharedCertificates, PodTls::Shared { authority_pem, client }, _) => {
            let mut data = pairs(&[("ca.crt", authority_pem)]);
            if let Some(client) = client {
                data.extend(pairs(&[
                    ("server.crt", &client.cert_pem),
                    ("server.key", &client.key_pem),
                ]));
            }
            Some(data)
        }
        (Recipe::SharedCertificates, _, _) => Some(Data::new()),
        _ => None,
    }
}

/// Whether an existing Secret serves. Gives the data that it should hold (its own, with copies completed), or why it
/// does not serve.
fn judge(wanted: &SecretRecipe, old: Option<&Secret>, signers: &Signers, clock: Clock) -> Result<Data, Reason> {
    let old = old.ok_or(Reason::Missing)?;
    if rotation::asked(old) {
        return Err(Reason::RotationRequested);
    }
    let empty = Data::new();
    let data = old.data.as_ref().unwrap_or(&empty);
    let pem = |key: &str| text(data, key).ok_or_else(|| Reason::Unreadable(key.to_owned()));
    match &wanted.recipe {
        Recipe::Authority {
            keys: (cert_key, private_key),
            copies,
            ..
        } => {
            let (cert, key) = (pem(cert_key)?, pem(private_key)?);
            Authority::from_pem(cert, key).map_err(|error| unreadable(&error, cert_key))?;
            let keys = (*cert_key, *private_key);
            let mut keep = rotation::kept_authority(data, keys, old, clock.now);
            copy(&mut keep, keys, *copies);
            Ok(keep)
        }
        Recipe::ServiceAccountKeys => {
            let (public, private) = (pem("sa.pub")?, pem("sa.key")?);
            match pki::service_account_keys_match(public, private) {
                Ok(true) => Ok(rotation::kept_service_account_keys(data, old, clock.now)),
                Ok(false) => Err(Reason::ForeignKey),
                Err(_) => Err(Reason::Unreadable("sa.key".to_owned())),
            }
        }
        Recipe::Leaf {
            signer,
            keys: (cert_key, private_key),
            authority_key,
            common_name,
            sans,
            ..
        } => {
            let (cert, key) = (pem(cert_key)?, pem(private_key)?);
            let authority = signers
                .get(signer)
                .map(|signing| signing.cert.as_str())
                .ok_or(Reason::OtherAuthority)?;
            judge_leaf(cert, key, authority, common_name, clock).map_err(|reason| locate(reason, cert_key))?;
            let info = pki::inspect(cert).map_err(|_| Reason::Unreadable((*cert_key).to_owned()))?;
            let missing = info.missing_sans(sans);
            if !missing.is_empty() {
                return Err(Reason::MissingNames(missing.iter().map(ToString::to_string).collect()));
            }
            let mut keep = pairs(&[(cert_key, cert), (private_key, key)]);
            if let Some(authority_key) = authority_key {
                keep.extend(pairs(&[(authority_key, authority)]));
            }
            Ok(keep)
        }
        Recipe::Kubeconfigs { cluster, entries } => {
            let authority = &signers.get(&Signer::ControlPlane).ok_or(Reason::OtherAuthority)?.cert;
            let mut keep = Data::new();
            for entry in entries {
                let yaml = pem(entry.key)?;
                let kubeconfig = judge_kubeconfig(yaml, cluster, entry, authority, clock)?;
                // What we do not read is not kept: components would run the programs and read the files that it names.
                let known = kubeconfig.to_yaml();
                let kept = if alike(yaml, &known) { yaml } else { &known };
                keep.extend(pairs(&[(entry.key, kept)]));
            }
            Ok(keep)
        }
        Recipe::DatastoreAccount {
            connection_string,
            schema,
            user,
        } => {
            let password = pem("DB_PASSWORD")?;
            if !is_untouched(old, data) {
                return Err(Reason::Tampered);
            }
            // A password of a store's own, in which the control plane was before, is no password of its user.
            if pem("DB_USER")? != user {
                return Err(Reason::OtherSubject);
            }
            Ok(account(connection_string, schema, user, password))
        }
        Recipe::SharedCertificates => Ok(data.clone()),
    }
}

pub(crate) fn judge_leaf(
    cert: &str,
    key: &str,
    authority: &str,
    common_name: &str,
    clock: Clock,
) -> Result<(), Reason> {
    let unreadable = |_| Reason::Unreadable(String::new());
    let info = pki::inspect(cert).map_err(unreadable)?;
    if info.common_name.as_deref() != Some(common_name) {
        return Err(Reason::OtherSubject);
    }
    // A leaf that lasts as long as its authority cannot be improved by another one.
    let authority_ends = pki::inspect(authority).map_err(unreadable)?.not_after;
    if info.not_after < authority_ends && info.needs_renewal(clock.now, clock.renewal_window) {
        return Err(Reason::Expiring);
    }
    if !pki::matches_key(cert, key).map_err(unreadable)? {
        return Err(Reason::ForeignKey);
    }
    if !pki::is_signed_by(cert, authority).map_err(unreadable)? {
        return Err(Reason::OtherAuthority);
    }
    Ok(())
}

fn judge_kubeconfig(
    yaml: &str,
    cluster: &str,
    entry: &KubeconfigRecipe,
    authority: &str,
    clock: Clock,
) -> Result<Kubeconfig, Reason> {
    let kubeconfig = Kubeconfig::parse(yaml).map_err(|_| Reason::Unreadable(entry.key.to_owned()))?;
    judge_leaf(
        &kubeconfig.client.cert_pem,
        &kubeconfig.client.key_pem,
        authority,
        entry.user,
        clock,
    )
    .map_err(|reason| locate(reason, entry.key))?;
    let groups = pki::inspect(&kubeconfig.client.cert_pem)
        .map(|info| info.organizations)
        .unwrap_or_default();
    if groups != entry.groups {
        return Err(Reason::OtherSubject);
    }
    if kubeconfig.ca_pem.trim() != authority.trim() {
        return Err(Reason::OtherAuthority);
    }
    if kubeconfig.server != entry.server || kubeconfig.cluster != cluster {
        return Err(Reason::OtherServer);
    }
    Ok(kubeconfig)
}

/// Whether two kubeconfigs say the same: others write the keys in another order, and keys that say nothing.
pub(crate) fn alike(stored: &str, wanted: &str) -> bool {
    let read = |text: &str| {
        let mut value: serde_json::Value = serde_norway::from_str(text).ok()?;
        value.as_object_mut()?.remove("preferences");
        Some(value)
    };
    read(stored).is_some_and(|stored| Some(stored) == read(wanted))
}

/// Makes the material of a Secret. Parts of the old one that still serve are kept.
fn issue(wanted: &SecretRecipe, old: Option<&Secret>, signers: &Signers, clock: Clock) -> Result<Data, Error> {
    let secret = || wanted.name.clone();
    let failed = |source| Error::Issue {
        secret: secret(),
        source,
    };
    let signer = |signer: Signer| -> Result<(Authority, &str), Error> {
        let Signing { cert, key, chain } = signers
            .get(&signer)
            .ok_or_else(|| Error::NoSigner { secret: secret() })?;
        let authority = Authority::from_pem(cert, key).map_err(|source| Error::Signer {
            secret: secret(),
            source,
        })?;
        Ok((authority, chain.as_str()))
    };
    match &wanted.recipe {
        Recipe::Authority {
            common_name,
            keys,
            copies,
            ..
        } => {
            let mut data = rotation::new_authority(common_name, *keys, old, clock).map_err(failed)?;
            copy(&mut data, *keys, *copies);
            Ok(data)
        }
        Recipe::ServiceAccountKeys => rotation::new_service_account_keys(old).map_err(failed),
        Recipe::Leaf {
            signer: by,
            keys,
            authority_key,
            common_name,
            server,
            sans,
        } => {
            let (authority, chain) = signer(*by)?;
            let request = if *server {
                LeafRequest::server(common_name, sans.clone(), clock.now)
            } else {
                LeafRequest::client(common_name, &[], clock.now)
            };
            let mut pair = authority.issue(&within(request, &authority)).map_err(failed)?;
            pair.cert_pem.push_str(chain);
            let mut data = pairs(&[(keys.0, &pair.cert_pem), (keys.1, &pair.key_pem)]);
            if let Some(authority_key) = authority_key {
                data.extend(pairs(&[(authority_key, authority.cert_pem())]));
            }
            Ok(data)
        }
        Recipe::Kubeconfigs { cluster, entries } => {
            let (authority, chain) = signer(Signer::ControlPlane)?;
            let rotates = old.is_some_and(rotation::asked);
            let mut data = Data::new();
            for entry in entries {
                let before = old
                    .and_then(|old| old.data.as_ref())
                    .and_then(|data| text(data, entry.key));
                let kept = before
                    .filter(|_| !rotates)
                    .and_then(|yaml| client_of(yaml, entry, &authority, clock));
                let client = if let Some(client) = kept {
                    client
                } else {
                    let request = LeafRequest::client(entry.user, entry.groups, clock.now);
                    let mut client = authority.issue(&within(request, &authority)).map_err(failed)?;
                    client.cert_pem.push_str(chain);
                    client
                };
                let kubeconfig = Kubeconfig {
                    cluster: cluster.clone(),
                    server: entry.server.clone(),
                    ca_pem: authority.cert_pem().to_owned(),
                    user: entry.user.to_owned(),
                    client,
                    namespace: None,
                    tls_server_name: None,
                };
                data.extend(pairs(&[(entry.key, &kubeconfig.to_yaml())]));
            }
            Ok(data)
        }
        Recipe::DatastoreAccount {
            connection_string,
            schema,
            user,
        } => Ok(account(
            connection_string,
            schema,
            user,
            &uuid::Uuid::new_v4().to_string(),
        )),
        // The store makes these; without it there is nothing to write.
        Recipe::SharedCertificates => Err(Error::NoSigner { secret: secret() }),
    }
}

/// The client pair of an existing kubeconfig, when only its server or its sibling entries were wrong.
fn client_of(yaml: &str, entry: &KubeconfigRecipe, authority: &Authority, clock: Clock) -> Option<pki::KeyPair> {
    let kubeconfig = Kubeconfig::parse(yaml).ok()?;
    let info = pki::inspect(&kubeconfig.client.cert_pem).ok()?;
    let (cert, key) = (&kubeconfig.client.cert_pem, &kubeconfig.client.key_pem);
    let serves =
        info.organizations == entry.groups && judge_leaf(cert, key, authority.cert_pem(), entry.user, clock).is_ok();
    serves.then_some(kubeconfig.client)
}

/// A leaf does not outlive its authority; verifiers would refuse it anyway, and this way it is renewed in time.
pub(crate) fn within(mut request: LeafRequest, authority: &Authority) -> LeafRequest {
    if authority.not_after() > request.not_before {
        request.not_after = request.not_after.min(authority.not_after());
    }
    debug_assert!(request.not_after <= request.not_before + LEAF_VALIDITY + SignedDuration::from_hours(1));
    debug_assert!(request.usages.len() == 1 && request.usages[0] != Usage::CodeSigning);
    request
}

/// When the first certificate in the data has to be replaced. Authorities are replaced by people only.
fn renewal(recipe: &Recipe, data: &Data, clock: Clock) -> Option<Timestamp> {
    let ends = |cert: &str| {
        pki::inspect(cert)
            .ok()
            .map(|info| info.renewal_at(clock.renewal_window))
    };
    match recipe {
        Recipe::Leaf { keys, .. } => text(data, keys.0).and_then(ends),
        Recipe::Kubeconfigs { entries, .. } => entries
            .iter()
            .filter_map(|entry| Kubeconfig::parse(text(data, entry.key)?).ok())
            .filter_map(|kubeconfig| ends(&kubeconfig.client.cert_pem))
            .min(),
        _ => None,
    }
}

/// Whether labels, finalizer and checksum are as they should be. The owner is the writer's business.
fn metadata_serves(wanted: &SecretRecipe, old: &Secret, data: &Data) -> bool {
    let labels = old.metadata.labels.as_ref();
    let has = |key: &str, value: &str| labels.and_then(|all| all.get(key)).is_some_and(|found| found == value);
    has(names::PROJECT_LABEL, names::PROJECT_VALUE)
        && has(names::COMPONENT_LABEL, wanted.component)
        && labels.is_some_and(|all| all.contains_key(names::NAME_LABEL))
        && wanted.lifecycle.is_none_or(|value| has(names::LIFECYCLE_LABEL, value))
        && wanted
            .finalizer
            .is_none_or(|wanted| old.metadata.finalizers.iter().flatten().any(|found| found == wanted))
        && annotated_checksum(old) == Some(identity::secret_checksum(data).as_str())
}

fn annotated_checksum(secret: &Secret) -> Option<&str> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(names::CHECKSUM_ANNOTATION)
        .map(String::as_str)
}

fn account(connection_string: &str, schema: &str, user: &str, password: &str) -> Data {
    pairs(&[
        ("DB_CONNECTION_STRING", connection_string),
        ("DB_PASSWORD", password),
        ("DB_SCHEMA", schema),
        ("DB_USER", user),
    ])
}

fn pairs(pairs: &[(&str, &str)]) -> Data {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
        .collect()
}

/// Keeps copies of certificate and key under further keys, if any are wanted.
fn copy(data: &mut Data, keys: (&str, &str), copies: Option<(&str, &str)>) {
    let Some(copies) = copies else { return };
    for (from, to) in [(keys.0, copies.0), (keys.1, copies.1)] {
        let value = data.get(from).cloned();
        data.extend(value.map(|value| (to.to_owned(), value)));
    }
}

/// The value of a key, when it is text.
pub fn text<'a>(data: &'a Data, key: &str) -> Option<&'a str> {
    data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok())
}

fn unreadable(error: &pki::Error, key: &str) -> Reason {
    match error {
        pki::Error::ForeignKey => Reason::ForeignKey,
        _ => Reason::Unreadable(key.to_owned()),
    }
}

/// Names the key in a reason that was given without one.
fn locate(reason: Reason, key: &str) -> Reason {
    match reason {
        Reason::Unreadable(inner) if inner.is_empty() => Reason::Unreadable(key.to_owned()),
        other => other,
    }
}
