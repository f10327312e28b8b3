//! From a path and a body to an answer: finds the rule, collects its facts, asks it, counts. Or converts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::audit::{self, Decided};
use crate::conversion;
use crate::decide::Verdict;
use crate::facts;
use crate::metrics::{Metrics, Outcome};
use crate::review::{self, Answer, Operation, Request};
use crate::rule::{Component, Rule};
use crate::view::Source;

/// Why a body is not a question that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Admission(#[from] review::Malformed),
    #[error(transparent)]
    Conversion(#[from] conversion::Malformed),
}

/// All rules by path, and where they look things up.
pub struct Router {
    by_path: HashMap<&'static str, Vec<&'static Rule>>,
    source: Arc<Source>,
    metrics: Metrics,
}

impl Router {
    /// Rules that share a path are asked in the order of the table; the first whose targets hold the request answers.
    pub fn new(rules: impl IntoIterator<Item = &'static Rule>, source: Source, metrics: Metrics) -> Self {
        let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
        for rule in rules {
            by_path.entry(rule.path).or_default().push(rule);
        }
        Self {
            by_path,
            source: Arc::new(source),
            metrics,
        }
    }

    pub fn knows(&self, path: &str) -> bool {
        self.by_path.contains_key(path) || path == conversion::PATH
    }

    /// Answers one review.
    ///
    /// # Errors
    /// When the body is not a review: there is no question then that an answer could belong to.
    pub async fn answer(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, Malformed> {
        if path == conversion::PATH {
            return Ok(conversion::answer(body, &self.metrics).await?);
        }
        let (version, request) = review::parse(body)?;
        let rule = self
            .by_path
            .get(path)
            .and_then(|rules| rules.iter().find(|rule| rule.holds(&request)));
        let answer = match rule {
            Some(rule) => self.ask(rule, request).await,
            None if request.operation == Operation::Connect => Answer::allow(request.uid),
            // Somebody registered us for more than we know. Refusing is safe and says where to look.
            None => Answer::fail(
                request.uid.clone(),
                &format!(
                    "no rule at {path} is about {} of {}/{}; the webhook configuration does not fit this operator",
                    request.operation.as_str(),
                    request.resource.group,
                    request.resource.resource
                ),
            ),
        };
        Ok(answer.into_body(&version))
    }

    async fn ask(&self, rule: &'static Rule, request: Request) -> Answer {
        let started = Instant::now();
        let Some(view) = self.source.view() else {
            self.metrics.count(rule, Outcome::NotReady, started);
            return Answer::fail(
                request.uid,
                "the operator has not read the cluster's state yet; please retry",
            );
        };
        let (mut view, facts) = match facts::collect(&self.source, view, rule, &request).await {
            Ok(collected) => collected,
            Err(error) => {
                tracing::warn!(
                    rule = rule.name,
                    error = runtime::report::chain(&error),
                    "facts for an admission decision were not read"
                );
                self.metrics.count(rule, Outcome::Failed, started);
                return Answer::fail(
                    request.uid,
                    "the operator could not read what this decision needs; please retry",
                );
            }
        };
        let decided = audit::decide(rule, &request, &mut view, &facts);
        let audited = self.tell(&request, &decided);
        let passed = if decided.passed.is_empty() {
            Outcome::Allowed
        } else {
            Outcome::Audited
        };
        let (outcome, answer) = match decided.verdict {
            Verdict::Allow { warnings } => (passed, Answer::allow(request.uid).warn(warnings).audited(&audited)),
            Verdict::Patch { patch, warnings } => {
                if rule.component == Component::NamespaceTenants {
                    let tenant = view.known.tenant_of(request.namespace.as_deref().unwrap_or_default());
                    let tenant = tenant.ok().flatten();
                    let tenant = tenant.as_ref().map(|tenant| tenant.name.as_str());
                    self.source.events.completed(rule.path, &request, &patch, tenant);
                }
                let answer = Answer::patched(request.uid, &patch);
                (passed, answer.warn(warnings).audited(&audited))
            }
            Verdict::Deny(denial) => {
                tracing::info!(
                    rule = rule.name,
                    user = request.user_info.username.as_deref().unwrap_or_default(),
                    object.ref = %format!("{}/{}/{}", request.kind.kind, request.namespace.as_deref().unwrap_or_default(), request.name),
                    reason = %denial.reason,
                    "request was denied"
                );
                if rule.component == Component::NamespaceTenants {
                    let tenant = view.known.tenant_of(request.namespace.as_deref().unwrap_or_default());
                    let tenant = tenant.ok().flatten();
                    let tenant = tenant.as_ref().map(|tenant| tenant.name.as_str());
                    self.source.events.refused(&request, &denial, tenant);
                }
                (Outcome::Denied, Answer::deny(request.uid, &denial))
            }
        };
        self.metrics.count(rule, outcome, started);
        answer
    }

    /// Tells what was recorded and what passed although something refuses it. The same comes back for the audit log.
    fn tell(&self, request: &Request, decided: &Decided) -> Vec<String> {
        let source = &self.source;
        for record in &decided.records {
            source
                .events
                .recorded(request, &record.outcome, &record.tenant.name_any());
        }
        for passed in &decided.passed {
            source.events.passed(request, passed);
        }
        let mut told = Vec::new();
        for (tenant, finding) in decided.findings(request, Timestamp::now()) {
            told.push(format!("{}: {}", finding.limit.field(), finding.message));
            if request.dry_run != Some(true) {
                source.reports.add(tenant, finding);
            }
        }
        told
    }
}
