use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn store(name: &str, labels: Value, annotations: Value) -> Arc<DataStore> {
    let store = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "DataStore",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"driver": "etcd", "endpoints": [format!("{name}:2379")]},
        "status": {"ready": true},
    });
    Arc::new(serde_json::from_value(store).unwrap())
}

fn pooled(name: &str, limit: Option<u64>) -> Arc<DataStore> {
    let limit = limit.map(|limit| json!({MAX_CONTROL_PLANES: limit.to_string()}));
    store(name, json!({POOL: "default"}), limit.unwrap_or_default())
}

fn tcp(name: &str, in_store: Option<&str>, annotations: Value) -> Arc<TenantControlPlane> {
    let status = in_store.map(|name| json!({"storage": {"dataStoreName": name}}));
    let tcp = json!({
        "apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane",
        "metadata": {"name": name, "namespace": "prod", "uid": name, "annotations": annotations},
        "spec": {"dataStore": in_store, "controlPlane": {"service": {"serviceType": "ClusterIP"}},
            "kubernetes": {"version": "v1.36.3"}},
        "status": status,
    });
    Arc::new(serde_json::from_value(tcp).unwrap())
}

fn around<'a>(stores: &'a [Arc<DataStore>], planes: &'a [Arc<TenantControlPlane>]) -> Around<'a> {
    Around {
        data_stores: stores,
        control_planes: planes,
        default_data_store: None,
    }
}

fn chosen(tcp: &TenantControlPlane, around: &Around<'_>) -> Result<String, String> {
    place(tcp, around).map(|placement| placement.data_store)
}

#[test]
fn without_pools_nothing_is_placed() {
    let stores = [
        store("default", json!({}), json!({})),
        store("other", json!({}), json!({})),
    ];
    assert!(!is_wanted(&tcp("a", None, json!({})), &stores, Some("default")));
    assert!(!is_wanted(&tcp("a", None, json!({})), &stores, None));
}

#[test]
fn the_default_stores_pool_takes_those_that_name_none() {
    let stores = [store("default", json!({POOL: "ssd"}), json!({})), pooled("other", None)];
    let plain = tcp("a", None, json!({}));
    assert!(is_wanted(&plain, &stores, Some("default")));
    assert!(
        is_wanted(&plain, &stores, None),
        "the pool named default, without a default store"
    );
    assert!(!is_wanted(&plain, &stores, Some("nowhere")));
    assert!(!is_wanted(
        &tcp("a", Some("other"), json!({})),
        &stores,
        Some("default")
    ));
    let around = Around {
        default_data_store: Some("default"),
        ..around(&stores, &[])
    };
    assert_eq!(chosen(&plain, &around).unwrap(), "default");
    assert_eq!(
        chosen(&tcp("a", None, json!({POOL: "default"})), &around).unwrap(),
        "other"
    );
}

#[test]
fn the_least_filled_takes_it_and_says_why() {
    let stores = [pooled("a", Some(4)), pooled("b", Some(40)), pooled("c", Some(1))];
    let planes = [
        tcp("one", Some("a"), json!({})),
        tcp("two", Some("b"), json!({})),
        tcp("three", Some("b"), json!({})),
        tcp("four", Some("c"), json!({})),
    ];
    let placement = place(&tcp("new", None, json!({})), &around(&stores, &planes)).unwrap();
    assert_eq!(placement.data_store, "b");
    assert_eq!(
        placement.reason,
        "b of pool default: 2 of 40 control planes, 2 awake, the least of 2 that take it; not c is full (1 of 1 control planes, 1 awake)"
    );
}

#[rstest]
#[case::right(json!({"disk": "nvme"}), "disk=nvme", true)]
#[case::double(json!({"disk": "nvme"}), "disk==nvme", true)]
#[case::wrong(json!({"disk": "hdd"}), "disk=nvme", false)]
#[case::unlike(json!({"disk": "hdd"}), "disk!=nvme, disk", true)]
#[case::there(json!({}), "disk", false)]
#[case::not_there(json!({}), "!disk", true)]
fn labels_narrow_the_choice(#[case] labels: Value, #[case] selector: &str, #[case] fits: bool) {
    let mut labels = labels;
    labels[POOL] = json!("default");
    let stores = [store("a", labels, json!({}))];
    let placed = chosen(&tcp("new", None, json!({SELECTOR: selector})), &around(&stores, &[]));
    assert_eq!(placed.is_ok(), fits, "{placed:?}");
}

