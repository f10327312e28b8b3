//! What the certificate Secret should hold. Pure: the Secret's data and the time go in, the wanted data comes out.
//!
//! The Secret has the peer's keys: `ca.crt` (the bundle, the newest authority first), `ca.key` (of the newest),
//! `tls.crt`, `tls.key`. A take-over therefore goes on with the peer's RSA authority until that ends.
//!
//! An authority is replaced in three steps, each of them one write, each of them safe to stop after:
//! 1. the new authority joins the bundle, `ca.key` becomes its key, the served certificate stays as it is;
//! 2. once the webhook configurations carry the new bundle, the new authority signs a new served certificate;
//! 3. the old authority leaves the bundle when it has ended, or a day after step 2.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use pki::{Authority, CertificateInfo, LeafRequest, San};

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

/// An authority lives ten years and is replaced half a year before its end.
const AUTHORITY_RENEWAL: SignedDuration = SignedDuration::from_hours(182 * 24);
/// A served certificate lives 180 days and is replaced 30 days before its end.
const LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(180 * 24);
const LEAF_RENEWAL: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long the old authority stays in the bundle after the new one signs.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "failed to use the certificate authority: {missing:?} is missing while other parts are there; \
         put it back, or delete the Secret to get a new authority"
    )]
    HalfPresent { missing: &'static str },
    #[error("failed to use {key:?}: it is not text")]
    NotText { key: &'static str },
    #[error(transparent)]
    Certificate(#[from] pki::Error),
}

/// Certificate material of the server. Its `Debug` form holds no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Authorities that API servers should trust; the newest first.
    pub bundle: String,
    /// Key of the newest authority. `None`: somebody else (cert-manager) keeps the certificate.
    authority_key: Option<String>,
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("bundle", &self.bundle)
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// The Secret's data.
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::from([
            (CA_CERT.to_owned(), bytes(&self.bundle)),
            (CERT.to_owned(), bytes(&self.cert_pem)),
            (KEY.to_owned(), bytes(&self.key_pem)),
        ]);
        if let Some(key) = &self.authority_key {
            data.insert(CA_KEY.to_owned(), bytes(key));
        }
        data
    }

    /// Whether some authority of `bundle` vouches for the served certificate.
    pub fn chains_to(&self, bundle: &str) -> bool {
        split(bundle)
            .iter()
            .any(|authority| pki::is_signed_by(&self.cert_pem, authority).unwrap_or(false))
    }
}

/// What is to be done with the Secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    Keep(Material),
    Write(Material),
}

/// Decides what the Secret should hold. `published` is the bundle that both webhook configurations have carried long
/// enough for every API server to know it; `None` when they differ, or are not there yet.
///
/// # Errors
/// When parts of an authority are missing or do not parse: somebody's certificate is never overwritten by a guess.
pub fn plan(
    data: Option<&BTreeMap<String, ByteString>>,
    sans: &[San],
    published: Option<&str>,
    now: Timestamp,
) -> Result<Plan, Error> {
    let Some(found) = read(data)? else {
        let authority = new_authority(now)?;
        return Ok(Plan::Write(issue(&authority, authority.cert_pem(), sans, now)?));
    };
    let Some(authority_key) = &found.authority_key else {
        return Ok(Plan::Keep(found));
    };
    let mut authorities = split(&found.bundle);
    let newest = pki::inspect(&authorities[0])?;
    let mut authority = Authority::from_pem(&authorities[0], authority_key)?;
    let mut next = found.clone();

    if newest.needs_renewal(now, AUTHORITY_RENEWAL) {
        authority = new_authority(now)?;
        authorities.insert(0, authority.cert_pem().to_owned());
        next.authority_key = Some(authority.key_pem().to_owned());
    }
    let signed_by_newest = pki::is_signed_by(&next.cert_pem, &authorities[0])?;
    let newest_is_known = published.is_some_and(|bundle| split(bundle).contains(&authorities[0]));
    let leaf = pki::inspect(&next.cert_pem)?;
    let unusable = leaf.needs_renewal(now, SignedDuration::ZERO)
        || !pki::matches_key(&next.cert_pem, &next.key_pem)?
        || !authorities
            .iter()
            .any(|authority| pki::is_signed_by(&next.cert_pem, authority).unwrap_or(false));
    let due = leaf.needs_renewal(now, LEAF_RENEWAL) || !leaf.missing_sans(sans).is_empty() || !signed_by_newest;
    // A certificate that nobody accepts any more is replaced at once; any other waits until its signer is known.
    if unusable || (due && (signed_by_newest || newest_is_known)) {
        next = issue(&authority, &next.bundle, sans, now)?;
    } else if signed_by_newest {
        let settled = now.duration_since(leaf.not_before) >= OVERLAP;
        authorities = retain(authorities, |index, _| index == 0 || !settled)?;
    }
    authorities = retain(authorities, |index, info| index == 0 || now < info.not_after)?;
    next.bundle = authorities.concat();
    Ok(if next == found {
        Plan::Keep(found)
    } else {
        Plan::Write(next)
    })
}

