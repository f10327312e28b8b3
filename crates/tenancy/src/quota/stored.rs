//! Ledgers as they are stored in QuantityLedger objects.
//!
//! A ledger of a GlobalResourceQuota says what is used. One of a custom quota says only what is allocated and reserved;
//! what is used is the difference.

use api::capsule::v1beta2::{
    LedgerObject, PendingDelete as StoredPendingDelete, QuantityLedgerStatus, Reservation as StoredReservation,
    ResourceQuotaLedger, ResourceReservation,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity as Wire, apis::meta::v1::Time};

use super::{
    amounts::{Amounts, InvalidAmount, amount},
    global::Account,
    ledger::{Ledger, PendingDelete, Reservation, TTL},
    places::{self, Places},
};
use crate::quantity::Quantity;

/// The name of the one amount that a custom quota is about.
pub const TOTAL: &str = "total";

/// An amount of a custom quota.
pub fn total(amount: Quantity) -> Amounts {
    Amounts::from_iter([(TOTAL.to_owned(), amount)])
}

/// The ledger of a custom quota. What was never counted has no use in it.
///
/// # Errors
/// If an amount in it cannot be read.
pub fn custom_ledger(status: &QuantityLedgerStatus) -> Result<Ledger, InvalidAmount> {
    let read = |field: &str, wire: &Wire| amount(|| format!("status.{field}"), wire);
    let mut ledger = Ledger {
        used: Amounts::default(),
        reservations: Vec::with_capacity(status.reservations.len()),
        pending_deletes: pending_deletes(status),
    };
    for stored in &status.reservations {
        let delta = stored.delta.as_ref().unwrap_or(&stored.usage);
        ledger.reservations.push(Reservation {
            id: stored.id.clone(),
            object: stored.object_ref.clone(),
            usage: total(read("reservations[].usage", &stored.usage)?),
            delta: total(read("reservations[].delta", delta)?),
            created_at: stored.created_at.0,
            updated_at: stored.updated_at.0,
            expires_at: end(stored.expires_at.as_ref(), &stored.created_at),
        });
    }
    if let Some(allocated) = &status.allocated {
        ledger.used = total(read("allocated", allocated)?).minus(&ledger.reserved());
    }
    Ok(ledger)
}

/// The status of a custom quota's ledger.
#[must_use]
pub fn custom_status(ledger: &Ledger, before: &QuantityLedgerStatus) -> QuantityLedgerStatus {
    let stored = |reservation: &Reservation| StoredReservation {
        id: reservation.id.clone(),
        usage: reservation.usage.get(TOTAL).to_wire(),
        delta: Some(reservation.delta.get(TOTAL).to_wire()),
        object_ref: reservation.object.clone(),
        created_at: Time(reservation.created_at),
        updated_at: Time(reservation.updated_at),
        expires_at: Some(Time(reservation.expires_at)),
    };
    let was_counted = ledger.used.names(TOTAL);
    QuantityLedgerStatus {
        reserved: Some(ledger.reserved().get(TOTAL).to_wire()),
        allocated: was_counted.then(|| ledger.allocated().get(TOTAL).to_wire()),
        reservations: ledger.reservations.iter().map(stored).collect(),
        pending_deletes: stored_pending_deletes(ledger),
        ..before.clone()
    }
}

/// The places that a tenant's namespaces take. What is allocated and is no number of places was not counted yet.
#[must_use]
pub fn places(status: &QuantityLedgerStatus) -> Places {
    let taken = status.allocated.as_ref().and_then(|taken| {
        let whole = Quantity::parse(taken).ok()?.whole()?;
        usize::try_from(whole).ok()
    });
    let read = |stored: &StoredReservation| places::Promise {
        id: stored.id.clone(),
        namespace: stored.object_ref.name.clone(),
        uid: stored.object_ref.uid.clone(),
        made_at: stored.created_at.0,
        ends_at: stored.expires_at.as_ref().map_or(Timestamp::MAX, |end| end.0),
    };
    Places {
        taken,
        promises: status.reservations.iter().map(read).collect(),
    }
}

