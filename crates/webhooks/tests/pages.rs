//! The pages about kinds, held to what is true: every example is applied to a real API server with our definitions and hooks,
//! every field, default and column is looked up in the definition.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "support/page.rs"]
mod page;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::capsule::v1beta2::Tenant;
use api::kamaji::v1alpha1::{DataStore, TenantControlPlane};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt as _};
use page::{Example, Page, field, leaves, quoted};
use serde::Deserialize as _;
use serde_json::Value;
use support::served::{TENANTS, establish, served};
use support::until;
use tenancy::control_plane::admission::DEFAULT_NODE_PORTS;
use tenancy::control_plane::data_store::{self, Place};
use tenancy::control_plane::deputy::{Own, Trust};
use tenancy::control_plane::hostname::GatewayApi;
use tenancy::control_plane::{self, Surroundings, Verdict};
use tenancy::denial::Decision;
use tenancy::settings::Settings;
use tenancy::tenant_admission;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The pages about kinds, in the order in which the index has them.
fn pages() -> Vec<Page> {
    let index = Page::read(&docs().join("README.md"));
    let links = index.links().into_iter().map(|(file, _)| file);
    let kinds = links.filter(|link| link.parent().is_some_and(|folder| folder.ends_with("kinds")));
    kinds.map(|link| Page::read(&link)).collect()
}

fn definition<'a>(definitions: &'a [CustomResourceDefinition], page: &Page) -> &'a CustomResourceDefinition {
    let found = definitions.iter().find(|it| it.spec.names.kind == page.kind());
    found.unwrap_or_else(|| panic!("{}: no such kind", page.path.display()))
}

fn stored_schema(definition: &CustomResourceDefinition) -> Value {
    let version = definition.spec.versions.iter().find(|version| version.storage).unwrap();
    let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    serde_json::to_value(schema).unwrap()
}

/// Objects of all examples that pass, each with its place, in the order in which they are read.
fn shown() -> Vec<(String, Value)> {
    let examples = pages().into_iter().flat_map(|page| page.examples());
    let passing = examples.filter(|example| example.refusal.is_none());
    let objects = passing.flat_map(|Example { place, yaml, .. }| {
        let documents: Vec<_> = serde_norway::Deserializer::from_str(&yaml)
            .map(|document| (place.clone(), Value::deserialize(document).unwrap()))
            .collect();
        documents
    });
    objects.collect()
}

#[test]
fn every_kind_has_a_page_and_every_page_is_in_the_index() {
    let kinds: BTreeSet<String> = api::crds().into_iter().map(|it| it.spec.names.kind).collect();
    let pages = pages();
    let described: BTreeSet<String> = pages.iter().map(|page| page.kind().to_owned()).collect();
    assert_eq!(described, kinds);
    let files = std::fs::read_dir(docs().join("kinds")).unwrap().count();
    assert_eq!(files, pages.len(), "a page is not in the index, or in it twice");
}

