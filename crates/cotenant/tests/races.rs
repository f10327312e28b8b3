//! Limits hold and nothing is lost while clients race and an operator is killed: two operators as processes, before a real API
//! server. `cargo xtask soak` is the long form.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use races::{Bed, Race, Size};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_no_limit_is_passed_and_nothing_is_lost() {
    let size = Size {
        clients: 12,
        namespaces: 5,
        load: Duration::from_secs(10),
        kills: 1,
        drain: false,
    };
    let mut bed = Bed::start(Path::new(env!("CARGO_BIN_EXE_cotenant"))).await.unwrap();
    let outcomes = races::run(&mut bed, &Race::ALL, &size, &|said| eprintln!("{said}"))
        .await
        .unwrap();
    let told: Vec<String> = outcomes.iter().map(|outcome| format!("{outcome:?}")).collect();
    let violations: Vec<String> = outcomes.iter().filter_map(races::Outcome::violation).collect();
    assert_eq!(violations, [""; 0], "\n{}", told.join("\n"));
}
