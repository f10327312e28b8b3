//! What a move leaves in both stores, so that whoever comes next knows how far it came.
//!
//! The store that is left has the word: once it says [`Step::Switched`] the data is in the other one, before that it is here,
//! whatever anything else says. The store that is moved to says the same with a delay, and where the data came from, for
//! the time when the first is empty. Objects of the API server say nothing that is believed: whoever may write a status may
//! write anything there.

use serde::{Deserialize, Serialize};
use tenancy::control_plane::storage::OWN_PREFIX;

use super::error::Error;
use crate::datastore::error::StoreError;
use crate::datastore::moves::Order;
use crate::datastore::store::Store;

/// Which of the two entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In the store that is left.
    Leaving,
    /// In the store that is moved to.
    Arriving,
}

/// How far a move came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The data is in the first store, and is written there or will be again.
    Copying,
    /// The data is in the second store. Nothing may be written to either until all pods use the second.
    Switched,
    /// The second store is written to; what is left in the first is to be removed.
    Cleaning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Name of the other DataStore.
    pub(crate) other: String,
    pub(crate) step: Step,
    /// Tells one attempt from another, and with it two names of one store from two stores.
    pub(crate) attempt: String,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Arriving => "arriving",
        }
    }
}

fn key(owner: &str, end: End) -> String {
    format!("/{OWN_PREFIX}/migrations/{owner}/{}", end.word())
}

/// An open store, as far as records need it.
pub(super) struct Book<'a> {
    pub(super) name: &'a str,
    pub(super) store: &'a mut Store,
    pub(super) owner: &'a str,
}

impl Book<'_> {
    pub(super) async fn read(&mut self, end: End) -> Result<Option<Record>, Error> {
        let found = match &mut *self.store {
            Store::Etcd(store) => {
                let found = store.client().get(key(self.owner, end), None).await;
                let found = found.map_err(|source| self.failed("read the record of a move", source))?;
                found.kvs().first().map(|entry| entry.value().to_vec())
            }
            store => {
                let order = Order::Read {
                    owner: self.owner,
                    place: end.word(),
                };
                store
                    .on_moves(order)
                    .await
                    .map_err(self.refused())?
                    .map(String::into_bytes)
            }
        };
        let record = found.map(|found| serde_json::from_slice(&found)).transpose();
        record.map_err(|source| Error::Record(self.name.to_owned(), source))
    }

    pub(super) async fn write(&mut self, end: End, record: &Record) -> Result<(), Error> {
        let value = serde_json::to_string(record).map_err(|source| Error::Record(self.name.to_owned(), source))?;
        match &mut *self.store {
            Store::Etcd(store) => {
                let written = store.client().put(key(self.owner, end), value, None).await;
                written.map(drop).map_err(|source| self.failed("record a move", source))
            }
            store => {
                let order = Order::Write {
                    owner: self.owner,
                    place: end.word(),
                    record: &value,
                };
                store.on_moves(order).await.map(drop).map_err(self.refused())
            }
        }
    }

    pub(super) async fn remove(&mut self, end: End) -> Result<(), Error> {
        match &mut *self.store {
            Store::Etcd(store) => {
                let removed = store.client().delete(key(self.owner, end), None).await;
                removed
                    .map(drop)
                    .map_err(|source| self.failed("remove the record of a move", source))
            }
            store => {
                let order = Order::Remove {
                    owner: self.owner,
                    place: end.word(),
                };
                store.on_moves(order).await.map(drop).map_err(self.refused())
            }
        }
    }

    fn failed(&self, step: &'static str, source: etcd_client::Error) -> Error {
        Error::Step {
            step,
            store: self.name.to_owned(),
            source: source.into(),
        }
    }

    fn refused(&self) -> impl FnOnce(StoreError) -> Error + use<> {
        let store = self.name.to_owned();
        |source| Error::Store { store, source }
    }
}
