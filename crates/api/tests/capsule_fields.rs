//! The kinds of namespace tenants have the fields that their users know.

mod facts;

use std::collections::BTreeSet;

use api::{
    capsule::{
        v1beta1,
        v1beta2::{
            CapsuleConfiguration, CustomQuota, GlobalCustomQuota, GlobalResourceQuota, GlobalTenantResource,
            QuantityLedger, ResourcePool, ResourcePoolClaim, RuleStatus, Tenant, TenantOwner, TenantResource,
        },
    },
    schema::crd,
};
use facts::{Difference, assert_same};

const FACTS: &str = include_str!("../facts/capsule.tsv");

#[test]
fn a_tenant_has_the_known_fields() {
    let reason = "a manifest without a spec is accepted, and stored with an empty one that every reader can decode";
    let differences = [
        Difference {
            path: "spec",
            what: "required",
            reason,
        },
        Difference {
            path: "spec",
            what: "default",
            reason,
        },
    ];
    assert_same(&crd::<Tenant>(), FACTS, &differences);
}

#[test]
fn a_configuration_has_the_known_fields() {
    let reason = "the marker only says aloud what a list without it is anyway";
    let differences = [
        Difference {
            path: "spec.admission.mutating.webhooks[].rules[].*",
            what: "list-type",
            reason,
        },
        Difference {
            path: "spec.admission.validating.webhooks[].rules[].*",
            what: "list-type",
            reason,
        },
    ];
    assert_same(&crd::<CapsuleConfiguration>(), FACTS, &differences);
}

#[test]
fn a_tenant_owner_has_the_known_fields() {
    assert_same(&crd::<TenantOwner>(), FACTS, &[]);
}

#[test]
fn an_older_tenant_has_the_known_fields() {
    assert_same(&crd::<v1beta1::Tenant>(), FACTS, &[]);
}

#[test]
fn replications_have_the_known_fields() {
    assert_same(&crd::<TenantResource>(), FACTS, &[]);
    assert_same(&crd::<GlobalTenantResource>(), FACTS, &[]);
}

#[test]
fn resource_pools_and_their_claims_have_the_known_fields() {
    assert_same(&crd::<ResourcePool>(), FACTS, &[]);
    assert_same(&crd::<ResourcePoolClaim>(), FACTS, &[]);
}

#[test]
fn custom_quotas_have_the_known_fields() {
    assert_same(&crd::<CustomQuota>(), FACTS, &[]);
    assert_same(&crd::<GlobalCustomQuota>(), FACTS, &[]);
}

#[test]
fn a_global_resource_quota_has_the_known_fields() {
    assert_same(&crd::<GlobalResourceQuota>(), FACTS, &[]);
}

#[test]
fn a_ledger_has_the_known_fields() {
    let differences = [Difference {
        path: "spec",
        what: "required",
        reason: "a ledger of no quota says nothing",
    }];
    assert_same(&crd::<QuantityLedger>(), FACTS, &differences);
}

#[test]
fn a_rule_status_has_the_known_fields() {
    let reason = "a manifest without a spec is accepted, and stored with an empty one that every reader can decode";
    let differences = [
        Difference {
            path: "spec",
            what: "required",
            reason,
        },
        Difference {
            path: "spec",
            what: "default",
            reason,
        },
    ];
    assert_same(&crd::<RuleStatus>(), FACTS, &differences);
}

/// Every kind that the table knows is compared above.
#[test]
fn every_known_kind_has_a_type() {
    let known: BTreeSet<_> = FACTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.next()?))
        })
        .collect();
    let ours = [
        crd::<CapsuleConfiguration>(),
        crd::<CustomQuota>(),
        crd::<GlobalCustomQuota>(),
        crd::<GlobalResourceQuota>(),
        crd::<GlobalTenantResource>(),
        crd::<QuantityLedger>(),
        crd::<ResourcePool>(),
        crd::<ResourcePoolClaim>(),
        crd::<RuleStatus>(),
        crd::<v1beta1::Tenant>(),
        crd::<Tenant>(),
        crd::<TenantOwner>(),
        crd::<TenantResource>(),
    ];
    let ours: BTreeSet<_> = ours
        .iter()
        .map(|crd| (crd.spec.names.kind.as_str(), crd.spec.versions[0].name.as_str()))
        .collect();
    assert_eq!(ours, known);
}

/// A watch that cannot decode one object shows none of them.
#[test]
fn what_an_older_version_stored_can_still_be_read() {
    let tenant: Tenant = serde_json::from_value(serde_json::json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "Tenant",
        "metadata": {"name": "oil"},
        "spec": {"owners": [{"kind": "User", "name": "olga", "proxySettings": [{"kind": "Nodes", "operations": ["List"]}]}]},
        "status": {"size": 1, "state": "Active", "namespaces": ["oil-one"], "spaces": [{"name": "oil-one"}]},
    }))
    .unwrap();
    assert_eq!(
        tenant.spec.owners[0].core.cluster_roles,
        ["admin", "capsule-namespace-deleter"]
    );
    let status = tenant.status.unwrap();
    assert!(status.conditions.is_empty());
    assert_eq!(status.spaces[0].name, "oil-one");
}

#[test]
fn a_configuration_that_says_little_is_filled_with_the_known_defaults() {
    let configuration: CapsuleConfiguration = serde_json::from_value(serde_json::json!({
        "apiVersion": "capsule.clastix.io/v1beta2",
        "kind": "CapsuleConfiguration",
        "metadata": {"name": "default"},
        "spec": {"users": [{"kind": "Group", "name": "projectcapsule.dev"}], "rbac": {"deleter": "remover"}},
    }))
    .unwrap();
    assert_eq!(configuration.spec.rbac.deleter, "remover");
    assert_eq!(configuration.spec.rbac.provisioner, "capsule-namespace-provisioner");
    assert_eq!(configuration.spec.overrides.tls_secret_name, "capsule-tls");
    assert_eq!(configuration.spec.cache_invalidation, "24h");
    assert_eq!(configuration.spec.events.namespace, "default");
}
