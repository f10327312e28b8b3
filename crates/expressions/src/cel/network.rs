//! Addresses, networks, URLs and versions.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    net::IpAddr,
    rc::Rc,
};

use super::{
    call::count,
    eval::{Failure, Result},
    value::{Key, Map, Value},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address = ip(address)?;
        let plain = !prefix.is_empty()
            && prefix.len() <= 3
            && prefix.bytes().all(|byte| byte.is_ascii_digit())
            && (prefix.len() == 1 || !prefix.starts_with('0'));
        let prefix = plain.then(|| prefix.parse().ok())??;
        (prefix <= width(&address)).then_some(Self { address, prefix })
    }

    fn masked(self) -> Self {
        Self {
            address: masked(&self.address, self.prefix),
            ..self
        }
    }

    fn contains(self, address: &IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && masked(address, self.prefix) == masked(&self.address, self.prefix)
    }
}

fn width(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: &IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(*address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(*address) & mask).into())
        }
    }
}

/// An address, but for one of IPv4 in the clothes of IPv6.
fn ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    (!mapped).then_some(address)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// What Go's `url.ParseRequestURI` accepts, taken apart as `url.Parse` does.
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
            return None;
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some(("", _)) => return None,
            _ => (String::new(), text),
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            // Something after a scheme that is no path: an opaque one.
            return (!scheme.is_empty()).then(|| Self {
                scheme,
                host: String::new(),
                path: String::new(),
                query: query.to_owned(),
            });
        }
        let authority = rest
            .strip_prefix("//")
            .filter(|_| !scheme.is_empty() || !rest.starts_with("///"));
        let (host, path) = match authority {
            Some(authority) => {
                let slash = authority.find('/').unwrap_or(authority.len());
                (host(&authority[..slash])?, &authority[slash..])
            }
            None => (String::new(), rest),
        };
        unescaped(path)?;
        unescaped(fragment)?;
        Some(Self {
            scheme,
            host,
            path: escaped_path(path),
            query: query.to_owned(),
        })
    }

    fn hostname(&self) -> &str {
        let host = self
            .host
            .rsplit_once(':')
            .filter(|(_, port)| is_port(port))
            .map_or(self.host.as_str(), |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    fn port(&self) -> &str {
        self.host
            .rsplit_once(':')
            .filter(|(_, port)| is_port(port))
            .map_or("", |(_, port)| port)
    }

    /// What there is to read of it, in bytes.
    pub(super) fn length(&self) -> usize {
        self.host.len() + self.path.len() + self.query.len()
    }

    fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let mut parameters: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for pair in self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| unescaped(&text.replace('+', " "));
            if let (Some(key), Some(value)) = (decoded(key), decoded(value)) {
                parameters.entry(key).or_default().push(value);
            }
        }
        parameters
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn host(authority: &str) -> Option<String> {
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    if let Some(user) = user {
        let plain = user
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte));
        if !plain {
            return None;
        }
        unescaped(user)?;
    }
    if let Some(bracketed) = host.strip_prefix('[') {
        let (address, rest) = bracketed.rsplit_once(']')?;
        let port = rest.strip_prefix(':').map_or(rest.is_empty(), is_port);
        let address = address.split_once("%25").map_or(address, |(address, _)| address);
        return (port && address.contains(':') && address.parse::<IpAddr>().is_ok()).then(|| host.to_owned());
    }
    if let Some((_, port)) = host.rsplit_once(':')
        && !is_port(port)
    {
        return None;
    }
    let plain =
        |byte: u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]<>\"%".contains(&byte);
    if !host.bytes().all(plain) {
        return None;
    }
    // A percent may only stand for bytes that are not ASCII.
    let decoded = unescaped(host)?;
    (!host.contains('%') || !decoded.is_ascii()).then_some(decoded)
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// As it was written where that is valid, else escaped.
fn escaped_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let valid = path
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/[]%".contains(&byte));
    if valid {
        return path.to_owned();
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~$&+,/:;=@%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Functions of this library. None: it is not one, or not of these types.
pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Result<Option<Value<'a>>> {
    let Some(first) = args.first() else {
        return Ok(None);
    };
    match first {
        Value::String(text) => of_text(function, text, &args[1..]),
        Value::Ip(address) => Ok(of_ip(function, address)),
        Value::Cidr(cidr) => of_cidr(function, *cidr, &args[1..]),
        Value::Url(url) => Ok(of_url(function, url)),
        Value::Semver(version) => Ok(of_version(function, version, &args[1..])),
        _ => Ok(None),
    }
}

