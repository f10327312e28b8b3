//! PostgreSQL's side of [`super::KineTable`].
//!
//! In a table that is left, new rows are refused by a trigger, which lets leases pass. It also gives them their revisions, in
//! place of the column's default: that would have used one up for each row that is refused, and kine, which waits a second at
//! each revision that is missing, would answer late. In a table that is moved to, the right to insert is taken from the owner,
//! the only one who has it. The owner could undo either, which kine does not; it would harm nobody but itself. Connections
//! stay, and reads with them.

use futures::StreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row as SqlRow};

use super::super::claim::Claim;
use super::super::error::StoreError;
use super::super::kine::{KEY_BYTES, PREFIX, RENEWED, Row};
use super::super::postgres::{failed, open, order};
use super::super::sql::{MAKE_WITHIN, SqlError, SqlLogin, within};
use super::super::tls::ClientTls;
use super::{Allowance, PAGE, Stretch};

/// As kine makes it.
const TABLE: &str = r#"
CREATE TABLE IF NOT EXISTS public.kine (id BIGSERIAL PRIMARY KEY, name text COLLATE "C", created INTEGER, deleted INTEGER,
    create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value bytea, old_value bytea);
CREATE INDEX IF NOT EXISTS kine_name_index ON public.kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON public.kine (name, id);
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON public.kine (id, deleted);
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON public.kine (prev_revision);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON public.kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_list_query_index ON public.kine (name, id DESC, deleted);
"#;

/// Waiting for a lock is waiting in front of everybody else's writes.
const SESSION: &str = "SET search_path = pg_catalog, public; SET lock_timeout = '5s'; SET statement_timeout = '20s'; \
                       SET default_transaction_read_only = off";

/// With what tells [`RENEWED`] in the place of the words in parentheses.
const FREEZE: &str = r"
ROLLBACK;
BEGIN;
ALTER TABLE public.kine ALTER COLUMN id DROP DEFAULT;
CREATE OR REPLACE FUNCTION public.cotenant_moves() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
BEGIN
    IF (is renewed) THEN
        NEW.id := nextval(pg_get_serial_sequence('public.kine', 'id')::regclass);
        RETURN NEW;
    END IF;
    RAISE insufficient_privilege USING MESSAGE = 'the data of this control plane moves to another DataStore';
END
$body$;
DROP TRIGGER IF EXISTS cotenant_moves ON public.kine;
CREATE TRIGGER cotenant_moves BEFORE INSERT ON public.kine FOR EACH ROW EXECUTE FUNCTION public.cotenant_moves();
COMMIT;
";

/// Locks that hold up reads are taken only if there is something to undo.
const THAW: &str = r"
ROLLBACK;
BEGIN;
DO $body$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.kine'::regclass AND tgname = 'cotenant_moves') THEN
        DROP TRIGGER cotenant_moves ON public.kine;
        DROP FUNCTION IF EXISTS public.cotenant_moves();
        EXECUTE format('ALTER TABLE public.kine ALTER COLUMN id SET DEFAULT nextval(%L::regclass)',
            pg_get_serial_sequence('public.kine', 'id'));
    END IF;
END
$body$;
GRANT INSERT ON public.kine TO CURRENT_USER;
COMMIT;
";

pub(crate) struct PostgresTable {
    /// As the control plane's user, connected to its database.
    client: Client,
}

impl std::fmt::Debug for PostgresTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTable").finish_non_exhaustive()
    }
}

impl PostgresTable {
    pub(super) async fn open(login: &SqlLogin, claim: &Claim, password: &str) -> Result<Self, StoreError> {
        let tls = login.tls.as_ref().map(ClientTls::config).transpose()?;
        let client = open(login, tls, &claim.user, password, &claim.schema).await?;
        order(&client, "prepare a connection", SESSION).await?;
        let statement = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('public.kine')";
        let table = Self { client };
        // What is no table answers with whatever it likes, in whatever size.
        match table.text("look up the table", statement).await?.as_str() {
            "" | "r" => Ok(table),
            _ => Err(StoreError::Refused("public.kine is not a table".to_owned())),
        }
    }

