//! Who was given a store's own password.
//!
//! Control planes in NATS have no passwords of their own, so whoever ran one that is gone still knows how to get in. What is
//! kept of the password is a slow hash, because whoever may read DataStores may not read their Secrets.

use std::fmt::{self, Display};
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use uuid::Uuid;

const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("it is not zero");

/// `<UID of the control plane>:<salt>:<hash>`, as it stands in the annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPassword {
    /// UID of the TenantControlPlane.
    pub owner: String,
    salt: Uuid,
    hash: Vec<u8>,
}

impl KnownPassword {
    /// That this owner is given that password. Takes some milliseconds.
    pub fn of(owner: &str, password: &str) -> Self {
        let (salt, mut hash) = (Uuid::new_v4(), vec![0; 32]);
        let secret = password.as_bytes();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), secret, &mut hash);
        Self {
            owner: owner.to_owned(),
            salt,
            hash,
        }
    }

    /// `None` for what is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (owner, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            owner: owner.to_owned(),
            salt: Uuid::try_parse(salt).ok()?,
            hash: STANDARD.decode(hash).ok().filter(|hash| hash.len() == 32)?,
        })
    }

    /// Whether it is that password. Takes some milliseconds.
    pub fn is(&self, password: &str) -> bool {
        let (salt, secret) = (self.salt.as_bytes(), password.as_bytes());
        pbkdf2::verify(PBKDF2_HMAC_SHA256, ROUNDS, salt, secret, &self.hash).is_ok()
    }
}

impl Display for KnownPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.owner, self.salt, STANDARD.encode(&self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_tells_the_password_from_others_and_does_not_show_it() {
        let known = KnownPassword::of("uid-oil", "a-secret");
        let written = known.to_string();
        assert!(!written.contains("a-secret"), "{written}");
        let read = KnownPassword::parse(&written).unwrap();
        assert_eq!(read, known);
        assert!(read.is("a-secret") && !read.is("another"));
        assert_ne!(KnownPassword::of("uid-oil", "a-secret").to_string(), written, "salted");
        for text in ["", "a:b:c", "uid-oil", &written[..written.len() - 4]] {
            assert_eq!(KnownPassword::parse(text), None, "{text}");
        }
    }
}
