//! Drills on real nodes, in one cluster with two tenants, each with a worker: a roll without a failed request, packets that do
//! not arrive, the loss of a node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bed;
#[path = "../hosting/mod.rs"]
mod hosting;
#[allow(dead_code, reason = "other tests say more")]
#[path = "../kubectl/mod.rs"]
mod kubectl;
mod loss;
mod packets;
mod roll;
#[path = "../../../xtask/src/soak/traffic.rs"]
mod traffic;

use bed::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tenants_notice_no_roll_reach_nobody_else_and_outlive_a_node() {
    let bed = Bed::start().await;
    roll::no_request_fails_while_pods_are_replaced(&bed).await;
    packets::pods_of_tenants_reach_their_own_cluster_alone(&bed);
    packets::pods_of_control_planes_reach_their_store_and_their_workers_alone(&bed);
    loss::a_control_plane_outlives_a_node(&bed).await;
}
