//! Replicas of the operator, killed with SIGKILL at random moments, one at a time.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::cluster::Cluster;

pub(crate) struct Chaos {
    calm: Arc<AtomicBool>,
    kills: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Chaos {
    pub(crate) fn unleash(cluster: &Cluster) -> Self {
        let calm = Arc::new(AtomicBool::new(false));
        let kills = Arc::new(AtomicU32::new(0));
        let name = cluster.name.clone();
        let thread = std::thread::spawn({
            let (calm, kills) = (Arc::clone(&calm), Arc::clone(&kills));
            move || {
                let mut random = u64::from(std::process::id());
                while !calm.load(Ordering::Relaxed) {
                    // A linear congruential generator: the moments need to be scattered, not secret.
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    std::thread::sleep(Duration::from_millis(6_000 + (random >> 33) % 9_000));
                    let operators = operators(&name);
                    // With one left, the other is still being restarted, and both gone is another test's matter.
                    if operators.len() < 2 {
                        continue;
                    }
                    let victim = operators[usize::try_from(random >> 40).unwrap_or(0) % operators.len()];
                    if std::process::Command::new("kill")
                        .args(["-KILL", &victim.to_string()])
                        .status()
                        .is_ok_and(|s| s.success())
                    {
                        kills.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Self { calm, kills, thread }
    }

    /// Stops it; how many it killed.
    pub(crate) fn calm(self) -> u32 {
        self.calm.store(true, Ordering::Relaxed);
        self.thread.join().expect("chaos does not panic");
        self.kills.load(Ordering::Relaxed)
    }
}

/// Process ids of the operator's replicas in this cluster's nodes, as this machine counts them.
fn operators(cluster: &str) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let command = read("cmdline");
            let words: Vec<&str> = command.split('\0').collect();
            words.first().is_some_and(|program| program.ends_with("cotenant"))
                && words.get(1) == Some(&"operator")
                && read("cgroup").contains(cluster)
        })
        .collect()
}
