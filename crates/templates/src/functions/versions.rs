//! Semantic versions and constraints on them, as `github.com/Masterminds/semver` reads them: shorter versions, a
//! leading `v`, wildcards and ranges are allowed, which the `semver` crate refuses.

use std::cmp::Ordering;
use std::fmt;
use std::rc::Rc;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Type::{Any, Text};
use super::{Answer, Arguments, Context, Function, fixed};
use crate::error::Failure;
use crate::value::Value;

pub(super) const ROWS: &[Function] = &[
    fixed("semver", &[Text], |context, arguments| {
        let text = arguments.text(0)?;
        context.budget.read(text.len())?;
        Ok(Value::Version(Rc::new(Version::parse(text)?)))
    }),
    fixed("semverCompare", &[Text, Text], compare),
];

/// Methods of a version; the receiver is the first argument.
pub(super) const METHODS: &[Function] = &[
    fixed("Compare", &[Any, Any], |_, arguments| {
        let order = version(arguments, 0)?.compare(version(arguments, 1)?);
        Ok(Value::Int(order as i64))
    }),
    fixed("Equal", &[Any, Any], |_, arguments| {
        Ok(Value::Bool(
            version(arguments, 0)?.compare(version(arguments, 1)?).is_eq(),
        ))
    }),
    fixed("GreaterThan", &[Any, Any], |_, arguments| {
        Ok(Value::Bool(
            version(arguments, 0)?.compare(version(arguments, 1)?).is_gt(),
        ))
    }),
    fixed("LessThan", &[Any, Any], |_, arguments| {
        Ok(Value::Bool(
            version(arguments, 0)?.compare(version(arguments, 1)?).is_lt(),
        ))
    }),
    fixed("Major", &[Any], |_, arguments| {
        Ok(Value::Uint64(version(arguments, 0)?.major))
    }),
    fixed("Metadata", &[Any], |_, arguments| {
        Ok(Value::text(&version(arguments, 0)?.metadata))
    }),
    fixed("Minor", &[Any], |_, arguments| {
        Ok(Value::Uint64(version(arguments, 0)?.minor))
    }),
    fixed("Original", &[Any], |_, arguments| {
        Ok(Value::text(&version(arguments, 0)?.original))
    }),
    fixed("Patch", &[Any], |_, arguments| {
        Ok(Value::Uint64(version(arguments, 0)?.patch))
    }),
    fixed("Prerelease", &[Any], |_, arguments| {
        Ok(Value::text(&version(arguments, 0)?.prerelease))
    }),
    fixed("String", &[Any], |_, arguments| {
        Ok(Value::text(version(arguments, 0)?.to_string()))
    }),
];

fn version(arguments: Arguments<'_>, at: usize) -> Result<&Version, Failure> {
    match arguments.value(at)? {
        Value::Version(version) => Ok(version),
        other => Err(format!("expected *semver.Version; got {}", other.type_name()).into()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    prerelease: String,
    metadata: String,
    original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(out, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(out, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

const SUFFIX: &str =
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+(?P<meta>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?";
/// A version whose numbers may be wildcards; without names, since it occurs more than once in a pattern.
const PART: &str = r"v?[0-9|xX*]+(?:\.[0-9|xX*]+)?(?:\.[0-9|xX*]+)?(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?";
const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

struct Patterns {
    version: Regex,
    constraint: Regex,
    range: Regex,
    find: Regex,
    valid: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let compile = |pattern: &str| Regex::new(pattern).ok();
    Some(Patterns {
        version: compile(&format!(
            r"^v?(?P<major>[0-9]+)(?:\.(?P<minor>[0-9]+))?(?:\.(?P<patch>[0-9]+))?{SUFFIX}$"
        ))?,
        constraint: compile(&format!(
            r"^\s*(?P<op>{OPERATORS})\s*v?(?P<major>[0-9|xX*]+)(?:\.(?P<minor>[0-9|xX*]+))?(?:\.(?P<patch>[0-9|xX*]+))?{SUFFIX}\s*$"
        ))?,
        range: compile(&format!(r"\s*({PART})\s+-\s+({PART})\s*"))?,
        find: compile(&format!(r"(?:{OPERATORS})\s*(?:{PART})"))?,
        valid: compile(&format!(
            r"^(?:\s*(?:{OPERATORS})\s*(?:{PART})\s*)(?:(?:\s+|,\s*)(?:{OPERATORS})\s*(?:{PART})\s*)*$"
        ))?,
    })
});

fn patterns() -> Result<&'static Patterns, Failure> {
    PATTERNS
        .as_ref()
        .ok_or_else(|| "the patterns of versions do not compile".into())
}

fn named<'t>(captures: &Captures<'t>, name: &str) -> &'t str {
    captures.name(name).map_or("", |found| found.as_str())
}

impl Version {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let captures = patterns()?
            .version
            .captures(text)
            .ok_or_else(|| format!("{text:?} is no semantic version"))?;
        let number = |name: &str| match named(&captures, name) {
            "" => Ok(0),
            digits => digits
                .parse::<u64>()
                .map_err(|_| Failure::new(format!("{digits} in {text:?} is too large"))),
        };
        let prerelease = named(&captures, "pre").to_owned();
        let has_leading_zero =
            |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit());
        if prerelease.split('.').any(has_leading_zero) {
            return Err(format!("a number in the prerelease of {text:?} begins with 0").into());
        }
        Ok(Self {
            major: number("major")?,
            minor: number("minor")?,
            patch: number("patch")?,
            prerelease,
            metadata: named(&captures, "meta").to_owned(),
            original: text.to_owned(),
        })
    }

    /// By precedence: metadata does not count.
    fn compare(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_prereleases(&self.prerelease, &other.prerelease),
            }
        })
    }
}

