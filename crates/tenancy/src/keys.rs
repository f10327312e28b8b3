//! Labels and annotations that namespaces of a tenant must not, or must, have.

use std::collections::BTreeMap;

use api::capsule::v1beta2::ForbiddenList;

use crate::pattern::{Cache, InvalidPattern, Pattern};

/// Keys that owners may not set.
#[derive(Clone, Debug, Default)]
pub struct ForbiddenKeys {
    denied: Vec<String>,
    pattern: Option<Result<Pattern, InvalidPattern>>,
}

impl ForbiddenKeys {
    /// Compiles a list.
    pub fn new(list: Option<&ForbiddenList>, patterns: &mut Cache) -> Self {
        let Some(list) = list else { return Self::default() };
        let pattern = (!list.denied_regex.is_empty()).then(|| patterns.get(&list.denied_regex));
        Self {
            denied: list.denied.clone(),
            pattern,
        }
    }

    /// Whether nothing is forbidden.
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty() && self.pattern.is_none()
    }

    /// Whether a key is forbidden.
    ///
    /// # Errors
    /// If that cannot be known because the pattern cannot be compiled.
    pub fn hold(&self, key: &str) -> Result<bool, InvalidPattern> {
        if self.denied.iter().any(|denied| denied == key) {
            return Ok(true);
        }
        match &self.pattern {
            None => Ok(false),
            Some(Ok(pattern)) => Ok(pattern.matches(key)),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    /// What is forbidden, for people.
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        if !self.denied.is_empty() {
            parts.push(format!("one of the following ({})", self.denied.join(", ")));
        }
        if let Some(Ok(pattern)) = &self.pattern {
            parts.push(format!("matching the regex {}", pattern.as_str()));
        }
        format!("Forbidden are {}", parts.join(" or "))
    }
}

/// Keys that have to be there, each with a pattern for its value.
#[derive(Clone, Debug, Default)]
pub struct RequiredValues {
    values: Vec<(String, Result<Pattern, InvalidPattern>)>,
}

/// Why a required label or annotation is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing<'a> {
    Absent {
        key: &'a str,
    },
    Mismatch {
        key: &'a str,
        value: &'a str,
        pattern: &'a str,
    },
    Unknowable {
        key: &'a str,
        error: &'a InvalidPattern,
    },
}

impl RequiredValues {
    /// Compiles the patterns.
    pub fn new(values: Option<&BTreeMap<String, String>>, patterns: &mut Cache) -> Self {
        let values = values
            .into_iter()
            .flatten()
            .map(|(key, pattern)| (key.clone(), patterns.get(pattern)))
            .collect();
        Self { values }
    }

    /// The first that is not as it should be, among those that the request changes.
    pub(crate) fn missing<'a>(
        &'a self,
        now: Option<&'a BTreeMap<String, String>>,
        is_changed: impl Fn(&str, Option<&String>) -> bool,
    ) -> Option<Missing<'a>> {
        self.values.iter().find_map(|(key, pattern)| {
            let value = now.and_then(|now| now.get(key));
            if !is_changed(key, value) {
                return None;
            }
            match (value, pattern) {
                (_, Err(error)) => Some(Missing::Unknowable { key, error }),
                (None, _) => Some(Missing::Absent { key }),
                (Some(value), Ok(pattern)) if !pattern.matches(value) => Some(Missing::Mismatch {
                    key,
                    value,
                    pattern: pattern.as_str(),
                }),
                _ => None,
            }
        })
    }
}
