//! What one block makes for one place: copies, raw items, and what its generators render.

use std::collections::BTreeMap;

use api::capsule::v1beta2::{Generator, ItemReference, Metadata, MissingKey, ReplicationBlock, Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Map, Value, json};
use templates::{Numbers, Settings, Template};

use super::fast::Tags;
use super::{documents, limits, object};

/// Origin of all copies.
pub const COPIES: &str = "replica";
/// What stands for the tenant where objects are made once.
pub const NO_TENANT: &str = "None";

/// An object to make, as its author has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Produced {
    /// `replica`, `<block>/raw-<index>` or `<block>/generator-<index>-<document>`.
    pub origin: String,
    /// The object.
    pub object: Value,
}

/// One place that a block is made for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The tenant. `None` where objects are made once.
    pub tenant: Option<&'a Tenant>,
    /// The namespace. `None` where objects are made once, or once per tenant.
    pub namespace: Option<&'a Namespace>,
}

impl<'a> Place<'a> {
    /// What the tags of fast templates stand for here.
    pub fn tags(&self) -> Tags<'a> {
        let tenant = self.tenant.and_then(|tenant| tenant.metadata.name.as_deref());
        let namespace = self.namespace.and_then(|namespace| namespace.metadata.name.as_deref());
        Tags {
            tenant: tenant.unwrap_or(NO_TENANT),
            namespace: namespace.unwrap_or_default(),
        }
    }

    /// What generators see: `tenant` and `namespace`, without bookkeeping.
    fn data(&self, context: &Map<String, Value>) -> Value {
        let mut data = context.clone();
        let tenant = match self.tenant {
            Some(tenant) => with_rbac(object::without_bookkeeping(json!(tenant)), tenant),
            None => json!({"metadata": {"name": NO_TENANT}}),
        };
        data.insert("tenant".to_owned(), tenant);
        let namespace = self
            .namespace
            .map(|namespace| object::without_bookkeeping(json!(namespace)));
        data.insert("namespace".to_owned(), namespace.unwrap_or_else(|| json!({})));
        Value::Object(data)
    }
}

/// The tenant with `rbac`: whoever owns it, with the roles, sorted.
fn with_rbac(mut object: Value, tenant: &Tenant) -> Value {
    let owners = tenant.status.iter().flat_map(|status| &status.owners);
    let mut rbac: Vec<(String, String, Vec<String>)> = owners
        .map(|owner| {
            let owner = json!(owner);
            let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            let roles = owner["clusterRoles"].as_array().into_iter().flatten();
            let roles = roles.filter_map(Value::as_str).map(str::to_owned).collect();
            (text("kind"), text("name"), roles)
        })
        .collect();
    rbac.sort();
    object["rbac"] = rbac
        .into_iter()
        .map(|(kind, name, roles)| json!({"kind": kind, "name": name, "roles": roles}))
        .collect();
    object
}

/// A reference with the tags of its texts replaced.
pub fn reference(item: &ItemReference, tags: &Tags<'_>) -> ItemReference {
    let mut item = item.clone();
    item.name = tags.text(&item.name);
    item.namespace = tags.text(&item.namespace);
    if let Some(labels) = item
        .selector
        .as_mut()
        .and_then(|selector| selector.match_labels.as_mut())
    {
        *labels = tags.map(labels);
    }
    for values in item
        .selector
        .iter_mut()
        .flat_map(|selector| selector.match_expressions.iter_mut().flatten())
        .filter_map(|expression| expression.values.as_mut())
    {
        for value in values {
            *value = tags.text(value);
        }
    }
    item
}

/// What one block makes for one place, as far as that may go.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What was made so far.
    pub objects: Vec<Produced>,
    weight: usize,
}

impl Gathered {
    /// One more.
    ///
    /// # Errors
    /// If there are too many, or they are too large together.
    pub fn add(&mut self, produced: Produced) -> Result<(), String> {
        if self.objects.len() >= limits::OBJECTS_OF_A_BLOCK {
            return Err(format!(
                "more objects in one place than allowed; at most {} are",
                limits::OBJECTS_OF_A_BLOCK
            ));
        }
        self.weight += object::weight(&produced.object);
        if self.weight > limits::ALL_BYTES {
            return Err(format!(
                "the objects in one place take more than {} bytes",
                limits::ALL_BYTES
            ));
        }
        self.objects.push(produced);
        Ok(())
    }