    pub(super) async fn make(&mut self) -> Result<(), SqlError> {
        let step = "make the table";
        let statement = "SELECT to_regclass('public.kine')::text";
        if !self.text(step, statement).await?.is_empty() {
            return Ok(());
        }
        self.order(step, TABLE).await
    }

    pub(super) async fn begin_snapshot(&mut self) -> Result<(), SqlError> {
        let statement = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.order("begin to read", statement).await
    }

    pub(super) async fn commit(&mut self) -> Result<(), SqlError> {
        self.order("end a transaction", "COMMIT").await
    }

    pub(super) async fn sizes(&mut self, stretch: Stretch<'_>) -> Result<Vec<(i64, i64)>, SqlError> {
        let step = "look how large keys are";
        let rows = match stretch {
            Stretch::Names { after } => {
                let statement = "SELECT kine.id::bigint, octet_length(kine.name)::bigint + \
                                 coalesce(octet_length(kine.value), 0) FROM (SELECT max(id) AS id FROM public.kine WHERE \
                                 name > $1 AND starts_with(name, '/registry/') GROUP BY name ORDER BY name LIMIT $2) AS \
                                 latest JOIN public.kine ON kine.id = latest.id ORDER BY kine.name";
                self.ask(step, statement, &[&after, &PAGE]).await?
            }
            Stretch::Changes { after, upto } => {
                let statement = "SELECT id::bigint, octet_length(name)::bigint + coalesce(octet_length(value), 0) FROM \
                                 public.kine WHERE id > $1::bigint AND id <= $2::bigint AND starts_with(name, \
                                 '/registry/') ORDER BY id LIMIT $3";
                self.ask(step, statement, &[&after, &upto, &PAGE]).await?
            }
        };
        let sizes = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        sizes.collect::<Result<_, _>>().map_err(|error| failed(step, error))
    }

    pub(super) async fn rows(&mut self, ids: &[i64]) -> Result<Vec<Row>, SqlError> {
        let statement = format!(
            "SELECT id::bigint, left(name::text, {KEY_BYTES}), substr((CASE WHEN deleted = 0 THEN value END)::bytea, 1, \
             {KEY_BYTES}), coalesce(lease, 0)::bigint, coalesce(deleted, 0)::bigint FROM public.kine WHERE id = \
             ANY($1::bigint[])"
        );
        self.read("read keys", &statement, &[&ids]).await
    }

    pub(super) async fn find(&mut self, names: &[String]) -> Result<Vec<Row>, SqlError> {
        let statement = "SELECT id::bigint, name::text, value::bytea, coalesce(lease, 0)::bigint, 0::bigint FROM public.kine \
                         WHERE name = ANY($1) AND deleted = 0";
        self.read("read keys", statement, &[&names]).await
    }

    pub(super) async fn replace(&mut self, names: &[&str], live: &[&Row]) -> Result<(), SqlError> {
        self.order("begin to write", "BEGIN").await?;
        let statement = "DELETE FROM public.kine WHERE name = ANY($1)";
        self.ask("remove keys", statement, &[&names]).await?;
        let ids: Vec<i64> = live.iter().map(|row| row.id).collect();
        let names: Vec<&str> = live.iter().map(|row| row.name.as_str()).collect();
        let leases: Vec<i64> = live.iter().map(|row| row.lease).collect();
        let values: Vec<&[u8]> = live.iter().map(|row| row.value.as_slice()).collect();
        let statement = "INSERT INTO public.kine (id, name, created, deleted, create_revision, prev_revision, lease, value, \
                         old_value) SELECT id, name, 1, 0, 0, 0, lease, value, NULL FROM unnest($1::bigint[], $2::text[], \
                         $3::bigint[], $4::bytea[]) AS row (id, name, lease, value)";
        self.ask("write keys", statement, &[&ids, &names, &leases, &values])
            .await?;
        self.commit().await
    }

    pub(super) async fn clear(&mut self) -> Result<(), SqlError> {
        self.order("remove keys", "DELETE FROM public.kine").await
    }

