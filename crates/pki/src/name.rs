//! Subjects and subject alternative names.

use std::fmt;
use std::net::IpAddr;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, Ia5String};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519;
use x509_cert::der::{Decode as _, Encode as _, Tag};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RelativeDistinguishedName};

use crate::Error;

/// A name or address that a server certificate answers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A DNS name, lower case, perhaps with a leading `*.`.
    Dns(String),
    Ip(IpAddr),
}

impl San {
    /// An IP address if it reads as one, else a DNS name in lower case. Square brackets around IPv6 are accepted.
    /// Refuses what no certificate may carry: empty, longer than 253 octets, not printable ASCII.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let bare = value
            .strip_prefix('[')
            .and_then(|v| v.strip_suffix(']'))
            .unwrap_or(value);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let invalid = |reason| Error::InvalidName {
            what: "a subject alternative name",
            value: value.to_owned(),
            reason,
        };
        if value.is_empty() || value.len() > 253 {
            return Err(invalid("a DNS name has 1 to 253 characters"));
        }
        if !value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'*' | b'_'))
        {
            return Err(invalid(
                "a DNS name consists of letters, digits, '-', '.' and perhaps a leading '*.'",
            ));
        }
        Ok(Self::Dns(value.to_ascii_lowercase()))
    }

    fn general_name(&self) -> Result<GeneralName, Error> {
        match self {
            Self::Dns(name) => Ia5String::new(name)
                .map(GeneralName::DnsName)
                .map_err(|_| Error::InvalidName {
                    what: "a subject alternative name",
                    value: name.clone(),
                    reason: "a DNS name consists of ASCII characters",
                }),
            Self::Ip(ip) => Ok((*ip).into()),
        }
    }

    /// None for the kinds of names that this crate does not issue.
    pub(crate) fn from_general_name(name: &GeneralName) -> Option<Self> {
        match name {
            GeneralName::DnsName(name) => Some(Self::Dns(name.as_str().to_ascii_lowercase())),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
                address.ok().map(Self::Ip)
            }
            _ => None,
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl From<IpAddr> for San {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

/// A name with one attribute for each organisation and the common name last. Kubernetes reads the user from the
/// common name and one group from each organisation.
pub(crate) fn distinguished(common_name: &str, organizations: &[String]) -> Result<Name, Error> {
    let what = "a subject";
    let mut parts = Vec::with_capacity(organizations.len() + 1);
    for organization in organizations {
        parts.push(attribute(rfc4519::ORGANIZATION_NAME, "an organisation", organization)?);
    }
    parts.push(attribute(rfc4519::COMMON_NAME, "a common name", common_name)?);
    // A `Name` is otherwise made only of RFC 4514 text, which would have to be escaped.
    let der = parts.to_der().map_err(Error::encode(what))?;
    Name::from_der(&der).map_err(Error::encode(what))
}

fn attribute(oid: ObjectIdentifier, what: &'static str, value: &str) -> Result<RelativeDistinguishedName, Error> {
    // RFC 5280 says 64 characters; Go and Kubernetes do not enforce it and service account names are longer.
    if value.is_empty() || value.len() > 1024 || value.contains('\0') {
        return Err(Error::InvalidName {
            what,
            value: value.to_owned(),
            reason: "1 to 1024 octets without NUL are allowed",
        });
    }
    let value = Any::new(Tag::Utf8String, value.as_bytes()).map_err(Error::encode(what))?;
    vec![AttributeTypeAndValue { oid, value }]
        .try_into()
        .map_err(Error::encode(what))
}

pub(crate) fn alternative_names(sans: &[San]) -> Result<SubjectAltName, Error> {
    sans.iter()
        .map(San::general_name)
        .collect::<Result<_, _>>()
        .map(SubjectAltName)
}
