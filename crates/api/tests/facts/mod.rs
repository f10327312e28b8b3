//! Compares a CustomResourceDefinition of ours with a table of facts about the one that users know.
//!
//! The table has one row per field: kind, version, path, type, `R` if required, constraints as JSON. A header row
//! (`#!`) says the names, columns and subresources. Every difference has to be a named row with a reason, and every such
//! row has to be a difference still.

#![allow(clippy::unwrap_used, reason = "only tests use this module")]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::{Map, Value, json};

/// A difference that is meant. `what` is `missing`, `extra`, `type`, `required`, or the name of a constraint.
/// A path that ends in `*` stands for all fields that begin so.
pub(crate) struct Difference {
    pub(crate) path: &'static str,
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Field {
    type_: String,
    required: bool,
    constraints: Map<String, Value>,
}

/// Fails unless `crd` differs from `facts` in exactly the ways of `allowed`.
pub(crate) fn assert_same(crd: &CustomResourceDefinition, facts: &str, allowed: &[Difference]) {
    let kind = &crd.spec.names.kind;
    for version in &crd.spec.versions {
        assert_eq!(
            names(crd, version),
            header(facts, kind, &version.name),
            "names and columns of {kind}"
        );

        let theirs = fields(facts, kind, &version.name);
        assert!(!theirs.is_empty(), "no facts about {kind} {}", version.name);
        let schema = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref());
        let schema = serde_json::to_value(schema).unwrap();
        let mut ours = BTreeMap::new();
        flatten(&schema, "", false, &mut ours);

        let found = differences(&ours, &theirs);
        let explains = |difference: &Difference, path: &str, what: &str| {
            let here = match difference.path.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == difference.path,
            };
            here && what == difference.what
        };
        let unexplained: Vec<_> = found
            .iter()
            .filter(|(path, what, _)| !allowed.iter().any(|difference| explains(difference, path, what)))
            .map(|(path, what, detail)| format!("{path}: {what}: {detail}"))
            .collect();
        assert!(
            unexplained.is_empty(),
            "{kind} differs from the facts:\n{}",
            unexplained.join("\n")
        );
        for difference in allowed {
            assert!(!difference.reason.is_empty());
            assert!(
                found.iter().any(|(path, what, _)| explains(difference, path, what)),
                "{kind}: {} no longer differs in {}",
                difference.path,
                difference.what
            );
        }
    }
}

fn names(crd: &CustomResourceDefinition, version: &CustomResourceDefinitionVersion) -> Value {
    let names = &crd.spec.names;
    let columns: Vec<_> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| {
            json!([
                column.name,
                column.type_,
                column.json_path,
                column.priority.unwrap_or(0)
            ])
        })
        .collect();
    json!({
        "kind": names.kind,
        "group": crd.spec.group,
        "version": version.name,
        "plural": names.plural,
        "singular": names.singular,
        "shortNames": names.short_names.clone().unwrap_or_default(),
        "categories": names.categories.clone().unwrap_or_default(),
        "scope": crd.spec.scope,
        "served": version.served,
        "storage": version.storage,
        "subresources": version.subresources,
        "columns": columns,
    })
}

fn header(facts: &str, kind: &str, version: &str) -> Value {
    let headers = facts.lines().filter_map(|line| line.strip_prefix("#!"));
    let mut headers = headers.map(|header| serde_json::from_str::<Value>(header).unwrap());
    let mut header = headers
        .find(|header| header["kind"] == kind && header["version"] == version)
        .unwrap();
    // The facts write an absent subresource list as an empty object.
    if header["subresources"] == json!({}) {
        header["subresources"] = Value::Null;
    }
    header
}

fn fields(facts: &str, kind: &str, version: &str) -> BTreeMap<String, Field> {
    let rows = facts.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[0] == kind && row[1] == version)
        .map(|row| {
            let column = |index: usize| row.get(index).copied().unwrap_or_default();
            let constraints = match column(5) {
                "" => Map::new(),
                constraints => serde_json::from_str(constraints).unwrap(),
            };
            let field = Field {
                type_: column(3).into(),
                required: column(4) == "R",
                constraints,
            };
            (column(2).to_owned(), field)
        })
        .collect()
}

