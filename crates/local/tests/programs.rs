//! The programs are there, built from `tools/`, and say which versions they are.

use std::process::Command;

#[test]
fn programs_are_built_once_and_report_the_versions_of_their_modules() {
    let programs = local::programs::locate().unwrap();
    programs.check().unwrap();
    assert_eq!(local::programs::locate().unwrap(), programs);

    let go_mod = include_str!("../../../tools/kubernetes-1.36/go.mod");
    let version = programs.kubernetes_version().unwrap();
    assert!(go_mod.contains(&format!("\tk8s.io/kubernetes {version} ")), "{version}");
    assert!(include_str!("../../../tools/etcd/go.mod").contains(&format!("v{} ", programs.etcd_version().unwrap())));
    assert!(
        include_str!("../../../tools/coredns/go.mod").contains(&format!("v{} ", programs.coredns_version().unwrap()))
    );
    assert!(
        include_str!("../../../tools/kine/go.mod").contains(&format!("kine {} ", programs.kine_version().unwrap()))
    );

    let said = Command::new(programs.path("kubectl"))
        .args(["version", "--client", "-o", "json"])
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let said = &said["clientVersion"];
    assert_eq!(said["gitVersion"], *version);
    assert_eq!((&said["major"], &said["minor"]), (&"1".into(), &"36".into()));
    assert_eq!(said["gitTreeState"], "archive");
    assert_eq!(said["gitCommit"].as_str().unwrap().len(), 64);
    assert!(said["buildDate"].as_str().unwrap().starts_with("202"), "{said}");
}
