//! URLs as Go's `net/url` takes them apart and puts them together. The `url` crate follows the browsers' rules instead,
//! which complete and rewrite what they are given.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

/// What a part of a URL may hold unescaped, beside letters, digits and `-_.~`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Path,
    UserPassword,
    QueryValue,
    Fragment,
    Host,
    Zone,
}

impl Part {
    fn escapes(self, byte: u8) -> bool {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            return false;
        }
        !match self {
            Self::Path => b"$&+,/:;=@".contains(&byte),
            Self::UserPassword => b"$&+,;=".contains(&byte),
            Self::QueryValue => false,
            Self::Fragment => b"$&+,/:;=?@!()*".contains(&byte),
            Self::Host | Self::Zone => b"!$&'()*+,;=:[]<>\"".contains(&byte),
        }
    }
}

/// Go's `url.QueryEscape` and its kin.
pub(crate) fn escape(text: &str, part: Part) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte == b' ' && part == Part::QueryValue {
            out.push('+');
        } else if part.escapes(byte) {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<String, String> {
    let is_host = matches!(part, Part::Host | Part::Zone);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if is_host && byte < 0x80 && part.escapes(byte) {
                return Err(format!("invalid character {:?} in host name", char::from(byte)));
            }
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let code = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            .ok_or_else(|| format!("invalid URL escape in {text:?}"))?;
        let is_allowed = match part {
            Part::Host => code >= 0x80 || code == b'%',
            Part::Zone => code == b'%' || code == b' ' || !Part::Host.escapes(code),
            _ => true,
        };
        if !is_allowed {
            return Err(format!("invalid URL escape in {text:?}"));
        }
        out.push(code);
    }
    String::from_utf8(out).map_err(|_| format!("{text:?} is not UTF-8 once unescaped"))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) opaque: String,
    /// As it is written in a URL, escaped.
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) fragment: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("invalid control character in URL".into());
        }
        let (scheme, rest) = split_scheme(text)?;
        let mut url = Self {
            scheme: scheme.to_ascii_lowercase(),
            fragment: unescape(fragment, Part::Fragment)?,
            ..Self::default()
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        query.clone_into(&mut url.query);
        let mut rest = rest;
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment in URL cannot contain colon".into());
            }
        }
        if let Some(after) = rest.strip_prefix("//")
            && (!url.scheme.is_empty() || !after.starts_with('/'))
        {
            let end = after.find('/').unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            rest = path;
            let host = match authority.rsplit_once('@') {
                Some((user, host)) => {
                    url.user = Some(parse_user(user)?);
                    host
                }
                None => authority,
            };
            url.host = parse_host(&url.scheme, host)?;
        }
        url.path = unescape(rest, Part::Path)?;
        Ok(url)
    }

    /// Without port and brackets.
    pub(crate) fn hostname(&self) -> &str {
        let host = match self.host.rfind(':') {
            Some(colon) if is_optional_port(&self.host[colon..]) => &self.host[..colon],
            _ => &self.host,
        };
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }
}

/// Go's `URL.String`.
impl std::fmt::Display for Url {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        if !self.scheme.is_empty() {
            write!(text, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            let has_authority = !self.host.is_empty() || self.user.is_some();
            if has_authority || (!self.scheme.is_empty() && !self.path.is_empty()) {
                text.push_str("//");
                if let Some(user) = &self.user {
                    write!(text, "{user}@")?;
                }
                text.push_str(&escape(&self.host, Part::Host));
            }
            let path = if self.path == "*" {
                "*".into()
            } else {
                escape(&self.path, Part::Path)
            };
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                text.push('/');
            }
            if text.is_empty() && path.split('/').next().is_some_and(|segment| segment.contains(':')) {
                text.push_str("./");
            }
            text.push_str(&path);
        } else {
            text.push_str(&self.opaque);
        }
        if !self.query.is_empty() {
            write!(text, "?{}", self.query)?;
        }
        if !self.fragment.is_empty() {
            write!(text, "#{}", escape(&self.fragment, Part::Fragment))?;
        }
        out.write_str(&text)
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

pub(crate) fn parse_user(user: &str) -> Result<String, String> {
    let is_valid = |char: char| char.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(char);
    if !user.chars().all(is_valid) {
        return Err("invalid userinfo".into());
    }
    let normal = |part: &str| Ok::<_, String>(escape(&unescape(part, Part::UserPassword)?, Part::UserPassword));
    Ok(match user.split_once(':') {
        Some((name, password)) => format!("{}:{}", normal(name)?, normal(password)?),
        None => normal(user)?,
    })
}

fn is_optional_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parse_host(scheme: &str, host: &str) -> Result<String, String> {
    match host.rfind('[') {
        Some(0) => {
            let close = host.rfind(']').ok_or("missing ']' in host")?;
            let (name, port) = (&host[1..close], &host[close + 1..]);
            if !is_optional_port(port) {
                return Err(format!("invalid port {port:?} after host"));
            }
            let name = match name.find("%25") {
                Some(zone) => unescape(&name[..zone], Part::Host)? + &unescape(&name[zone..], Part::Zone)?,
                None => unescape(name, Part::Host)?,
            };
            let (address, zone) = name.split_once('%').unwrap_or((&name, "zone"));
            if address.parse::<Ipv6Addr>().is_err() || zone.is_empty() {
                return Err("invalid IP-literal".into());
            }
            return Ok(format!("[{name}]{port}"));
        }
        Some(_) => return Err("invalid IP-literal".into()),
        None => {}
    }
    // Other schemes may have colons in a host, as in a list of hosts.
    let colon = if scheme == "http" || scheme == "https" {
        host.find(':')
    } else {
        host.rfind(':')
    };
    if let Some(colon) = colon
        && !is_optional_port(&host[colon..])
    {
        return Err(format!("invalid port {:?} after host", &host[colon..]));
    }
    unescape(host, Part::Host)
}