fn compare_prereleases(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// One operator and a version of which the last numbers may be left open.
struct Constraint {
    operator: String,
    version: Version,
    /// Numbers that are given: 0 to 3.
    given: u8,
}

impl Constraint {
    fn parse(text: &str) -> Result<Self, Failure> {
        let improper = || Failure::new(format!("improper constraint: {text}"));
        let captures = patterns()?.constraint.captures(text).ok_or_else(improper)?;
        let is_open = |name: &str| matches!(named(&captures, name), "" | "x" | "X" | "*");
        let given = ["major", "minor", "patch"]
            .iter()
            .take_while(|name| !is_open(name))
            .count();
        let number = |at: usize, name: &str| if at < given { named(&captures, name) } else { "0" };
        let mut version = format!("{}.{}.{}", number(0, "major"), number(1, "minor"), number(2, "patch"));
        if !named(&captures, "pre").is_empty() {
            version.push('-');
            version.push_str(named(&captures, "pre"));
        }
        Ok(Self {
            operator: named(&captures, "op").to_owned(),
            version: Version::parse(&version).map_err(|_| improper())?,
            given: u8::try_from(given).unwrap_or(3),
        })
    }

    fn allows(&self, version: &Version) -> bool {
        let open = self.given < 3;
        let (minor_open, patch_open) = (self.given == 1, self.given == 2);
        let wanted = &self.version;
        let order = version.compare(wanted);
        let is_unexpected_prerelease = !version.prerelease.is_empty() && wanted.prerelease.is_empty();
        if is_unexpected_prerelease && (self.operator != "!=" || open) {
            return false;
        }
        match self.operator.as_str() {
            "!=" if open => {
                version.major != wanted.major
                    || (!minor_open && version.minor != wanted.minor)
                    || (!minor_open && !patch_open && version.patch != wanted.patch)
                    || (patch_open
                        && (!version.prerelease.is_empty() || !wanted.prerelease.is_empty())
                        && version.prerelease != wanted.prerelease)
                    || (!minor_open && !patch_open && order.is_ne())
            }
            "!=" => order.is_ne(),
            ">" if open && version.major != wanted.major => version.major > wanted.major,
            ">" if minor_open => false,
            ">" if patch_open => version.minor > wanted.minor,
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" if open => {
                version.major < wanted.major
                    || (version.major == wanted.major && (version.minor <= wanted.minor || minor_open))
            }
            "<=" | "=<" => order.is_le(),
            "" | "=" if !open => order.is_eq(),
            "^" => self.is_compatible(version),
            _ => self.is_near(version),
        }
    }

    /// `~`, and an equality that leaves numbers open.
    fn is_near(&self, version: &Version) -> bool {
        let (minor_open, patch_open) = (self.given == 1, self.given == 2);
        let wanted = &self.version;
        if version.compare(wanted).is_lt() {
            return false;
        }
        let is_any = (wanted.major, wanted.minor, wanted.patch) == (0, 0, 0) && !minor_open && !patch_open;
        is_any || (version.major == wanted.major && (version.minor == wanted.minor || minor_open))
    }

    /// `^`: the leftmost number that is not zero stays.
    fn is_compatible(&self, version: &Version) -> bool {
        let (minor_open, patch_open) = (self.given == 1, self.given == 2);
        let wanted = &self.version;
        if version.compare(wanted).is_lt() {
            return false;
        }
        if wanted.major > 0 || minor_open {
            return version.major == wanted.major;
        }
        if version.major > 0 {
            return false;
        }
        if wanted.minor > 0 || patch_open {
            return version.minor == wanted.minor;
        }
        version.minor == 0 && version.patch == wanted.patch
    }
}

fn compare(context: &Context<'_>, arguments: Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    // Several patterns look at each constraint.
    context.budget.allocate(text.len().saturating_mul(64))?;
    context.budget.read(text.len().saturating_mul(256))?;
    let alternatives = constraints(text)?;
    let version = Version::parse(arguments.text(1)?)?;
    let is_allowed = alternatives
        .iter()
        .any(|all| all.iter().all(|constraint| constraint.allows(&version)));
    Ok(Value::Bool(is_allowed))
}

/// Alternatives, of each of which all constraints hold.
fn constraints(text: &str) -> Result<Vec<Vec<Constraint>>, Failure> {
    let patterns = patterns()?;
    let spelt_out = patterns.range.replace_all(text, ">= $1, <= $2 ");
    spelt_out
        .split("||")
        .map(|all| {
            if !patterns.valid.is_match(all) {
                return Err(format!("improper constraint: {all}").into());
            }
            patterns
                .find
                .find_iter(all)
                .map(|one| Constraint::parse(one.as_str()))
                .collect()
        })
        .collect()
}
