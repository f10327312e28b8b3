//! How authorities and service account keys are replaced without a client noticing. Pure.
//!
//! An authority is replaced in one step, by two bridges between the old one and the new one. `ca.crt` holds both, the new
//! one first, so whoever reads it trusts what either signed. And the old one signs a certificate for the new one's key,
//! which stands behind every new leaf, so that nodes, kubeconfigs and pods that know only the old one follow the new leaves
//! too, whichever side of a connection they are on. Refused: a first roll of all pods that only spreads the new trust; it
//! would help pods, but no node and no kubeconfig, which nobody rolls.
//!
//! Service account keys have no such bridge: a token carries one signature. So the new public key is given to all API
//! servers first, and signs once all of them have it.
//!
//! The overlap is told by the Secret alone. It ends at the time in the annotation [`TRUST_OLD_UNTIL`], which people may
//! change.

use std::collections::BTreeMap;

use api::kamaji::names::{PAUSED_ANNOTATION, ROTATE_ANNOTATION, TEMPLATE_LABEL_PREFIX};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{KeyToPath, Secret, SecretProjection, VolumeProjection};
use kube::ResourceExt;
use pki::{Authority, San};

use super::identity;
use super::secrets::{Clock, Data, text};

/// On a Secret with an old and a new key: when the old one is no longer trusted. RFC 3339; with any other value, or
/// without it, the old authority is trusted until it ends, and old service account keys for ever.
pub const TRUST_OLD_UNTIL: &str = "cotenant.dev/trust-old-until";

/// How long an old key is trusted when nobody says otherwise: kubelets and pods renew what they hold many times in it.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24 * 30);

/// The service account key that will sign.
const NEXT_KEY: &str = "sa-next.key";

/// Keys of the Secret beside `ca.crt` while there are two authorities: the new one's certificate signed by the old one,
/// and the new one's own alone, for programs that take one certificate.
fn bridge_keys(cert_key: &str) -> (String, String) {
    let stem = cert_key.trim_end_matches(".crt");
    (format!("{stem}-cross.crt"), format!("{stem}-signing.crt"))
}

/// What signs leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct Signing {
    /// Certificates, PEM; the first one signs.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
    /// What stands behind each leaf, PEM; mostly nothing.
    pub chain: String,
}

/// No key material.
impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

impl Signing {
    /// From the data of an authority's Secret, and the keys of its certificate and private key.
    pub fn read(data: &Data, keys: (&str, &str)) -> Option<Self> {
        Some(Self {
            cert: text(data, keys.0)?.to_owned(),
            key: text(data, keys.1)?.to_owned(),
            chain: text(data, &bridge_keys(keys.0).0).unwrap_or_default().to_owned(),
        })
    }
}

/// Whether somebody asked for other keys than those in this Secret.
pub(super) fn asked(secret: &Secret) -> bool {
    secret
        .annotations()
        .get(ROTATE_ANNOTATION)
        .is_some_and(String::is_empty)
}

/// When the old key of a Secret is no longer trusted.
pub(super) fn ends(secret: &Secret) -> Option<Timestamp> {
    secret.annotations().get(TRUST_OLD_UNTIL)?.parse().ok()
}

fn is_over(secret: &Secret, now: Timestamp) -> bool {
    ends(secret).is_some_and(|end| end <= now)
}

fn value(text: impl Into<String>) -> ByteString {
    ByteString(text.into().into_bytes())
}

/// A new authority. One that is there and was asked to rotate is trusted on, and vouches for the new one.
pub(super) fn new_authority(
    common_name: &str,
    keys: (&str, &str),
    old: Option<&Secret>,
    clock: Clock,
) -> Result<Data, pki::Error> {
    let names = [San::Dns(common_name.to_owned())];
    let new = Authority::new(common_name, &names, pki::AUTHORITY_VALIDITY, clock.now)?;
    let mut data = Data::from([
        (keys.0.to_owned(), value(new.cert_pem())),
        (keys.1.to_owned(), value(new.key_pem())),
    ]);
    let before = old.filter(|old| asked(old)).and_then(|old| old.data.as_ref());
    let before = before.and_then(|data| Authority::from_pem(text(data, keys.0)?, text(data, keys.1)?).ok());
    // One that has ended can vouch for nobody.
    if let Some(before) = before
        && let Ok(vouched) = before.vouch_for(&new, clock.now)
    {
        let (cross, signing) = bridge_keys(keys.0);
        let both = format!("{}{}", new.cert_pem(), pki::first_certificate(before.cert_pem())?);
        data.insert(keys.0.to_owned(), value(both));
        data.insert(cross, value(vouched));
        data.insert(signing, value(new.cert_pem()));
    }
    Ok(data)
}