    pub(super) async fn complete(&mut self, revision: i64, health: &str, says: &[u8]) -> Result<(), SqlError> {
        self.order("begin to write", "BEGIN").await?;
        let step = "write the revision";
        let statement = "DELETE FROM public.kine WHERE name = ANY($1)";
        self.ask(step, statement, &[&vec![health, "compact_rev_key"]]).await?;
        let statement = "INSERT INTO public.kine (id, name, created, deleted, create_revision, prev_revision, lease, value) \
                         VALUES ($1::bigint - 1, $2, 1, 0, 0, 0, 0, $3), ($1, 'compact_rev_key', 1, 0, 0, $1, 0, '')";
        self.ask(step, statement, &[&revision, &health, &says]).await?;
        let statement = "SELECT setval(pg_get_serial_sequence('public.kine', 'id'), $1)";
        self.ask(step, statement, &[&revision]).await?;
        self.commit().await?;
        // What kine asks first is asked of a table that has just been filled.
        self.order("count rows", "ANALYZE public.kine").await
    }

    /// The lock that this takes waits until writes that have begun are in the table.
    pub(super) async fn freeze(&mut self) -> Result<(), SqlError> {
        let renewed = RENEWED.map(|lease| format!("starts_with(NEW.name, '{PREFIX}{lease}')"));
        let statement = FREEZE.replace("(is renewed)", &renewed.join(" OR "));
        self.order("have writes refused", &statement).await
    }

    /// The lock waits until writes that have begun are in the table; those behind it see that they may not any more.
    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        let statement = "ROLLBACK; BEGIN; LOCK TABLE public.kine IN SHARE MODE; REVOKE INSERT ON public.kine FROM \
                         CURRENT_USER; COMMIT";
        let step = "have writes refused";
        self.order(step, statement).await?;
        // Of a table that is somebody else's nothing is taken away, and that is no error.
        let statement = "SELECT has_table_privilege('public.kine', 'INSERT')::text";
        match self.text(step, statement).await?.as_str() {
            "false" => Ok(()),
            _ => Err(StoreError::Refused(
                "public.kine is not the user's own table".to_owned(),
            )),
        }
    }

    pub(super) async fn thaw(&mut self) -> Result<(), SqlError> {
        self.order("have writes taken", THAW).await
    }

    async fn order(&self, step: &'static str, statement: &str) -> Result<(), SqlError> {
        order(&self.client, step, statement).await
    }

    async fn read(
        &self,
        step: &'static str,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SqlError> {
        let reading = async {
            let answer = self.client.query_raw(statement, values.iter().copied()).await;
            let answer = answer.map_err(|error| failed(step, error))?;
            let mut answer = std::pin::pin!(answer);
            let (mut rows, mut allowance) = (Vec::new(), Allowance::default());
            while let Some(next) = answer.next().await {
                let row = next.and_then(|row| read(&row)).map_err(|error| failed(step, error))?;
                allowance.take(step, &row)?;
                rows.push(row);
            }
            Ok(rows)
        };
        within(MAKE_WITHIN, step, reading).await
    }

    pub(super) async fn text(&self, step: &'static str, statement: &str) -> Result<String, SqlError> {
        let rows = self.ask(step, statement, &[]).await?;
        let text = rows.first().map(|row| row.try_get::<_, Option<String>>(0)).transpose();
        let text = text.map_err(|error| failed(step, error))?;
        Ok(text.flatten().unwrap_or_default())
    }

    async fn ask(
        &self,
        step: &'static str,
        statement: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<SqlRow>, SqlError> {
        let answer = self.client.query(statement, values);
        within(MAKE_WITHIN, step, async {
            answer.await.map_err(|error| failed(step, error))
        })
        .await
    }
}

fn read(row: &SqlRow) -> Result<Row, tokio_postgres::Error> {
    Ok(Row {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        value: row.try_get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default(),
        lease: row.try_get(3)?,
        deleted: row.try_get::<_, i64>(4)? != 0,
    })
}