/// All pages of the documentation.
fn all_pages() -> Vec<Page> {
    let mut files: Vec<PathBuf> = [docs(), docs().join("kinds")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.iter().map(|file| Page::read(file)).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in all_pages() {
        for (file, heading) in page.links() {
            let place = format!("{}: {} {heading:?}", page.path.display(), file.display());
            let heading_is_there = |heading| Page::read(&file).anchors().contains(heading);
            assert!(
                file.exists() && heading.as_ref().is_none_or(heading_is_there),
                "{place} is not there"
            );
        }
    }
}

#[test]
fn tests_that_are_named_are_there() {
    let page = Page::read(&docs().join("compatibility.md"));
    let (parts, quirks) = (page.rows("part"), page.rows("quirk"));
    assert!(!parts.is_empty() && !quirks.is_empty(), "no table of tests");
    for part in &parts {
        assert!(
            ["served", "differs", "ours"].contains(&part[1].as_str()),
            "{}: {}",
            part[0],
            part[1]
        );
    }
    for row in parts.into_iter().chain(quirks) {
        let mut source: Option<(&str, String)> = None;
        for word in quoted(&row[2]) {
            if Path::new(word).extension().is_some() {
                let text = std::fs::read_to_string(docs().join("..").join(word));
                source = Some((word, text.unwrap_or_else(|error| panic!("{word}: {error}"))));
            } else {
                let (file, text) = source.as_ref().unwrap_or_else(|| panic!("{word}: in which file?"));
                assert!(text.contains(&format!("fn {word}(")), "{file} has no test {word}");
            }
        }
        assert!(source.is_some(), "{}: shown by nothing", row[0]);
    }
}

#[test]
fn fields_and_defaults_are_those_of_the_definition() {
    let definitions = api::crds();
    for page in pages() {
        let schema = stored_schema(definition(&definitions, &page));
        let rows = page.rows("field");
        assert!(!rows.is_empty(), "{}: no table of fields", page.path.display());
        for row in rows {
            let [fields, _, default] = &row[..] else {
                panic!("{}: {row:?} has not three cells", page.path.display());
            };
            let said = quoted(default)
                .first()
                .map(|text| serde_norway::from_str::<Value>(text).unwrap());
            for path in quoted(fields) {
                let place = format!("{}: {path}", page.path.display());
                let field = field(&schema, path).unwrap_or_else(|| panic!("{place}: no such field"));
                assert_eq!(said.as_ref(), field.get("default"), "{place}: the default");
            }
        }
    }
}

/// The other way round, for kinds whose fields are too many to be missed by eye.
#[test]
fn every_field_of_control_planes_and_their_stores_is_described() {
    let definitions = api::crds();
    let pages = pages();
    let ours = |page: &&Page| definition(&definitions, page).spec.group == "kamaji.clastix.io";
    for page in pages.iter().filter(ours) {
        let rows = page.rows("field");
        let said: Vec<String> = rows
            .iter()
            .flat_map(|row| quoted(&row[0]))
            .map(|path| path.replace("[]", ""))
            .collect();
        // Kubernetes' own types (volumes, affinity, resources), and what is the same for each component, are one row: that of
        // what the field is in.
        let is_said = |field: &String| {
            said.iter().any(|said| {
                field
                    .strip_prefix(said)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let mut missing = leaves(&stored_schema(definition(&definitions, page)));
        // Those have a table of their own.
        missing.retain(|field| !is_said(field) && !field.starts_with("status.conditions."));
        assert_eq!(missing, [""; 0], "{}", page.path.display());
    }
}

#[test]
fn columns_are_those_of_the_definition() {
    let definitions = api::crds();
    for page in pages() {
        let definition = definition(&definitions, &page);
        let version = definition.spec.versions.iter().find(|version| version.storage).unwrap();
        let columns = version.additional_printer_columns.iter().flatten();
        let columns: Vec<_> = columns
            .map(|column| column.name.clone())
            .filter(|name| name != "Age")
            .collect();
        let said: Vec<_> = page.rows("column").into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(said, columns, "{}", page.path.display());
    }
}

/// Whoever applies an example is not told to write it otherwise.
#[test]
fn tenants_that_are_shown_warn_of_nothing() {
    let settings = Settings::new(None, "cotenant-system", "cotenant");
    let mut shown = shown();
    shown.retain(|(_, object)| object["kind"] == "Tenant");
    assert!(shown.len() > 2, "only {} tenants were found", shown.len());
    for (place, object) in shown {
        let tenant: Tenant = serde_json::from_value(object).unwrap();
        let decision = tenant_admission::validate_create(&tenant, &settings);
        assert_eq!(decision, Decision::Allow, "{place}");
    }
}

/// The same.
#[test]
fn stores_and_control_planes_that_are_shown_warn_of_nothing() {
    let (mut data_stores, mut control_planes) = (Vec::new(), Vec::new());
    for (place, object) in shown() {
        if object["kind"] == "DataStore" {
            let store: DataStore = serde_json::from_value(object).unwrap();
            assert_eq!(data_store::admit(&store), (vec![], vec![]), "{place}");
            data_stores.push(Arc::new(store));
        } else if object["kind"] == "TenantControlPlane" {
            let tcp: TenantControlPlane = serde_json::from_value(object).unwrap();
            let tcp = control_plane::complete(&tcp, None);
            let around = Surroundings {
                control_planes: &control_planes,
                data_stores: &data_stores,
                default_data_store: None,
                node_port_range: DEFAULT_NODE_PORTS,
                node_ports: &[],
                gateway_api: GatewayApi::Absent,
                own: &Own::default(),
                trust: &Trust::default(),
            };
            assert_eq!(
                control_plane::admit_create(&tcp, &around),
                Verdict::default(),
                "{place}"
            );
            control_planes.push(Arc::new(tcp));
        }
    }
    assert!(
        data_stores.len() > 3 && control_planes.len() > 2,
        "stores or control planes were not found"
    );
}

/// Nobody asks for them when a DataStore is applied, so a reader would learn of a wrong one much later.
#[test]
fn secrets_that_stores_refer_to_are_made_on_the_page() {
    let made: BTreeSet<_> = pages().iter().flat_map(Page::secrets).collect();
    for (place, object) in shown().into_iter().filter(|(_, object)| object["kind"] == "DataStore") {
        let store: DataStore = serde_json::from_value(object).unwrap();
        for (_, field, reference) in data_store::references(&store.spec) {
            let Ok(Place::Secret(secret)) = data_store::place(field, reference) else {
                panic!("{place}: {field} is in no Secret");
            };
            let key = [secret.namespace, secret.name, secret.key].map(str::to_owned);
            assert!(made.contains(&key), "{place}: {field}: no command makes {key:?}");
        }
    }
}

#[tokio::test]
async fn every_example_does_what_its_page_says() {
    let server = served().await.server;
    let masters = server.client().await;
    // Those with hooks are there; their definitions may differ in who converts them.
    let there = ["Tenant", "CapsuleConfiguration"];
    for definition in api::crds() {
        if !there.contains(&definition.spec.names.kind.as_str()) {
            establish(&masters, &definition).await;
        }
    }
    for page in pages() {
        for example in page.examples() {
            let client = match &example.user {
                None => masters.clone(),
                Some(user) => server.client_for(user, &TENANTS).await,
            };
            let mut objects = Vec::new();
            for document in serde_norway::Deserializer::from_str(&example.yaml) {
                let object = DynamicObject::deserialize(document);
                objects.push(object.unwrap_or_else(|error| panic!("{}: {error}", example.place)));
            }
            assert!(!objects.is_empty(), "{}: empty", example.place);
            for object in objects {
                judge(&client, &example, &object).await;
            }
        }
    }
}

/// Applies an object, or has it refused. Both may have to wait until hooks know of what was applied a moment ago.
async fn judge(client: &Client, example: &Example, object: &DynamicObject) {
    let mut last = None;
    until(&format!("what is said at {}", example.place), async || {
        let answer = apply(client, object, example.refusal.is_some()).await;
        let is_so = match (&answer, &example.refusal) {
            (Ok(()), None) => true,
            (Err(kube::Error::Api(status)), Some(said)) => status.message.contains(said),
            _ => false,
        };
        let told = format!("{answer:?}");
        if !is_so && last.as_ref() != Some(&told) {
            eprintln!("{}: {told}", example.place);
            last = Some(told);
        }
        is_so.then_some(())
    })
    .await;
}

async fn apply(client: &Client, object: &DynamicObject, dry_run: bool) -> Result<(), kube::Error> {
    let types: &TypeMeta = object.types.as_ref().expect("an example says what it is");
    let kind = GroupVersionKind::try_from(types).expect("an API version");
    let (resource, capabilities) = pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match (&capabilities.scope, object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => panic!("{} {}: without a namespace", kind.kind, object.name_any()),
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply("kubectl").force()
    };
    api.patch(&object.name_any(), &params, &Patch::Apply(object))
        .await
        .map(|_| ())
}
