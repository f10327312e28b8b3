//! The cluster of the story: started by `cotenant up`, gone with the test however that ends.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::kubectl::Kubectl;

/// Longer than it takes until a replica that was killed while it led is followed: its Lease has to run out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    pub(crate) admin: Kubectl,
    pub(crate) alice: Kubectl,
    pub(crate) quinn: Kubectl,
    pub(crate) prod: Kubectl,
    pub(crate) programs: PathBuf,
    before: Traces,
    reaper: Option<Child>,
}

impl Cluster {
    /// `cotenant up`, under a name of its own.
    pub(crate) fn up() -> Self {
        let name = format!("story{}", std::process::id());
        let state = std::env::temp_dir().join(format!("cotenant-{name}"));
        let before = Traces::of_machine();
        // Waits for the end of this process, whatever that is, and then removes the cluster.
        let reaper = Command::new("sh")
            .args([
                "-c",
                r#"read -r _; exec "$0" down --cluster "$1" --state "$2""#,
                env!("CARGO_BIN_EXE_cotenant"),
                &name,
            ])
            .arg(&state)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be run");
        let programs = local::programs::locate().expect("`cotenant prepare` has built the upstream programs");
        let kubectl = programs.path("kubectl");
        let folder = state.join(&name);
        let person = |who: &str, tenant: &str| {
            Kubectl::new(
                who,
                &kubectl,
                folder.join("kubeconfigs").join(format!("{tenant}.kubeconfig")),
            )
        };
        let cluster = Self {
            admin: Kubectl::new("admin", &kubectl, folder.join("kubeconfig")),
            alice: person("alice", "dev-team"),
            quinn: person("quinn", "qa-team"),
            prod: person("prod-team", "prod-team"),
            programs: kubectl.parent().expect("programs lie in a folder").to_owned(),
            name,
            state,
            before,
            reaper: Some(reaper),
        };
        let status = cluster.cotenant("up").status().expect("cotenant can be run");
        assert!(status.success(), "`cotenant up` failed");
        cluster
    }

    fn cotenant(&self, command: &str) -> Command {
        let mut cotenant = Command::new(env!("CARGO_BIN_EXE_cotenant"));
        cotenant
            .arg(command)
            .args(["--cluster", &self.name, "--state"])
            .arg(&self.state)
            .env_remove("KUBECONFIG");
        cotenant
    }

    /// `cotenant status` names three tenants, each ready and each with a kubeconfig.
    pub(crate) fn table_is_all_ready(&self) {
        let output = self
            .cotenant("status")
            .arg("--json")
            .output()
            .expect("cotenant can be run");
        let text = String::from_utf8(output.stdout).expect("status is text");
        let rows: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect();
        let mut seen: Vec<_> = rows
            .iter()
            .map(|row| {
                assert!(
                    fs::metadata(row["kubeconfig"].as_str().expect("a path")).is_ok(),
                    "{row}"
                );
                (
                    row["tenant"].as_str().expect("a name"),
                    row["type"].as_str().expect("a type"),
                    row["ready"] == true,
                )
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("dev-team", "namespace", true),
                ("prod-team", "dedicated", true),
                ("qa-team", "namespace", true)
            ],
            "{text}"
        );
    }

    /// `cotenant down`, and the machine is as it was before.
    pub(crate) fn down_leaves_nothing(mut self) {
        let status = self.cotenant("down").status().expect("cotenant can be run");
        assert!(status.success(), "`cotenant down` failed");
        // It finds nothing left to remove, and must not itself be what is left.
        self.reap();
        let after = Traces::of_machine();
        let left: Vec<_> = after
            .0
            .difference(&self.before.0)
            .filter(|trace| trace.contains(&self.name))
            .collect();
        assert!(left.is_empty(), "left behind: {left:#?}");
        let new: Vec<_> = after
            .0
            .difference(&self.before.0)
            .filter(|trace| !trace.starts_with("process"))
            .collect();
        assert!(
            new.is_empty() || std::env::var_os("CI").is_none(),
            "new on this machine: {new:#?}"
        );
        assert!(!self.state.join(&self.name).exists(), "the state folder is still there");
        let _ = fs::remove_dir_all(&self.state);
    }

    fn reap(&mut self) {
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("COTENANT_TEST_KEEP").is_some() {
            eprintln!(
                "kept: cotenant down --cluster {} --state {}",
                self.name,
                self.state.display()
            );
            std::mem::forget(self.reaper.take());
            return;
        }
        self.reap();
    }
}

/// What a cluster could leave on a machine.
struct Traces(BTreeSet<String>);

impl Traces {
    fn of_machine() -> Self {
        let mut traces = BTreeSet::new();
        let mut lines = |kind: &str, command: &mut Command| {
            let output = command.output().expect("a command of every Debian");
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                traces.insert(format!("{kind} {}", line.trim()));
            }
        };
        lines("netns", Command::new("ip").args(["netns", "list"]));
        lines("link", Command::new("sh").args(["-c", "ip -o link | awk '{print $2}'"]));
        lines("mount", Command::new("cat").arg("/proc/mounts"));
        lines("process", Command::new("ps").args(["-eo", "args"]));
        lines("cgroup", Command::new("find").args(["/sys/fs/cgroup", "-type", "d"]));
        lines("nft", Command::new("nft").args(["list", "tables"]));
        lines("route", Command::new("ip").args(["route"]));
        Self(traces)
    }
}
