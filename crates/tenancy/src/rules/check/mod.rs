//! What is wrong with rules that somebody writes. Everything is said, not only the first.
//!
//! What is read here is read by the code that will use it. A string with a template in it is known only in a namespace: it
//! is read where it is rendered ([`super::body::for_namespace`]), and only the rest is checked here.

mod metadata;
mod services;
mod workloads;

use std::collections::HashSet;

use api::capsule::v1beta2::{
    Audience, AudienceKind, Enforcement, ExprMatch, IngressRule, RuleBody, RuleQuota, TenantRule,
};

use super::{audience::ROLES, body::TEMPLATE_MARK, finding::quoted};
use crate::{
    denial::Denial,
    name::{is_dns_label, is_dns_subdomain},
    pattern::Pattern,
    quantity::Quantity,
    subject,
};

/// Different patterns in the rules of one object. Compiling one may take milliseconds, and who writes a RuleStatus may be
/// a tenant.
const MAX_PATTERNS: usize = 500;
/// Faults of one object that are told.
const MAX_TOLD: usize = 20;

/// Something that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field, from `rules[i]`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// A rule as it is written in a Tenant or a RuleStatus.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Whose requests it looks at.
    pub audience: &'a [Audience],
    /// The budgets.
    pub quota: &'a [RuleQuota],
    /// What it enforces.
    pub enforce: Option<&'a Enforcement>,
}

impl<'a> From<&'a TenantRule> for Written<'a> {
    fn from(rule: &'a TenantRule) -> Self {
        Self {
            audience: &rule.audience,
            quota: &rule.quota,
            enforce: rule.enforce.as_ref(),
        }
    }
}

impl<'a> From<&'a RuleBody> for Written<'a> {
    fn from(rule: &'a RuleBody) -> Self {
        Self {
            audience: &rule.audience,
            quota: &rule.quota,
            enforce: rule.enforce.as_ref(),
        }
    }
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// Finds a kind of the cluster by an API group as rules write it (`apps`, `apps/v1`, `v1`) and its name.
pub type Discovery<'a> = dyn Fn(&str, &str) -> Option<Scope> + 'a;

/// Everything that is wrong with the rules of a tenant. Without `discovery` it is not asked whether kinds exist; without the
/// tenant's name, in rules of nobody, not whether it fits before those of budgets.
pub fn check<'a>(
    tenant: &str,
    rules: impl IntoIterator<Item = Written<'a>>,
    discovery: Option<&Discovery<'_>>,
) -> Vec<Fault> {
    let mut checker = Checker {
        tenant,
        discovery,
        faults: Vec::new(),
        patterns: HashSet::new(),
        budgets: HashSet::new(),
    };
    for (index, rule) in rules.into_iter().enumerate() {
        checker.rule(&format!("rules[{index}]"), &rule);
    }
    checker.faults
}

/// The refusal that tells the faults. `None` if there are none. `list` is where the rules stand in the object, such as
/// `spec.rules` in a Tenant and `spec` in a RuleStatus.
pub fn denial(list: &str, faults: &[Fault]) -> Option<Denial> {
    let first = faults.first()?;
    let place = |fault: &Fault| format!("{list}{}", fault.field.strip_prefix("rules").unwrap_or(&fault.field));
    let told = faults.iter().take(MAX_TOLD);
    let told: Vec<_> = told
        .map(|fault| format!("{}: {}", place(fault), fault.message))
        .collect();
    let mut message = told.join("; ");
    if faults.len() > MAX_TOLD {
        message = format!("{message}; and {} more faults", faults.len() - MAX_TOLD);
    }
    Some(Denial::new(place(first), "RuleInvalid", message))
}

struct Checker<'a> {
    tenant: &'a str,
    discovery: Option<&'a Discovery<'a>>,
    faults: Vec<Fault>,
    patterns: HashSet<String>,
    budgets: HashSet<String>,
}

