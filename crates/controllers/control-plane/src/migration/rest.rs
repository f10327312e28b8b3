//! When writes may be held up.
//!
//! A controller manager that is refused a write while its controllers begin ends, and until it runs again its pod is not ready:
//! where there is one pod, nobody is served. Its Lease in the tenant says since when it leads. Later a refused write is
//! tried again, as any other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client};

/// How long it is waited for at most: there may be no such Lease, and another clock may have written it.
pub(super) const AT_MOST: Duration = Duration::from_secs(45);
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The whole answer: a tenant's server may take as long as it likes for one.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long controllers take to begin, on a node that has much to do.
const BEGUN_WITHIN: SignedDuration = SignedDuration::from_secs(20);

/// Whether the tenant's controllers begin, or are about to.
pub(super) async fn is_beginning(tenant: &Client) -> bool {
    let leases: Api<Lease> = Api::namespaced(tenant.clone(), "kube-system");
    let lease = leases.get_opt("kube-controller-manager");
    match tokio::time::timeout(ANSWER_WITHIN, lease).await {
        Ok(Ok(lease)) => begins(lease.and_then(|lease| lease.spec).as_ref(), Timestamp::now()),
        // Waiting would not make it better.
        Ok(Err(_)) | Err(_) => false,
    }
}

fn begins(lease: Option<&LeaseSpec>, now: Timestamp) -> bool {
    let Some(lease) = lease else { return true };
    let since = |time: Option<Timestamp>| time.map(|time| now.duration_since(time));
    let acquired = since(lease.acquire_time.as_ref().map(|time| time.0));
    let renewed = since(lease.renew_time.as_ref().map(|time| time.0));
    let lasts = SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or_default().into());
    acquired.is_none_or(|age| age < BEGUN_WITHIN) || renewed.is_none_or(|age| age > lasts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn controllers_begin_when_nobody_leads_and_for_a_while_after() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let lease = |acquired: &str, renewed: &str| {
            json!({"leaseDurationSeconds": 15, "acquireTime": format!("2026-11-22T{acquired}.000000Z"),
                "renewTime": format!("2026-11-22T{renewed}.000000Z")})
        };
        let rows: [(&str, Option<Value>, bool); 6] = [
            ("nobody has led yet", None, true),
            ("nobody has acquired it", Some(json!({})), true),
            ("has led for an hour", Some(lease("11:00:00", "11:59:58")), false),
            ("has begun to", Some(lease("11:59:50", "11:59:58")), true),
            (
                "is gone, and nobody has followed",
                Some(lease("11:00:00", "11:59:40")),
                true,
            ),
            ("another clock", Some(lease("12:03:00", "12:03:02")), true),
        ];
        for (name, lease, expected) in rows {
            let lease: Option<LeaseSpec> = lease.map(|lease| serde_json::from_value(lease).unwrap());
            assert_eq!(begins(lease.as_ref(), now), expected, "{name}");
        }
    }
}
