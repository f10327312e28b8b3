#![expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]

use super::*;
use serde_json::{Value, json};

fn pod(namespace: &str, labels: Value, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": format!("p-{address}"), "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]}
    })
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}})
}

fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

fn snapshot(namespaces: Vec<Value>, pods: Vec<Value>, policies: Vec<Value>) -> Snapshot {
    fn all<T: serde::de::DeserializeOwned>(values: Vec<Value>) -> Vec<Arc<T>> {
        values
            .into_iter()
            .map(|value| Arc::new(serde_json::from_value(value).unwrap()))
            .collect()
    }
    Snapshot {
        namespaces: all(namespaces),
        pods: all(pods),
        policies: all(policies),
    }
}

/// The lines of one chain, without indentation.
fn chain<'a>(script: &'a str, name: &str) -> Vec<&'a str> {
    script
        .lines()
        .skip_while(|line| *line != format!("\tchain {name} {{"))
        .skip(1)
        .take_while(|line| *line != "\t}")
        .map(str::trim)
        .collect()
}

#[test]
fn an_empty_cluster_gets_a_table_that_lets_everything_pass() {
    let expected = "table inet cotenant-policy
delete table inet cotenant-policy
table inet cotenant-policy {
\tset egress_4 {
\t\ttype ipv4_addr
\t}
\tset egress_6 {
\t\ttype ipv6_addr
\t}
\tset ingress_4 {
\t\ttype ipv4_addr
\t}
\tset ingress_6 {
\t\ttype ipv6_addr
\t}
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tct state established,related accept
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
\t\tgoto leaving
\t}
\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tct state established,related accept
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
\t\tgoto leaving
\t}
\tchain leaving {
\t\tip saddr @egress_4 goto egress
\t\tip6 saddr @egress_6 goto egress
\t\tgoto arriving
\t}
\tchain egress {
\t\tdrop
\t}
\tchain arriving {
\t\tip daddr @ingress_4 goto ingress
\t\tip6 daddr @ingress_6 goto ingress
\t}
\tchain ingress {
\t\tdrop
\t}
}
";
    assert_eq!(render(&Snapshot::default()), expected);
}

#[test]
fn same_tenant_may_enter_and_others_meet_the_drop() {
    let script = render(&snapshot(
        vec![
            namespace("oil-one", json!({"capsule.clastix.io/tenant": "oil"})),
            namespace("oil-two", json!({"capsule.clastix.io/tenant": "oil"})),
            namespace("gas-one", json!({"capsule.clastix.io/tenant": "gas"})),
        ],
        vec![
            pod("oil-one", json!({}), "10.244.0.5"),
            pod("oil-two", json!({}), "10.244.0.7"),
            pod("gas-one", json!({}), "10.244.0.6"),
        ],
        vec![policy(
            "oil-one",
            "capsule-oil-0",
            json!({
                "podSelector": {}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [
                    {"namespaceSelector": {"matchLabels": {"capsule.clastix.io/tenant": "oil"}}},
                    {"podSelector": {}}
                ]}]
            }),
        )],
    ));
    assert!(script.contains("\tset ingress_4 {\n\t\ttype ipv4_addr\n\t\telements = { 10.244.0.5 }\n\t}"));
    assert_eq!(
        chain(&script, "ingress"),
        [
            "ip saddr . ip daddr { 10.244.0.5 . 10.244.0.5 } accept",
            "ip daddr { 10.244.0.5 } ip saddr { 10.244.0.5, 10.244.0.7 } accept comment \"oil-one/capsule-oil-0\"",
            "drop"
        ]
    );
    assert_eq!(chain(&script, "egress"), ["drop"]);
}