fn retain(authorities: Vec<String>, keep: impl Fn(usize, &CertificateInfo) -> bool) -> Result<Vec<String>, Error> {
    let mut kept = Vec::with_capacity(authorities.len());
    for (index, authority) in authorities.into_iter().enumerate() {
        if keep(index, &pki::inspect(&authority)?) {
            kept.push(authority);
        }
    }
    Ok(kept)
}

/// `None` when nothing is there yet (no Secret, or the empty one that a chart made).
fn read(data: Option<&BTreeMap<String, ByteString>>) -> Result<Option<Material>, Error> {
    let text = |key: &'static str| -> Result<Option<String>, Error> {
        match data.and_then(|data| data.get(key)).filter(|value| !value.0.is_empty()) {
            None => Ok(None),
            Some(value) => {
                let text = std::str::from_utf8(&value.0).map_err(|_| Error::NotText { key })?;
                Ok(Some(if text.ends_with('\n') {
                    text.to_owned()
                } else {
                    format!("{text}\n")
                }))
            }
        }
    };
    let (bundle, authority_key, cert_pem, key_pem) = (text(CA_CERT)?, text(CA_KEY)?, text(CERT)?, text(KEY)?);
    match (bundle, authority_key, cert_pem, key_pem) {
        (None, None, None, None) => Ok(None),
        (Some(bundle), authority_key, Some(cert_pem), Some(key_pem)) => Ok(Some(Material {
            bundle: normal(&bundle)?,
            authority_key,
            cert_pem,
            key_pem,
        })),
        (None, ..) => Err(Error::HalfPresent { missing: CA_CERT }),
        (_, _, None, _) => Err(Error::HalfPresent { missing: CERT }),
        (_, _, _, None) => Err(Error::HalfPresent { missing: KEY }),
    }
}

/// The bundle without anything between its certificates. At least one must be in it.
fn normal(bundle: &str) -> Result<String, Error> {
    pki::inspect(bundle)?;
    Ok(split(bundle).concat())
}

fn new_authority(now: Timestamp) -> Result<Authority, Error> {
    Ok(Authority::new("cotenant-webhooks", &[], pki::AUTHORITY_VALIDITY, now)?)
}

fn issue(authority: &Authority, bundle: &str, sans: &[San], now: Timestamp) -> Result<Material, Error> {
    let name = sans.iter().find_map(|san| match san {
        San::Dns(name) => Some(name.clone()),
        San::Ip(_) => None,
    });
    let request = LeafRequest {
        not_after: (now + LEAF_VALIDITY).min(authority.not_after()),
        ..LeafRequest::server(
            name.unwrap_or_else(|| "cotenant-webhooks".to_owned()),
            sans.to_vec(),
            now,
        )
    };
    let pair = authority.issue(&request)?;
    Ok(Material {
        bundle: bundle.to_owned(),
        authority_key: Some(authority.key_pem().to_owned()),
        cert_pem: pair.cert_pem,
        key_pem: pair.key_pem,
    })
}

