//! kine's table of one control plane: the rows that are its keys, as kine's SQL drivers read and write them.
//!
//! A row is one change of one key, `id` is its revision, and the row with the highest `id` of a name is what the key is now.
//! Rows without changes have names of kine's own: `compact_rev_key`, whose `prev_revision` is the revision up to which history
//! is gone, `compact_rev_key_apiserver`, the mark that API servers set every five minutes, and `gap-<id>` where an `id` was used
//! up by nobody. The shape is kine's own since 0.11 (`pkg/drivers/pgsql`,
//! `pkg/drivers/mysql`).
//!
//! All rows are read and written as the control plane's own user: whoever has its password may put functions there that run
//! with the rights of whoever comes by ([`super::sql`]). Answers are asked for by size before they are asked for.
//!
//! What a method is for stands at that of [`super::kine::Kine`] with its name.

mod mysql;
mod postgres;

use std::collections::HashMap;

use super::claim::Claim;
use super::error::StoreError;
use super::kine::{HEALTH, KEY_BYTES, PAGE_BYTES, PREFIX, RENEWED, Row};
use super::sql::SqlError;
use super::store::Login;

use self::mysql::MySqlTable;
use self::postgres::PostgresTable;

/// Keys that are looked at together.
const PAGE: i64 = 500;

/// Which rows.
#[derive(Clone, Copy, Debug)]
enum Stretch<'a> {
    /// The newest row of each name after this one, by name.
    Names { after: &'a str },
    /// All rows after one revision up to another, by revision.
    Changes { after: i64, upto: i64 },
}

/// An open table.
#[derive(Debug)]
pub(crate) enum KineTable {
    Postgres(Box<PostgresTable>),
    MySql(Box<MySqlTable>),
}

/// Sends a call to whichever server it is.
macro_rules! either {
    ($table:expr, $inner:ident => $call:expr) => {
        match $table {
            KineTable::Postgres($inner) => $call,
            KineTable::MySql($inner) => $call,
        }
    };
}

impl KineTable {
    /// Logs in as the control plane's user, whose password this has to be. `None`: the store has no such tables.
    pub(super) async fn open(login: &Login, claim: &Claim, password: &str) -> Result<Option<Self>, StoreError> {
        Ok(match login {
            Login::Postgres(login) => Some(Self::Postgres(Box::new(
                PostgresTable::open(login, claim, password).await?,
            ))),
            Login::MySql(login) => Some(Self::MySql(Box::new(MySqlTable::open(login, claim, password).await?))),
            Login::Etcd(_) | Login::Nats(_) => None,
        })
    }

    pub(super) async fn make(&mut self) -> Result<(), StoreError> {
        Ok(either!(self, table => Box::pin(table.make()).await)?)
    }

    pub(super) async fn newest(&mut self) -> Result<i64, StoreError> {
        let statement = "SELECT CAST(COALESCE(MAX(id), 0) AS CHAR(20)) FROM kine";
        self.number("read the revision", statement).await
    }

    pub(super) async fn count(&mut self) -> Result<i64, StoreError> {
        let renewed = RENEWED
            .map(|lease| format!(" AND name NOT LIKE '{PREFIX}{lease}%'"))
            .concat();
        let statement = format!(
            "SELECT CAST(COUNT(*) AS CHAR(20)) FROM kine JOIN (SELECT MAX(id) AS id FROM kine WHERE name LIKE \
             '{PREFIX}%' GROUP BY name) AS latest ON latest.id = kine.id WHERE deleted = 0 AND name <> '{}'{renewed}",
            HEALTH.0
        );
        self.number("count keys", &statement).await
    }

    pub(super) async fn strangers(&mut self) -> Result<i64, StoreError> {
        let statement = "SELECT CAST(COUNT(*) AS CHAR(20)) FROM kine WHERE name NOT LIKE '/registry/%' AND name NOT LIKE \
                         'gap-%' AND name NOT IN ('compact_rev_key', 'compact_rev_key_apiserver', '/registry')";
        self.number("look for other keys", statement).await
    }

    async fn number(&mut self, step: &'static str, statement: &str) -> Result<i64, StoreError> {
        let text = either!(self, table => Box::pin(table.text(step, statement)).await)?;
        Ok(text.trim().parse().unwrap_or_default())
    }

    pub(super) async fn page(&mut self, after: &str) -> Result<(Vec<Row>, Option<String>), StoreError> {
        let (mut rows, _) = self.read(Stretch::Names { after }).await?;
        let last = rows.last().map(|row| row.name.clone());
        rows.retain(|row| !row.deleted && row.name != HEALTH.0);
        Ok((rows, last))
    }

    pub(super) async fn changes(&mut self, after: i64, upto: i64) -> Result<(Vec<Row>, Option<i64>), StoreError> {
        let (mut rows, last) = self.read(Stretch::Changes { after, upto }).await?;
        rows.retain(|row| row.name != HEALTH.0);
        Ok((rows, last))
    }

