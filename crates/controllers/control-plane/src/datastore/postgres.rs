//! A PostgreSQL that holds many control planes, each in a database of its own that a role of its own owns.
//!
//! PostgreSQL lets everybody connect to a new database. That is taken back before the first connection is let in: a
//! neighbour's role does not get in, whatever it finds there would be allowed to it. Passwords are sent as SCRAM verifiers, so that no log of statements has one.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};

use super::claim::{Claim, Held, Unrecorded};
use super::error::{ANSWER_WITHIN, StoreError};
use super::moves::Order;
use super::postgres_tls::Connector;
use super::quoting::{POSTGRES, Unquotable, literal};
use super::sql::{self, Cause, MAKE_WITHIN, Moves, Server, SqlError, SqlLogin, Trouble, Words, trouble_below, within};
use super::tls::ClientTls;

/// The database that every server has.
const MAINTENANCE: &str = "postgres";
/// See [`tenancy::control_plane::storage::OWN_PREFIX`].
const RECORDS: &str = "cotenant.dev";

/// An open connection, as the server's administrator.
pub struct PostgresStore {
    login: SqlLogin,
    tls: Option<Arc<ClientConfig>>,
    /// Connected to [`MAINTENANCE`].
    client: Client,
    is_superuser: bool,
    /// Connected to [`RECORDS`], once it was asked for.
    records: Option<Client>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects and makes sure that we may make databases and users.
    pub async fn connect(login: &SqlLogin) -> Result<Self, StoreError> {
        let tls = login.tls.as_ref().map(ClientTls::config).transpose()?;
        let client = open(login, tls.clone(), &login.user, &login.password, MAINTENANCE).await?;
        let mut store = Self {
            login: login.clone(),
            tls,
            client,
            is_superuser: false,
            records: None,
        };
        let statement = "SELECT rolsuper::text, (rolcreaterole AND rolcreatedb)::text, pg_is_in_recovery()::text \
                         FROM pg_roles WHERE rolname = current_user";
        let rows = ask(&store.client, "look up the administrator", statement, &[]).await?;
        let says = |column: usize| {
            rows.first()
                .and_then(|row| row.get(column))
                .is_some_and(|text| text == "true")
        };
        store.is_superuser = says(0);
        if !says(0) && !says(1) {
            return Err(SqlError::NotAdministrator {
                user: login.user.clone(),
            }
            .into());
        }
        if says(2) {
            return Err(SqlError::ReadOnly.into());
        }
        Ok(store)
    }

    /// See [`super::store::Store::ensure`].
    pub async fn ensure(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        sql::ensure(self, claim, unrecorded).await
    }

    /// See [`super::store::Store::remove`].
    pub async fn remove(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        sql::remove(self, claim, unrecorded).await
    }

    /// See [`super::store::Store::held`].
    pub async fn held(&mut self, owner: &str) -> Result<Held, StoreError> {
        sql::held(self, owner).await
    }

    /// See [`super::store::Store::set_password`].
    pub async fn set_password(&mut self, claim: &Claim, password: &str) -> Result<bool, StoreError> {
        sql::set_password(self, claim, password).await
    }

    /// See [`super::store::Store::proves`].
    pub async fn proves(&mut self, claim: &Claim, password: &str) -> Result<bool, StoreError> {
        sql::proves(self, claim, password).await
    }

    /// See [`super::store::Store::has`].
    pub async fn has(&mut self, claim: &Claim) -> Result<bool, StoreError> {
        sql::has(self, claim).await
    }

    /// See [`super::moves`].
    pub(super) async fn on_moves(&mut self, order: Order<'_>) -> Result<Option<String>, StoreError> {
        sql::on_moves(self, order).await
    }

    async fn order(&self, step: &'static str, statement: &str) -> Result<(), SqlError> {
        order(&self.client, step, statement).await
    }

    async fn exists(&self, step: &'static str, statement: &str, name: &str) -> Result<bool, SqlError> {
        Ok(!ask(&self.client, step, statement, &[name]).await?.is_empty())
    }

