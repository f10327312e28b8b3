//! An authority and what it issues.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};

use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{self, CertificateBuilder};
use x509_cert::der::asn1::OctetString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension as _};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, SubjectPublicKeyInfo, TbsCertificate};

use crate::name::{alternative_names, distinguished};
use crate::{Error, PrivateKey, San, pem, signer};

const WHAT: &str = "the authority's certificate";

/// kubeadm's `caCertificateValidityPeriod`.
pub const AUTHORITY_VALIDITY: SignedDuration = SignedDuration::from_hours(87_600);
/// kubeadm's `certificateValidityPeriod`.
pub const LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(8_760);
/// How long before the time of issuance a certificate begins, for clocks that are behind ours.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// What a leaf may be used for (extended key usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    CodeSigning,
}

impl Usage {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Server, Self::CodeSigning];

    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Server => rfc5280::ID_KP_SERVER_AUTH,
            Self::Client => rfc5280::ID_KP_CLIENT_AUTH,
            Self::CodeSigning => rfc5280::ID_KP_CODE_SIGNING,
        }
    }
}

/// A leaf to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// The user, for a client certificate.
    pub common_name: String,
    /// The groups, for a client certificate.
    pub organizations: Vec<String>,
    pub sans: Vec<San>,
    pub usages: Vec<Usage>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl LeafRequest {
    /// A client certificate for a year from `now`.
    pub fn client(common_name: impl Into<String>, organizations: &[&str], now: Timestamp) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: organizations.iter().map(|&o| o.to_owned()).collect(),
            sans: Vec::new(),
            usages: vec![Usage::Client],
            not_before: now - BACKDATE,
            not_after: now + LEAF_VALIDITY,
        }
    }

    /// A server certificate for a year from `now`.
    pub fn server(common_name: impl Into<String>, sans: Vec<San>, now: Timestamp) -> Self {
        Self {
            sans,
            usages: vec![Usage::Server],
            ..Self::client(common_name, &[], now)
        }
    }
}

/// A certificate (perhaps followed by others) and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate authority that can sign.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    key: PrivateKey,
    /// The subject as its certificate holds it: leaves repeat it byte for byte.
    subject: Name,
    /// The subject key identifier, if its certificate has one: leaves name it as their authority's.
    key_identifier: Option<OctetString>,
    not_after: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new self-signed authority on P-256, valid from [`BACKDATE`] before `now` for `validity` from `now`.
    pub fn new(common_name: &str, sans: &[San], validity: SignedDuration, now: Timestamp) -> Result<Self, Error> {
        let key = PrivateKey::generate()?;
        let profile = RootProfile {
            subject: distinguished(common_name, &[])?,
            key_identifier: key_identifier(key.public_key().subject_public_key.raw_bytes())?,
            sans: alternative_names(sans)?,
        };
        let (subject, identifier) = (profile.subject.clone(), profile.key_identifier.clone());
        let not_after = now + validity;
        let cert = certificate(profile, key.public_key(), now - BACKDATE, not_after, &key)?;
        Ok(Self {
            cert_pem: pem::encode("CERTIFICATE", &cert),
            key_pem: key.to_pem(),
            key,
            subject,
            key_identifier: Some(identifier),
            not_after,
        })
    }

    /// An existing authority. The first certificate of `cert_pem` is the one that signs; all forms of
    /// [`PrivateKey::from_pem`] are read.
    ///
    /// # Errors
    /// When either does not parse, when they do not belong together, or when the certificate may not sign others.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let ders = pem::certificate_ders(WHAT, cert_pem)?;
        let key = PrivateKey::from_pem(key_pem)?;
        let cert = Certificate::from_der(&ders[0]).map_err(Error::parse(WHAT))?;
        let cert = cert.tbs_certificate();
        if *cert.subject_public_key_info() != key.public_key() {
            return Err(Error::ForeignKey);
        }
        if !crate::inspect::is_authority(WHAT, cert)? {
            return Err(Error::NotAnAuthority);
        }
        let subject = cert.subject().to_der().map_err(Error::encode(WHAT))?;
        if !ders[0].windows(subject.len()).any(|part| part == subject) {
            return Err(Error::Parse {
                what: WHAT,
                reason: "its subject is not in DER, so no certificate could repeat it as its issuer".to_owned(),
            });
        }
        let key_identifier = cert
            .get_extension::<SubjectKeyIdentifier>()
            .map_err(Error::parse(WHAT))?
            .map(|(_, identifier)| identifier.0);
        Ok(Self {
            subject: cert.subject().clone(),
            not_after: crate::inspect::timestamp(WHAT, cert.validity().not_after)?,
            key_identifier,
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            key,
        })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The key as it was read, or as PKCS#8 when it was made here.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What [`crate::public_key_hash`] gives for this authority's certificate.
    pub fn public_key_hash(&self) -> String {
        format!("sha256:{}", crate::inspect::sha256_hex(&self.key.public_key_info()))
    }

    /// Issues a leaf with a new P-256 key. Nothing is remembered: serial numbers are 158 random bits.
    ///
    /// # Errors
    /// When a name cannot be encoded or the validity is empty.
    pub fn issue(&self, request: &LeafRequest) -> Result<KeyPair, Error> {
        let key = PrivateKey::generate()?;
        let profile = LeafProfile {
            authority: self,
            subject: distinguished(&request.common_name, &request.organizations)?,
            usages: ExtendedKeyUsage(request.usages.iter().map(|usage| usage.oid()).collect()),
            sans: alternative_names(&request.sans)?,
        };
        let cert = certificate(
            profile,
            key.public_key(),
            request.not_before,
            request.not_after,
            &self.key,
        )?;
        Ok(KeyPair {
            cert_pem: pem::encode("CERTIFICATE", &cert),
            key_pem: key.to_pem(),
        })
    }

    /// A certificate for the key of `next`, signed by this authority, so that whoever trusts this one can follow what
    /// the next one signs: it goes behind each leaf. It ends with the first of the two.
    ///
    /// # Errors
    /// When this authority has ended.
    pub fn vouch_for(&self, next: &Self, now: Timestamp) -> Result<String, Error> {
        let profile = VouchingProfile { authority: self, next };
        let not_after = self.not_after.min(next.not_after);
        if not_after <= now {
            return Err(Error::EmptyValidity {
                not_before: now,
                not_after,
            });
        }
        let cert = certificate(profile, next.key.public_key(), now - BACKDATE, not_after, &self.key)?;
        Ok(pem::encode("CERTIFICATE", &cert))
    }
}

