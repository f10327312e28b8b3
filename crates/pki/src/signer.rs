//! `ring`'s keys behind the traits that `x509-cert` signs with, so that no second implementation of any signature
//! enters the program.

use signature::Keypair;
use x509_cert::builder::Builder;
use x509_cert::der::Document;
use x509_cert::spki::{self, AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey};

use crate::{Error, PrivateKey};

/// Completes what a builder builds.
pub(crate) fn sign<B: Builder>(what: &'static str, mut builder: B, key: &PrivateKey) -> Result<B::Output, Error> {
    let signer = Signer(key);
    let message = builder.finalize(&signer).map_err(Error::encode(what))?;
    builder
        .assemble(key.sign(&message)?, &signer)
        .map_err(Error::encode(what))
}

struct Signer<'a>(&'a PrivateKey);

#[derive(Clone)]
struct PublicKey(Vec<u8>);

impl Keypair for Signer<'_> {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        PublicKey(self.0.public_key_info())
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl DynSignatureAlgorithmIdentifier for Signer<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.0.signature_algorithm())
    }
}
