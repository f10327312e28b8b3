//! Reading certificates: what is in them, who signed them, when they must be renewed.

use jiff::{SignedDuration, Timestamp};
use x509_cert::der::asn1::{AnyRef, BitStringRef, Uint};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::{rfc4519, rfc5912};
use x509_cert::der::{self, Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::name::DirectoryString;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::time::Time;
use x509_cert::{Certificate, SubjectPublicKeyInfo, TbsCertificate};

use crate::{Error, KeyKind, PrivateKey, San, Usage, pem};

const WHAT: &str = "a certificate";

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    pub common_name: Option<String>,
    /// In the order of the certificate.
    pub organizations: Vec<String>,
    /// The issuer's common name.
    pub issuer_common_name: Option<String>,
    /// DNS names and IP addresses, in the order of the certificate. Other kinds of names are left out.
    pub sans: Vec<San>,
    pub usages: Vec<Usage>,
    pub is_authority: bool,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key: KeyKind,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub fingerprint: String,
}

impl CertificateInfo {
    /// Whether the certificate ends within `threshold` from `now`, has ended, or has not begun.
    pub fn needs_renewal(&self, now: Timestamp, threshold: SignedDuration) -> bool {
        now < self.not_before || self.renewal_at(threshold) <= now
    }

    /// When [`Self::needs_renewal`] begins to say yes.
    pub fn renewal_at(&self, threshold: SignedDuration) -> Timestamp {
        self.not_after.checked_sub(threshold).unwrap_or(Timestamp::MIN)
    }

    /// Those of `wanted` that the certificate does not carry. More than wanted is no fault.
    pub fn missing_sans<'a>(&self, wanted: &'a [San]) -> Vec<&'a San> {
        wanted.iter().filter(|san| !self.sans.contains(san)).collect()
    }
}

/// The first certificate of the text.
pub fn inspect(cert_pem: &str) -> Result<CertificateInfo, Error> {
    let ders = pem::certificate_ders(WHAT, cert_pem)?;
    describe(&ders[0])
}

/// Every certificate of the text, in its order.
pub fn inspect_all(cert_pem: &str) -> Result<Vec<CertificateInfo>, Error> {
    pem::certificate_ders(WHAT, cert_pem)?
        .iter()
        .map(|der| describe(der))
        .collect()
}

fn describe(der: &[u8]) -> Result<CertificateInfo, Error> {
    let cert = parse(der)?;
    let cert = cert.tbs_certificate();
    let names = cert
        .get_extension::<SubjectAltName>()
        .map_err(Error::parse(WHAT))?
        .map(|(_, names)| names.0.iter().filter_map(San::from_general_name).collect());
    let usages = cert
        .get_extension::<ExtendedKeyUsage>()
        .map_err(Error::parse(WHAT))?
        .map(|(_, extended)| {
            let listed = |usage: &Usage| extended.0.contains(&usage.oid());
            Usage::ALL.into_iter().filter(listed).collect()
        });
    Ok(CertificateInfo {
        common_name: attributes(cert.subject(), rfc4519::COMMON_NAME).next(),
        organizations: attributes(cert.subject(), rfc4519::ORGANIZATION_NAME).collect(),
        issuer_common_name: attributes(cert.issuer(), rfc4519::COMMON_NAME).next(),
        sans: names.unwrap_or_default(),
        usages: usages.unwrap_or_default(),
        is_authority: is_authority(WHAT, cert)?,
        not_before: timestamp(WHAT, cert.validity().not_before)?,
        not_after: timestamp(WHAT, cert.validity().not_after)?,
        key: key_kind(cert.subject_public_key_info()),
        fingerprint: sha256_hex(der),
    })
}

/// The readable values of an attribute.
fn attributes(name: &Name, oid: ObjectIdentifier) -> impl Iterator<Item = String> {
    name.iter()
        .filter(move |attribute| attribute.oid == oid)
        .filter_map(|attribute| DirectoryString::try_from(&attribute.value).ok())
        .map(String::from)
}

