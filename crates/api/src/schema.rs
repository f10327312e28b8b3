//! Turns Rust types into CustomResourceDefinitions that an API server accepts and that merge as Kubernetes' own do.
//!
//! `kube`'s derive inlines every type before anything can look at it, so what depends on a type's *name* is lost: a
//! `Quantity` no longer has its pattern, and a list of containers no longer says how it merges. Here the schema is
//! generated with named definitions, each definition is finished once, and only then is everything inlined:
//!
//! - the result is structural: no references, no nullable unions, enums as plain string enums;
//! - Kubernetes' types get the merge markers of its own OpenAPI document (`schema/markers.tsv`) and the few
//!   constraints that only its Go code knows ([`CONSTRAINTS`]);
//! - Kubernetes' types lose their descriptions: `kubectl explain pod.spec.containers` has them, and with them a control
//!   plane's definition would not fit into one etcd value.
//!
//! Everything that our own types want to say is said beside the field with `#[schemars(extend(...))]`; there is no
//! second table of paths.

use std::collections::HashMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps,
};
use kube_core::CustomResourceExt;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What Kubernetes accepts as a quantity.
pub const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A label key, or a name of that shape, with an optional DNS prefix.
pub const QUALIFIED_NAME_PATTERN: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// How a condition's reason is spelt.
pub const REASON_PATTERN: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

/// A DNS-1123 subdomain.
pub const SUBDOMAIN_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A DNS-1123 label.
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

const KUBERNETES: &str = "io.k8s.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const CORE: &str = "io.k8s.api.core.v1";

/// Merge markers, one row per field of a Kubernetes type.
const MARKERS: &str = include_str!("schema/markers.tsv");

/// The CustomResourceDefinition of `K`, complete and structural.
///
/// Names, columns and subresources are those of the `#[kube(...)]` attributes; the schema is made anew.
pub fn crd<K: CustomResourceExt + JsonSchema>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    let schema = structural_schema::<K>();
    for version in &mut crd.spec.versions {
        version.schema = Some(CustomResourceValidation {
            open_api_v3_schema: Some(schema.clone()),
        });
        for column in version.additional_printer_columns.iter_mut().flatten() {
            // Written as zero by some generators, absent in others; absent is what the API server serves back.
            column.priority = column.priority.filter(|priority| *priority != 0);
        }
    }
    crd
}

/// CEL rules for `#[schemars(extend("x-kubernetes-validations" = schema::rules(&[...])))]`, as (rule, message).
pub fn rules(rules: &[(&str, &str)]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

/// For `#[schemars(schema_with = "schema::bytes")]` on a [`k8s_openapi::ByteString`]: text in base64.
pub fn bytes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": "byte"})
}

/// For `#[serde(skip_serializing_if = "crate::schema::is_default")]`: absent and default are the same on the wire.
/// A field marked so has no `default` in the schema either.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn structural_schema<K: JsonSchema>() -> JSONSchemaProps {
    let root = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<K>()
        .to_value();
    let definitions = root
        .get("$defs")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let mut finisher = Finisher {
        definitions: &definitions,
        finished: HashMap::new(),
        open: Vec::new(),
    };
    let schema = finisher.schema(&root);
    serde_json::from_value(Value::Object(schema)).expect("a finished schema has only the fields of JSONSchemaProps")
}

struct Finisher<'a> {
    definitions: &'a Map<String, Value>,
    /// Definitions already made structural, by name.
    finished: HashMap<&'a str, Map<String, Value>>,
    /// Definitions being made structural: a type that contains itself has no structural schema.
    open: Vec<&'a str>,
}

impl<'a> Finisher<'a> {
    fn schema(&mut self, schema: &'a Value) -> Map<String, Value> {
        // `true`: anything goes, which a structural schema has to say aloud.
        let Some(schema) = schema.as_object() else {
            return anything();
        };
        let mut finished = self.base(schema);
        for (key, value) in schema {
            match key.as_str() {
                "$ref" | "anyOf" | "oneOf" | "allOf" | "$schema" | "$defs" | "title" => {}
                "const" => {
                    finished.insert("enum".into(), json!([value]));
                }
                "type" => {
                    finished.insert(key.clone(), without_null(value));
                }
                "default" if value.is_null() => {}
                // Go has no unsigned formats; the API server warns about those that it does not know.
                "format" if value.as_str().is_some_and(|format| format.starts_with("uint")) => {}
                "properties" => {
                    let properties = value.as_object().into_iter().flatten();
                    let properties = properties
                        .map(|(name, value)| (name.clone(), Value::Object(self.schema(value))))
                        .collect();
                    finished.insert(key.clone(), Value::Object(properties));
                }
                "additionalProperties" if value.is_boolean() => {}
                "items" | "additionalProperties" => {
                    finished.insert(key.clone(), Value::Object(self.schema(value)));
                }
                _ => {
                    finished.insert(key.clone(), value.clone());
                }
            }
        }
        let typed = finished.contains_key("type") || finished.contains_key("x-kubernetes-int-or-string");
        if !typed {
            finished.extend(anything());
        }
        finished
    }

