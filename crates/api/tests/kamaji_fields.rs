//! The kinds of hosted control planes have the fields that their users know.

mod facts;

use api::{
    kamaji::v1alpha1::{DataStore, KubeconfigGenerator, TenantControlPlane},
    schema::crd,
};
use facts::{Difference, assert_same};

const FACTS: &str = include_str!("../facts/kamaji.tsv");

const SPEC_REQUIRED: Difference = Difference {
    path: "spec",
    what: "required",
    reason: "an object without a spec asks for nothing",
};

#[test]
fn a_tenant_control_plane_has_the_known_fields() {
    let optional = "manifests of many years have none; the defaults are those of a kubelet block that says nothing";
    let port_status = "Kubernetes itself leaves the error of a load balancer's port out when there is none";
    let differences = [
        SPEC_REQUIRED,
        Difference {
            path: "spec.kubernetes.kubelet",
            what: "required",
            reason: optional,
        },
        Difference {
            path: "spec.kubernetes.kubelet",
            what: "default",
            reason: optional,
        },
        Difference {
            path: "spec.networkProfile",
            what: "default",
            reason: "a manifest without the block is accepted, with the block's own defaults",
        },
        Difference {
            path: "spec.controlPlane.deployment",
            what: "default",
            reason: "autoscalers and `kubectl scale` read the number of replicas, so it is there also without the block",
        },
        Difference {
            path: "status.addons.konnectivity.service.loadBalancer.ingress[].ports[].error",
            what: "required",
            reason: port_status,
        },
        Difference {
            path: "status.kubernetesResources.service.loadBalancer.ingress[].ports[].error",
            what: "required",
            reason: port_status,
        },
        Difference {
            path: "status.kubernetesResources.ingress.loadBalancer.ingress[].ports[].error",
            what: "required",
            reason: port_status,
        },
        Difference {
            path: "status.conditions*",
            what: "extra",
            reason: "people and GitOps tools wait on conditions; nothing else is added to the peer's kinds",
        },
    ];
    assert_same(&crd::<TenantControlPlane>(), FACTS, &differences);
}

#[test]
fn a_data_store_has_the_known_fields() {
    assert_same(&crd::<DataStore>(), FACTS, &[SPEC_REQUIRED]);
}

#[test]
fn a_kubeconfig_generator_has_the_known_fields() {
    assert_same(&crd::<KubeconfigGenerator>(), FACTS, &[SPEC_REQUIRED]);
}

#[test]
fn the_definition_fits_into_an_etcd_value_with_room_for_its_field_managers() {
    let size = serde_json::to_vec(&crd::<TenantControlPlane>()).unwrap().len();
    assert!(size < 600_000, "{size} bytes");
}
