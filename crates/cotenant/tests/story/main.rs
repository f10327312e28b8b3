//! The story, end to end: what `make up` promises, on real nodes, with real packets, while the operator is being killed.
//!
//! One cluster serves all steps, because starting one is the expensive part; the steps run in the order in which the
//! people in it would act. Everything goes through the programs that people use: `cotenant` and `kubectl`.

mod chaos;
mod cluster;
mod control_plane;
mod deletion;
#[path = "../kubectl/mod.rs"]
mod kubectl;
mod namespaces;
mod separation;
mod traffic;
mod walk;

use cluster::Cluster;

#[test]
fn two_teams_share_the_cluster_and_one_has_its_own() {
    let cluster = Cluster::up();
    cluster.table_is_all_ready();
    walk::the_page_is_true(&cluster, "docs/hybrid.md");
    walk::the_page_is_true(&cluster, "docs/clusters.md");

    namespaces::alice_works_within_her_limits(&cluster);
    let chaos = chaos::Chaos::unleash(&cluster);
    namespaces::she_stays_within_them(&cluster);
    traffic::tenants_reach_themselves_and_dns_and_nobody_else(&cluster);
    control_plane::prod_team_uses_its_own_cluster(&cluster);
    separation::credentials_open_only_their_own_door(&cluster);
    separation::a_hosted_api_server_is_no_way_into_the_admin_network(&cluster);
    separation::nobody_takes_prod_teams_place_in_the_store(&cluster);
    control_plane::its_data_survives_a_restart(&cluster);
    let kills = chaos.calm();
    assert!(
        kills > 0,
        "the operator was never killed, so nothing was shown about that"
    );

    walk::the_page_is_true(&cluster, "docs/drills.md");

    deletion::deleting_prod_team_frees_its_things_and_nothing_else(&cluster);
    cluster.down_leaves_nothing();
}
