//! The images hold everything that their programs need: each program is run inside its unpacked image.

#![allow(clippy::unwrap_used, reason = "a test's own functions are tests too")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use local::progress::Lines;

fn unpack(image: &local::image::Image, into: &Path) -> PathBuf {
    let root = into.join(image.reference().replace('/', "_"));
    let archive = root.with_extension("tar");
    image.write(&archive).unwrap();
    std::fs::create_dir(&root).unwrap();
    for entry in tar::Archive::new(File::open(&archive).unwrap()).entries().unwrap() {
        let entry = entry.unwrap();
        if entry
            .path()
            .unwrap()
            .extension()
            .is_some_and(|extension| extension == "tar")
        {
            tar::Archive::new(entry).unpack(&root).unwrap();
        }
    }
    std::fs::remove_file(archive).unwrap();
    root
}

fn run_inside(root: &Path, command: &[&str]) -> String {
    let output = Command::new("chroot")
        .arg(root)
        .args(command)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{command:?} in {}: {}\n{said}",
        root.display(),
        output.status
    );
    said
}

#[test]
fn programs_run_inside_their_images() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test enters images with chroot, which needs root"
    );
    let programs = local::programs::locate().unwrap();
    let directory = tempfile::tempdir().unwrap();
    // Any program that is linked dynamically does for ours; this test's own is made by the same compiler.
    let own = std::env::current_exe().unwrap();
    let table: &[(&str, &[&str], &str)] = &[
        ("kube-proxy", &["kube-proxy", "--version"], "Kubernetes v1.36"),
        ("kube-proxy", &["nft", "--version"], "nftables v"),
        ("kube-proxy", &["iptables", "--version"], "(nf_tables)"),
        ("kube-proxy", &["ip6tables-restore", "--version"], "(nf_tables)"),
        // Loads an extension.
        (
            "kube-proxy",
            &["iptables", "-m", "conntrack", "--help"],
            "conntrack match options",
        ),
        (
            "kube-proxy",
            &["iptables", "-j", "MASQUERADE", "--help"],
            "MASQUERADE target options",
        ),
        ("kube-proxy", &["conntrack", "--version"], "conntrack v"),
        ("kube-proxy", &["ip", "-V"], "iproute2"),
        ("etcd", &["etcd", "--version"], "etcd Version: 3.6"),
        ("etcd", &["etcdctl", "version"], "etcdctl version: 3.6"),
        ("kube-apiserver", &["kube-apiserver", "--version"], "Kubernetes v1.36"),
        ("kube-scheduler", &["kube-scheduler", "--version"], "Kubernetes v1.36"),
        (
            "kube-controller-manager",
            &["kube-controller-manager", "--version"],
            "Kubernetes v1.36",
        ),
        ("coredns/coredns", &["/coredns", "-version"], "CoreDNS-1."),
        ("pause", &["/pause", "-v"], "pause.c v3.10.1"),
        ("rancher/kine", &["/bin/kine", "--version"], "kine version v0."),
        (
            "kas-network-proxy/proxy-server",
            &["/proxy-server", "--help"],
            "--uds-name",
        ),
        (
            "kas-network-proxy/proxy-agent",
            &["/proxy-agent", "--help"],
            "--proxy-server-host",
        ),
        (
            "rancher/kine",
            &[
                "sh",
                "-c",
                "cp /etc/passwd /tmp/ && chmod 600 /tmp/passwd && echo copied",
            ],
            "copied",
        ),
        (
            "library/busybox",
            &["sh", "-c", "echo hello | sed s/hello/there/"],
            "there",
        ),
        ("library/busybox", &["sh", "-c", "type wget nc nslookup httpd"], "httpd"),
        (
            "cotenant/cotenant",
            &["/usr/local/bin/cotenant", "--list"],
            "programs_run_inside_their_images: test",
        ),
    ];
    for image in local::images::standard(&programs, &own, "test").unwrap() {
        let reference = image.reference();
        let rows: Vec<_> = table
            .iter()
            .filter(|(name, ..)| reference.contains(&format!("/{name}:")))
            .collect();
        assert!(!rows.is_empty(), "{reference} is not tried");
        let root = unpack(&image, directory.path());
        for (_, command, expected) in rows {
            let said = run_inside(&root, command);
            assert!(said.contains(expected), "{command:?} in {reference} says {said:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}

#[test]
fn a_set_of_images_is_written_once() {
    let programs = local::programs::locate().unwrap();
    let images = local::images::upstream(&programs).unwrap();
    let first = local::images::ensure(&images, &Lines).unwrap();
    assert_eq!(local::images::ensure(&images, &Lines).unwrap(), first);
    let archives = std::fs::read_dir(&first.directory).unwrap().count();
    assert_eq!((archives, first.references.len()), (11, 11));
    for reference in ["registry.k8s.io/pause:3.10.1", "docker.io/library/busybox:1.36"] {
        assert!(
            first.references.iter().any(|r| r == reference),
            "{reference} is not in {:?}",
            first.references
        );
    }
}