/// The status of the ledger of a tenant's namespaces.
#[must_use]
pub fn places_status(places: &Places, before: &QuantityLedgerStatus) -> QuantityLedgerStatus {
    let stored = |promise: &places::Promise| StoredReservation {
        id: promise.id.clone(),
        usage: Quantity::ONE.to_wire(),
        delta: None,
        object_ref: LedgerObject {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            name: promise.namespace.clone(),
            uid: promise.uid.clone(),
            ..LedgerObject::default()
        },
        created_at: Time(promise.made_at),
        updated_at: Time(promise.made_at),
        expires_at: Some(Time(promise.ends_at)),
    };
    QuantityLedgerStatus {
        reserved: Some(Quantity::count(places.promises.len()).to_wire()),
        allocated: places.taken.map(|taken| Quantity::count(taken).to_wire()),
        reservations: places.promises.iter().map(stored).collect(),
        ..before.clone()
    }
}

/// The account of a GlobalResourceQuota.
///
/// # Errors
/// If an amount in it cannot be read.
pub fn global_account(status: &QuantityLedgerStatus) -> Result<Account, InvalidAmount> {
    let Some(stored) = &status.resource_quota else {
        return Ok(Account::default());
    };
    let reservations = stored.reservations.iter().map(|stored| {
        let usage = Amounts::parse("status.resourceQuota.reservations[].usage", Some(&stored.usage))?;
        let delta = Amounts::parse("status.resourceQuota.reservations[].delta", Some(&stored.delta))?;
        Ok(Reservation {
            id: stored.id.clone(),
            object: stored.object_ref.clone(),
            usage,
            delta,
            created_at: stored.created_at.0,
            updated_at: stored.updated_at.0,
            expires_at: end(stored.expires_at.as_ref(), &stored.created_at),
        })
    });
    Ok(Account {
        observed_generation: stored.observed_generation.unwrap_or_default(),
        initialized: stored.initialized,
        namespaces: stored.namespaces.iter().cloned().collect(),
        ledger: Ledger {
            used: Amounts::parse("status.resourceQuota.used", Some(&stored.used))?,
            reservations: reservations.collect::<Result<_, InvalidAmount>>()?,
            pending_deletes: pending_deletes(status),
        },
    })
}

/// The status of a GlobalResourceQuota's ledger.
#[must_use]
pub fn global_status(account: &Account, before: &QuantityLedgerStatus) -> QuantityLedgerStatus {
    let ledger = &account.ledger;
    let stored = |reservation: &Reservation| ResourceReservation {
        id: reservation.id.clone(),
        usage: reservation.usage.to_wire(),
        delta: reservation.delta.to_wire(),
        object_ref: reservation.object.clone(),
        created_at: Time(reservation.created_at),
        updated_at: Time(reservation.updated_at),
        expires_at: Some(Time(reservation.expires_at)),
    };
    QuantityLedgerStatus {
        pending_deletes: stored_pending_deletes(ledger),
        resource_quota: Some(ResourceQuotaLedger {
            observed_generation: Some(account.observed_generation),
            initialized: account.initialized,
            namespaces: account.namespaces.iter().cloned().collect(),
            used: ledger.used.to_wire(),
            reserved: ledger.reserved().to_wire(),
            allocated: ledger.allocated().to_wire(),
            reservations: ledger.reservations.iter().map(stored).collect(),
        }),
        ..before.clone()
    }
}

/// A reservation without an end has the usual one.
fn end(expires_at: Option<&Time>, created_at: &Time) -> Timestamp {
    let usual = || created_at.0.checked_add(TTL).unwrap_or(Timestamp::MAX);
    expires_at.map_or_else(usual, |time| time.0)
}