    /// Both looks in one snapshot: what was small is still there, and still small.
    async fn read(&mut self, stretch: Stretch<'_>) -> Result<(Vec<Row>, Option<i64>), StoreError> {
        either!(self, table => Box::pin(table.begin_snapshot()).await)?;
        let sizes = either!(self, table => Box::pin(table.sizes(stretch)).await)?;
        let ids = fitting(&sizes)?;
        let rows = either!(self, table => Box::pin(table.rows(&ids)).await)?;
        either!(self, table => Box::pin(table.commit()).await)?;
        let mut by_id: HashMap<i64, Row> = rows.into_iter().map(|row| (row.id, row)).collect();
        let rows = ids.iter().filter_map(|id| by_id.remove(id)).collect();
        Ok((rows, ids.last().copied()))
    }

    pub(super) async fn find(&mut self, names: &[String]) -> Result<Vec<Row>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(either!(self, table => Box::pin(table.find(names)).await)?)
    }

    pub(super) async fn replace(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let live: Vec<&Row> = rows.iter().filter(|row| !row.deleted).collect();
        Ok(either!(self, table => Box::pin(table.replace(&names, &live)).await)?)
    }

    pub(super) async fn clear(&mut self) -> Result<(), StoreError> {
        Ok(either!(self, table => Box::pin(table.clear()).await)?)
    }

    pub(super) async fn complete(&mut self, revision: i64) -> Result<(), StoreError> {
        let (health, says) = HEALTH;
        Ok(either!(self, table => Box::pin(table.complete(revision, health, says.as_bytes())).await)?)
    }

    pub(super) async fn freeze(&mut self) -> Result<(), StoreError> {
        Ok(either!(self, table => Box::pin(table.freeze()).await)?)
    }

    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        either!(self, table => Box::pin(table.close()).await)
    }

    pub(super) async fn thaw(&mut self) -> Result<(), StoreError> {
        Ok(either!(self, table => Box::pin(table.thaw()).await)?)
    }
}

/// How much may still come. Sizes were asked for before, but a server says what the tables' owner has made it say.
struct Allowance(i64);

impl Default for Allowance {
    fn default() -> Self {
        Self(PAGE_BYTES + KEY_BYTES)
    }
}

impl Allowance {
    /// What a row is here beside its bytes.
    const ROW: i64 = 128;

    fn take(&mut self, step: &'static str, row: &Row) -> Result<(), SqlError> {
        let bytes = i64::try_from(row.name.len() + row.value.len()).unwrap_or(i64::MAX);
        self.0 = self.0.saturating_sub(bytes).saturating_sub(Self::ROW);
        if self.0 < 0 {
            return Err(SqlError::TooMuch { step });
        }
        Ok(())
    }
}

/// As many of the first rows as fit into a page, one at least.
fn fitting(sizes: &[(i64, i64)]) -> Result<Vec<i64>, StoreError> {
    let mut sum: i64 = 0;
    let mut ids = Vec::new();
    for &(id, size) in sizes {
        if size > KEY_BYTES {
            let message = format!("the row {id} has {size} bytes, and no API server writes more than {KEY_BYTES}");
            return Err(StoreError::Refused(message));
        }
        sum = sum.saturating_add(size);
        if sum > PAGE_BYTES && !ids.is_empty() {
            break;
        }
        ids.push(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_row_at_least_and_no_more_than_fit() {
        assert_eq!(fitting(&[]).unwrap(), Vec::<i64>::new());
        assert_eq!(fitting(&[(3, PAGE_BYTES - 1), (4, 1), (5, 1)]).unwrap(), [3, 4]);
        assert_eq!(fitting(&[(3, PAGE_BYTES + 1), (4, 1)]).unwrap(), [3]);
        assert!(fitting(&[(3, 1), (4, KEY_BYTES + 1)]).is_err());
        assert!(fitting(&[(3, i64::MAX)]).is_err());
    }

    #[test]
    fn a_server_that_sends_more_than_it_said_is_not_listened_to() {
        let row = |bytes: i64| Row {
            id: 1,
            name: "/registry/pods/default/one".to_owned(),
            value: vec![0; usize::try_from(bytes).unwrap()],
            lease: 0,
            deleted: false,
        };
        let mut one = Allowance::default();
        one.take("read", &row(KEY_BYTES)).unwrap();
        one.take("read", &row(PAGE_BYTES / 2)).unwrap();
        assert!(one.take("read", &row(PAGE_BYTES / 2)).is_err());
        // Nor to one that sends nothing, without an end.
        let mut many = Allowance::default();
        let taken = (0..1_000_000)
            .take_while(|_| many.take("read", &row(0)).is_ok())
            .count();
        assert!(taken > 500 && taken < 200_000, "{taken}");
    }
}
