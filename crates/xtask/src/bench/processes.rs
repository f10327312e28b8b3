//! Processes of a cluster, seen from the machine: CPU time, resident and proportional memory.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, ensure};

/// One process of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Path of its cgroup; holds the cluster's name and, for a pod, the pod's UID.
    pub(crate) cgroup: String,
}

/// Processes of `cluster` whose first words are `words`.
pub(crate) fn find(cluster: &str, words: &[&str]) -> Vec<Process> {
    let found = all(cluster).into_iter();
    found
        .filter(|(given, _)| given.len() >= words.len() && given.iter().zip(words).all(|(given, word)| given == word))
        .map(|(_, process)| process)
        .collect()
}

/// CPU seconds so far of all that runs for `cluster`, by program, and of the benchmark itself.
pub(crate) fn cpu_by_program(cluster: &str) -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for (mut given, process) in all(cluster) {
        *seconds.entry(given.swap_remove(0)).or_default() += process.cpu_seconds();
    }
    let own = Process {
        pid: std::process::id(),
        cgroup: String::new(),
    };
    seconds.insert("bench".to_owned(), own.cpu_seconds());
    seconds
}

/// Processes of `cluster` with their words, the first without its path.
fn all(cluster: &str) -> Vec<(Vec<String>, Process)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            let mut words = command.split('\0');
            let program = words.next()?.rsplit('/').next()?;
            let given = std::iter::once(program).chain(words).map(str::to_owned).collect();
            cgroup.contains(cluster).then_some((given, Process { pid, cgroup }))
        })
        .collect()
}

impl Process {
    /// User and system time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // Fields after the parenthesised name; 14 and 15 of the whole line are utime and stime in clock ticks of 1/100 s.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |field: usize| {
            rest.split_whitespace()
                .nth(field - 3)
                .and_then(|ticks| ticks.parse().ok())
                .unwrap_or(0.0)
        };
        (ticks(14) + ticks(15)) / 100.0
    }

    /// How long ago it began, in seconds.
    pub(crate) fn age_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let rest = stat.rsplit(')').next().unwrap_or_default();
        // Field 22 of the whole line, in clock ticks of 1/100 s since the machine began.
        let begun: f64 = rest
            .split_whitespace()
            .nth(22 - 3)
            .context("a process has a beginning")?
            .parse()?;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let now: f64 = uptime.split_whitespace().next().context("uptime")?.parse()?;
        Ok(now - begun / 100.0)
    }

    pub(crate) fn is_in_pod(&self, uid: &str) -> bool {
        self.cgroup.contains(uid)
    }

    /// Ends it without a word.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-9", &self.pid.to_string()]).status()?;
        ensure!(status.success(), "process {} could not be ended", self.pid);
        Ok(())
    }

    /// Memory that is this process's own plus its share of what is shared, in MiB.
    pub(crate) fn pss_mib(&self) -> f64 {
        self.memory_mib("smaps_rollup", "Pss:")
    }

    /// The most that was ever resident, in MiB.
    pub(crate) fn peak_rss_mib(&self) -> f64 {
        self.memory_mib("status", "VmHWM:")
    }

    fn memory_mib(&self, file: &str, field: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }
}

/// CPU seconds of all replicas of the operator together.
pub(crate) fn operator_cpu(cluster: &str) -> f64 {
    find(cluster, &["cotenant", "operator"])
        .iter()
        .map(Process::cpu_seconds)
        .sum()
}

/// The largest peak and the largest present memory of a replica, in MiB.
pub(crate) fn operator_memory(cluster: &str) -> (f64, f64) {
    let replicas = find(cluster, &["cotenant", "operator"]);
    let most = |of: fn(&Process) -> f64| replicas.iter().map(of).fold(0.0, f64::max);
    (most(Process::peak_rss_mib), most(Process::pss_mib))
}