/// The certificates of a text, each as PEM text of its own.
fn split(bundle: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = bundle;
    while let Some(begin) = rest.find(BEGIN) {
        let Some(end) = rest[begin..].find(END) else { break };
        let end = begin + end + END.len();
        found.push(format!("{}\n", &rest[begin..end]));
        rest = &rest[end..];
    }
    found
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sans() -> Vec<San> {
        vec![San::Dns("hook.ns.svc".to_owned())]
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn written(plan: Result<Plan, Error>) -> Material {
        match plan.expect("a plan") {
            Plan::Write(material) => material,
            Plan::Keep(_) => panic!("expected a write"),
        }
    }

    fn kept(plan: Result<Plan, Error>) -> Material {
        match plan.expect("a plan") {
            Plan::Keep(material) => material,
            Plan::Write(_) => panic!("expected no write"),
        }
    }

    #[test]
    fn the_first_certificate_is_made_at_once_and_then_kept() {
        let now = time("2026-01-01T00:00:00Z");
        for start in [None, Some(BTreeMap::new())] {
            let first = written(plan(start.as_ref(), &sans(), None, now));
            assert!(first.chains_to(&first.bundle));
            assert_eq!(kept(plan(Some(&first.to_data()), &sans(), None, now)), first);
        }
    }

    #[test]
    fn a_certificate_is_renewed_a_month_before_its_end_by_the_same_authority() {
        let first = written(plan(None, &sans(), None, time("2026-01-01T00:00:00Z")));
        kept(plan(
            Some(&first.to_data()),
            &sans(),
            None,
            time("2026-05-29T00:00:00Z"),
        ));
        let second = written(plan(
            Some(&first.to_data()),
            &sans(),
            None,
            time("2026-06-01T00:00:00Z"),
        ));
        assert_eq!(second.bundle, first.bundle);
        assert_ne!(second.cert_pem, first.cert_pem);
        assert!(second.chains_to(&first.bundle));
    }

    #[test]
    fn a_new_name_is_added_at_once() {
        let now = time("2026-01-01T00:00:00Z");
        let first = written(plan(None, &sans(), None, now));
        let more = [sans(), vec![San::Ip("127.0.0.1".parse().expect("an address"))]].concat();
        let second = written(plan(Some(&first.to_data()), &more, None, now));
        assert_eq!(pki::inspect(&second.cert_pem).expect("a certificate").sans, more);
    }

    #[test]
    fn an_authority_is_replaced_without_a_moment_in_which_the_served_certificate_is_not_trusted() {
        let first = written(plan(None, &sans(), None, time("2026-01-01T00:00:00Z")));
        let mut current = first.clone();
        let mut published = first.bundle.clone();
        // Renew the leaf until the authority is nearly over (2035-12-30), publishing each bundle a pass later.
        let mut now = time("2026-01-02T00:00:00Z");
        let mut seen_authorities = std::collections::BTreeSet::new();
        while now < time("2036-06-01T00:00:00Z") {
            let next = match plan(Some(&current.to_data()), &sans(), Some(&published), now).expect("a plan") {
                Plan::Keep(material) | Plan::Write(material) => material,
            };
            assert!(
                next.chains_to(&published),
                "at {now} API servers do not trust what is served"
            );
            published.clone_from(&current.bundle);
            seen_authorities.extend(split(&next.bundle));
            current = next;
            assert!(current.chains_to(&published));
            now += SignedDuration::from_hours(36);
        }
        assert_eq!(seen_authorities.len(), 2);
        assert_eq!(split(&current.bundle).len(), 1, "the old authority has left");
        assert!(!current.chains_to(&first.bundle));
    }

    #[test]
    fn a_new_authority_does_not_sign_before_it_is_published() {
        let first = written(plan(None, &sans(), None, time("2026-01-01T00:00:00Z")));
        let now = time("2035-09-01T00:00:00Z");
        // The leaf was kept fresh by the old authority.
        let renewed = {
            let authority = Authority::from_pem(&first.bundle, first.authority_key.as_deref().expect("a key"));
            issue(&authority.expect("an authority"), &first.bundle, &sans(), now).expect("a leaf")
        };
        let both = written(plan(Some(&renewed.to_data()), &sans(), Some(&first.bundle), now));
        assert_eq!(split(&both.bundle).len(), 2);
        assert_eq!(both.cert_pem, renewed.cert_pem);
        assert_eq!(
            kept(plan(Some(&both.to_data()), &sans(), Some(&first.bundle), now)),
            both
        );
        let moved = written(plan(Some(&both.to_data()), &sans(), Some(&both.bundle), now));
        assert_ne!(moved.cert_pem, renewed.cert_pem);
        assert_eq!(split(&moved.bundle).len(), 2);
        let day_later = now + SignedDuration::from_hours(25);
        let alone = written(plan(Some(&moved.to_data()), &sans(), Some(&both.bundle), day_later));
        assert_eq!(split(&alone.bundle).len(), 1);
        assert!(alone.chains_to(&alone.bundle));
    }

    #[test]
    fn half_an_authority_is_not_replaced() {
        let first = written(plan(None, &sans(), None, time("2026-01-01T00:00:00Z")));
        for missing in [CA_CERT, CERT, KEY] {
            let mut data = first.to_data();
            data.remove(missing);
            let error = plan(Some(&data), &sans(), None, time("2026-01-01T00:00:00Z")).expect_err("an error");
            assert!(error.to_string().contains(missing), "{error}");
        }
    }

    #[test]
    fn a_certificate_that_somebody_else_keeps_is_left_alone() {
        let first = written(plan(None, &sans(), None, time("2026-01-01T00:00:00Z")));
        let mut data = first.to_data();
        data.remove(CA_KEY);
        let late = time("2040-01-01T00:00:00Z");
        assert_eq!(kept(plan(Some(&data), &sans(), None, late)).cert_pem, first.cert_pem);
    }
}
