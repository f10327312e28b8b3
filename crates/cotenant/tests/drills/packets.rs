//! Who reaches whom, tried with packets.
//!
//! What the pods of a control plane reach is decided by the operator's NetworkPolicy. What a tenant's machines reach is decided by
//! the network that they stand in, which is the platform's: the machines of this bed hang on one bridge with the admin node, and
//! nothing stands between them until the test puts it there, as `docs/compatibility.md` says it should be. Whatever is kept
//! out is dropped, so that attempts time out.

use std::{fs, net::Ipv4Addr, process::Command, time::Instant};

use local::{cluster, node::Handle, registry};

use crate::{
    bed::{BUSYBOX, Bed, Tenant},
    hosting::{PATIENCE, filter_packets},
};

const KUBELET: u16 = 10250;

/// Addresses and ports.
struct Places {
    admin: Vec<String>,
    /// The etcd of the default DataStore, in which all have accounts.
    store: Vec<String>,
    neighbour: Vec<String>,
}

impl Places {
    fn of(bed: &Bed) -> Self {
        let node = bed.hosting.cluster().address();
        let store = service(bed, "kamaji-system", "kamaji-etcd");
        let mut admin = vec![format!("{node}:{KUBELET}"), store[1].replace(":2379", ":2381")];
        admin.extend(service(bed, "default", "kubernetes"));
        admin.extend(service(bed, "kamaji-system", "kamaji-webhook-service"));
        let mut neighbour = vec![format!("{node}:{}", bed.gas.port)];
        neighbour.extend(service(bed, "default", bed.gas.name));
        Self {
            admin,
            store: store.into(),
            neighbour,
        }
    }
}

/// The place of a Service, and that of what is behind it.
fn service(bed: &Bed, namespace: &str, name: &str) -> [String; 2] {
    let get = format!("-n {namespace} get");
    [
        format!("{get} service {name} -o jsonpath={{.spec.clusterIP}}:{{.spec.ports[0].port}}"),
        format!(
            "{get} endpointslices -l kubernetes.io/service-name={name} \
             -o jsonpath={{.items[0].endpoints[0].addresses[0]}}:{{.items[0].ports[0].port}}"
        ),
    ]
    .map(|line| bed.admin().ok(&line))
}

pub(crate) fn pods_of_tenants_reach_their_own_cluster_alone(bed: &Bed) {
    let (oil, gas) = (&bed.oil, &bed.gas);
    let person = &oil.administrator;
    person.ok(&format!("run probe --image={BUSYBOX} -- sleep 36000"));
    person.ok("wait --for=condition=Ready pod/probe --timeout=300s");
    let pod = |targets: &[&String]| {
        let targets = targets
            .iter()
            .map(|target| target.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        person.ok(&format!("exec probe -- sh -c '{TRY}' try {targets}"))
    };
    let places = Places::of(bed);
    let gas_worker = format!("{}:{KUBELET}", gas.worker.address());
    let mut others: Vec<&String> = [&places.admin, &places.store, &places.neighbour]
        .into_iter()
        .flatten()
        .collect();
    others.push(&gas_worker);
    // Who is root on a machine sends packets wherever they like.
    for network in [cluster::POD_SUBNET, cluster::SERVICE_SUBNET] {
        let mut ip = oil.worker.handle().command("ip").unwrap();
        let via = bed.hosting.cluster().address().to_string();
        let status = ip.args(["route", "replace", network, "via", &via]).status();
        assert!(status.unwrap().success());
    }
    // All of it is there and answers, as long as nothing stands in between.
    all_answer("a tenant's pod in a flat network", &others, &pod);

    // This one listens on its own node alone.
    let etcd = format!("{}:2379", bed.hosting.cluster().address());
    others.push(&etcd);
    the_platform_keeps_machines_apart(bed);
    none_answers("a tenant's pod", &others, &pod);

    let own = [
        "kubernetes.default:443",
        "kube-dns.kube-system:53",
        "kubernetes.default.svc.cluster.local:443",
    ];
    all_answer("a tenant's pod", &own.map(str::to_owned).each_ref(), &pod);
    person.eventually(
        PATIENCE,
        "exec probe -- nslookup kubernetes.default.svc.cluster.local",
        |said| said.contains("10.116.0.1"),
    );
    // The other direction stays open.
    person.eventually(PATIENCE, "logs probe", |_| true);
    assert_eq!(person.ok("exec probe -- cat /etc/hostname").trim(), "probe");
    only_tenants_pods_are_on(oil);
}

/// Nothing of the admin cluster runs there: what there is, the tenant's own API server has made or keeps for kubelet.
fn only_tenants_pods_are_on(tenant: &Tenant) {
    let pods = tenant
        .administrator
        .ok("get pods -A -o jsonpath={.items[*].metadata.uid}");
    let running = pods_with_processes(tenant.worker.handle());
    assert!(!running.is_empty());
    for uid in running {
        assert!(pods.contains(&uid), "a pod {uid} that the tenant does not know");
    }
}

pub(crate) fn pods_of_control_planes_reach_their_store_and_their_workers_alone(bed: &Bed) {
    let oil = &bed.oil;
    let places = Places::of(bed);
    let process = process_of(bed, oil);
    let pod = |targets: &[&String]| {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &process, "busybox", "sh", "-c", TRY, "try"]);
        run(command.args(targets))
    };
    let own_worker = format!("{}:{KUBELET}", oil.worker.address());
    let dns = format!("{}:53", cluster::CLUSTER_DNS);
    let mut allowed: Vec<&String> = places.store.iter().collect();
    allowed.extend([&own_worker, &dns]);
    all_answer("a control plane's pod", &allowed, &pod);

    let kept_out: Vec<&String> = places.admin.iter().chain(&places.neighbour).collect();
    none_answers("a control plane's pod", &kept_out, &pod);
    // The lawful twin: the node itself, which no policy is about.
    let node = |targets: &[&String]| {
        let mut command = bed.hosting.cluster().admin().command("busybox").unwrap();
        command.args(["sh", "-c", TRY, "try"]);
        run(command.args(targets))
    };
    all_answer("the admin node", &kept_out, &node);
}