    async fn owner(&self, database: &str) -> Result<Option<String>, SqlError> {
        let statement =
            "SELECT rolname::text FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname = $1";
        let found = ask(&self.client, "look up a database", statement, &[database]).await?;
        Ok(found.into_iter().flatten().next())
    }

    /// Who is no superuser acts on a role's database as a member of that role.
    async fn join(&self, user: &str) -> Result<(), SqlError> {
        if self.is_superuser {
            return Ok(());
        }
        let statement = format!("GRANT {} TO CURRENT_USER", quoted(user)?);
        self.order("become a member of a role", &statement).await
    }

    /// Keeps everybody out but the owner. A database that was made without connections takes them from then on.
    async fn close(&self, database: &str) -> Result<(), SqlError> {
        let step = "close a database to others";
        let statement = "SELECT 1::text WHERE has_database_privilege('public', $1::text, 'CONNECT, TEMPORARY')";
        if self.exists(step, statement, database).await? {
            let statement = format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", quoted(database)?);
            self.order(step, &statement).await?;
        }
        let step = "open a database to its owner";
        let statement = "SELECT 1::text FROM pg_database WHERE datname = $1 AND datconnlimit = 0";
        if self.exists(step, statement, database).await? {
            let statement = format!("ALTER DATABASE {} CONNECTION LIMIT -1", quoted(database)?);
            self.order(step, &statement).await?;
        }
        Ok(())
    }
}

impl Server for PostgresStore {
    const WORDS: Words = Words {
        holder: "SELECT owner FROM public.names WHERE kind = $1 AND name = $2",
        record: "INSERT INTO public.names (kind, name, owner) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        of_owner: "SELECT kind, name FROM public.names WHERE owner = $1 ORDER BY kind, name",
        forget: "DELETE FROM public.names WHERE kind = $1 AND name = $2 AND owner = $3",
        moves: Moves {
            make: "CREATE TABLE IF NOT EXISTS public.moves (owner text NOT NULL, place text NOT NULL, record text NOT NULL, \
                   PRIMARY KEY (owner, place))",
            read: "SELECT record FROM public.moves WHERE owner = $1 AND place = $2",
            write: "INSERT INTO public.moves (owner, place, record) VALUES ($1, $2, $3) ON CONFLICT (owner, place) DO UPDATE \
                    SET record = excluded.record",
            remove: "DELETE FROM public.moves WHERE owner = $1 AND place = $2",
        },
    };

    fn administrator(&self) -> &str {
        &self.login.user
    }

    fn check_name(name: &str) -> Result<(), Unquotable> {
        POSTGRES.check(name)
    }

    async fn open_records(&mut self, make: bool) -> Result<bool, SqlError> {
        if self.records.is_some() {
            return Ok(true);
        }
        let step = "open the records";
        // A database of this name that a control plane owns is no place for what decides about control planes.
        let statement = "SELECT (rolsuper OR rolcreatedb)::text FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba \
                         WHERE datname = $1";
        let rows = ask(&self.client, step, statement, &[RECORDS]).await?;
        match rows.first().and_then(|row| row.first()).map(String::as_str) {
            None if !make => return Ok(false),
            None => {
                let statement = format!(
                    "CREATE DATABASE {} TEMPLATE template0 CONNECTION LIMIT 0",
                    quoted(RECORDS)?
                );
                // Another replica, or another DataStore of the same server, may have come first.
                unless(&["42P04", "23505"], self.order("make the records", &statement).await)?;
            }
            Some("true") => {}
            Some(_) => return Err(SqlError::ForeignRecords(RECORDS)),
        }
        // Also to read: whoever made it may have stopped before it took connections, ours among them.
        self.close(RECORDS).await?;
        let client = open(
            &self.login,
            self.tls.clone(),
            &self.login.user,
            &self.login.password,
            RECORDS,
        )
        .await?;
        if make {
            let statement = "CREATE TABLE IF NOT EXISTS public.names (kind text NOT NULL, name text NOT NULL, owner text \
                             NOT NULL, PRIMARY KEY (kind, name))";
            unless(&["42P07", "23505"], order(&client, "make the records", statement).await)?;
        }
        // A view, or what another role may change, says what that role likes. A superuser may do anything in any case.
        let statement = "SELECT (relkind = 'r' AND (rolname = current_user OR rolsuper))::text FROM pg_class JOIN \
                         pg_roles ON pg_roles.oid = relowner WHERE pg_class.oid = to_regclass('public.names')";
        let rows = ask(&client, step, statement, &[]).await?;
        match rows.first().and_then(|row| row.first()).map(String::as_str) {
            Some("true") => {}
            None if !make => return Ok(false),
            _ => return Err(SqlError::ForeignRecords(RECORDS)),
        }
        self.records = Some(client);
        Ok(true)
    }

