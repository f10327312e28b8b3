//! Kinds that the API server holds in another etcd than the rest.

use serde::Serialize;

use super::DatastoreFacts;

/// One kind with its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    /// `<group>/<kinds>`, as `/events`.
    pub resource: String,
    /// Where its objects are.
    pub datastore: DatastoreFacts,
}

/// What `--etcd-servers-overrides` says, if there is anything to say.
pub(super) fn servers(overrides: &[Override]) -> Option<String> {
    let entries = overrides.iter().map(|one| {
        let servers = one
            .datastore
            .endpoints
            .iter()
            .map(|endpoint| format!("https://{endpoint}"));
        format!("{}#{}", one.resource, servers.collect::<Vec<_>>().join(";"))
    });
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::facts;

    #[test]
    fn entries_are_joined_by_commas_and_servers_by_semicolons() {
        let one = |resource: &str, endpoints: &[&str]| Override {
            resource: resource.to_owned(),
            datastore: DatastoreFacts {
                endpoints: endpoints.iter().map(|one| (*one).to_owned()).collect(),
                ..facts()
            },
        };
        let overrides = [
            one("/events", &["a:2379", "b:2379"]),
            one("apps/deployments", &["c:2379"]),
        ];
        let expected = "/events#https://a:2379;https://b:2379,apps/deployments#https://c:2379";
        assert_eq!(servers(&overrides).as_deref(), Some(expected));
        assert_eq!(servers(&[]), None);
    }
}
