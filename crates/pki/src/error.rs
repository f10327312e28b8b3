/// Why a certificate, key or kubeconfig could not be read or made. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {what}: no PEM block {label:?} in it")]
    MissingPem { what: &'static str, label: &'static str },
    #[error("failed to decode the PEM of {what}")]
    DecodePem { what: &'static str },
    #[error("failed to parse {what}: {reason}")]
    Parse { what: &'static str, reason: String },
    #[error("failed to encode {what}: {reason}")]
    Encode { what: &'static str, reason: String },
    #[error("failed to use the private key: {reason}; RSA (2048 bits or more), P-256 and P-384 keys are supported")]
    UnsupportedKey { reason: String },
    #[error("failed to use the authority: its private key does not belong to its certificate")]
    ForeignKey,
    #[error("failed to use the authority: its certificate is not one of a certificate authority")]
    NotAnAuthority,
    #[error("failed to use {value:?} as {what}: {reason}")]
    InvalidName {
        what: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("failed to generate or use a key: the system gave no randomness")]
    Randomness,
    #[error("failed to issue a certificate that ends ({not_after}) before it begins ({not_before})")]
    EmptyValidity {
        not_before: jiff::Timestamp,
        not_after: jiff::Timestamp,
    },
    #[error("failed to parse the kubeconfig")]
    ParseKubeconfig(#[source] serde_norway::Error),
    #[error("failed to read the kubeconfig: {reason}")]
    Kubeconfig { reason: String },
}

impl Error {
    /// For `map_err` where the decoder of a library says no.
    pub(crate) fn parse<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Parse {
            what,
            reason: error.to_string(),
        }
    }

    /// For `map_err` where the encoder of a library says no.
    pub(crate) fn encode<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Encode {
            what,
            reason: error.to_string(),
        }
    }
}