fn pending_deletes(status: &QuantityLedgerStatus) -> Vec<PendingDelete> {
    let read = |stored: &StoredPendingDelete| PendingDelete {
        id: stored.id.clone(),
        object: stored.object_ref.clone(),
        created_at: stored.created_at.0,
    };
    status.pending_deletes.iter().map(read).collect()
}

fn stored_pending_deletes(ledger: &Ledger) -> Vec<StoredPendingDelete> {
    let store = |pending: &PendingDelete| StoredPendingDelete {
        id: pending.id.clone(),
        object_ref: pending.object.clone(),
        created_at: Time(pending.created_at),
    };
    ledger.pending_deletes.iter().map(store).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::quota::amounts::tests::amounts;

    fn ledger(used: &str, delta: &str) -> Ledger {
        let now = Timestamp::from_second(1_000).unwrap();
        let object = LedgerObject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: "oil".to_owned(),
            name: "p".to_owned(),
            uid: "uid".to_owned(),
            ..LedgerObject::default()
        };
        let reservation = Reservation {
            id: "review/q".to_owned(),
            object: object.clone(),
            usage: amounts(delta),
            delta: amounts(delta),
            created_at: now,
            updated_at: now,
            expires_at: now + TTL,
        };
        Ledger {
            used: amounts(used),
            reservations: vec![reservation],
            pending_deletes: vec![PendingDelete {
                id: "other/q".to_owned(),
                object,
                created_at: now,
            }],
        }
    }

    #[test]
    fn ledgers_are_read_as_they_were_written() {
        let custom = ledger("total=3", "total=2");
        let status = custom_status(&custom, &QuantityLedgerStatus::default());
        assert_eq!(custom_ledger(&status).unwrap(), custom);
        let account = Account {
            observed_generation: 7,
            initialized: true,
            namespaces: ["a".to_owned(), "b".to_owned()].into(),
            ledger: ledger("cpu=0 pods=3", "pods=2 cpu=1"),
        };
        let status = global_status(&account, &status);
        assert_eq!(global_account(&status).unwrap(), account);
    }

    #[test]
    fn places_are_read_as_they_were_written() {
        let now = Timestamp::from_second(1_000).unwrap();
        let places = Places {
            taken: Some(12),
            promises: vec![places::Promise {
                id: "review".to_owned(),
                namespace: "oil-web".to_owned(),
                uid: "uid".to_owned(),
                made_at: now,
                ends_at: now + places::TTL,
            }],
        };
        let status = places_status(&places, &QuantityLedgerStatus::default());
        assert_eq!(super::places(&status), places);
        assert_eq!(super::places(&QuantityLedgerStatus::default()), Places::default());
    }

    #[test]
    fn a_status_has_the_fields_that_the_kind_names() {
        let status = custom_status(&ledger("total=3", "total=2"), &QuantityLedgerStatus::default());
        let object = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "oil", "name": "p", "uid": "uid"});
        let made = "1970-01-01T00:16:40Z";
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({
                "reserved": "2",
                "allocated": "5",
                "reservations": [{
                    "id": "review/q", "usage": "2", "delta": "2", "objectRef": object,
                    "createdAt": made, "updatedAt": made, "expiresAt": "1970-01-01T00:18:40Z",
                }],
                "pendingDeletes": [{"id": "other/q", "objectRef": object, "createdAt": made}],
            })
        );
    }

    #[test]
    fn a_ledger_that_was_never_counted_says_so_and_rubbish_is_an_error() {
        let never = custom_ledger(&QuantityLedgerStatus::default()).unwrap();
        assert_eq!(never, Ledger::default());
        assert_eq!(custom_status(&never, &QuantityLedgerStatus::default()).allocated, None);
        let odd = QuantityLedgerStatus {
            allocated: Some(Wire("odd".to_owned())),
            ..QuantityLedgerStatus::default()
        };
        assert!(
            custom_ledger(&odd)
                .unwrap_err()
                .to_string()
                .starts_with("status.allocated: \"odd\"")
        );
    }
}
