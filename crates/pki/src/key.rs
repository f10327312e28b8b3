//! Private keys: made as P-256, read in whatever form an existing Secret holds.

use pkcs8::PrivateKeyInfoRef;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};

use x509_cert::der::asn1::{AnyRef, BitString, OctetStringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912;
use x509_cert::der::referenced::RefToOwned as _;
use x509_cert::der::{self, Encode as _};
use x509_cert::spki::AlgorithmIdentifierRef;
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::{Error, pem};

const RSA: AlgorithmIdentifierRef<'static> = AlgorithmIdentifierRef {
    oid: rfc5912::RSA_ENCRYPTION,
    parameters: Some(AnyRef::NULL),
};

fn elliptic(curve: &ObjectIdentifier) -> AlgorithmIdentifierRef<'_> {
    AlgorithmIdentifierRef {
        oid: rfc5912::ID_EC_PUBLIC_KEY,
        parameters: Some(curve.into()),
    }
}

/// What kind of key a certificate or a Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    P256,
    P384,
    /// With the size of the modulus in bits.
    Rsa(usize),
    /// Readable by others, not by us (P-521, Ed25519).
    Other,
}

enum Inner {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A private key that can sign certificates and requests.
pub struct PrivateKey {
    inner: Inner,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey")
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// A new key on P-256.
    pub fn generate() -> Result<Self, Error> {
        let random = SystemRandom::new();
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| Error::Randomness)?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Reads the first private key of the text: `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC1) or
    /// `RSA PRIVATE KEY` (PKCS#1). Other blocks, `EC PARAMETERS` for one, are passed over.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        for (label, contents) in pem::decode_all("a private key", text)? {
            match label.as_str() {
                "PRIVATE KEY" => return Self::from_pkcs8(contents),
                "RSA PRIVATE KEY" => return Self::from_bare(RSA, &contents),
                "EC PRIVATE KEY" => return Self::from_sec1(&contents),
                _ => {}
            }
        }
        Err(Error::MissingPem {
            what: "a private key",
            label: "PRIVATE KEY",
        })
    }

    fn from_sec1(contents: &[u8]) -> Result<Self, Error> {
        // The curve is named inside the structure; without parsing it, only one of the two reads as a valid key.
        let mut rejected = None;
        for curve in [rfc5912::SECP_256_R_1, rfc5912::SECP_384_R_1] {
            match Self::from_bare(elliptic(&curve), contents) {
                Ok(key) => return Ok(key),
                Err(error) => rejected = Some(error),
            }
        }
        Err(rejected.expect("the loop ran"))
    }

    /// A key in the form of its algorithm (PKCS#1, SEC1), which PKCS#8 puts an algorithm's name in front of.
    fn from_bare(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Result<Self, Error> {
        let pkcs8 = OctetStringRef::new(key)
            .and_then(|key| PrivateKeyInfoRef::new(algorithm, key).to_der())
            .map_err(|rejected| Error::UnsupportedKey {
                reason: rejected.to_string(),
            })?;
        Self::from_pkcs8(pkcs8)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, Error> {
        let random = SystemRandom::new();
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random) {
            return Ok(Self {
                inner: Inner::P256(key),
                pkcs8,
            });
        }
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &pkcs8, &random) {
            return Ok(Self {
                inner: Inner::P384(key),
                pkcs8,
            });
        }
        match RsaKeyPair::from_pkcs8(&pkcs8) {
            Ok(key) => Ok(Self {
                inner: Inner::Rsa(key),
                pkcs8,
            }),
            Err(rejected) => Err(Error::UnsupportedKey {
                reason: rejected.to_string(),
            }),
        }
    }

    pub fn kind(&self) -> KeyKind {
        match &self.inner {
            Inner::P256(_) => KeyKind::P256,
            Inner::P384(_) => KeyKind::P384,
            Inner::Rsa(key) => KeyKind::Rsa(key.public().modulus_len() * 8),
        }
    }

    /// PKCS#8 (`PRIVATE KEY`), which Go, OpenSSL and rustls all read.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The DER of the SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> Vec<u8> {
        self.public_key().to_der().expect(SHORT)
    }

    pub(crate) fn public_key(&self) -> SubjectPublicKeyInfo {
        let (algorithm, public) = match &self.inner {
            Inner::P256(key) => (elliptic(&rfc5912::SECP_256_R_1), key.public_key().as_ref()),
            Inner::P384(key) => (elliptic(&rfc5912::SECP_384_R_1), key.public_key().as_ref()),
            Inner::Rsa(key) => (RSA, key.public_key().as_ref()),
        };
        SubjectPublicKeyInfo {
            algorithm: algorithm.ref_to_owned(),
            subject_public_key: BitString::from_bytes(public).expect(SHORT),
        }
    }

    /// `PUBLIC KEY` PEM, the form of `sa.pub`.
    pub fn public_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.public_key_info())
    }

    /// The AlgorithmIdentifier of signatures by this key.
    pub(crate) fn signature_algorithm(&self) -> AlgorithmIdentifier {
        let (oid, parameters) = match &self.inner {
            Inner::P256(_) => (rfc5912::ECDSA_WITH_SHA_256, None),
            Inner::P384(_) => (rfc5912::ECDSA_WITH_SHA_384, None),
            Inner::Rsa(_) => (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, Some(der::Any::null())),
        };
        AlgorithmIdentifier { oid, parameters }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<BitString, Error> {
        let random = SystemRandom::new();
        let signature = match &self.inner {
            Inner::P256(key) | Inner::P384(key) => key
                .sign(&random, message)
                .map_err(|_| Error::Randomness)?
                .as_ref()
                .to_vec(),
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| Error::Randomness)?;
                signature
            }
        };
        Ok(BitString::new(0, signature).expect(SHORT))
    }
}

/// Why keys and signatures always encode.
const SHORT: &str = "ring's keys and signatures are far shorter than what DER can hold";

/// What kube-apiserver signs service account tokens with (ES256 when made here).
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccountKeyPair {
    /// `sa.key`
    pub private_pem: String,
    /// `sa.pub`
    pub public_pem: String,
}

impl std::fmt::Debug for ServiceAccountKeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountKeyPair")
            .field("public_pem", &self.public_pem)
            .finish_non_exhaustive()
    }
}

/// A new service account key pair. Made of an ECDSA key, tokens are signed with ES256.
pub fn service_account_key_pair() -> Result<ServiceAccountKeyPair, Error> {
    let key = PrivateKey::generate()?;
    Ok(ServiceAccountKeyPair {
        private_pem: key.to_pem(),
        public_pem: key.public_pem(),
    })
}

/// Whether `sa.pub` belongs to `sa.key`. Any readable kind of key; PKCS#1 public keys (`RSA PUBLIC KEY`) too.
pub fn service_account_keys_match(public_pem: &str, private_pem: &str) -> Result<bool, Error> {
    let key = PrivateKey::from_pem(private_pem)?;
    for (label, contents) in pem::decode_all("a public key", public_pem)? {
        match label.as_str() {
            "PUBLIC KEY" => return Ok(contents == key.public_key_info()),
            "RSA PUBLIC KEY" => {
                return Ok(matches!(&key.inner, Inner::Rsa(rsa) if rsa.public_key().as_ref() == contents));
            }
            _ => {}
        }
    }
    Err(Error::MissingPem {
        what: "a public key",
        label: "PUBLIC KEY",
    })
}
