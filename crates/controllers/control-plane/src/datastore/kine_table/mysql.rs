//! MySQL's side of [`super::KineTable`].
//!
//! New rows are refused by a trigger, before they are given a revision: rights on a database count from the next connection on,
//! and ending connections would end reads. Users of control planes have no right to triggers. The server has to let the DataStore's user make one: with
//! binary logs, that takes `log_bin_trust_function_creators` or all rights.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error as MySqlError, FromRowError, Params, Row as SqlRow, Value};

use super::super::claim::Claim;
use super::super::error::StoreError;
use super::super::kine::{PREFIX, RENEWED, Row};
use super::super::mysql::{MySqlStore, failed, open};
use super::super::quoting::MYSQL;
use super::super::sql::{MAKE_WITHIN, SqlError, SqlLogin, within};
use super::{Allowance, PAGE, Stretch};

/// As kine makes it.
const TABLE: [&str; 6] = [
    "CREATE TABLE kine (id BIGINT UNSIGNED AUTO_INCREMENT, name VARCHAR(630) CHARACTER SET ascii, created INTEGER, deleted \
     INTEGER, create_revision BIGINT UNSIGNED, prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, old_value \
     MEDIUMBLOB, PRIMARY KEY (id))",
    "CREATE INDEX kine_name_index ON kine (name)",
    "CREATE INDEX kine_name_id_index ON kine (name, id)",
    "CREATE INDEX kine_id_deleted_index ON kine (id, deleted)",
    "CREATE INDEX kine_prev_revision_index ON kine (prev_revision)",
    "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
];

/// What the server says to making what is there.
const TABLE_THERE: &str = "1050";
const TRIGGER_THERE: &str = "1359";

const REFUSE: &str =
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the data of this control plane moves to another DataStore'";

/// Rows of one statement.
const ROWS: usize = 100;

pub(crate) struct MySqlTable {
    /// As the control plane's user, in its database.
    connection: Conn,
    administrator: MySqlStore,
    schema: String,
}

