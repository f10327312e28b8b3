//! The rules with real packets: a bridge and three pods, each in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use local::enforcer::rules::{self, Snapshot};
use serde_json::{Value, json};

/// Network namespaces that go away with the test, also when it fails.
struct Node {
    name: String,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            name: format!("cotpol{}", std::process::id()),
        };
        let n = node.netns("n");
        run(&format!("ip netns add {n}"));
        run(&format!("ip -n {n} link add cni0 type bridge"));
        run(&format!("ip -n {n} addr add 10.244.0.1/24 dev cni0"));
        run(&format!("ip -n {n} link set cni0 up"));
        run(&format!(
            "ip netns exec {n} sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1"
        ));
        for pod in [5, 6, 7] {
            let p = node.netns(&pod.to_string());
            run(&format!("ip netns add {p}"));
            run(&format!("ip -n {n} link add v{pod} type veth peer name eth0 netns {p}"));
            run(&format!("ip -n {n} link set v{pod} master cni0 up"));
            run(&format!("ip -n {p} link set lo up"));
            run(&format!("ip -n {p} addr add 10.244.0.{pod}/24 dev eth0"));
            run(&format!("ip -n {p} link set eth0 up"));
            run(&format!("ip -n {p} route add default via 10.244.0.1"));
        }
        node
    }

    fn netns(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    fn enforce(&self, script: &str) {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.netns("n"), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refused:\n{script}");
    }

    /// Whether `from` reaches `to` (node: 1, pods: 5, 6, 7) on a port where everybody listens.
    fn reaches(&self, from: u8, to: u8) -> bool {
        let netns = if from == 1 {
            self.netns("n")
        } else {
            self.netns(&from.to_string())
        };
        let status = Command::new("ip")
            .args(["netns", "exec", &netns])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "dial", "--ignored", "--nocapture"])
            .env("ENFORCER_DIAL", format!("10.244.0.{to}:8080"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        status.success()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for part in ["n", "5", "6", "7"] {
            let _ = Command::new("ip").args(["netns", "del", &self.netns(part)]).status();
        }
    }
}

/// A listener inside a network namespace, killed with the guard.
struct Listener(std::process::Child);

impl Listener {
    fn start(netns: &str) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", netns])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "listen", "--ignored", "--nocapture"])
            .env("ENFORCER_LISTEN", "0.0.0.0:8080")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = String::new();
        let out = child.stdout.as_mut().unwrap();
        while !seen.contains("listening") {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).unwrap(), 1, "the listener ended early: {seen}");
            seen.push(char::from(byte[0]));
        }
        Self(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    assert!(
        Command::new(words[0]).args(&words[1..]).status().unwrap().success(),
        "{command}"
    );
}

#[test]
#[ignore = "a child of the packet test: accepts connections inside a network namespace"]
fn listen() {
    let Ok(address) = std::env::var("ENFORCER_LISTEN") else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    // The parent holds the other end of standard input: its death ends this process.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    println!("listening");
    for connection in listener.incoming() {
        drop(connection);
    }
}

#[test]
#[ignore = "a child of the packet test: opens one connection inside a network namespace"]
fn dial() {
    let Ok(address) = std::env::var("ENFORCER_DIAL") else {
        return;
    };
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_millis(700)).unwrap();
}

fn snapshot(policies: &[Value]) -> Snapshot {
    let pod = |namespace: &str, address: u8| {
        json!({"metadata": {"namespace": namespace, "name": format!("p{address}")},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.244.0.{address}")}]}})
    };
    let namespace =
        |name: &str, tenant: &str| json!({"metadata": {"name": name, "labels": {"capsule.clastix.io/tenant": tenant}}});
    Snapshot {
        namespaces: [("oil-one", "oil"), ("oil-two", "oil"), ("gas-one", "gas")]
            .map(|(name, tenant)| Arc::new(serde_json::from_value(namespace(name, tenant)).unwrap()))
            .to_vec(),
        pods: [("oil-one", 5), ("gas-one", 6), ("oil-two", 7)]
            .map(|(namespace, address)| Arc::new(serde_json::from_value(pod(namespace, address)).unwrap()))
            .to_vec(),
        policies: policies
            .iter()
            .map(|policy| Arc::new(serde_json::from_value(policy.clone()).unwrap()))
            .collect(),
    }
}

#[test]
fn packets_follow_the_policies() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return;
    }
    let node = Node::new();
    let _listeners = ["n", "5", "6", "7"].map(|part| Listener::start(&node.netns(part)));

    node.enforce(&rules::render(&snapshot(&[])));
    assert!(node.reaches(6, 5), "without a policy everybody reaches everybody");

    let tenant_only = json!({
        "metadata": {"namespace": "oil-one", "name": "capsule-oil-0"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {"capsule.clastix.io/tenant": "oil"}}}],
            "ports": [{"port": "web", "protocol": "TCP"}]
        }]}
    });
    node.enforce(&rules::render(&snapshot(std::slice::from_ref(&tenant_only))));
    assert!(!node.reaches(6, 5), "another tenant is kept out");
    assert!(node.reaches(7, 5), "the same tenant comes in");
    assert!(
        node.reaches(5, 6),
        "the way out is open, and so is the way back of its answers"
    );
    assert!(node.reaches(1, 5), "the node reaches its pods, or probes would fail");

    let no_way_out = json!({
        "metadata": {"namespace": "oil-two", "name": "egress"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.1/32", "10.244.0.6/32"]}}],
            "ports": [{"port": 8000, "endPort": 9000, "protocol": "TCP"}]
        }]}
    });
    node.enforce(&rules::render(&snapshot(&[tenant_only, no_way_out])));
    assert!(node.reaches(7, 5), "both sides allow it");
    assert!(!node.reaches(7, 6), "an exception is not reached");
    assert!(!node.reaches(7, 1), "nor is the node itself");
    assert!(node.reaches(6, 1), "a pod without an egress policy reaches the node");

    node.enforce(&rules::remove());
    assert!(node.reaches(7, 6), "nothing remains when the table is gone");
}