/// What the Secret of an authority that serves should hold: the old one only as long as it is trusted.
pub(super) fn kept_authority(data: &Data, keys: (&str, &str), old: &Secret, now: Timestamp) -> Data {
    let (cross, signing) = bridge_keys(keys.0);
    let mut keep = data.clone();
    keep.retain(|key, _| [keys.0, keys.1, &cross, &signing].contains(&key.as_str()));
    let Some(vouched) = text(data, &cross) else {
        return keep;
    };
    // What was vouched for ends with whoever vouched.
    let ended = pki::inspect(vouched).map_or(true, |info| info.not_after <= now);
    if ended || is_over(old, now) {
        let alone = text(data, keys.0).and_then(|both| pki::first_certificate(both).ok());
        keep.extend(alone.map(|alone| (keys.0.to_owned(), value(alone))));
        keep.remove(&cross);
        keep.remove(&signing);
    }
    keep
}

/// New service account keys. Those that are there and were asked to rotate sign on until all API servers know the new.
pub(super) fn new_service_account_keys(old: Option<&Secret>) -> Result<Data, pki::Error> {
    let new = pki::service_account_key_pair()?;
    let before = old.filter(|old| asked(old)).and_then(|old| old.data.as_ref());
    let before = before.and_then(|data| Some((text(data, "sa.pub")?, text(data, "sa.key")?)));
    let before =
        before.filter(|(public, private)| matches!(pki::service_account_keys_match(public, private), Ok(true)));
    let first = before.and_then(|(public, private)| {
        let first = pki::public_keys(public).ok()?.into_iter().next()?;
        Some((first, private))
    });
    Ok(match first {
        None => Data::from([
            ("sa.pub".to_owned(), value(new.public_pem)),
            ("sa.key".to_owned(), value(new.private_pem)),
        ]),
        Some((public, private)) => Data::from([
            ("sa.pub".to_owned(), value(format!("{public}{}", new.public_pem))),
            ("sa.key".to_owned(), value(private)),
            (NEXT_KEY.to_owned(), value(new.private_pem)),
        ]),
    })
}

/// What a Secret of service account keys that serves should hold: the old one only as long as it is trusted.
pub(super) fn kept_service_account_keys(data: &Data, old: &Secret, now: Timestamp) -> Data {
    let mut keep = data.clone();
    let next = text(data, NEXT_KEY).is_some_and(|next| position(data, next).is_some());
    keep.retain(|key, _| key == "sa.pub" || key == "sa.key" || (next && key == NEXT_KEY));
    if is_over(old, now) && !next {
        let first = text(data, "sa.pub").and_then(|all| pki::public_keys(all).ok()?.into_iter().next());
        keep.extend(first.map(|first| ("sa.pub".to_owned(), value(first))));
    }
    keep
}

/// The public keys of a Secret, and which of them belongs to a private key.
fn position(data: &Data, private: &str) -> Option<(Vec<String>, usize)> {
    let keys = pki::public_keys(text(data, "sa.pub")?).ok()?;
    let at = keys
        .iter()
        .position(|key| matches!(pki::service_account_keys_match(key, private), Ok(true)))?;
    Some((keys, at))
}

/// Lets a new service account key sign, in the Secret as it was read, once every API server knows it: that is when all
/// pods are of a template with the Secret's checksum.
pub fn advance(control_plane: &str, secrets: &mut BTreeMap<String, Secret>, deployment: Option<&Deployment>) {
    let Some(secret) = secrets.get_mut(&format!("{control_plane}-sa-certificate")) else {
        return;
    };
    if secret.annotations().contains_key(PAUSED_ANNOTATION) || asked(secret) {
        return;
    }
    let Some(data) = secret.data.as_mut() else { return };
    let Some(next) = text(data, NEXT_KEY).map(str::to_owned) else {
        return;
    };
    let Some((mut keys, at)) = position(data, &next) else {
        return;
    };
    let known_to_all = deployment.is_none_or(|deployment| {
        let template = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.template.metadata.as_ref());
        let label = template.and_then(|template| {
            let labels = template.labels.as_ref()?;
            labels.get(&format!("{TEMPLATE_LABEL_PREFIX}service-account"))
        });
        label == Some(&identity::secret_checksum(data)) && crate::status::settled(deployment)
    });
    if known_to_all {
        keys[..=at].rotate_right(1);
        data.insert("sa.pub".to_owned(), value(keys.concat()));
        data.insert("sa.key".to_owned(), value(next));
        data.remove(NEXT_KEY);
    }
}