impl std::fmt::Debug for MySqlTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlTable")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl MySqlTable {
    pub(super) async fn open(login: &SqlLogin, claim: &Claim, password: &str) -> Result<Self, StoreError> {
        let administrator = MySqlStore::connect(login).await?;
        let connection = open(login, &claim.user, password, Some(&claim.schema)).await?;
        Ok(Self {
            connection,
            administrator,
            schema: MYSQL.identifier(&claim.schema).map_err(SqlError::from)?,
        })
    }

    pub(super) async fn make(&mut self) -> Result<(), SqlError> {
        for statement in TABLE {
            match self.order("make the table", statement).await {
                Err(error) if error.code() == TABLE_THERE => return Ok(()),
                made => made?,
            }
        }
        Ok(())
    }

    pub(super) async fn begin_snapshot(&mut self) -> Result<(), SqlError> {
        let statement = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        self.order("begin to read", statement).await
    }

    pub(super) async fn commit(&mut self) -> Result<(), SqlError> {
        self.order("end a transaction", "COMMIT").await
    }

    pub(super) async fn sizes(&mut self, stretch: Stretch<'_>) -> Result<Vec<(i64, i64)>, SqlError> {
        let step = "look how large keys are";
        let (statement, values) = match stretch {
            Stretch::Names { after } => (
                "SELECT CAST(kine.id AS SIGNED), CAST(LENGTH(kine.name) + COALESCE(LENGTH(kine.value), 0) AS SIGNED) FROM \
                 (SELECT MAX(id) AS id FROM kine WHERE name > ? AND name LIKE '/registry/%' GROUP BY name ORDER BY name \
                 LIMIT ?) AS latest JOIN kine ON kine.id = latest.id ORDER BY kine.name",
                vec![Value::from(after), Value::from(PAGE)],
            ),
            Stretch::Changes { after, upto } => (
                "SELECT CAST(id AS SIGNED), CAST(LENGTH(name) + COALESCE(LENGTH(value), 0) AS SIGNED) FROM kine WHERE id > \
                 ? AND id <= ? AND name LIKE '/registry/%' ORDER BY id LIMIT ?",
                vec![Value::from(after), Value::from(upto), Value::from(PAGE)],
            ),
        };
        let rows = self.ask(step, statement, values).await?;
        let sizes = rows.into_iter().map(mysql_async::from_row_opt);
        sizes.collect::<Result<_, _>>().map_err(|error| unexpected(step, error))
    }

    pub(super) async fn rows(&mut self, ids: &[i64]) -> Result<Vec<Row>, SqlError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let statement = format!(
            "SELECT CAST(id AS SIGNED), name, CASE WHEN deleted = 0 THEN value END, CAST(COALESCE(lease, 0) AS SIGNED), \
             CAST(COALESCE(deleted, 0) AS SIGNED) FROM kine WHERE id IN ({})",
            marks(ids.len())
        );
        let values = ids.iter().map(|id| Value::from(*id)).collect();
        self.read("read keys", &statement, values).await
    }

    pub(super) async fn find(&mut self, names: &[String]) -> Result<Vec<Row>, SqlError> {
        let statement = format!(
            "SELECT CAST(id AS SIGNED), name, value, CAST(COALESCE(lease, 0) AS SIGNED), 0 FROM kine WHERE deleted = 0 AND \
             name IN ({})",
            marks(names.len())
        );
        let values = names.iter().map(Value::from).collect();
        self.read("read keys", &statement, values).await
    }

    pub(super) async fn replace(&mut self, names: &[&str], live: &[&Row]) -> Result<(), SqlError> {
        self.order("begin to write", "START TRANSACTION").await?;
        for names in names.chunks(ROWS) {
            let statement = format!("DELETE FROM kine WHERE name IN ({})", marks(names.len()));
            let values = names.iter().map(|name| Value::from(*name)).collect();
            self.ask("remove keys", &statement, values).await?;
        }
        for rows in live.chunks(ROWS) {
            let one = "(?, ?, 1, 0, 0, 0, ?, ?, NULL)";
            let statement = format!(
                "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value) \
                 VALUES {}",
                vec![one; rows.len()].join(", ")
            );
            let values = rows.iter().flat_map(|row| {
                [
                    Value::from(row.id),
                    Value::from(row.name.as_str()),
                    Value::from(row.lease),
                    Value::Bytes(row.value.clone()),
                ]
            });
            self.ask("write keys", &statement, values.collect()).await?;
        }
        self.commit().await
    }

    pub(super) async fn clear(&mut self) -> Result<(), SqlError> {
        self.order("remove keys", "DELETE FROM kine").await
    }

    pub(super) async fn complete(&mut self, revision: i64, health: &str, says: &[u8]) -> Result<(), SqlError> {
        self.order("begin to write", "START TRANSACTION").await?;
        let step = "write the revision";
        let statement = "DELETE FROM kine WHERE name IN (?, 'compact_rev_key')";
        self.ask(step, statement, vec![Value::from(health)]).await?;
        let statement = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value) VALUES \
                         (?, ?, 1, 0, 0, 0, 0, ?), (?, 'compact_rev_key', 1, 0, 0, ?, 0, '')";
        let values = vec![
            Value::from(revision - 1),
            Value::from(health),
            Value::Bytes(says.to_vec()),
            Value::from(revision),
            Value::from(revision),
        ];
        self.ask(step, statement, values).await?;
        self.commit().await
    }

    pub(super) async fn freeze(&mut self) -> Result<(), SqlError> {
        let others = RENEWED.map(|lease| format!("NEW.name NOT LIKE '{PREFIX}{lease}%'"));
        let refuse_others = format!("IF {} THEN {REFUSE}; END IF", others.join(" AND "));
        self.make_trigger(&refuse_others).await
    }

    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        Ok(self.make_trigger(REFUSE).await?)
    }

    /// Making one waits until writes that have begun have ended.
    async fn make_trigger(&mut self, body: &str) -> Result<(), SqlError> {
        let statement = format!(
            "CREATE TRIGGER {0}.`cotenant_moves` BEFORE INSERT ON {0}.`kine` FOR EACH ROW {body}",
            self.schema
        );
        let step = "have writes refused";
        // Waiting for a lock is waiting in front of everybody else.
        self.administrator
            .order(step, "SET SESSION lock_wait_timeout = 5")
            .await?;
        match self.administrator.order(step, &statement).await {
            Err(error) if error.code() == TRIGGER_THERE => Ok(()),
            made => made,
        }
    }

    pub(super) async fn thaw(&mut self) -> Result<(), SqlError> {
        let statement = format!("DROP TRIGGER IF EXISTS {}.`cotenant_moves`", self.schema);
        self.administrator.order("have writes taken", &statement).await
    }

    async fn order(&mut self, step: &'static str, statement: &str) -> Result<(), SqlError> {
        let answer = self.connection.query_drop(statement);
        within(MAKE_WITHIN, step, async {
            answer.await.map_err(|error| failed(step, error))
        })
        .await
    }

    async fn read(&mut self, step: &'static str, statement: &str, values: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        type Columns = (i64, String, Option<Vec<u8>>, i64, i64);
        let row = |row| {
            let (id, name, value, lease, deleted): Columns = mysql_async::from_row_opt(row)?;
            Ok(Row {
                id,
                name,
                value: value.unwrap_or_default(),
                lease,
                deleted: deleted != 0,
            })
        };
        let answer = self.connection.exec_iter(statement, Params::Positional(values));
        let reading = async {
            let mut answer = answer.await.map_err(|error| failed(step, error))?;
            let (mut rows, mut allowance) = (Vec::new(), Allowance::default());
            while let Some(next) = answer.next().await.map_err(|error| failed(step, error))? {
                let row = row(next).map_err(|error| unexpected(step, error))?;
                allowance.take(step, &row)?;
                rows.push(row);
            }
            Ok(rows)
        };
        within(MAKE_WITHIN, step, reading).await
    }

    pub(super) async fn text(&mut self, step: &'static str, statement: &str) -> Result<String, SqlError> {
        let rows = self.ask(step, statement, Vec::new()).await?;
        let text = rows.into_iter().next().map(mysql_async::from_row_opt::<String>);
        let text = text.transpose().map_err(|error| unexpected(step, error))?;
        Ok(text.unwrap_or_default())
    }

    async fn ask(&mut self, step: &'static str, statement: &str, values: Vec<Value>) -> Result<Vec<SqlRow>, SqlError> {
        let values = if values.is_empty() {
            Params::Empty
        } else {
            Params::Positional(values)
        };
        let answer = self.connection.exec(statement, values);
        within(MAKE_WITHIN, step, async {
            answer.await.map_err(|error| failed(step, error))
        })
        .await
    }
}

fn unexpected(step: &'static str, FromRowError(row): FromRowError) -> SqlError {
    failed(step, MySqlError::Driver(DriverError::FromRow { row }))
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