    async fn records(
        &mut self,
        step: &'static str,
        statement: &'static str,
        values: &[&str],
    ) -> Result<Vec<Vec<String>>, SqlError> {
        match &self.records {
            Some(client) => ask(client, step, statement, values).await,
            None => Ok(Vec::new()),
        }
    }

    async fn log_in_as_administrator(&self, password: &str) -> Result<(), SqlError> {
        let opened = open(&self.login, self.tls.clone(), &self.login.user, password, MAINTENANCE).await;
        opened.map(drop)
    }

    async fn log_in(&self, claim: &Claim, password: &str) -> Result<(), SqlError> {
        let opened = open(&self.login, self.tls.clone(), &claim.user, password, &claim.schema).await;
        opened.map(drop)
    }

    async fn owns(&mut self, claim: &Claim) -> Result<bool, SqlError> {
        Ok(self.owner(&claim.schema).await? == Some(claim.user.clone()))
    }

    async fn change_password(&mut self, user: &str, password: &str) -> Result<(), SqlError> {
        let verifier = literal(&postgres_protocol::password::scram_sha_256(password.as_bytes()))?;
        let statement = format!("ALTER ROLE {} LOGIN PASSWORD {verifier}", quoted(user)?);
        self.order("set a password", &statement).await
    }

    async fn schema_exists(&mut self, schema: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1::text FROM pg_database WHERE datname = $1";
        self.exists("look for a database", statement, schema).await
    }

    async fn user_exists(&mut self, user: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1::text FROM pg_roles WHERE rolname = $1";
        self.exists("look for a role", statement, user).await
    }

    async fn has_rights_of_its_own(&mut self, user: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1::text FROM pg_roles WHERE rolname = $1 AND (rolsuper OR rolcreaterole OR rolcreatedb \
                         OR rolreplication OR rolbypassrls OR starts_with(rolname::text, 'pg_'))";
        self.exists("look up a role", statement, user).await
    }

    async fn make(&mut self, claim: &Claim) -> Result<(), SqlError> {
        let (schema, user) = (quoted(&claim.schema)?, quoted(&claim.user)?);
        if !self.user_exists(&claim.user).await? {
            // Without a password nobody gets in.
            self.order("make a role", &format!("CREATE ROLE {user} LOGIN")).await?;
        }
        match self.owner(&claim.schema).await? {
            Some(owner) if owner == claim.user => self.join(&claim.user).await?,
            Some(owner) => {
                self.join(&owner).await?;
                self.join(&claim.user).await?;
                let statement = format!("ALTER DATABASE {schema} OWNER TO {user}");
                self.order("give a database to its role", &statement).await?;
            }
            None => {
                self.join(&claim.user).await?;
                let statement = format!("CREATE DATABASE {schema} OWNER {user} TEMPLATE template0 CONNECTION LIMIT 0");
                self.order("make a database", &statement).await?;
            }
        }
        self.close(&claim.schema).await
    }

    async fn lock_out(&mut self, user: &str) -> Result<(), SqlError> {
        if !self.user_exists(user).await? {
            return Ok(());
        }
        self.join(user).await?;
        let statement = format!("ALTER ROLE {} NOLOGIN", quoted(user)?);
        self.order("lock a role out", &statement).await?;
        let statement = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE usename = $1";
        ask(&self.client, "end the connections of a role", statement, &[user]).await?;
        Ok(())
    }