pub(crate) fn is_authority(what: &'static str, cert: &TbsCertificate) -> Result<bool, Error> {
    let constraints = cert.get_extension::<BasicConstraints>().map_err(Error::parse(what))?;
    Ok(constraints.is_some_and(|(_, constraints)| constraints.ca))
}

/// Whether the first certificate of `cert_pem` was signed by the first of `authority_pem`: names and signature,
/// not time.
pub fn is_signed_by(cert_pem: &str, authority_pem: &str) -> Result<bool, Error> {
    let cert_ders = pem::certificate_ders(WHAT, cert_pem)?;
    let authority_ders = pem::certificate_ders("an authority's certificate", authority_pem)?;
    let cert = parse(&cert_ders[0])?;
    let authority = parse(&authority_ders[0])?;
    let (cert, authority) = (cert.tbs_certificate(), authority.tbs_certificate());
    Ok(is_authority(WHAT, authority)?
        && cert.issuer() == authority.subject()
        && verifies(&cert_ders[0], authority.subject_public_key_info()).map_err(Error::parse(WHAT))?)
}

/// Whether the signature on the DER of a certificate was made by the key. What was signed are the octets as they
/// are, not as they would be encoded again.
fn verifies(cert: &[u8], key: &SubjectPublicKeyInfo) -> der::Result<bool> {
    let (message, algorithm, signature) = SliceReader::new(cert)?.sequence(|parts| {
        let message = parts.tlv_bytes()?;
        Ok::<_, der::Error>((message, AnyRef::decode(parts)?, BitStringRef::decode(parts)?))
    })?;
    let of_key = key.algorithm.to_der()?;
    let of_key = AnyRef::from_der(&of_key)?;
    Ok(webpki::ALL_VERIFICATION_ALGS.iter().any(|known| {
        known.signature_alg_id().as_ref() == algorithm.value()
            && known.public_key_alg_id().as_ref() == of_key.value()
            && known
                .verify_signature(key.subject_public_key.raw_bytes(), message, signature.raw_bytes())
                .is_ok()
    }))
}

/// Whether the first certificate of `cert_pem` is for the private key.
pub fn matches_key(cert_pem: &str, key_pem: &str) -> Result<bool, Error> {
    let ders = pem::certificate_ders(WHAT, cert_pem)?;
    let cert = parse(&ders[0])?;
    Ok(*cert.tbs_certificate().subject_public_key_info() == PrivateKey::from_pem(key_pem)?.public_key())
}

/// `sha256:` and the hexadecimal SHA-256 of the first certificate's SubjectPublicKeyInfo: what
/// `kubeadm join --discovery-token-ca-cert-hash` wants.
pub fn public_key_hash(cert_pem: &str) -> Result<String, Error> {
    let ders = pem::certificate_ders(WHAT, cert_pem)?;
    let cert = parse(&ders[0])?;
    let key = cert.tbs_certificate().subject_public_key_info();
    let key = key.to_der().map_err(Error::encode(WHAT))?;
    Ok(format!("sha256:{}", sha256_hex(&key)))
}

fn parse(der: &[u8]) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(Error::parse(WHAT))
}

fn key_kind(key: &SubjectPublicKeyInfo) -> KeyKind {
    let parameters = key.algorithm.parameters.as_ref();
    match key.algorithm.oid {
        rfc5912::RSA_ENCRYPTION => {
            // RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }
            let numbers = Vec::<Uint>::from_der(key.subject_public_key.raw_bytes()).unwrap_or_default();
            let modulus = numbers.first();
            modulus.map_or(KeyKind::Other, |modulus| KeyKind::Rsa(modulus.as_bytes().len() * 8))
        }
        rfc5912::ID_EC_PUBLIC_KEY => match parameters.and_then(|curve| curve.decode_as().ok()) {
            Some(rfc5912::SECP_256_R_1) => KeyKind::P256,
            Some(rfc5912::SECP_384_R_1) => KeyKind::P384,
            _ => KeyKind::Other,
        },
        _ => KeyKind::Other,
    }
}

pub(crate) fn timestamp(what: &'static str, time: Time) -> Result<Timestamp, Error> {
    Timestamp::try_from(time.to_system_time()).map_err(Error::parse(what))
}

pub(crate) fn sha256_hex(data: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
