//! What audited limits let pass, counted: for a person who decides whether to enforce them.
//!
//! One line for each limit, namespace and kind, with the last request of that sort. There are at most [`MOST`] lines of a
//! tenant, and each has a bounded length, whatever tenants write; when there are more, those that were met longest ago go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Limit;

/// Lines of one report.
pub const MOST: usize = 200;
/// Bytes of a message, of a name and of a user that a line repeats.
const MESSAGE_BYTES: usize = 512;
const NAME_BYTES: usize = 253;

/// One request that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The limit that refuses it.
    pub limit: Limit,
    /// Namespace of the object; a Namespace's own name.
    pub namespace: String,
    /// Kind of the object, such as `Pod` or `Ingress.networking.k8s.io`.
    pub kind: String,
    /// Name of the object; empty if the API server makes it up later.
    pub object: String,
    /// Who asked.
    pub user: String,
    /// What they would have been told.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// The field of a limit, a namespace and a kind.
type Key = (String, String, String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Last {
    requests: u64,
    /// RFC 3339, in seconds.
    at: String,
    object: String,
    user: String,
    message: String,
}

/// What passed of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(BTreeMap<Key, Last>);

/// A line as it is written, in the text of its limit.
#[derive(Serialize, Deserialize)]
struct Line {
    namespace: String,
    kind: String,
    requests: u64,
    last: String,
    object: String,
    user: String,
    message: String,
}

impl Report {
    /// Counts a request.
    pub fn add(&mut self, finding: &Finding) {
        let key = (
            finding.limit.field().to_owned(),
            finding.namespace.clone(),
            finding.kind.clone(),
        );
        let last = Last {
            requests: 1,
            at: finding.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            object: beginning(&finding.object, NAME_BYTES),
            user: beginning(&finding.user, NAME_BYTES),
            message: beginning(&finding.message, MESSAGE_BYTES),
        };
        self.put(key, last);
        self.forget();
    }

    /// Counts what another report counted, beside what is counted here.
    pub fn merge(&mut self, other: Self) {
        for (key, last) in other.0 {
            self.put(key, last);
        }
        self.forget();
    }

    fn put(&mut self, key: Key, mut last: Last) {
        if let Some(before) = self.0.remove(&key) {
            let requests = last.requests.saturating_add(before.requests);
            if before.at > last.at {
                last = before;
            }
            last.requests = requests;
        }
        self.0.insert(key, last);
    }

    fn forget(&mut self) {
        while self.0.len() > MOST {
            let Some(oldest) = self
                .0
                .iter()
                .min_by_key(|(_, last)| &last.at)
                .map(|(key, _)| key.clone())
            else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the data of a ConfigMap: for each limit, by its field, a list in YAML.
    pub fn render(&self) -> BTreeMap<String, String> {
        let mut lists: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for ((limit, namespace, kind), last) in &self.0 {
            lists.entry(limit.clone()).or_default().push(Line {
                namespace: namespace.clone(),
                kind: kind.clone(),
                requests: last.requests,
                last: last.at.clone(),
                object: last.object.clone(),
                user: last.user.clone(),
                message: last.message.clone(),
            });
        }
        let texts = lists.into_iter().map(|(limit, lines)| {
            let text = serde_norway::to_string(&lines).expect("a list of numbers and texts is YAML");
            (limit, text)
        });
        texts.collect()
    }

    /// What [`Self::render`] wrote. What somebody else made of it, and cannot be read any more, counts as nothing.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let mut report = Self::default();
        for (limit, text) in data {
            let lines: Vec<Line> = serde_norway::from_str(text).unwrap_or_default();
            for line in lines {
                let last = Last {
                    requests: line.requests,
                    at: line.last,
                    object: line.object,
                    user: line.user,
                    message: line.message,
                };
                report.put((limit.clone(), line.namespace, line.kind), last);
            }
        }
        report.forget();
        report
    }
}

fn beginning(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finding(limit: Limit, namespace: &str, second: i64) -> Finding {
        Finding {
            limit,
            namespace: namespace.to_owned(),
            kind: "Pod".to_owned(),
            object: format!("web-{second}"),
            user: "alice".to_owned(),
            message: "spec: no".to_owned(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn a_report_reads_as_a_list_for_each_limit() {
        let mut report = Report::default();
        report.add(&finding(Limit::Rules, "oil-web", 60));
        report.add(&finding(Limit::StorageClasses, "oil-web", 61));
        report.add(&finding(Limit::Rules, "oil-web", 62));
        let expected = "\
- namespace: oil-web
  kind: Pod
  requests: 2
  last: 1970-01-01T00:01:02Z
  object: web-62
  user: alice
  message: 'spec: no'
";
        let data = report.render();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["rules", "storageClasses"]);
        assert_eq!(data["rules"], expected);
        assert_eq!(Report::read(&data), report);
    }

    #[test]
    fn what_cannot_be_read_counts_as_nothing() {
        let data = [("rules", "- x: 1"), ("storageClasses", "{"), ("more", "")];
        let data = data.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        assert!(Report::read(&data).is_empty());
    }

    #[test]
    fn a_report_is_bounded_and_what_was_met_longest_ago_goes() {
        let mut report = Report::default();
        for second in 0..1000 {
            let mut finding = finding(Limit::Rules, &format!("oil-{second}"), second);
            finding.message = "ü".repeat(10_000);
            finding.user = "u".repeat(10_000);
            report.add(&finding);
        }
        assert_eq!(report.0.len(), MOST);
        let oldest = report.0.values().map(|last| last.at.as_str()).min();
        assert_eq!(oldest, Some("1970-01-01T00:13:20Z"));
        // A ConfigMap holds 1 MiB.
        assert!(report.render().values().map(String::len).sum::<usize>() < 300_000);
    }

    proptest! {
        /// Replicas write after one another: whoever comes first, the same is counted.
        #[test]
        fn counting_together_is_counting_at_once(
            seconds in prop::collection::vec((0..3_usize, 0..100_i64), 0..40), split in 0..40_usize,
        ) {
            let limits = [Limit::Rules, Limit::ExternalIps, Limit::Hostnames];
            let of = |part: &[(usize, i64)]| {
                let mut report = Report::default();
                for (limit, second) in part {
                    report.add(&finding(limits[*limit], "oil", *second));
                }
                report
            };
            let (first, second) = seconds.split_at(split.min(seconds.len()));
            let mut merged = Report::read(&of(first).render());
            merged.merge(of(second));
            prop_assert_eq!(merged, of(&seconds));
        }
    }
}
