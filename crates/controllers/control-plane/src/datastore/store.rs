//! The stores that a DataStore may name, and what the rest of the operator asks of any of them.
//!
//! The account of a control plane is the same thing everywhere: a place for its data and a user that reaches this place and
//! no other. How each store calls them, and how it is kept from mixing them up, stands in its own file.
//!
//! | driver | place (`schema`) | user logs in with | file |
//! |---|---|---|---|
//! | etcd | key prefix `/<schema>/` | a certificate of its own | [`super::etcd`] |
//! | PostgreSQL | database `<schema>` | password, and the DataStore's client certificate if it has one | [`super::postgres`] |
//! | MySQL | database `<schema>` | the same | [`super::mysql`] |
//! | NATS | bucket `<schema>`, the store's only one | the DataStore's own password | [`super::nats`] |
//!
//! Pods get this from: `DB_CONNECTION_STRING`, the first of `spec.endpoints`, empty with etcd; `DB_SCHEMA` and `DB_USER`, the
//! [`Claim`]; `DB_PASSWORD`, made once with the Secret `<control plane>-datastore-config` and told to the store by
//! [`Store::set_password`] after that Secret was written; certificates by [`super::pod_access::PodTls`].

use super::claim::{Claim, Held, Unrecorded};
use super::error::StoreError;
use super::etcd::{EtcdStore, StoreConfig};
use super::moves::Order;
use super::mysql::MySqlStore;
use super::nats::{NatsLogin, NatsStore};
use super::postgres::PostgresStore;
use super::sql::SqlLogin;

/// Where a store is, and as whom to administrate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Etcd(StoreConfig),
    Postgres(SqlLogin),
    MySql(SqlLogin),
    Nats(NatsLogin),
}

/// An open connection, as the store's administrator.
///
/// What databases are asked is boxed: a future is as large as the largest that it waits for, and those who ask wait for many.
#[derive(Debug)]
pub enum Store {
    Etcd(Box<EtcdStore>),
    Postgres(Box<PostgresStore>),
    MySql(MySqlStore),
    Nats(NatsStore),
}

impl Store {
    /// Connects and makes sure that this is a store that keeps control planes apart and lets us see to it.
    pub async fn connect(login: &Login) -> Result<Self, StoreError> {
        Ok(match login {
            Login::Etcd(config) => Self::Etcd(Box::new(EtcdStore::connect(config).await?)),
            Login::Postgres(login) => Self::Postgres(Box::new(Box::pin(PostgresStore::connect(login)).await?)),
            Login::MySql(login) => Self::MySql(Box::pin(MySqlStore::connect(login)).await?),
            Login::Nats(login) => Self::Nats(NatsStore::connect(login).await?),
        })
    }

    /// Makes the user, the place for its data and its right to it, as far as they are not there. Can be repeated.
    pub async fn ensure(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        match self {
            Self::Etcd(store) => store.ensure(claim, unrecorded).await,
            Self::Postgres(store) => Box::pin(store.ensure(claim, unrecorded)).await,
            Self::MySql(store) => Box::pin(store.ensure(claim, unrecorded)).await,
            Self::Nats(store) => store.ensure(claim, unrecorded).await,
        }
    }

    /// Makes the user's password this one, if the store does not let it in with it. Nothing to do where users have none.
    /// Gives whether the store was changed.
    pub async fn set_password(&mut self, claim: &Claim, password: &str) -> Result<bool, StoreError> {
        match self {
            Self::Etcd(_) | Self::Nats(_) => Ok(false),
            Self::Postgres(store) => Box::pin(store.set_password(claim, password)).await,
            Self::MySql(store) => Box::pin(store.set_password(claim, password)).await,
        }
    }

    /// Whether what exists under these names belongs to whoever has this password, or was `certified` as the user: the user
    /// gets in with it and has a right to the place, or there is neither. Nothing else in a store says what was made for
    /// whom.
    pub async fn proves(&mut self, claim: &Claim, password: &str, certified: bool) -> Result<bool, StoreError> {
        match self {
            Self::Etcd(store) => store.proves(claim, certified).await,
            Self::Nats(store) => store.proves(claim, password).await,
            Self::Postgres(store) => Box::pin(store.proves(claim, password)).await,
            Self::MySql(store) => Box::pin(store.proves(claim, password)).await,
        }
    }

    /// Takes the rights away, then the data and the user. What is not there is no fault; what is on record as another's is
    /// left alone. Can be repeated.
    pub async fn remove(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        match self {
            Self::Etcd(store) => store.remove(claim, unrecorded).await,
            Self::Postgres(store) => Box::pin(store.remove(claim, unrecorded)).await,
            Self::MySql(store) => Box::pin(store.remove(claim, unrecorded)).await,
            Self::Nats(store) => store.remove(claim, unrecorded).await,
        }
    }

    /// Whether there is anything under these names, whoever has made it.
    pub async fn has(&mut self, claim: &Claim) -> Result<bool, StoreError> {
        match self {
            Self::Etcd(store) => store.has(claim).await,
            Self::Postgres(store) => Box::pin(store.has(claim)).await,
            Self::MySql(store) => Box::pin(store.has(claim)).await,
            Self::Nats(store) => store.has_bucket(&claim.schema).await,
        }
    }

    /// See [`super::moves`]. Nothing is on record where records of moves are kept elsewhere.
    pub(crate) async fn on_moves(&mut self, order: Order<'_>) -> Result<Option<String>, StoreError> {
        match self {
            Self::Etcd(_) => Ok(None),
            Self::Postgres(store) => Box::pin(store.on_moves(order)).await,
            Self::MySql(store) => Box::pin(store.on_moves(order)).await,
            Self::Nats(store) => store.on_moves(order).await,
        }
    }

    /// What is on record as this owner's. `named` is looked up also where older records are kept by name alone.
    pub async fn held(&mut self, owner: &str, named: Option<(&str, &str)>) -> Result<Held, StoreError> {
        match self {
            Self::Etcd(store) => store.held(owner, named).await,
            Self::Postgres(store) => Box::pin(store.held(owner)).await,
            Self::MySql(store) => Box::pin(store.held(owner)).await,
            Self::Nats(store) => store.held(owner).await,
        }
    }
}
