//! What the API server says that can be written, and where.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

/// A kind as discovery names it: the group is empty for the core, the resource is the plural word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
}

impl Resource {
    /// Of `group/version/plural`, or `version/plural` for the core.
    pub fn of(path: &str) -> Self {
        let words: Vec<&str> = path.split('/').collect();
        let (group, version, plural) = match words[..] {
            [version, plural] => ("", version, plural),
            [group, version, plural] => (group, version, plural),
            _ => panic!("{path} is no resource"),
        };
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
        }
    }

    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Where the collection is.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        let inside = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        format!("/{root}/{}{inside}/{}", self.api_version(), self.plural)
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}

/// An object or a subresource of it.
#[derive(Clone, Debug)]
pub struct Door {
    pub kind: String,
    pub is_namespaced: bool,
    /// Empty for the object itself.
    pub subresource: String,
    pub verbs: Vec<String>,
}

impl Door {
    pub fn takes(&self, verb: &str) -> bool {
        self.verbs.iter().any(|it| it == verb)
    }
}

/// All doors of each resource, the object itself first.
pub struct Doors(pub BTreeMap<Resource, Vec<Door>>);

impl Doors {
    /// Asks the API server.
    pub async fn discover(client: &Client) -> Self {
        let mut lists = vec![client.list_core_api_resources("v1").await.unwrap()];
        for group in client.list_api_groups().await.unwrap().groups {
            for version in group.versions {
                lists.push(client.list_api_group_resources(&version.group_version).await.unwrap());
            }
        }
        let mut doors: BTreeMap<Resource, Vec<Door>> = BTreeMap::new();
        for (resource, door) in lists.iter().flat_map(listed) {
            doors.entry(resource).or_default().push(door);
        }
        for doors in doors.values_mut() {
            doors.sort_by(|a, b| a.subresource.cmp(&b.subresource));
        }
        Self(doors)
    }

    /// The object and those of its subresources that carry the whole object.
    pub fn of(&self, resource: &Resource) -> impl Iterator<Item = &Door> {
        let doors = self
            .0
            .get(resource)
            .unwrap_or_else(|| panic!("{resource} is not served"));
        doors.iter().filter(|door| door.kind == doors[0].kind)
    }
}

fn listed(list: &APIResourceList) -> impl Iterator<Item = (Resource, Door)> {
    list.resources.iter().map(|found| {
        let (plural, subresource) = found.name.split_once('/').unwrap_or((&found.name, ""));
        // Of a subresource, group and version are those of what it carries; its place is that of the list.
        let resource = Resource::of(&format!("{}/{plural}", list.group_version));
        let door = Door {
            kind: found.kind.clone(),
            is_namespaced: found.namespaced,
            subresource: subresource.to_owned(),
            verbs: found.verbs.clone(),
        };
        (resource, door)
    })
}