    /// Copies of the objects that a reference found. Whoever is in the place already is not copied onto itself.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_copies(&mut self, item: &ItemReference, sources: &[Value], place: &Place<'_>) -> Result<(), String> {
        let namespace = place.tags().namespace;
        for source in sources {
            if object::is_left_out(source) || source["metadata"]["namespace"] == namespace {
                continue;
            }
            self.add(Produced {
                origin: COPIES.to_owned(),
                object: object::copied(source, item.selector.as_ref()),
            })?;
        }
        Ok(())
    }

    /// The raw items of a block, and what its generators make, until it is too late. Answers what is wrong with a single
    /// generator, by its field.
    ///
    /// # Errors
    /// As [`Self::add`], or if it is too late.
    pub fn add_made(
        &mut self,
        index: usize,
        block: &ReplicationBlock,
        place: &Place<'_>,
        context: &Map<String, Value>,
        now: Timestamp,
        is_late: impl Fn() -> bool,
    ) -> Result<Vec<String>, String> {
        let (tags, mut problems) = (place.tags(), Vec::new());
        for (item, raw) in block.raw_items.iter().enumerate() {
            self.add(Produced {
                origin: format!("{index}/raw-{item}"),
                object: object::cleaned(tags.value(&Value::Object(raw.clone()))),
            })?;
        }
        if block.generators.is_empty() {
            return Ok(problems);
        }
        let (data, mut left) = (place.data(context), Left::default());
        for (number, generator) in block.generators.iter().enumerate() {
            if is_late() {
                return Err(format!("there is no time left for generators[{number}]"));
            }
            let objects = match rendered(generator, &data, now, &mut left) {
                Ok(objects) => objects,
                Err(problem) => {
                    problems.push(format!("spec.resources[{index}].generators[{number}]: {problem}"));
                    continue;
                }
            };
            for (document, object) in objects.into_iter().enumerate() {
                self.add(Produced {
                    origin: format!("{index}/generator-{number}-{document}"),
                    object: object::cleaned(Value::Object(object)),
                })?;
            }
        }
        Ok(problems)
    }
}

/// What is left for the generators of one block in one place.
struct Left {
    rendering: templates::Allowance,
    reading: documents::Budget,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            rendering: limits::TEMPLATES,
            reading: documents::Budget::default(),
        }
    }
}

fn rendered(
    generator: &Generator,
    data: &Value,
    now: Timestamp,
    left: &mut Left,
) -> Result<Vec<Map<String, Value>>, String> {
    let template = Template::parse("generator", &generator.template, limits::TEMPLATE).map_err(|it| it.to_string())?;
    let settings = Settings {
        missing_key: match generator.missing_key {
            MissingKey::Invalid => templates::MissingKey::Invalid,
            MissingKey::Zero => templates::MissingKey::Zero,
            MissingKey::Error => templates::MissingKey::Error,
        },
        numbers: Numbers::Integers,
        now,
    };
    let text = template.render_within(&mut left.rendering, data, &settings);
    documents::read(&text.map_err(|it| it.to_string())?, &left.reading)
}