fn of_text<'a>(function: &str, text: &str, rest: &[Value<'a>]) -> Result<Option<Value<'a>>> {
    let refused = |kind: &str| Failure::error(format!("{:?} is not {kind}", text.chars().take(64).collect::<String>()));
    let normalized = match rest {
        [] => false,
        [Value::Bool(value)] => *value,
        _ => return Ok(None),
    };
    if !rest.is_empty() && !matches!(function, "semver" | "isSemver") {
        return Ok(None);
    }
    Ok(Some(match function {
        "ip" => Value::Ip(ip(text).ok_or_else(|| refused("an IP address"))?),
        "isIP" => Value::Bool(ip(text).is_some()),
        "ip.isCanonical" => {
            let address = ip(text).ok_or_else(|| refused("an IP address"))?;
            Value::Bool(address.to_string() == text)
        }
        "cidr" => Value::Cidr(Cidr::read(text).ok_or_else(|| refused("a network, such as 10.0.0.0/8"))?),
        "isCIDR" => Value::Bool(Cidr::read(text).is_some()),
        "url" => Value::Url(Rc::new(Url::read(text).ok_or_else(|| refused("a URL"))?)),
        "isURL" => Value::Bool(Url::read(text).is_some()),
        "semver" => Value::Semver(Rc::new(version(text, normalized).ok_or_else(|| refused("a version"))?)),
        "isSemver" => Value::Bool(version(text, normalized).is_some()),
        _ => return Ok(None),
    }))
}

fn of_ip<'a>(function: &str, address: &IpAddr) -> Option<Value<'a>> {
    Some(match function {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(match address {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Value::Bool(is_link_local(address)),
        "isGlobalUnicast" => Value::Bool(
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !is_link_local(address)
                && !matches!(address, IpAddr::V4(address) if address.is_broadcast()),
        ),
        _ => return None,
    })
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn of_cidr<'a>(function: &str, cidr: Cidr, rest: &[Value<'a>]) -> Result<Option<Value<'a>>> {
    Ok(Some(match (function, rest) {
        ("ip", []) => Value::Ip(cidr.address),
        ("prefixLength", []) => Value::Int(i64::from(cidr.prefix)),
        ("masked", []) => Value::Cidr(cidr.masked()),
        ("containsIP", [Value::Ip(address)]) => Value::Bool(cidr.contains(address)),
        ("containsIP", [Value::String(text)]) => match of_text("ip", text, &[])? {
            Some(Value::Ip(address)) => Value::Bool(cidr.contains(&address)),
            _ => return Ok(None),
        },
        ("containsCIDR", [Value::Cidr(other)]) => {
            Value::Bool(cidr.prefix <= other.prefix && cidr.contains(&other.address))
        }
        ("containsCIDR", [Value::String(text)]) => match of_text("cidr", text, &[])? {
            Some(Value::Cidr(other)) => Value::Bool(cidr.prefix <= other.prefix && cidr.contains(&other.address)),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn of_url<'a>(function: &str, url: &Url) -> Option<Value<'a>> {
    Some(match function {
        "getScheme" => Value::text(url.scheme.clone()),
        "getHost" => Value::text(url.host.clone()),
        "getHostname" => Value::text(url.hostname()),
        "getPort" => Value::text(url.port()),
        "getEscapedPath" => Value::text(url.path.clone()),
        "getQuery" => Value::Map(Map::Made(Rc::new(
            url.parameters()
                .into_iter()
                .map(|(key, values)| {
                    (
                        Key::String(key),
                        Value::list(values.into_iter().map(Value::text).collect()),
                    )
                })
                .collect(),
        ))),
        _ => return None,
    })
}

fn version(text: &str, normalized: bool) -> Option<semver::Version> {
    if !normalized {
        return semver::Version::parse(text).ok();
    }
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 {
        // A version of fewer parts has nothing after its last number.
        if parts.last()?.contains(['+', '-']) {
            return None;
        }
        parts.resize(3, "0".to_owned());
    }
    semver::Version::parse(&parts.join(".")).ok()
}

fn without_zeros(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let trimmed = part.trim_start_matches('0');
    if trimmed.starts_with(|first: char| first.is_ascii_digit()) {
        trimmed.to_owned()
    } else {
        format!("0{trimmed}")
    }
}

fn of_version<'a>(function: &str, version: &semver::Version, rest: &[Value<'a>]) -> Option<Value<'a>> {
    let part = |number: u64| count(usize::try_from(number).unwrap_or(usize::MAX));
    Some(match (function, rest) {
        ("major", []) => part(version.major),
        ("minor", []) => part(version.minor),
        ("patch", []) => part(version.patch),
        ("isGreaterThan", [Value::Semver(other)]) => Value::Bool(version.cmp_precedence(other).is_gt()),
        ("isLessThan", [Value::Semver(other)]) => Value::Bool(version.cmp_precedence(other).is_lt()),
        ("compareTo", [Value::Semver(other)]) => Value::Int(version.cmp_precedence(other) as i64),
        _ => return None,
    })
}
