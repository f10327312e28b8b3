//! From a path and a body to an answer: finds the rule, collects its facts, asks it, counts. Or converts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt as _;
use runtime::events::shortened;
use tenancy::denial::Denial;

use crate::audit::{self, Decided};
use crate::conversion;
use crate::decide::Verdict;
use crate::facts;
use crate::metrics::{Metrics, Outcome};
use crate::review::{self, Answer, NAME_BYTES, Operation, Request};
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

    /// Answers one review, by the deadline at the latest: what an API server does not wait for any more must not be
    /// promised to it.
    ///
    /// # Errors
    /// When the body is not a review: there is no question then that an answer could belong to.
    pub async fn answer(&self, path: &str, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Malformed> {
        if path == conversion::PATH {
            return Ok(conversion::answer(body, &self.metrics).await?);
        }
        let (version, request) = review::parse(body)?;
        let rule = self
            .by_path
            .get(path)
            .and_then(|rules| rules.iter().find(|rule| rule.holds(&request)));
        let answer = match rule {
            Some(rule) => self.ask(rule, request, deadline).await,
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

    async fn ask(&self, rule: &'static Rule, request: Request, deadline: Instant) -> Answer {
        let started = Instant::now();
        if let Err(denial) = request.check_names() {
            log(rule, &request, &denial);
            self.metrics.count(rule, Outcome::Denied, started);
            return Answer::deny(request.uid, &denial);
        }
        let Some(view) = self.source.view() else {
            self.metrics.count(rule, Outcome::NotReady, started);
            return Answer::fail(
                request.uid,
                "the operator has not read the cluster's state yet; please retry",
            );
        };
        let collected = facts::collect(&self.source, view, rule, &request);
        let (mut view, facts) = match tokio::time::timeout_at(deadline.into(), collected).await {
            Ok(Ok(collected)) => collected,
            Err(_) => {
                tracing::warn!(
                    rule = rule.name,
                    "facts for an admission decision were not read in time"
                );
                self.metrics.count(rule, Outcome::Failed, started);
                return Answer::fail(
                    request.uid,
                    "the operator could not read in time what this decision needs; please retry",
                );
            }
            Ok(Err(error)) => {
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
                    self.source.events.completed(rule.path, &request, &patch, &view.known);
                }
                let answer = Answer::patched(request.uid, &patch);
                (passed, answer.warn(warnings).audited(&audited))
            }
            Verdict::Deny(denial) => {
                log(rule, &request, &denial);
                if rule.component == Component::NamespaceTenants {
                    self.source.events.refused(&request, &denial, &view.known);
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

/// Names and users are as their authors wrote them, and may not be valid at all.
fn log(rule: &Rule, request: &Request, denial: &Denial) {
    let short = |text: Option<&str>| shortened(text.unwrap_or_default(), NAME_BYTES);
    let (namespace, name) = (short(request.namespace.as_deref()), short(Some(&request.name)));
    tracing::info!(
        rule = rule.name,
        user = ?short(request.user_info.username.as_deref()),
        object.ref = ?format!("{}/{namespace}/{name}", request.kind.kind),
        reason = %denial.reason,
        "request was denied"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;
    use serde_json::{Value, json};
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn names_that_are_too_long_reach_no_rule() {
        let router = Router::new(RULES, Source::empty(), Metrics::default());
        let long = "x".repeat(1 << 20);
        for rule in RULES
            .iter()
            .filter(|rule| rule.targets[0].operations.contains(&Operation::Create))
        {
            let target = &rule.targets[0];
            let (resource, sub_resource) = target.resources[0].split_once('/').unwrap_or((target.resources[0], ""));
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
                "uid": "1", "kind": {"group": target.groups[0], "version": target.versions[0], "kind": "Thing"},
                "resource": {"group": target.groups[0], "version": target.versions[0], "resource": resource},
                "subResource": sub_resource, "name": long, "namespace": long, "operation": "CREATE",
                "object": {"metadata": {"name": long}}}});
            let reply = router
                .answer(rule.path, review.to_string().as_bytes(), Instant::now() + MINUTE)
                .await
                .unwrap();
            let reply: Value = serde_json::from_slice(&reply).unwrap();
            let (status, bytes) = (&reply["response"]["status"], reply.to_string().len());
            assert_eq!(
                (&status["code"], &status["reason"]),
                (&json!(400), &json!("BadRequest")),
                "{}",
                rule.name
            );
            assert!(bytes < 1024, "{}: an answer of {bytes} bytes", rule.name);
        }
    }

    #[tokio::test]
    async fn who_waits_for_an_api_server_that_is_silent_is_answered_by_the_deadline() {
        // The kernel takes connections for it, and nobody reads them.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let mut source = Source::empty();
        source.client = Some(kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap());
        let router = Router::new(RULES, source, Metrics::default());
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Service"},
            "resource": {"group": "", "version": "v1", "resource": "services"},
            "name": "web", "namespace": "oil-web", "operation": "CREATE", "object": {"metadata": {"name": "web"}}}})
        .to_string();

        let deadline = Instant::now() + Duration::from_millis(50);
        let answered = router.answer("/services/validating", review.as_bytes(), deadline);
        let reply = tokio::time::timeout(MINUTE, answered)
            .await
            .expect("an answer")
            .unwrap();
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["response"]["allowed"], false);
        assert_eq!(reply["response"]["status"]["code"], 500);
        let message = reply["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains("in time") && message.contains("retry"), "{message}");
    }
}
