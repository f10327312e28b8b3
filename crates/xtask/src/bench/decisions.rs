//! Decisions by themselves, without a cluster: the benches of `tenancy` and `webhooks`, a line each.

use std::{path::Path, process::Command};

use anyhow::ensure;
use serde_json::{Value, json};

use super::bed;

const PACKAGES: [&str; 2] = ["tenancy", "webhooks"];

pub(crate) fn run(repository: &Path) -> anyhow::Result<()> {
    let (commit, machine) = (bed::commit(repository)?, bed::machine()?);
    for package in PACKAGES {
        let output = Command::new(env!("CARGO"))
            .args(["bench", "--locked", "--quiet", "--package", package, "--bench", "*"])
            .args(["--", "--color", "never"])
            .current_dir(repository)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for figures in read(&String::from_utf8(output.stdout)?) {
            println!(
                "{}",
                json!({"bench": "decisions", "figures": figures, "commit": commit, "machine": machine})
            );
        }
    }
    Ok(())
}

/// Reads the tree that divan prints: a row for each case, and below it what was allocated, if that is counted.
fn read(printed: &str) -> Vec<Value> {
    let mut path: Vec<&str> = Vec::new();
    let (mut figures, mut allocated): (Vec<Value>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut is_allocated = false;
    for line in printed.lines() {
        let rest = line.trim_start_matches(['│', '├', '╰', '─', ' ']);
        let columns: Vec<&str> = rest.split('│').map(str::trim).collect();
        let [first, _, median, ..] = columns[..] else { continue };
        let indent = line.chars().count() - rest.chars().count();
        let is_row = columns.len() > 4 && (indent == 0 || line[..line.len() - rest.len()].ends_with("─ "));
        if is_row {
            let (name, fastest) = first.split_once(' ').unwrap_or((first, ""));
            path.truncate(indent / 3);
            path.push(name);
            is_allocated = false;
            if let (Some(median), Some(fastest)) = (nanoseconds(median), nanoseconds(fastest)) {
                figures.push(json!({"case": path.join("/"), "median_ns": median, "fastest_ns": fastest}));
            }
        } else if first.ends_with(':') {
            is_allocated = first == "alloc:";
            allocated.clear();
        } else if is_allocated && let Some(row) = figures.last_mut() {
            // The number of times, then bytes.
            allocated.extend(quantity(median));
            if let [times, bytes] = allocated[..] {
                row["allocations"] = json!(times);
                row["allocated_bytes"] = json!(bytes);
                is_allocated = false;
            }
        }
    }
    figures
}

fn nanoseconds(text: &str) -> Option<f64> {
    let (amount, unit) = text.trim().split_once(' ')?;
    let scale = match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(amount.parse::<f64>().ok()? * scale)
}

/// A number, or bytes.
fn quantity(text: &str) -> Option<f64> {
    let (amount, unit) = text.split_once(' ').unwrap_or((text, "B"));
    let scale = match unit {
        "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        _ => return None,
    };
    Some(amount.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_tree() {
        let printed = "\
Timer precision: 20 ns
reviews            fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ answer                        │               │               │               │         │
│  ├─ Pod          18.2 µs       │ 41 µs         │ 19.5 µs       │ 20.1 µs       │ 100     │ 100
│  │               max alloc:    │               │               │               │         │
│  │                 61          │ 61            │ 61            │ 61            │         │
│  │                 9.1 KB      │ 9.1 KB        │ 9.1 KB        │ 9.1 KB        │         │
│  │               alloc:        │               │               │               │         │
│  │                 140         │ 140           │ 141           │ 140           │         │
│  │                 12.5 KB     │ 12.5 KB       │ 12.5 KB       │ 12.5 KB       │         │
│  ╰─ Service      987.4 ns      │ 41 µs         │ 1.002 µs      │ 20.1 µs       │ 100     │ 100
╰─ once            1.5 ms        │ 2 ms          │ 1.75 ms       │ 1.8 ms        │ 100     │ 100

";
        assert_eq!(
            read(printed),
            [
                json!({"case": "reviews/answer/Pod", "median_ns": 19_500.0, "fastest_ns": 18_200.0,
                    "allocations": 141.0, "allocated_bytes": 12_500.0}),
                json!({"case": "reviews/answer/Service", "median_ns": 1_002.0, "fastest_ns": 987.4}),
                json!({"case": "reviews/once", "median_ns": 1_750_000.0, "fastest_ns": 1_500_000.0}),
            ]
        );
    }
}