/// What a certificate of one authority for another holds.
struct VouchingProfile<'a> {
    authority: &'a Authority,
    next: &'a Authority,
}

impl BuilderProfile for VouchingProfile<'_> {
    fn get_issuer(&self, _: &Name) -> Name {
        self.authority.subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.next.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let subject = &self.next.subject;
        let usage = KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment | KeyUsages::KeyCertSign;
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: None,
        };
        let mut extensions = vec![
            KeyUsage(usage).to_extension(subject, &[])?,
            constraints.to_extension(subject, &[])?,
        ];
        if let Some(identifier) = &self.next.key_identifier {
            extensions.push(SubjectKeyIdentifier(identifier.clone()).to_extension(subject, &[])?);
        }
        if let Some(identifier) = &self.authority.key_identifier {
            let identifier = AuthorityKeyIdentifier {
                key_identifier: Some(identifier.clone()),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push(identifier.to_extension(subject, &extensions)?);
        }
        Ok(extensions)
    }
}

/// What kubeadm writes into an authority, in its order.
struct RootProfile {
    subject: Name,
    key_identifier: OctetString,
    sans: SubjectAltName,
}

impl BuilderProfile for RootProfile {
    fn get_issuer(&self, subject: &Name) -> Name {
        subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let usage = KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment | KeyUsages::KeyCertSign;
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: None,
        };
        let identifier = SubjectKeyIdentifier(self.key_identifier.clone());
        let mut extensions = vec![
            KeyUsage(usage).to_extension(&self.subject, &[])?,
            constraints.to_extension(&self.subject, &[])?,
            identifier.to_extension(&self.subject, &[])?,
        ];
        if !self.sans.0.is_empty() {
            extensions.push(self.sans.to_extension(&self.subject, &[])?);
        }
        Ok(extensions)
    }
}

/// What kubeadm writes into a leaf, in its order.
struct LeafProfile<'a> {
    authority: &'a Authority,
    subject: Name,
    usages: ExtendedKeyUsage,
    sans: SubjectAltName,
}

impl BuilderProfile for LeafProfile<'_> {
    fn get_issuer(&self, _: &Name) -> Name {
        self.authority.subject.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let usage = KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment;
        let mut extensions = vec![KeyUsage(usage).to_extension(&self.subject, &[])?];
        if !self.usages.0.is_empty() {
            extensions.push(self.usages.to_extension(&self.subject, &extensions)?);
        }
        let constraints = BasicConstraints {
            ca: false,
            path_len_constraint: None,
        };
        extensions.push(constraints.to_extension(&self.subject, &extensions)?);
        if let Some(identifier) = &self.authority.key_identifier {
            let identifier = AuthorityKeyIdentifier {
                key_identifier: Some(identifier.clone()),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push(identifier.to_extension(&self.subject, &extensions)?);
        }
        if !self.sans.0.is_empty() {
            extensions.push(self.sans.to_extension(&self.subject, &extensions)?);
        }
        Ok(extensions)
    }
}

/// RFC 7093 method 1, as Go's: the leftmost 160 bits of SHA-256 of the key without its algorithm.
fn key_identifier(public_key: &[u8]) -> Result<OctetString, Error> {
    let digest = ring::digest::digest(&ring::digest::SHA256, public_key);
    OctetString::new(&digest.as_ref()[..20]).map_err(Error::encode(WHAT))
}

/// The DER of a signed certificate.
fn certificate(
    profile: impl BuilderProfile,
    public_key: SubjectPublicKeyInfo,
    not_before: Timestamp,
    not_after: Timestamp,
    key: &PrivateKey,
) -> Result<Vec<u8>, Error> {
    let what = "a certificate";
    if not_after <= not_before {
        return Err(Error::EmptyValidity { not_before, not_after });
    }
    let mut serial = [0_u8; 20];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Randomness)?;
    // At most 20 octets with the sign bit clear, and never zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let serial = SerialNumber::new(&serial).map_err(Error::encode(what))?;
    let time = |at: Timestamp| Time::try_from(SystemTime::from(at)).map_err(Error::encode(what));
    let validity = Validity::new(time(not_before)?, time(not_after)?);
    let builder = CertificateBuilder::new(profile, serial, validity, public_key).map_err(Error::encode(what))?;
    let cert = signer::sign(what, builder, key)?;
    cert.to_der().map_err(Error::encode(what))
}
