//! What a guard promises: its program's end is told as it was, signals reach it, and nothing of it is left.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use local::process::{Process, Spec};

fn shell(directory: &Path, script: &str) -> Process {
    Process::start(
        Spec::new("a shell", "/bin/sh", directory.join("log"))
            .args(["-c", script])
            .directory(directory),
    )
    .unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes of the machine whose working directory is this one.
fn inside(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().join("cwd")))
        .filter(|cwd| std::fs::read_link(cwd).is_ok_and(|target| target == directory))
        .collect()
}

#[test]
fn an_end_is_told_with_its_status_and_last_words() {
    let directory = tempfile::tempdir().unwrap();
    shell(directory.path(), "exit 0").success().unwrap();
    let error = shell(directory.path(), "echo the disk is full >&2; exit 3")
        .success()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exit status: 3") && error.contains("the disk is full"),
        "{error}"
    );
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let spec = Spec::new("etcd", "/nonexistent/etcd", "/nonexistent/log");
    let error = Process::start(spec).unwrap_err().to_string();
    assert!(error.contains("etcd in /nonexistent"), "{error}");
}

#[test]
fn a_program_may_end_well_when_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let mut process = shell(
        directory.path(),
        "trap 'echo bye > mark; exit 0' TERM; echo up > mark; while :; do sleep 0.01; done",
    );
    until("the program to be up", || mark.exists());
    process.stop(Duration::from_secs(30));
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "bye\n");
}

#[test]
fn nothing_escapes_from_a_guard_neither_a_daemon_nor_who_ignores_signals() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let mut process = shell(
        directory.path(),
        "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; (touch ready; exec sleep 1000) &' & while :; do sleep 0.1; done",
    );
    until("the daemon to run", || ready.exists());
    assert!(inside(directory.path()).len() >= 3);
    process.check().unwrap();
    drop(process);
    assert_eq!(inside(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_program_that_is_held_still_dies_with_its_guard() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = shell(
        directory.path(),
        "echo > ready; while :; do echo x >> beat; sleep 0.01; done",
    );
    until("the program to beat", || directory.path().join("beat").exists());
    process.signal("STOP");
    let beats = || std::fs::metadata(directory.path().join("beat")).unwrap().len();
    until("it to stand still", || {
        let before = beats();
        std::thread::sleep(Duration::from_millis(100));
        before == beats()
    });
    drop(process);
    assert_eq!(inside(directory.path()), Vec::<PathBuf>::new());
}
