//! What kine keeps of one control plane: a table in a database, or a bucket in NATS.
//!
//! Either is a history of changes, each with a revision, of which the last of a name is what the key is now. Both are read and
//! written here as kine does it itself, and as the control plane's own user where there is one.

use super::claim::Claim;
use super::error::StoreError;
use super::kine_bucket::KineBucket;
use super::kine_table::KineTable;
use super::store::Login;

/// Where API servers behind kine keep their keys.
pub(crate) const PREFIX: &str = "/registry/";
/// Keys that are written while all others stand still, behind the prefix of any store: the leases of components and nodes,
/// which stop when they cannot renew theirs. Nobody reads old ones, so what is written there meanwhile may be lost.
pub(crate) const RENEWED: [&str; 2] = ["leases/kube-node-lease/", "leases/kube-system/"];
/// Whether a key, without any prefix, is one of them.
pub(crate) fn is_renewed(key: &[u8]) -> bool {
    RENEWED.iter().any(|lease| key.starts_with(lease.as_bytes()))
}

/// A key of kine's own below the prefix, and what it says.
pub(super) const HEALTH: (&str, &str) = ("/registry/health", r#"{"health":"true"}"#);

/// Bytes of keys and values that are read at a time.
pub(super) const PAGE_BYTES: i64 = 8 * 1024 * 1024;
/// What one key and its value may have. API servers write 1.5 MiB at most.
pub(super) const KEY_BYTES: i64 = 16 * 1024 * 1024;

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The revision.
    pub(crate) id: i64,
    /// The whole name, with [`PREFIX`].
    pub(crate) name: String,
    /// Empty if deleted.
    pub(crate) value: Vec<u8>,
    /// Seconds after which kine deletes the key; zero for never.
    pub(crate) lease: i64,
    pub(crate) deleted: bool,
}

/// An open connection to it.
#[derive(Debug)]
pub(crate) enum Kine {
    Table(KineTable),
    Bucket(Box<KineBucket>),
}

/// Sends a call to whichever it is.
macro_rules! either {
    ($kine:expr, $inner:ident => $call:expr) => {
        match $kine {
            Kine::Table($inner) => $call,
            Kine::Bucket($inner) => $call,
        }
    };
}

impl Kine {
    /// Logs in as the control plane's user, whose password this has to be, or where there are no such users as the store's.
    /// `None`: the store is an etcd.
    pub(crate) async fn open(login: &Login, claim: &Claim, password: &str) -> Result<Option<Self>, StoreError> {
        if let Login::Nats(login) = login {
            return Ok(Some(Self::Bucket(Box::new(KineBucket::open(login, claim).await?))));
        }
        Ok(KineTable::open(login, claim, password).await?.map(Self::Table))
    }

    /// Makes it as kine does, if it is not there.
    pub(crate) async fn make(&mut self) -> Result<(), StoreError> {
        either!(self, kine => kine.make().await)
    }

    /// The newest revision.
    pub(crate) async fn newest(&mut self) -> Result<i64, StoreError> {
        either!(self, kine => kine.newest().await)
    }

    /// Keys that are there now, without the [`RENEWED`].
    pub(crate) async fn count(&mut self) -> Result<i64, StoreError> {
        either!(self, kine => kine.count().await)
    }

    /// Changes of names that are neither below the prefix nor kine's own. An API server with another prefix has written them.
    pub(crate) async fn strangers(&mut self) -> Result<i64, StoreError> {
        either!(self, kine => kine.strangers().await)
    }

    /// What keys are now, as many after this name as fit into a page; and after which name the next page begins. An empty name
    /// begins a walk.
    pub(crate) async fn page(&mut self, after: &str) -> Result<(Vec<Row>, Option<String>), StoreError> {
        either!(self, kine => kine.page(after).await)
    }

    /// Changes after one revision up to another, as many as fit into a page; and the last revision among them. `None`:
    /// there are none.
    pub(crate) async fn changes(&mut self, after: i64, upto: i64) -> Result<(Vec<Row>, Option<i64>), StoreError> {
        either!(self, kine => kine.changes(after, upto).await)
    }

    /// How many revisions before the newest have to be looked at again, because a change may be seen later than one with a higher
    /// revision.
    pub(crate) fn overlap(&self) -> i64 {
        match self {
            Self::Table(_) => 1_000,
            Self::Bucket(_) => 0,
        }
    }

    /// What is there under these names.
    pub(crate) async fn find(&mut self, names: &[String]) -> Result<Vec<Row>, StoreError> {
        either!(self, kine => kine.find(names).await)
    }

    /// Puts rows in the place of all that is there under their names. What is `deleted` leaves nothing. Only where no kine
    /// reads yet. A bucket gives revisions itself, later ones than [`Self::clear`] was told.
    pub(crate) async fn replace(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        either!(self, kine => kine.replace(rows).await)
    }

    /// Removes everything, to begin again with this revision or a later one. Only where no kine reads yet.
    pub(crate) async fn clear(&mut self, next: i64) -> Result<(), StoreError> {
        match self {
            // Rows bring theirs.
            Self::Table(table) => table.clear().await,
            Self::Bucket(bucket) => bucket.clear(next).await,
        }
    }

    /// Makes this or a later one the newest revision, before which history is gone, and writes what kine would write when it
    /// starts: it must be able to start where it may not write.
    pub(crate) async fn complete(&mut self, revision: i64) -> Result<(), StoreError> {
        either!(self, kine => kine.complete(revision).await)
    }

    /// Has the server refuse changes but of the [`RENEWED`], whoever of the control plane's pods sends them. Returns when writes
    /// that were under way have ended; reads go on. Can be repeated.
    pub(crate) async fn freeze(&mut self) -> Result<(), StoreError> {
        either!(self, kine => kine.freeze().await)
    }

    /// Has the server refuse all changes where no kine has written yet, if it can: a bucket is written to from when pods use
    /// it. Can be repeated.
    pub(crate) async fn close(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Table(table) => table.close().await,
            // kine writes a key when it starts, and does not start on a bucket that is set up in another way than its own.
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Has the server take changes again. Can be repeated.
    pub(crate) async fn thaw(&mut self) -> Result<(), StoreError> {
        either!(self, kine => kine.thaw().await)
    }
}