#[rstest]
#[case::selector(json!({}), json!({SELECTOR: "a b=c"}), "datastore-selector")]
#[case::limit(json!({MAX_CONTROL_PLANES: "many"}), json!({}), "a has cotenant.dev/max-control-planes: \"many\", which is not a number")]
#[case::negative(json!({MAX_CONTROL_PLANES: "-1"}), json!({}), "which is not a number")]
#[case::size(json!({MAX_SIZE: "1Gi", SIZE: "1073741824"}), json!({}), "a is full (0 control planes, 0 awake, 1073741824 of 1073741824 bytes)")]
#[case::no_room(json!({MAX_CONTROL_PLANES: "0"}), json!({}), "a is full (0 of 0 control planes")]
#[case::no_pool(json!({}), json!({POOL: "nvme"}), "no DataStore is in pool nvme")]
fn what_keeps_it_out_is_said(#[case] of_store: Value, #[case] of_plane: Value, #[case] said: &str) {
    let stores = [store("a", json!({POOL: "default"}), of_store)];
    let error = chosen(&tcp("new", None, of_plane), &around(&stores, &[])).unwrap_err();
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_store_that_is_not_ready_takes_nobody() {
    let mut asleep = pooled("a", None).as_ref().clone();
    asleep.status = None;
    let error = chosen(&tcp("new", None, json!({})), &around(&[Arc::new(asleep)], &[])).unwrap_err();
    assert_eq!(error, "no DataStore of pool default takes it: a is not ready");
}

#[test]
fn messages_have_an_end_however_many_stores_there_are_and_whatever_is_asked() {
    let stores: Vec<_> = (0..1000).map(|at| pooled(&format!("s{at:04}"), None)).collect();
    let endless = "x".repeat(200_000);
    for key in [SELECTOR, POOL] {
        let error = chosen(&tcp("new", None, json!({key: endless})), &around(&stores, &[])).unwrap_err();
        assert!(error.len() < 4096, "{} bytes", error.len());
    }
    let error = chosen(&tcp("new", None, json!({SELECTOR: "disk"})), &around(&stores, &[])).unwrap_err();
    assert!(error.ends_with("s0009 does not match disk, and 990 more"), "{error}");
    let group = json!({ANTI_AFFINITY: endless});
    let planes = [tcp("one", Some("s0000"), group.clone())];
    let error = chosen(&tcp("new", None, group), &around(&stores[..1], &planes)).unwrap_err();
    assert!(error.len() < 4096, "{} bytes", error.len());
}

#[test]
fn members_of_a_group_are_apart() {
    let group = json!({ANTI_AFFINITY: "payments"});
    let stores = [pooled("a", None), pooled("b", None)];
    let planes = [
        tcp("one", Some("a"), group.clone()),
        tcp("other", Some("b"), json!({})),
        tcp("another", Some("b"), json!({})),
    ];
    let new = tcp("new", None, group.clone());
    assert_eq!(chosen(&new, &around(&stores, &planes)).unwrap(), "b");
    let error = chosen(&new, &around(&stores[..1], &planes)).unwrap_err();
    assert!(error.contains("a holds one, also of group payments"), "{error}");
}

#[test]
fn names_that_are_taken_there_keep_it_out() {
    let mut taken = tcp("one", Some("a"), json!({})).as_ref().clone();
    taken.spec.data_store_schema = Some("shop".into());
    let mut new = tcp("new", None, json!({})).as_ref().clone();
    new.spec.data_store_schema = Some("shop".into());
    let (stores, planes) = ([pooled("a", None), pooled("b", None)], [Arc::new(taken)]);
    assert_eq!(chosen(&new, &around(&stores, &planes)).unwrap(), "b");
    let error = chosen(&new, &around(&stores[..1], &planes)).unwrap_err();
    assert!(error.contains("has its names taken (spec.dataStoreSchema)"), "{error}");
}

#[test]
fn a_full_store_is_relieved_and_an_even_pool_is_left_alone() {
    let stores = [
        pooled("a", Some(2)),
        pooled("b", Some(2)),
        store("free", json!({}), json!({})),
    ];
    let planes: Vec<_> = ["one", "three", "two"]
        .map(|name| tcp(name, Some("a"), json!({})))
        .into_iter()
        .collect();
    let moves = rebalance(&around(&stores, &planes));
    let told: Vec<_> = moves
        .iter()
        .map(|step| (step.name.as_str(), step.from.as_str(), step.to.as_str()))
        .collect();
    assert_eq!(told, [("one", "a", "b")]);
    assert_eq!(
        moves[0].reason,
        "a holds 3 of 2 control planes, 3 awake, more than its limits allow; b holds 0 of 2 control planes, 0 awake"
    );
}

#[test]
fn only_data_in_etcd_moves() {
    let driven = |name: &str, driver: &str| {
        let mut store = pooled(name, Some(2)).as_ref().clone();
        store.spec.driver = serde_json::from_value(json!(driver)).unwrap();
        Arc::new(store)
    };
    let planes = ["one", "three", "two"].map(|name| tcp(name, Some("a"), json!({})));
    for (from, to, moved) in [
        ("etcd", "etcd", 1),
        ("PostgreSQL", "PostgreSQL", 0),
        ("etcd", "PostgreSQL", 0),
        ("PostgreSQL", "etcd", 0),
    ] {
        let stores = [driven("a", from), driven("b", to)];
        let moves = rebalance(&around(&stores, &planes));
        assert_eq!(moves.len(), moved, "{from} {to}: {moves:?}");
    }
}

/// Pools of up to four stores with limits or none, and control planes spread over them.
fn pools() -> impl Strategy<Value = (Vec<Arc<DataStore>>, Vec<Arc<TenantControlPlane>>)> {
    let limits = proptest::collection::vec(proptest::option::of(0_u64..6), 1..5);
    let planes = proptest::collection::vec((0_usize..4, any::<bool>(), proptest::option::of(0_u8..3)), 0..14);
    (limits, planes).prop_map(|(limits, planes)| {
        let stores: Vec<_> = limits
            .iter()
            .enumerate()
            .map(|(at, limit)| pooled(&format!("s{at}"), *limit))
            .collect();
        let planes = planes.iter().enumerate().map(|(at, (place, awake, group))| {
            let group = group.map(|group| json!({ANTI_AFFINITY: format!("g{group}")}));
            let place = format!("s{}", place % stores.len());
            let mut plane = tcp(&format!("p{at:02}"), Some(&place), group.unwrap_or_default())
                .as_ref()
                .clone();
            plane.spec.control_plane.deployment.replicas = i32::from(*awake);
            Arc::new(plane)
        });
        let planes = planes.collect();
        (stores, planes)
    })
}

fn after(planes: &[Arc<TenantControlPlane>], moves: &[Move]) -> Vec<Arc<TenantControlPlane>> {
    let mut planes = planes.to_vec();
    for step in moves {
        let plane = planes
            .iter_mut()
            .find(|plane| plane.metadata.name.as_deref() == Some(&step.name))
            .unwrap();
        let mut moved = plane.as_ref().clone();
        moved.spec.data_store = Some(step.to.clone());
        moved.status.as_mut().unwrap().storage.as_mut().unwrap().data_store_name = Some(step.to.clone());
        *plane = Arc::new(moved);
    }
    planes
}

proptest! {
    /// Nobody is placed over a limit or beside a member of his group, and the order of what is known does not matter.
    #[test]
    fn a_choice_keeps_the_limits((stores, planes) in pools(), group in proptest::option::of(0_u8..3)) {
        let new = tcp("new", None, group.map(|group| json!({ANTI_AFFINITY: format!("g{group}")})).unwrap_or_default());
        let chosen = place(&new, &around(&stores, &planes));
        let (mut backwards, mut others) = (stores.clone(), planes.clone());
        backwards.reverse();
        others.reverse();
        let again = place(&new, &around(&backwards, &others)).map(|placement| placement.data_store);
        prop_assert_eq!(chosen.clone().map(|placement| placement.data_store).ok(), again.ok());
        if let Ok(placement) = chosen {
            let load = &loads(&around(&stores, &planes))[&Some(placement.data_store.clone())];
            prop_assert!(load.limit.is_none_or(|limit| load.control_planes < limit));
            let beside = planes.iter().filter(|plane| plane.spec.data_store.as_ref() == Some(&placement.data_store));
            for plane in beside {
                let rival = group.is_some() && annotation(plane, ANTI_AFFINITY) == annotation(&new, ANTI_AFFINITY);
                prop_assert!(!rival);
            }
        }
    }

    /// A larger limit never keeps anybody out.
    #[test]
    fn more_room_takes_more((stores, planes) in pools(), more in 1_u64..5) {
        let new = tcp("new", None, json!({}));
        let wider: Vec<_> = stores
            .iter()
            .map(|store| {
                let limit = Load::of(store).limit.map(|limit| limit + more);
                pooled(store.metadata.name.as_deref().unwrap(), limit)
            })
            .collect();
        if place(&new, &around(&stores, &planes)).is_ok() {
            prop_assert!(place(&new, &around(&wider, &planes)).is_ok());
        }
    }

    /// Moves respect limits, make nothing worse, and once made there is nothing left to move.
    #[test]
    fn rebalancing_ends((stores, planes) in pools()) {
        let moves = rebalance(&around(&stores, &planes));
        let moved = after(&planes, &moves);
        let (before, then) = (loads(&around(&stores, &planes)), loads(&around(&stores, &moved)));
        let excess = |loads: &BTreeMap<Option<String>, Load>| -> u64 {
            loads.values().map(|load| load.limit.map_or(0, |limit| load.control_planes.saturating_sub(limit))).sum()
        };
        prop_assert!(excess(&then) <= excess(&before));
        for (name, load) in &then {
            prop_assert!(!load.over() || load.control_planes <= before[name].control_planes);
        }
        prop_assert_eq!(rebalance(&around(&stores, &moved)), vec![]);
    }
}
