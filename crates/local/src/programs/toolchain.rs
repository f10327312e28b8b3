//! What builds the programs: Go and a C compiler, the flags they get, and what Go knows about upstream's modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::table::Reports;
use super::{find_in_path, hex, output};
use crate::error::{Error, Result};
use crate::process::Spec;

pub(super) const C_FLAGS: [&str; 4] = ["-Os", "-Wall", "-static", "-s"];

/// The linker's flags for what a program says about itself.
///
/// `sum` is the checksum of the module in `go.sum`, in hex. It stands where upstream has the commit, because a module
/// does not know its commit, and because it does name exactly this source. `archive` is upstream's own word for source
/// that comes without a repository.
pub(super) fn linker_flags(reports: Reports, version: &str, time: &str, sum: &str) -> String {
    let mut flags = "-s -w".to_owned();
    let mut set = |package: &str, variable: &str, value: &str| {
        flags.extend([" -X ", package, ".", variable, "=", value]);
    };
    match reports {
        Reports::Itself => {}
        Reports::Helm => {
            set("helm.sh/helm/v3/internal/version", "version", version);
            set("helm.sh/helm/v3/internal/version", "metadata", "");
            set("helm.sh/helm/v3/internal/version", "gitTreeState", "archive");
        }
        Reports::Kine => {
            set("github.com/k3s-io/kine/pkg/version", "Version", version);
            set("github.com/k3s-io/kine/pkg/version", "GitCommit", sum);
        }
        Reports::Kubernetes => {
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                set(package, "gitVersion", version);
                set(package, "gitMajor", major);
                set(package, "gitMinor", minor);
                set(package, "gitCommit", sum);
                set(package, "gitTreeState", "archive");
                set(package, "buildDate", time);
            }
        }
    }
    flags
}

/// What Go knows about an upstream module on this machine.
pub(super) struct ModuleSource {
    pub(super) directory: PathBuf,
    /// When that version was tagged, RFC 3339.
    pub(super) time: String,
    /// Its checksum of `go.sum`, as hex.
    pub(super) sum: String,
}

impl ModuleSource {
    /// Downloads the module if it is not in Go's cache.
    pub(super) fn find(tools: &Path, path: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Downloaded {
            dir: PathBuf,
            info: PathBuf,
            sum: String,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            time: Option<String>,
        }
        let json = output(
            Command::new(go()?)
                .args(["mod", "download", "-json", path])
                .current_dir(tools)
                .envs(GO_ENVIRONMENT.iter().copied()),
        )?;
        let unexpected = |error: serde_json::Error| {
            Error::Other(format!("failed to read what Go says about the module {path}: {error}"))
        };
        let downloaded: Downloaded = serde_json::from_str(&json).map_err(unexpected)?;
        let info = fs::read(&downloaded.info).map_err(Error::file("read", &downloaded.info))?;
        let info: Info = serde_json::from_slice(&info).map_err(unexpected)?;
        let sum = downloaded.sum.trim_start_matches("h1:");
        let sum = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, sum)
            .map_err(|error| Error::Other(format!("failed to read the checksum of the module {path}: {error}")))?;
        Ok(Self {
            directory: downloaded.dir,
            time: info.time.unwrap_or_default(),
            sum: hex(&sum),
        })
    }
}

/// What must not come from the person's own environment: it would change what is built, or where from.
const GO_ENVIRONMENT: [(&str, &str); 4] = [
    ("CGO_ENABLED", "0"),
    ("GOFLAGS", "-mod=readonly"),
    ("GOWORK", "off"),
    ("GO111MODULE", "on"),
];

pub(super) fn go_environment(spec: Spec) -> Spec {
    GO_ENVIRONMENT
        .into_iter()
        .fold(spec, |spec, (name, value)| spec.env(name, value))
}

/// The Go toolchain: in the `PATH`, or where its own installer and Debian put it.
pub(crate) fn go() -> Result<PathBuf> {
    find_in_path("go")
        .or_else(|| {
            let usual = ["/usr/local/go/bin/go", "/usr/lib/go/bin/go"];
            usual.into_iter().map(PathBuf::from).find(|path| path.is_file())
        })
        .ok_or_else(|| Error::MissingProgram {
            name: "go".to_owned(),
            directory: PathBuf::from("PATH"),
            advice: "it builds the upstream programs; see https://go.dev/doc/install",
        })
}

pub(super) fn compiler() -> Result<PathBuf> {
    find_in_path("cc").ok_or_else(|| Error::MissingProgram {
        name: "cc".to_owned(),
        directory: PathBuf::from("PATH"),
        advice: "it builds the pause program; Debian has it in the package gcc",
    })
}

pub(super) fn go_version() -> Result<String> {
    output(
        Command::new(go()?)
            .args(["env", "GOVERSION"])
            .envs(GO_ENVIRONMENT.iter().copied()),
    )
    .map(|version| version.trim().to_owned())
}

/// The version that a `go.mod` requires of a module.
pub(super) fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let line = line.trim_start().strip_prefix("require ").unwrap_or(line.trim_start());
        let mut words = line.split_whitespace();
        (words.next()? == module).then_some(())?;
        let version = words.next()?;
        version.starts_with('v').then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_both_forms_of_require() {
        let text = "module m\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.36.3\n\nrequire (\n\tgo.etcd.io/etcd/server/v3 v3.6.5\n\
                    \tgithub.com/coredns/coredns v1.14.2 // indirect\n)\n\nreplace k8s.io/api => k8s.io/api v0.36.3\n";
        for (module, version) in [
            ("k8s.io/kubernetes", Some("v1.36.3")),
            ("go.etcd.io/etcd/server/v3", Some("v3.6.5")),
            ("github.com/coredns/coredns", Some("v1.14.2")),
            ("k8s.io/api", None),
            ("k8s.io", None),
        ] {
            assert_eq!(required_version(text, module).as_deref(), version, "{module}");
        }
    }

    #[test]
    fn kubernetes_reports_its_version_through_the_linker() {
        let flags = linker_flags(Reports::Kubernetes, "v1.36.3", "2026-07-22T18:07:38Z", "a8d4");
        for expected in [
            "-s -w ",
            " -X k8s.io/component-base/version.gitVersion=v1.36.3 ",
            " -X k8s.io/component-base/version.gitMajor=1 ",
            " -X k8s.io/component-base/version.gitMinor=36 ",
            " -X k8s.io/component-base/version.gitCommit=a8d4 ",
            " -X k8s.io/component-base/version.gitTreeState=archive ",
            " -X k8s.io/component-base/version.buildDate=2026-07-22T18:07:38Z ",
            " -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3 ",
        ] {
            assert!(flags.contains(expected), "{expected:?} is not in {flags:?}");
        }
    }
}
