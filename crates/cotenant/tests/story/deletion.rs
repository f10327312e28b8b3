//! prod-team is deleted; everybody else keeps everything.

use std::{process::Command, time::Duration};

use crate::{cluster::Cluster, separation::scratch};

pub(crate) fn deleting_prod_team_frees_its_things_and_nothing_else(cluster: &Cluster) {
    let admin = &cluster.admin;
    // A neighbour with keys of its own in the same store.
    admin.ok("-n default scale tenantcontrolplane neighbour --replicas=1");
    admin.eventually(
        Duration::from_secs(120),
        "-n default get tenantcontrolplane neighbour -o jsonpath={.status.kubernetesResources.version.status}",
        |phase| phase == "Ready",
    );
    let uid = |namespace: &str, name: &str| {
        admin.ok(&format!(
            "-n {namespace} get tenantcontrolplane {name} -o jsonpath={{.metadata.uid}}"
        ))
    };
    let (gone, stays) = (uid("prod-team", "prod-team"), uid("default", "neighbour"));
    // Asleep, so that its keys stand still and can be compared.
    admin.ok("-n default scale tenantcontrolplane neighbour --replicas=0");
    admin.eventually(
        Duration::from_secs(60),
        "-n default get pods -l kamaji.clastix.io/name=neighbour -o name",
        str::is_empty,
    );

    let store = Store::reach(cluster);
    assert!(store.keys(&gone) > 100, "prod-team has keys: {}", store.keys(&gone));
    let before = store.hash(&stays);
    let secrets = "-n default get secrets -l kamaji.clastix.io/name=neighbour -o jsonpath={.items[*].metadata.uid}";
    let secrets_before = admin.ok(secrets);

    admin.ok("-n prod-team delete tenantcontrolplane prod-team --timeout=90s");

    admin.eventually(
        Duration::from_secs(60),
        "-n prod-team get secrets,configmaps,services,deployments,pods,networkpolicies -l kamaji.clastix.io/name=prod-team -o name",
        |left| left.trim().is_empty(),
    );
    assert_eq!(store.keys(&gone), 0, "keys of prod-team are left in the store");
    assert!(!store.etcdctl("user list").contains(&gone), "its user is left");
    assert!(!store.etcdctl("role list").contains(&gone), "its role is left");
    assert_eq!(store.hash(&stays), before, "the neighbour's keys changed");
    assert!(store.etcdctl("user list").contains(&stays));
    assert_eq!(admin.ok(secrets), secrets_before);
    cluster.alice.ok("-n dev-team-web get pods");
}

/// The default DataStore's etcd, as its root, through a forwarded port.
struct Store<'a> {
    cluster: &'a Cluster,
    flags: Vec<String>,
    /// kubectl ends when nobody reads what it says.
    _said: std::io::BufReader<std::process::ChildStdout>,
    _forward: crate::kubectl::Running,
}

impl<'a> Store<'a> {
    fn reach(cluster: &'a Cluster) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut forward = cluster
            .admin
            .background("-n cotenant-system port-forward statefulset/cotenant-etcd :2379");
        let mut line = String::new();
        let mut said = BufReader::new(forward.0.stdout.take().expect("piped"));
        said.read_line(&mut line).expect("kubectl says where it listens");
        let port = line
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .expect("a port")
            .to_owned();
        let mut flags = vec![format!("--endpoints=https://127.0.0.1:{port}")];
        for (flag, key) in [("cacert", "ca.crt"), ("cert", "root.crt"), ("key", "root.key")] {
            let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
            let pem = cluster.admin.ok(&format!(
                "-n cotenant-system get secret cotenant-etcd-certs -o '{template}'"
            ));
            flags.push(format!("--{flag}={}", scratch(cluster, key, &pem).display()));
        }
        Self {
            cluster,
            flags,
            _said: said,
            _forward: forward,
        }
    }

    fn etcdctl(&self, line: &str) -> String {
        let output = Command::new(self.cluster.programs.join("etcdctl"))
            .args(&self.flags)
            .args(line.split(' '))
            .output()
            .expect("etcdctl can be run");
        assert!(
            output.status.success(),
            "etcdctl {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, schema: &str) -> usize {
        self.etcdctl(&format!("get /{schema}/ --prefix --keys-only"))
            .lines()
            .filter(|line| !line.is_empty())
            .count()
    }

    /// All keys and values of one tenant, as one text.
    fn hash(&self, schema: &str) -> String {
        self.etcdctl(&format!("get /{schema}/ --prefix --hex"))
    }
}