/// Labels and annotations that a block gives all of its objects.
pub fn additional_metadata(block: &ReplicationBlock, tags: &Tags<'_>) -> Metadata {
    let metadata = block.additional_metadata.as_ref();
    let map = |of: fn(&Metadata) -> &BTreeMap<String, String>| metadata.map(|it| tags.map(of(it))).unwrap_or_default();
    Metadata {
        labels: map(|it| &it.labels),
        annotations: map(|it| &it.annotations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(value: Value) -> ReplicationBlock {
        serde_json::from_value(value).unwrap()
    }

    fn tenant() -> Tenant {
        serde_json::from_value(json!({"metadata": {"name": "oil", "labels": {"tier": "gold"}}, "spec": {}})).unwrap()
    }

    fn namespace() -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "oil-web", "labels": {"env": "prod"}}})).unwrap()
    }

    fn made_of(value: Value) -> (Vec<Produced>, Vec<String>) {
        let (tenant, namespace) = (tenant(), namespace());
        let place = Place {
            tenant: Some(&tenant),
            namespace: Some(&namespace),
        };
        let context = serde_json::from_value(json!({"extra": [{"metadata": {"name": "e"}}]})).unwrap();
        let mut gathered = Gathered::default();
        let answer = gathered.add_made(3, &block(value), &place, &context, Timestamp::UNIX_EPOCH, || false);
        (gathered.objects, answer.unwrap_or_else(|full| vec![full]))
    }

    #[test]
    fn generators_of_a_block_share_what_they_may_cost() {
        let costly = json!({"template": "{{ range until 9999 }}{{ range until 5 }}{{ end }}{{ end }}"});
        let (_, problems) = made_of(json!({"generators": vec![costly; 20]}));
        assert!((10..20).contains(&problems.len()), "{problems:?}");
        assert!(problems[0].contains("steps"), "{problems:?}");
    }

    #[test]
    fn what_is_gathered_stops_at_its_limits() {
        let one = json!({"template": "{{ range until 300 }}---\nkind: X\n{{ end }}"});
        let (found, problems) = made_of(json!({"generators": [one, one, one]}));
        assert_eq!(found.len(), limits::OBJECTS_OF_A_BLOCK);
        assert!(problems[0].contains("at most 500"), "{problems:?}");
        let mut gathered = Gathered::default();
        let large = || Produced {
            origin: COPIES.to_owned(),
            object: json!("x".repeat(limits::ALL_BYTES / 2)),
        };
        gathered.add(large()).unwrap();
        assert!(gathered.add(large()).unwrap_err().contains("bytes"));
    }

    #[test]
    fn there_is_an_end_to_the_time_of_generators() {
        let (tenant, namespace) = (tenant(), namespace());
        let place = Place {
            tenant: Some(&tenant),
            namespace: Some(&namespace),
        };
        let block = block(json!({"generators": [{"template": "x"}]}));
        let answer = Gathered::default().add_made(0, &block, &place, &Map::new(), Timestamp::UNIX_EPOCH, || true);
        assert!(answer.unwrap_err().contains("no time left"));
    }

    #[test]
    fn raw_items_and_generators_become_objects_with_their_origin() {
        let (found, problems) = made_of(json!({
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ tenant.name }}-x"}, "data": {"in": "{{ namespace }}"}}],
            "generators": [{"template":
                "{{ range .extra }}---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .metadata.name }}-{{ $.tenant.metadata.name }}\n\
                 data:\n  env: {{ $.namespace.metadata.labels.env }}\n{{ end }}---\n# no object\n"}]}));
        assert!(problems.is_empty(), "{problems:?}");
        let origins: Vec<_> = found.iter().map(|it| it.origin.as_str()).collect();
        assert_eq!(origins, ["3/raw-0", "3/generator-0-0"]);
        assert_eq!(found[0].object["metadata"]["name"], "oil-x");
        assert_eq!(found[0].object["data"]["in"], "oil-web");
        assert_eq!(found[1].object["metadata"]["name"], "e-oil");
        assert_eq!(found[1].object["data"]["env"], "prod");
    }

    #[test]
    fn marks_of_ownership_cannot_be_written_by_the_author() {
        let (found, _) = made_of(
            json!({"rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "x", "uid": "1", "managedFields": [], "labels": {"projectcapsule.dev/managed-by": "controller", "a": "b"}}}]}),
        );
        assert_eq!(found[0].object["metadata"], json!({"name": "x", "labels": {"a": "b"}}));
    }

    #[rstest::rstest]
    #[case("{{ range until 100000000 }}x{{ end }}", "generators[0]")]
    #[case("{{ range until 9999 }}{{ range until 9999 }}x{{ end }}{{ end }}", "generators[0]")]
    #[case("{{ .tenant", "generators[0]")]
    #[case("{{ env \"HOME\" }}", "env")]
    #[case("a: b: c", "no YAML")]
    fn a_template_that_is_wrong_or_a_bomb_is_a_problem_of_its_own(#[case] template: &str, #[case] expected: &str) {
        let (found, problems) = made_of(json!({"generators": [{"template": template}],
            "rawItems": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]}));
        assert_eq!(found.len(), 1);
        assert!(problems[0].contains(expected), "{problems:?}");
    }

    #[test]
    fn a_copy_does_not_go_where_its_source_is() {
        let (tenant, namespace) = (tenant(), namespace());
        let place = Place {
            tenant: Some(&tenant),
            namespace: Some(&namespace),
        };
        let source = |namespace: &str, by: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace,
                "labels": {"projectcapsule.dev/created-by": by}}})
        };
        let sources = [
            source("oil-web", "x"),
            source("oil-a", "x"),
            source("oil-a", "resources"),
        ];
        let mut gathered = Gathered::default();
        gathered
            .add_copies(&ItemReference::default(), &sources, &place)
            .unwrap();
        let copies = gathered.objects;
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].object["metadata"], json!({"name": "s"}));
    }
}
