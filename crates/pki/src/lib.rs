//! Certificates, keys and kubeconfigs of hosted control planes, of the webhooks and of tenant users.
//!
//! Everything made here is ECDSA on P-256, because a whole control plane's material then costs milliseconds where
//! RSA-2048 costs seconds of CPU. Existing material is read in every form that kubeadm, OpenSSL and Go's own tools
//! write (SEC1, PKCS#1, PKCS#8; RSA, P-256, P-384) and is signed with as it is, so that a control plane that comes
//! from elsewhere keeps its authority.
//!
//! Certificates are written and read with `x509-cert`, while every key, signature and digest is `ring`'s ([`signer`]).
//! `rcgen` was refused for one reason: Kubernetes puts every group of a user into an organisation attribute of its
//! own, and `rcgen`'s distinguished name holds one value per attribute type.
//!
//! No clock is read: callers pass the time of issuance. Randomness comes from `ring`.

mod authority;
mod error;
mod inspect;
mod key;
pub mod kubeconfig;
mod name;
mod pem;
mod request;
mod signer;

pub use authority::{AUTHORITY_VALIDITY, Authority, BACKDATE, KeyPair, LEAF_VALIDITY, LeafRequest, Usage};
pub use error::Error;
pub use inspect::{CertificateInfo, inspect, inspect_all, is_signed_by, matches_key, public_key_hash};
pub use key::{KeyKind, PrivateKey, ServiceAccountKeyPair, service_account_key_pair, service_account_keys_match};
pub use kubeconfig::Kubeconfig;
pub use name::San;
pub use pem::{first_certificate, public_keys};
pub use request::{SigningRequest, signing_request};
