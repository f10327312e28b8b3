//! Certificate signing requests, for users who get their certificate through the cluster's CSR API.

use x509_cert::der::Encode as _;
use x509_cert::der::asn1::SetOfVec;
use x509_cert::request::{CertReq, CertReqInfo, Version};

use crate::name::distinguished;
use crate::{Error, PrivateKey, pem};

const WHAT: &str = "a certificate signing request";

/// A request (`CERTIFICATE REQUEST` PEM, what `spec.request` of a CertificateSigningRequest holds) and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningRequest {
    pub csr_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningRequest")
            .field("csr_pem", &self.csr_pem)
            .finish_non_exhaustive()
    }
}

/// A request for a client certificate: the common name becomes the user, each organisation a group.
pub fn signing_request(common_name: &str, organizations: &[String]) -> Result<SigningRequest, Error> {
    let key = PrivateKey::generate()?;
    // `RequestBuilder` would ask for an empty list of extensions, which RFC 5280 does not allow.
    let info = CertReqInfo {
        version: Version::V1,
        subject: distinguished(common_name, organizations)?,
        public_key: key.public_key(),
        attributes: SetOfVec::new(),
    };
    let signature = key.sign(&info.to_der().map_err(Error::encode(WHAT))?)?;
    let request = CertReq {
        info,
        algorithm: key.signature_algorithm(),
        signature,
    };
    Ok(SigningRequest {
        csr_pem: pem::encode("CERTIFICATE REQUEST", &request.to_der().map_err(Error::encode(WHAT))?),
        key_pem: key.to_pem(),
    })
}