fn flatten(schema: &Value, path: &str, required: bool, into: &mut BTreeMap<String, Field>) {
    if !path.is_empty() {
        into.insert(
            path.into(),
            Field {
                type_: type_of(schema),
                required,
                constraints: constraints(schema),
            },
        );
    }
    let must = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        flatten(property, &below, must.contains(&json!(name)), into);
    }
    if schema["items"].is_object() {
        flatten(&schema["items"], &format!("{path}[]"), false, into);
    }
    if schema["additionalProperties"].is_object() {
        flatten(&schema["additionalProperties"], &format!("{path}{{}}"), false, into);
    }
}

fn type_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "int-or-string".into();
    }
    schema["type"].as_str().unwrap_or_default().into()
}

fn constraints(schema: &Value) -> Map<String, Value> {
    let mut constraints = Map::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "type" | "description" | "properties" | "items" | "required" | "additionalProperties" => {}
            "x-kubernetes-validations" => {
                let rules = value.as_array().into_iter().flatten();
                constraints.insert("cel".into(), rules.map(|rule| rule["message"].clone()).collect());
            }
            key => {
                constraints.insert(key.trim_start_matches("x-kubernetes-").into(), number(value));
            }
        }
    }
    constraints
}

/// 1.0 and 1 are one number; JSONSchemaProps has only the former.
fn number(value: &Value) -> Value {
    match value.as_f64() {
        #[allow(clippy::cast_possible_truncation)]
        Some(float) if float.fract() == 0.0 => json!(float as i64),
        _ => value.clone(),
    }
}

fn differences(ours: &BTreeMap<String, Field>, theirs: &BTreeMap<String, Field>) -> Vec<(String, String, String)> {
    // A row like `[]core/v1 Container` stands for a whole type of Kubernetes, which is not spelt out.
    let whole: BTreeSet<_> = theirs
        .iter()
        .filter(|(_, field)| field.type_.contains("core/v1 "))
        .map(|(path, _)| path.as_str())
        .collect();
    let within = |path: &str| {
        whole.iter().any(|whole| {
            path.strip_prefix(whole)
                .is_some_and(|rest| rest.starts_with(['.', '[', '{']))
        })
    };
    let mut found = Vec::new();
    for (path, their) in theirs {
        let Some(our) = ours.get(path) else {
            found.push((path.clone(), "missing".into(), their.type_.clone()));
            continue;
        };
        let type_ = match their.type_.as_str() {
            list if list.starts_with("[]core/v1 ") => "array",
            object if object.starts_with("core/v1 ") => "object",
            type_ => type_,
        };
        if our.type_ != type_ {
            found.push((
                path.clone(),
                "type".into(),
                format!("{} here, {type_} there", our.type_),
            ));
        }
        if our.required != their.required {
            found.push((path.clone(), "required".into(), format!("{} here", our.required)));
        }
        let names: BTreeSet<_> = our.constraints.keys().chain(their.constraints.keys()).collect();
        for name in names {
            let (our, their) = (our.constraints.get(name), their.constraints.get(name).map(number));
            // The marker only says aloud what a list or map without it is anyway.
            let atomic = json!("atomic");
            let plain = |value: Option<&Value>| value.is_none() || value == Some(&atomic);
            if whole.contains(path.as_str()) && name == "list-type" && plain(our) && plain(their.as_ref()) {
                continue;
            }
            if our != their.as_ref() {
                found.push((path.clone(), name.clone(), format!("{our:?} here, {their:?} there")));
            }
        }
    }
    for (path, our) in ours {
        if !theirs.contains_key(path) && !within(path) {
            found.push((path.clone(), "extra".into(), our.type_.clone()));
        }
    }
    found
}
