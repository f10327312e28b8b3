//! The one place where a refusal becomes an answer, or a report instead.
//!
//! A refusal by a limit that the tenant only tries out (`tenancy::audit`) does not stand: the limit is lifted, for this
//! request alone, and the rule is asked again. That ends, because each limit is lifted once. So what else stands against the
//! request is found behind it, and refuses as it would have done; then nothing is reported, because nothing passed.

use std::sync::Arc;

use api::capsule::v1beta2::Tenant;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use tenancy::audit::Limit;
use tenancy::audit::report::Finding;
use tenancy::denial::Denial;
use tenancy::index::{self, KnownTenant};
use tenancy::linkage;

use crate::decide::{Question, Record, Records, Verdict};
use crate::facts::{Facts, peek};
use crate::review::Request;
use crate::rule::Rule;
use crate::view::View;

/// What came out of a rule.
pub(crate) struct Decided {
    pub(crate) verdict: Verdict,
    /// What refused and does not stand. Empty if something else refuses.
    pub(crate) passed: Vec<Passed>,
    /// What rules of the tenant recorded.
    pub(crate) records: Vec<Record>,
}

/// A refusal that does not stand.
pub(crate) struct Passed {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) limit: Limit,
    pub(crate) denial: Denial,
}

impl Decided {
    /// What was let pass, each with its tenant: one of each limit. Of what rules recorded, the first.
    pub(crate) fn findings(&self, request: &Request, at: Timestamp) -> Vec<(Arc<Tenant>, Finding)> {
        if matches!(self.verdict, Verdict::Deny(_)) {
            return Vec::new();
        }
        let passed = self.passed.iter();
        let passed = passed.map(|passed| (&passed.tenant, passed.limit, passed.denial.message.as_str()));
        let records = self.records.iter().filter_map(|record| {
            let first = record.outcome.audits.first()?;
            Some((&record.tenant, Limit::Rules, first.message.as_str()))
        });
        let findings = passed.chain(records).map(|(tenant, limit, message)| {
            let finding = finding(request, limit, message, at);
            (tenant.clone(), finding)
        });
        findings.collect()
    }
}

fn finding(request: &Request, limit: Limit, message: &str, at: Timestamp) -> Finding {
    let kind = &request.kind;
    let namespace = if request.is_about_namespace() {
        &request.name
    } else {
        request.namespace.as_deref().unwrap_or_default()
    };
    Finding {
        limit,
        namespace: namespace.to_owned(),
        kind: match kind.group.as_str() {
            "" => kind.kind.clone(),
            group => format!("{}.{group}", kind.kind),
        },
        object: request.name.clone(),
        user: request.user_info.username.clone().unwrap_or_default(),
        message: message.to_owned(),
        at,
    }
}

/// Asks the rule, and again for as long as what refuses is only tried out.
pub(crate) fn decide(rule: &Rule, request: &Request, view: &mut View, facts: &Facts) -> Decided {
    let mut passed: Vec<Passed> = Vec::new();
    loop {
        let records = Records::default();
        let verdict = (rule.decide)(&Question {
            request,
            view,
            facts,
            records: &records,
        });
        let denial = match verdict {
            Verdict::Deny(denial) => denial,
            Verdict::Allow { .. } | Verdict::Patch { .. } => {
                return Decided {
                    verdict,
                    passed,
                    records: records.into_inner(),
                };
            }
        };
        let is_lifted = |limit| passed.iter().any(|passed| passed.limit == limit);
        let Some((tenant, limit)) = audited(request, &view.known, &denial).filter(|(_, limit)| !is_lifted(*limit))
        else {
            return Decided {
                verdict: Verdict::Deny(denial),
                passed: Vec::new(),
                records: records.into_inner(),
            };
        };
        view.known = std::mem::take(&mut view.known).without_limit(&tenant, limit);
        passed.push(Passed {
            tenant: tenant.object.clone(),
            limit,
            denial,
        });
    }
}

/// The tenant and the limit, if that is what refuses and the tenant audits it. What could not be judged refuses in any case.
fn audited(request: &Request, known: &index::View, denial: &Denial) -> Option<(Arc<KnownTenant>, Limit)> {
    let limit = denial.limit.filter(|_| denial.code < 500)?;
    let tenant = tenant_in_question(request, known)?;
    tenant.audited.contains(limit).then_some((tenant, limit))
}

/// The tenant whose limits are asked about. Of a Namespace it is what it says itself: that is checked before any limit is.
fn tenant_in_question(request: &Request, known: &index::View) -> Option<Arc<KnownTenant>> {
    if request.is_about_namespace() {
        return tenant_of_label(request, known);
    }
    known
        .tenant_of(request.namespace.as_deref().unwrap_or_default())
        .ok()
        .flatten()
}

/// The tenant that the label of a Namespace names, if there is one of that name: what its author says, and no more.
pub(crate) fn tenant_of_label(request: &Request, known: &index::View) -> Option<Arc<KnownTenant>> {
    let namespace = peek::<Namespace>(request.object.as_deref())?;
    known.tenant(linkage::label(&namespace)?)
}

#[cfg(test)]
mod tests;