impl Checker<'_> {
    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault {
            field: field.into(),
            message: message.into(),
        });
    }

    fn rule(&mut self, at: &str, rule: &Written<'_>) {
        for (index, member) in rule.audience.iter().enumerate() {
            self.audience(&format!("{at}.audience[{index}].name"), member);
        }
        for (index, quota) in rule.quota.iter().enumerate() {
            self.quota(&format!("{at}.quota[{index}]"), quota);
        }
        let Some(enforce) = rule.enforce else { return };
        let at = format!("{at}.enforce");
        if let Some(ingress) = &enforce.ingress {
            self.ingress(&format!("{at}.ingress"), ingress);
        }
        for (index, policy) in enforce.metadata.iter().enumerate() {
            self.metadata(&format!("{at}.metadata[{index}]"), policy);
        }
        if let Some(services) = &enforce.services {
            self.services(&format!("{at}.services"), services);
        }
        if let Some(workloads) = &enforce.workloads {
            self.workloads(&format!("{at}.workloads"), workloads);
        }
    }

    fn audience(&mut self, field: &str, member: &Audience) {
        let name = member.name.as_str();
        if has_template(name) {
            return;
        }
        match member.kind {
            AudienceKind::Custom => {
                if !ROLES.iter().any(|(known, _)| *known == name) {
                    let known: Vec<_> = ROLES.iter().map(|(name, _)| *name).collect();
                    let known = known.join(", ");
                    self.fault(field, format!("{} means nobody: use one of {known}", quoted(name)));
                }
            }
            AudienceKind::ServiceAccount => {
                if let Some(fault) = subject::service_account_fault(name) {
                    self.fault(field, format!("{} names no ServiceAccount: {fault}", quoted(name)));
                }
            }
            AudienceKind::User | AudienceKind::Group => {
                if name.is_empty() {
                    self.fault(field, "it is empty: name a user or group");
                }
            }
        }
    }

    fn quota(&mut self, at: &str, quota: &RuleQuota) {
        let name = quota.name.as_str();
        if has_template(name) {
            return;
        }
        if name.is_empty() || !is_dns_label(name) {
            self.fault(
                format!("{at}.name"),
                format!(
                    "{} has to be a DNS label: lower-case letters, digits and '-', at most 63",
                    quoted(name)
                ),
            );
        } else if !self.tenant.is_empty() && !is_dns_subdomain(&format!("{}-{name}", self.tenant)) {
            self.fault(
                format!("{at}.name"),
                format!(
                    "{:?} is no name for the budget: it has to be a DNS subdomain",
                    format!("{}-{name}", self.tenant)
                ),
            );
        }
        if !self.budgets.insert(name.to_owned()) {
            self.fault(
                format!("{at}.name"),
                format!(
                    "{} is the name of another budget of this tenant: give each its own",
                    quoted(name)
                ),
            );
        }
        if quota.hard.is_empty() {
            self.fault(
                format!("{at}.hard"),
                "it is empty: name at least one resource and its limit",
            );
        }
        for (resource, hard) in &quota.hard {
            let field = format!("{at}.hard[{resource:?}]");
            match Quantity::parse(hard) {
                Err(error) if !has_template(&hard.0) => self.fault(field, error.to_string()),
                Ok(hard) if hard.is_negative() => self.fault(field, format!("{hard} is negative: use 0 or more")),
                _ => {}
            }
        }
    }

    fn ingress(&mut self, at: &str, ingress: &IngressRule) {
        if ingress.types.is_empty() {
            self.fault(
                format!("{at}.types"),
                "it has to be set together with hostnames: name the kinds of object that carry them",
            );
        }
        if ingress.hostnames.is_empty() {
            self.fault(
                format!("{at}.hostnames"),
                "it has to be set together with types: name hostnames",
            );
        }
        self.expressions(&format!("{at}.hostnames"), &ingress.hostnames);
    }

    fn expressions(&mut self, list: &str, expressions: &[ExprMatch]) {
        for (index, expression) in expressions.iter().enumerate() {
            self.expression(&format!("{list}[{index}]"), &expression.exact, &expression.exp);
        }
    }

    fn expression(&mut self, at: &str, exact: &[String], exp: &str) {
        if exact.is_empty() && exp.is_empty() {
            self.fault(at, "at least one of exact or exp must be set");
        }
        if !exp.is_empty() {
            self.pattern(&format!("{at}.exp"), exp, exp);
        }
    }

    /// Checks a pattern that was written as `source`.
    fn pattern(&mut self, field: &str, source: &str, pattern: &str) {
        if has_template(source) || self.patterns.contains(pattern) {
            return;
        }
        if self.patterns.len() == MAX_PATTERNS {
            self.fault(
                field,
                format!(
                    "more than {MAX_PATTERNS} different patterns in one object: list values, or join patterns with |"
                ),
            );
        }
        self.patterns.insert(pattern.to_owned());
        if self.patterns.len() <= MAX_PATTERNS
            && let Err(error) = Pattern::new(pattern)
        {
            self.fault(
                field,
                format!("unable to compile the regular expression {}: {error}", quoted(source)),
            );
        }
    }
}

fn has_template(text: &str) -> bool {
    text.contains(TEMPLATE_MARK)
}

#[cfg(test)]
mod tests;