    /// What a schema builds on: the definition that it refers to, or the one thing that remains of a union.
    fn base(&mut self, schema: &'a Map<String, Value>) -> Map<String, Value> {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(name.trim_start_matches("#/$defs/"));
        }
        let mut base = Map::new();
        for union in ["anyOf", "oneOf", "allOf"] {
            let branches = schema.get(union).and_then(Value::as_array).into_iter().flatten();
            for branch in branches.filter(|branch| branch.get("type") != Some(&json!("null"))) {
                let mut branch = self.schema(branch);
                // Variants of one enum: their values add up, their descriptions would contradict each other.
                if let Some(Value::Array(values)) = branch.remove("enum") {
                    branch.remove("description");
                    let known = base.entry("enum").or_insert_with(|| json!([]));
                    known.as_array_mut().expect("inserted above as a list").extend(values);
                }
                base.extend(branch);
            }
        }
        base
    }

    fn definition(&mut self, name: &str) -> Map<String, Value> {
        let (name, schema) = self
            .definitions
            .get_key_value(name)
            .map(|(name, schema)| (name.as_str(), schema))
            .expect("schemars defines what it refers to");
        if let Some(finished) = self.finished.get(name) {
            return finished.clone();
        }
        assert!(
            !self.open.contains(&name),
            "{name} contains itself and has no structural schema"
        );
        self.open.push(name);
        let mut finished = self.schema(schema);
        self.open.pop();
        if name.starts_with(KUBERNETES) {
            strip_descriptions(&mut finished);
            mark(name, &mut finished);
            constrain(name, &mut finished);
        }
        self.finished.insert(name, finished.clone());
        finished
    }
}

fn anything() -> Map<String, Value> {
    Map::from_iter([("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true))])
}

fn without_null(types: &Value) -> Value {
    let Some(types) = types.as_array() else {
        return types.clone();
    };
    types
        .iter()
        .find(|name| **name != "null")
        .cloned()
        .unwrap_or(Value::Null)
}

/// Removes descriptions of schemas, not properties that are called "description".
fn strip_descriptions(schema: &mut Map<String, Value>) {
    schema.remove("description");
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties
        .into_iter()
        .flat_map(Map::values_mut)
        .filter_map(Value::as_object_mut)
    {
        strip_descriptions(property);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner).and_then(Value::as_object_mut) {
            strip_descriptions(inner);
        }
    }
}

/// Adds the merge markers of a Kubernetes type.
fn mark(name: &str, schema: &mut Map<String, Value>) {
    for row in MARKERS.lines().filter(|row| !row.starts_with('#')) {
        let [of, field, container, merge, keys] = *row.split('\t').collect::<Vec<_>>() else {
            continue;
        };
        if of != name {
            continue;
        }
        let Some(target) = target(schema, field) else { continue };
        target.insert(format!("x-kubernetes-{container}-type"), json!(merge));
        if !keys.is_empty() {
            target.insert("x-kubernetes-list-map-keys".into(), keys.split(',').collect());
        }
    }
}

/// Adds what neither Kubernetes' OpenAPI document nor k8s-openapi says about a Kubernetes type.
fn constrain(name: &str, schema: &mut Map<String, Value>) {
    for (of, field, constraints) in constraints() {
        if of == name
            && let (Some(target), Value::Object(constraints)) = (target(schema, field), constraints)
        {
            target.extend(constraints);
        }
    }
}

/// Constraints that exist as comments in Kubernetes' Go types and that other operators' definitions carry,
/// as (type, field or "-", what to add).
fn constraints() -> Vec<(String, &'static str, Value)> {
    let condition = format!("{META}.Condition");
    vec![
        (
            "io.k8s.apimachinery.pkg.api.resource.Quantity".into(),
            "-",
            json!({"pattern": QUANTITY_PATTERN}),
        ),
        (
            condition.clone(),
            "type",
            json!({"maxLength": 316, "pattern": QUALIFIED_NAME_PATTERN}),
        ),
        (
            condition.clone(),
            "status",
            json!({"enum": ["True", "False", "Unknown"]}),
        ),
        (
            condition.clone(),
            "reason",
            json!({"minLength": 1, "maxLength": 1024, "pattern": REASON_PATTERN}),
        ),
        (condition.clone(), "message", json!({"maxLength": 32768})),
        (condition, "observedGeneration", json!({"minimum": 0})),
        (
            format!("{CORE}.PortStatus"),
            "error",
            json!({"maxLength": 316, "pattern": QUALIFIED_NAME_PATTERN}),
        ),
        // Part of the key by which ports merge, so it needs a value.
        (format!("{CORE}.ContainerPort"), "protocol", json!({"default": "TCP"})),
        (format!("{CORE}.LocalObjectReference"), "name", json!({"default": ""})),
        (
            "io.k8s.api.networking.v1.IngressPortStatus".into(),
            "error",
            json!({"maxLength": 316, "pattern": QUALIFIED_NAME_PATTERN}),
        ),
    ]
}

fn target<'a>(schema: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    if field == "-" {
        return Some(schema);
    }
    schema.get_mut("properties")?.get_mut(field)?.as_object_mut()
}
