//! What is asked of every error that a controller can fail with, and the one place where chains are printed.

use std::error::Error;

/// Two questions that the runner, conditions, Events and metrics ask of a failure.
pub trait Report: Error + Send + Sync + 'static {
    /// A static `CamelCase` word: condition reason, Event reason and metric label.
    fn category(&self) -> &'static str;

    /// Whether trying again without any change may help: back off and retry. Otherwise the runner waits for a change
    /// (and looks again now and then all the same).
    fn is_transient(&self) -> bool;
}

/// The error and its causes as one line, `a: b: c`. A cause that its parent's text already ends with is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let answer = answer(error);
        let said = answer.map_or_else(|| error.to_string(), str::to_owned);
        if text.is_empty() {
            text = said;
        } else if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = error.source().filter(|_| answer.is_none());
    }
    text
}

/// What an API server answered. The error's own text would add all of the answer, as Rust sees it.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(&status.message),
        _ => None,
    }
}

/// Whether a request that failed like this may succeed when repeated: no answer, too many requests, a conflict, a
/// fault of the server. A refusal (invalid, forbidden, not found) is not transient.
pub fn is_transient_kube(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 409 | 429 | 500..=599) || status.code == 0,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Whether the answer was HTTP 404.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the answer was HTTP 409: somebody else wrote first, or the object exists already.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to apply the Deployment")]
    struct Outer(#[source] Middle);
    #[derive(Debug, thiserror::Error)]
    #[error("the request was refused: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn a_chain_is_one_line_without_repetition() {
        let error = Outer(Middle(std::io::Error::other("quota exceeded")));
        assert_eq!(
            chain(&error),
            "failed to apply the Deployment: the request was refused: quota exceeded"
        );
    }

    #[test]
    fn an_api_servers_answer_is_its_sentence() {
        let status = kube::core::Status::failure("tenants is forbidden", "Forbidden").with_code(403);
        assert_eq!(chain(&kube::Error::Api(Box::new(status))), "tenants is forbidden");
    }
}
