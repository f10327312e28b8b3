//! The real Helm, rendering the chart of this repository.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// Objects of a release, hooks included, in the order of rendering.
#[derive(Debug, PartialEq)]
pub(crate) struct Rendered(Vec<Value>);

impl Rendered {
    /// `Kind/name` of each.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(name).collect()
    }

    pub(crate) fn find(&self, wanted: &str) -> Option<Value> {
        self.0.iter().find(|object| name(object) == wanted).cloned()
    }

    pub(crate) fn object(&self, wanted: &str) -> Value {
        self.find(wanted)
            .unwrap_or_else(|| panic!("no {wanted} in {:#?}", self.names()))
    }

    /// Arguments of the first container.
    pub(crate) fn flags(workload: &Value) -> Vec<String> {
        serde_json::from_value(workload["spec"]["template"]["spec"]["containers"][0]["args"].clone()).unwrap()
    }
}

fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/cotenant")
}

/// The release with these `--set`s.
pub(crate) fn render(release: &str, namespace: &str, set: &[&str]) -> Rendered {
    render_with(release, namespace, set, None)
}

/// The same, over a file of values.
pub(crate) fn render_with(release: &str, namespace: &str, set: &[&str], values: Option<&str>) -> Rendered {
    let output = template(release, namespace, set, values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let documents = serde_norway::Deserializer::from_slice(&output.stdout)
        .map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap())
        .filter(|document| !document.is_null());
    Rendered(documents.collect())
}

/// Why Helm does not render the release.
pub(crate) fn refusal(release: &str, namespace: &str, set: &[&str]) -> String {
    let output = template(release, namespace, set, None);
    assert!(!output.status.success(), "it was rendered");
    String::from_utf8(output.stderr).unwrap()
}

fn template(release: &str, namespace: &str, set: &[&str], values: Option<&str>) -> Output {
    let programs = local::programs::locate().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut helm = Command::new(programs.path("helm"));
    helm.args(["template", release])
        .arg(chart())
        .args(["--namespace", namespace, "--kube-version=1.36.0"])
        .env("HOME", home.path());
    if let Some(values) = values {
        let file = home.path().join("values.yaml");
        std::fs::File::create(&file)
            .unwrap()
            .write_all(values.as_bytes())
            .unwrap();
        helm.arg("--values").arg(file);
    }
    for one in set {
        helm.args(["--set", one]);
    }
    helm.output().unwrap()
}