/// What docs/compatibility.md asks of the network between tenants' machines and the admin cluster: each calls the address and port
/// of its own control plane, and here the registry, and no other machine.
fn the_platform_keeps_machines_apart(bed: &Bed) {
    let admin = bed.hosting.cluster();
    let tenants = [&bed.oil, &bed.gas];
    let doors = tenants.map(|tenant| {
        format!(
            "ip saddr {} ct original ip daddr {} meta l4proto tcp ct original proto-dst {{ {}, {} }} accept\n",
            tenant.worker.address(),
            admin.address(),
            tenant.port,
            registry::PORT,
        )
    });
    filter(
        admin.admin(),
        &doors.concat(),
        &tenants.map(|tenant| tenant.worker.address()),
    );
    for tenant in tenants {
        let others: Vec<Ipv4Addr> = tenants
            .iter()
            .map(|other| other.worker.address())
            .filter(|address| *address != tenant.worker.address())
            .collect();
        filter(tenant.worker.handle(), "", &others);
    }
}

/// Drops what comes from these addresses, but answers and what is accepted.
fn filter(handle: &Handle, accepted: &str, from: &[Ipv4Addr]) {
    let from = from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let rules = format!(
        "table inet platform {{\n\
         chain doors {{\n ct state established,related accept\n {accepted} ip saddr {{ {from} }} drop\n}}\n\
         chain node {{\n type filter hook input priority -10; policy accept;\n jump doors\n}}\n\
         chain pods {{\n type filter hook forward priority -10; policy accept;\n jump doors\n}}\n}}\n"
    );
    filter_packets(handle, &rules);
}

/// Tries all targets at once, and says of each whether it could connect.
const TRY: &str = r#"for target in "$@"; do (
    said=$(busybox nc -w 5 "${target%:*}" "${target##*:}" -e /bin/true 2>&1) && said=connected
    echo "$target $said"
) & done; wait"#;

/// What was said of each target, which has to be said of all.
fn answers<'a>(said: &'a str, targets: &[&String]) -> Vec<&'a str> {
    let answers: Vec<&str> = said.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(answers.len(), targets.len(), "{said}");
    answers
}

/// Tries again until all do: a machine that is busy answers late.
fn all_answer(who: &str, targets: &[&String], attempt: &dyn Fn(&[&String]) -> String) {
    let begun = Instant::now();
    loop {
        let said = attempt(targets);
        if answers(&said, targets).iter().all(|answer| *answer == "connected") {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{who} does not reach all:\n{said}");
    }
}

fn none_answers(who: &str, targets: &[&String], attempt: &dyn Fn(&[&String]) -> String) {
    let said = attempt(targets);
    let dropped = answers(&said, targets)
        .iter()
        .all(|answer| answer.ends_with("timed out"));
    assert!(dropped, "{who} is answered:\n{said}");
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A process of the control plane's first pod, as this machine counts them.
fn process_of(bed: &Bed, tenant: &Tenant) -> String {
    let line = format!("get pods {} -o jsonpath={{.items[0].metadata.uid}}", tenant.pods());
    let uid = bed.admin().ok(&line);
    let name = bed.hosting.cluster().name();
    let (process, _) = processes()
        .into_iter()
        .find(|(_, cgroup)| cgroup.contains(name) && cgroup.contains(&uid))
        .unwrap_or_else(|| panic!("no process of the pod {uid}"));
    process
}

/// UIDs of pods that have processes on a node.
fn pods_with_processes(handle: &Handle) -> Vec<String> {
    let node = handle.node();
    let of_node = |cgroup: &&String| cgroup.contains(&node.cluster) && cgroup.contains(&node.name);
    let all = processes();
    let mut uids: Vec<String> = all
        .iter()
        .map(|(_, cgroup)| cgroup)
        .filter(of_node)
        .filter_map(|cgroup| {
            let (_, rest) = cgroup.split_once("/pod")?;
            rest.get(..36).map(str::to_owned)
        })
        .collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

/// Processes of this machine with their cgroups, as in `/proc/PID/cgroup`.
fn processes() -> Vec<(String, String)> {
    let listed = fs::read_dir("/proc").unwrap();
    listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok())
        .filter_map(|pid| {
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            Some((pid, cgroup))
        })
        .collect()
}
