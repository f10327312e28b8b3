//! From a path and a body to an answer: finds the rule, collects its facts, asks it, counts. Or converts.

use std::collections::HashMap;
use std::time::Instant;

use crate::conversion;
use crate::decide::{Question, Verdict};
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
    source: Source,
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
            source,
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
            _ if request.operation == Operation::Connect => Answer::allow(request.uid),
            Some(rule) => self.ask(rule, request).await,
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
        let (view, facts) = match facts::collect(&self.source, view, rule, &request).await {
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
        let verdict = (rule.decide)(&Question {
            request: &request,
            view: &view,
            facts: &facts,
        });
        let (outcome, answer) = match verdict {
            Verdict::Allow { warnings } => (Outcome::Allowed, Answer::allow(request.uid).warn(warnings)),
            Verdict::Patch { patch, warnings } => {
                (Outcome::Allowed, Answer::patched(request.uid, &patch).warn(warnings))
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
}