#[test]
fn rules_say_ports_blocks_and_names() {
    struct Row {
        name: &'static str,
        spec: Value,
        chain: &'static str,
        rules: &'static [&'static str],
    }
    let rows = [
        Row {
            name: "default deny in both directions",
            spec: json!({"policyTypes": ["Ingress", "Egress"]}),
            chain: "egress",
            rules: &[],
        },
        Row {
            name: "egress to everybody on one port and one range",
            spec: json!({"policyTypes": ["Egress"], "egress": [{"ports": [
                {"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53},
                {"protocol": "TCP", "port": 8000, "endPort": 9000}, {"protocol": "TCP", "port": 8500}
            ]}]}),
            chain: "egress",
            rules: &[
                "ip saddr { 10.0.0.1 } tcp dport { 53, 8000-9000 } goto arriving comment \"a/p\"",
                "ip saddr { 10.0.0.1 } udp dport { 53 } goto arriving comment \"a/p\"",
            ],
        },
        Row {
            name: "a block without its exceptions",
            spec: json!({"policyTypes": ["Egress"], "egress": [{"to": [
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.96.0.0/12", "10.0.0.0/24"]}}
            ]}]}),
            chain: "egress",
            rules: &[
                "ip saddr { 10.0.0.1 } ip daddr { 10.0.1.0-10.95.255.255, 10.112.0.0-10.255.255.255 } goto arriving comment \"a/p\"",
            ],
        },
        Row {
            name: "an exception does not take what another peer allows",
            spec: json!({"policyTypes": ["Ingress"], "ingress": [{"from": [
                {"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.2/32"]}},
                {"podSelector": {"matchLabels": {"app": "b"}}}
            ]}]}),
            chain: "ingress",
            rules: &["ip daddr { 10.0.0.1 } ip saddr { 10.0.0.0-10.0.0.3 } accept comment \"a/p\""],
        },
        Row {
            name: "a named port is that of the pod being called",
            spec: json!({"policyTypes": ["Ingress"], "ingress": [
                {"ports": [{"port": "web", "protocol": "TCP"}]}
            ]}),
            chain: "ingress",
            rules: &["ip daddr { 10.0.0.1 } ip daddr . tcp dport { 10.0.0.1 . 8080 } accept comment \"a/p\""],
        },
        Row {
            name: "a port name that nobody has allows nothing",
            spec: json!({"policyTypes": ["Ingress"], "ingress": [
                {"ports": [{"port": "metrics", "protocol": "TCP"}]}
            ]}),
            chain: "ingress",
            rules: &[],
        },
        Row {
            name: "a peer that selects nobody allows nobody",
            spec: json!({"policyTypes": ["Ingress"], "ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"team": "nobody"}}}
            ]}]}),
            chain: "ingress",
            rules: &[],
        },
        Row {
            name: "a protocol without a port is the whole protocol",
            spec: json!({"policyTypes": ["Ingress"], "ingress": [{"ports": [{"protocol": "SCTP"}]}]}),
            chain: "ingress",
            rules: &["ip daddr { 10.0.0.1 } meta l4proto sctp accept comment \"a/p\""],
        },
    ];
    for row in rows {
        let mut spec = row.spec;
        spec["podSelector"] = json!({"matchLabels": {"app": "a"}});
        let script = render(&snapshot(
            vec![namespace("a", json!({}))],
            vec![
                pod("a", json!({"app": "a"}), "10.0.0.1"),
                pod("a", json!({"app": "b"}), "10.0.0.2"),
            ],
            vec![policy("a", "p", spec)],
        ));
        let rules: Vec<&str> = chain(&script, row.chain)
            .into_iter()
            .filter(|rule| rule.contains("comment"))
            .collect();
        assert_eq!(rules, row.rules, "{}", row.name);
        assert_eq!(chain(&script, row.chain).last(), Some(&"drop"), "{}", row.name);
    }
}

#[test]
fn pods_of_the_node_network_and_ended_pods_are_not_subject() {
    let mut on_node = pod("a", json!({}), "192.168.1.1");
    on_node["spec"]["hostNetwork"] = json!(true);
    let mut ended = pod("a", json!({}), "10.0.0.3");
    ended["status"]["phase"] = json!("Succeeded");
    let script = render(&snapshot(
        vec![],
        vec![on_node, ended],
        vec![policy(
            "a",
            "deny",
            json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        )],
    ));
    assert!(!script.contains("elements"), "{script}");
}

#[test]
fn both_families_get_their_rules() {
    let mut dual = pod("a", json!({}), "10.0.0.1");
    dual["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
    let script = render(&snapshot(
        vec![],
        vec![dual],
        vec![policy(
            "a",
            "six",
            json!({"podSelector": {}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "fd00:1::/64"}}]}]}),
        )],
    ));
    assert!(script.contains("\tset egress_6 {\n\t\ttype ipv6_addr\n\t\telements = { fd00::1 }\n\t}"));
    let rules: Vec<&str> = chain(&script, "egress")
        .into_iter()
        .filter(|rule| rule.contains("comment"))
        .collect();
    assert_eq!(
        rules,
        ["ip6 saddr { fd00::1 } ip6 daddr { fd00:1::-fd00:1::ffff:ffff:ffff:ffff } goto arriving comment \"a/six\""]
    );
}

#[test]
fn the_order_of_objects_does_not_change_the_script() {
    let pods = vec![pod("a", json!({}), "10.0.0.1"), pod("a", json!({}), "10.0.0.2")];
    let policies = vec![
        policy(
            "a",
            "x",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
        ),
        policy(
            "a",
            "y",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
        ),
    ];
    let reversed = |list: &[Value]| list.iter().rev().cloned().collect::<Vec<_>>();
    let straight = render(&snapshot(vec![], pods.clone(), policies.clone()));
    let backward = render(&snapshot(vec![], reversed(&pods), reversed(&policies)));
    assert_eq!(straight, backward);
}