/// Keeps the time until which an old key is trusted on its Secret: set when a rotation was asked for, gone with the old
/// key.
pub fn annotate(annotations: &mut BTreeMap<String, String>, data: &Data, now: Timestamp) {
    let vouched = data.keys().any(|key| key.ends_with("-cross.crt"));
    let keys = text(data, "sa.pub").and_then(|all| pki::public_keys(all).ok());
    if !vouched && keys.is_none_or(|keys| keys.len() < 2) {
        annotations.remove(TRUST_OLD_UNTIL);
    } else if annotations.get(ROTATE_ANNOTATION).is_some_and(String::is_empty) {
        annotations.insert(TRUST_OLD_UNTIL.to_owned(), (now + OVERLAP).to_string());
    }
}

/// kube-controller-manager signs with one certificate and refuses a file of two.
pub(super) fn signing_certificate(deployment: &mut Deployment, control_plane: &str, authority: &Data) {
    let (_, signing) = bridge_keys("ca.crt");
    let pod = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let Some(pod) = pod.filter(|_| authority.contains_key(&signing)) else {
        return;
    };
    let pki = pod
        .volumes
        .iter_mut()
        .flatten()
        .find(|volume| volume.name == "etc-kubernetes-pki")
        .and_then(|volume| volume.projected.as_mut());
    let Some(pki) = pki else { return };
    pki.sources.get_or_insert_with(Vec::new).push(VolumeProjection {
        secret: Some(SecretProjection {
            name: format!("{control_plane}-ca"),
            items: Some(vec![KeyToPath {
                key: signing.clone(),
                path: signing.clone(),
                mode: None,
            }]),
            // It goes when the overlap ends, while these pods still run.
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    });
    for container in &mut pod.containers {
        for argument in container.args.iter_mut().flatten() {
            if argument == "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt" {
                *argument = format!("--cluster-signing-cert-file=/etc/kubernetes/pki/{signing}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEYS: (&str, &str) = ("ca.crt", "ca.key");

    fn clock() -> Clock {
        Clock {
            now: "2026-11-20T12:00:00Z".parse().unwrap(),
            renewal_window: SignedDuration::from_hours(24 * 30),
        }
    }

    fn secret(data: Data, annotations: &[(&str, &str)]) -> Secret {
        let mut secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        secret.metadata.annotations = Some(
            annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        );
        secret
    }

    fn overlapping() -> Data {
        let first = new_authority("kubernetes", KEYS, None, clock()).unwrap();
        new_authority(
            "kubernetes",
            KEYS,
            Some(&secret(first, &[(ROTATE_ANNOTATION, "")])),
            clock(),
        )
        .unwrap()
    }

    #[test]
    fn an_authority_that_nobody_asked_to_rotate_is_not_bridged() {
        let first = new_authority("kubernetes", KEYS, None, clock()).unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
        let anew = new_authority("kubernetes", KEYS, Some(&secret(first, &[])), clock()).unwrap();
        assert_eq!(anew.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
        let broken = Data::from([("ca.crt".to_owned(), value("rubbish"))]);
        let asked = secret(broken, &[(ROTATE_ANNOTATION, "")]);
        let anew = new_authority("kubernetes", KEYS, Some(&asked), clock()).unwrap();
        assert_eq!(anew.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
    }

    #[test]
    fn the_overlap_ends_when_its_annotation_or_the_old_authority_says_so() {
        let both = overlapping();
        let names = ["ca-cross.crt", "ca-signing.crt", "ca.crt", "ca.key"];
        assert_eq!(both.keys().collect::<Vec<_>>(), names);
        let kept = |until: &[(&str, &str)], now: &str| {
            kept_authority(&both, KEYS, &secret(both.clone(), until), now.parse().unwrap())
        };
        for until in ["2026-12-20T12:00:00Z", "some day", ""] {
            assert_eq!(
                kept(&[(TRUST_OLD_UNTIL, until)], "2026-12-20T11:59:59Z"),
                both,
                "{until}"
            );
        }
        let alone = kept(&[(TRUST_OLD_UNTIL, "2026-12-20T12:00:00Z")], "2026-12-20T12:00:00Z");
        assert_eq!(alone.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
        assert_eq!(alone["ca.crt"], both["ca-signing.crt"]);
        assert_eq!(alone["ca.key"], both["ca.key"]);
        // Ten years later nothing is left to trust.
        assert_eq!(kept(&[], "2036-11-19T12:00:00Z").len(), 2);
    }

    #[test]
    fn the_end_of_trust_is_written_down_with_the_request_and_goes_with_the_old_key() {
        let now = clock().now;
        let both = overlapping();
        let mut annotations: BTreeMap<String, String> = [(ROTATE_ANNOTATION.to_owned(), String::new())].into();
        annotate(&mut annotations, &both, now);
        assert_eq!(annotations[TRUST_OLD_UNTIL], "2026-12-20T12:00:00Z");
        annotations.insert(ROTATE_ANNOTATION.to_owned(), now.to_string());
        annotations.insert(TRUST_OLD_UNTIL.to_owned(), "2026-11-21T00:00:00Z".to_owned());
        annotate(&mut annotations, &both, now);
        assert_eq!(
            annotations[TRUST_OLD_UNTIL], "2026-11-21T00:00:00Z",
            "people's word stands"
        );
        let alone = Data::from([("ca.crt".to_owned(), both["ca-signing.crt"].clone())]);
        annotate(&mut annotations, &alone, now);
        assert!(!annotations.contains_key(TRUST_OLD_UNTIL));
    }

    #[test]
    fn a_new_service_account_key_signs_once_all_pods_know_it() {
        let first = new_service_account_keys(None).unwrap();
        let asked = secret(first.clone(), &[(ROTATE_ANNOTATION, "")]);
        let known = new_service_account_keys(Some(&asked)).unwrap();
        assert_eq!(known["sa.key"], first["sa.key"], "the old one signs");
        let checksum = identity::secret_checksum(&known);
        let deployment = |label: &str, ready: i32| -> Deployment {
            let labels = json!({"component.kamaji.clastix.io/service-account": label});
            serde_json::from_value(json!({
                "metadata": {"generation": 4},
                "spec": {"replicas": 2, "selector": {}, "template": {"metadata": {"labels": labels}}},
                "status": {"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready},
            }))
            .unwrap()
        };
        let advanced = |deployment: Option<&Deployment>, annotations: &[(&str, &str)]| {
            let stored = secret(known.clone(), annotations);
            let mut secrets = BTreeMap::from([("demo-sa-certificate".to_owned(), stored)]);
            advance("demo", &mut secrets, deployment);
            secrets.remove("demo-sa-certificate").unwrap().data.unwrap()
        };
        assert_eq!(advanced(Some(&deployment("older", 2)), &[]), known);
        assert_eq!(advanced(Some(&deployment(&checksum, 1)), &[]), known);
        let paused = [(PAUSED_ANNOTATION, "")];
        assert_eq!(advanced(Some(&deployment(&checksum, 2)), &paused), known);
        let signing = advanced(Some(&deployment(&checksum, 2)), &[]);
        assert_eq!(signing.keys().collect::<Vec<_>>(), ["sa.key", "sa.pub"]);
        assert_eq!(signing["sa.key"], known["sa-next.key"]);
        let keys = |data: &Data| pki::public_keys(text(data, "sa.pub").unwrap()).unwrap();
        let (before, after) = (keys(&known), keys(&signing));
        assert_eq!(after, [before[1].clone(), before[0].clone()]);
    }

    #[test]
    fn the_controller_manager_signs_with_the_new_authority_alone() {
        let wanted: Deployment = serde_json::from_value(json!({"spec": {"selector": {}, "template": {"spec": {
            "containers": [{"name": "kube-controller-manager", "args": [
                "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt", "--root-ca-file=/etc/kubernetes/pki/ca.crt"]}],
            "volumes": [{"name": "etc-kubernetes-pki", "projected": {"sources": []}}],
        }}}}))
        .unwrap();
        let mut quiet = wanted.clone();
        signing_certificate(&mut quiet, "demo", &Data::new());
        assert_eq!(quiet, wanted);
        let mut bridged = wanted;
        signing_certificate(&mut bridged, "demo", &overlapping());
        let pod = serde_json::to_value(bridged.spec.unwrap().template.spec.unwrap()).unwrap();
        assert_eq!(
            pod["containers"][0]["args"],
            json!([
                "--cluster-signing-cert-file=/etc/kubernetes/pki/ca-signing.crt",
                "--root-ca-file=/etc/kubernetes/pki/ca.crt"
            ])
        );
        assert_eq!(
            pod["volumes"][0]["projected"]["sources"],
            json!([{"secret": {"name": "demo-ca", "optional": true,
                "items": [{"key": "ca-signing.crt", "path": "ca-signing.crt"}]}}])
        );
    }
}
