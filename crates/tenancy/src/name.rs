//! Names that must not be swapped: of a tenant, and of a namespace.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest value of a label, and the longest name of a namespace.
const LABEL_LENGTH: usize = 63;

/// A name that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a name for a {what}: {wanted}")]
pub struct InvalidName {
    name: String,
    what: &'static str,
    wanted: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A name that the API server has already accepted.
            pub(crate) fn accepted(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a Tenant. It becomes the value of labels and a part of other names, so it is a DNS subdomain of at
    /// most 63 characters.
    TenantName
}

name! {
    /// The name of a Namespace: a DNS label.
    NamespaceName
}

impl TenantName {
    /// Checks a name that somebody wants to use.
    ///
    /// # Errors
    /// If it is not a DNS subdomain or has more than 63 characters.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let valid = name.len() <= LABEL_LENGTH && name.split('.').all(is_dns_label);
        let wanted = "it has to be lower-case letters, digits, '-' and '.', begin and end with a letter or digit, and \
                      have at most 63 characters, because it becomes a label";
        if valid {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName {
                name: name.into(),
                what: "Tenant",
                wanted,
            })
        }
    }
}

impl NamespaceName {
    /// Checks a name that somebody wants to use.
    ///
    /// # Errors
    /// If it is not a DNS label.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let wanted = "it has to be lower-case letters, digits and '-', begin and end with a letter or digit, and have \
                      at most 63 characters";
        if is_dns_label(name) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName {
                name: name.into(),
                what: "Namespace",
                wanted,
            })
        }
    }
}

/// RFC 1123, as `validation.IsDNS1123Label` of Kubernetes' apimachinery has it.
pub(crate) fn is_dns_label(name: &str) -> bool {
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= LABEL_LENGTH
        && bytes.iter().all(|byte| letter_or_digit(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| letter_or_digit(*byte))
        && bytes.last().is_some_and(|byte| letter_or_digit(*byte))
}

/// `validation.IsDNS1123Subdomain`.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label_of_any_length)
}

fn is_dns_label_of_any_length(part: &str) -> bool {
    part.len() <= 253
        && part
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
}

/// `validation.IsQualifiedName`: the key of a label or annotation.
pub(crate) fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// `validation.IsValidLabelValue`.
pub(crate) fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= LABEL_LENGTH
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_named_so_that_its_name_fits_into_a_label() {
        for name in ["oil", "a", "0il", "oil.gas", "a-b"] {
            assert!(TenantName::new(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "-oil",
            "oil-",
            "Oil",
            "oil..gas",
            ".oil",
            "oil_gas",
            "öl",
            long.as_str(),
        ] {
            assert!(TenantName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_could_not_be_the_name_of_an_object_does_not_get_into_a_path() {
        for name in ["oil", "a.b-c.d", "0"] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in [
            "",
            ".",
            "a/b",
            "../secrets",
            "a..b",
            "-a",
            "a-",
            "A",
            "a?b",
            "a%2fb",
            &long,
        ] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        assert!(NamespaceName::new("oil-one").is_ok());
        for name in ["", "oil.one", "oil/one", "OIL", "-a"] {
            assert!(NamespaceName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn keys_and_values_are_those_that_kubernetes_takes() {
        for key in ["env", "example.com/env", "a.b", "A_b-c.D"] {
            assert!(is_qualified_name(key), "{key}");
        }
        for key in [
            "",
            "/env",
            "example.com/",
            "Example.com/env",
            "a/b/c",
            "-env",
            "en v",
            "{{x}}",
        ] {
            assert!(!is_qualified_name(key), "{key}");
        }
        assert!(is_label_value(""));
        assert!(!is_label_value("a b"));
        assert!(!is_label_value("-a"));
    }
}