    async fn drop_schema(&mut self, schema: &str) -> Result<(), SqlError> {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(schema)?);
        self.order("drop a database", &statement).await
    }

    async fn drop_user(&mut self, user: &str) -> Result<(), SqlError> {
        let name = quoted(user)?;
        let drop = format!("DROP ROLE IF EXISTS {name}");
        match self.order("drop a role", &drop).await {
            // It has left things where everybody may.
            Err(error) if error.code() == "2BP01" => {
                let statement = format!("DROP OWNED BY {name} CASCADE");
                self.order("drop what a role has left", &statement).await?;
                self.order("drop a role", &drop).await
            }
            result => result,
        }
    }
}

fn quoted(name: &str) -> Result<String, SqlError> {
    Ok(POSTGRES.identifier(name)?)
}

pub(super) async fn open(
    login: &SqlLogin,
    tls: Option<Arc<ClientConfig>>,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, SqlError> {
    let step = "connect";
    let mut config = Config::new();
    config
        .host(&login.host)
        .port(login.port)
        .user(user)
        .password(password)
        .dbname(database)
        .application_name("cotenant")
        .connect_timeout(Duration::from_secs(3))
        .ssl_mode(if tls.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        });
    // A connection is driven by its task and ends with its client.
    let connecting = async {
        let client = if let Some(tls) = tls {
            let (client, connection) = config.connect(Connector(tls)).await?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            client
        };
        // What lies in other schemas is other people's, and is not taken for the server's own.
        client.batch_execute("SET search_path = pg_catalog").await?;
        Ok(client)
    };
    within(ANSWER_WITHIN, step, async {
        connecting.await.map_err(|error| failed(step, error))
    })
    .await
}

pub(super) async fn order(client: &Client, step: &'static str, statement: &str) -> Result<(), SqlError> {
    let answer = client.batch_execute(statement);
    within(MAKE_WITHIN, step, async {
        answer.await.map_err(|error| failed(step, error))
    })
    .await
}

/// Columns are text.
async fn ask(
    client: &Client,
    step: &'static str,
    statement: &str,
    values: &[&str],
) -> Result<Vec<Vec<String>>, SqlError> {
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
    let answer = async {
        let mut rows = Vec::new();
        for row in client.query(statement, &values).await? {
            rows.push(
                (0..row.len())
                    .map(|column| row.try_get(column))
                    .collect::<Result<_, _>>()?,
            );
        }
        Ok(rows)
    };
    within(ANSWER_WITHIN, step, async {
        answer.await.map_err(|error| failed(step, error))
    })
    .await
}

/// An order whose refusal with one of these codes means that it is done already.
fn unless(codes: &[&str], result: Result<(), SqlError>) -> Result<(), SqlError> {
    match result {
        Err(error) if codes.contains(&error.code()) => Ok(()),
        result => result,
    }
}

pub(super) fn failed(step: &'static str, error: tokio_postgres::Error) -> SqlError {
    let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
    let trouble = match code.as_str() {
        "" if error.is_closed() => Trouble::Unreachable,
        "" => trouble_below(&error).unwrap_or(Trouble::TlsFailed),
        code => trouble(code),
    };
    SqlError::Step {
        step,
        trouble,
        code,
        source: Cause::from(error),
    }
}

/// By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
fn trouble(code: &str) -> Trouble {
    match code {
        "28P01" | "28000" => Trouble::LoginRefused,
        "42501" => Trouble::NotAdministrator,
        "25006" => Trouble::ReadOnly,
        "57P01" | "57P02" | "57P03" | "57P05" => Trouble::Unreachable,
        _ if code.starts_with("08") => Trouble::Unreachable,
        _ if code.starts_with("53") => Trouble::Full,
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_is_wrong() {
        let rows = [
            ("28P01", Trouble::LoginRefused),
            ("28000", Trouble::LoginRefused),
            ("53100", Trouble::Full),
            ("53300", Trouble::Full),
            ("25006", Trouble::ReadOnly),
            ("08006", Trouble::Unreachable),
            ("57P03", Trouble::Unreachable),
            ("42501", Trouble::NotAdministrator),
            ("42601", Trouble::Other),
        ];
        for (code, expected) in rows {
            assert_eq!(trouble(code), expected, "{code}");
        }
    }
}
