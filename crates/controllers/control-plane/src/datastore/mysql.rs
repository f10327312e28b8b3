//! A MySQL or MariaDB that holds many control planes, each in a database of its own that a user of its own may use.
//!
//! Rights on a database are given for a pattern of names: see [`exactly`]. A user that is made without a password would let
//! everybody in, so it is made with one that nobody knows.

use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, DriverError, Error as MySqlError, Opts, OptsBuilder, Params, SslOpts, Value};

use super::claim::{Claim, Held, Unrecorded};
use super::error::{ANSWER_WITHIN, StoreError};
use super::moves::Order;
use super::quoting::{MYSQL, Unquotable, exactly, literal};
use super::sql::{self, Cause, MAKE_WITHIN, Moves, Server, SqlError, SqlLogin, Trouble, Words, trouble_below, within};

/// What kine needs of its database.
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX";

/// Rights that come through a role are not in the table of privileges, and are missed only when they are used.
const ROLES: &str = "SELECT 1 FROM information_schema.applicable_roles LIMIT 1";

/// An open connection, as the server's administrator.
pub struct MySqlStore {
    login: SqlLogin,
    connection: Conn,
}

impl std::fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlStore")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl MySqlStore {
    /// Connects and makes sure that the server takes writes.
    pub async fn connect(login: &SqlLogin) -> Result<Self, StoreError> {
        let mut store = Self {
            login: login.clone(),
            connection: open(login, &login.user, &login.password, None).await?,
        };
        let step = "look up the administrator";
        let read_only = "SELECT 1 FROM DUAL WHERE @@global.read_only = 1";
        if !store.ask(step, read_only, &[]).await?.is_empty() {
            return Err(SqlError::ReadOnly.into());
        }
        let statement = "SELECT 1 FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE' LIMIT 1";
        if store.ask(step, statement, &[]).await?.is_empty() && store.ask(step, ROLES, &[]).await?.is_empty() {
            return Err(SqlError::NotAdministrator {
                user: login.user.clone(),
            }
            .into());
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

    pub(super) async fn order(&mut self, step: &'static str, statement: &str) -> Result<(), SqlError> {
        let answer = self.connection.query_drop(statement);
        within(MAKE_WITHIN, step, async {
            answer.await.map_err(|error| failed(step, error))
        })
        .await
    }

    async fn ask(
        &mut self,
        step: &'static str,
        statement: &'static str,
        values: &[&str],
    ) -> Result<Vec<Vec<String>>, SqlError> {
        let values = match values {
            [] => Params::Empty,
            values => Params::Positional(values.iter().map(|value| Value::from(*value)).collect()),
        };
        let answer = self.connection.exec::<mysql_async::Row, _, _>(statement, values);
        let rows = within(ANSWER_WITHIN, step, async {
            answer.await.map_err(|error| failed(step, error))
        })
        .await?;
        Ok(rows.into_iter().map(texts).collect())
    }

    async fn exists(&mut self, step: &'static str, statement: &'static str, name: &str) -> Result<bool, SqlError> {
        Ok(!self.ask(step, statement, &[name]).await?.is_empty())
    }

    /// Whether others' connections are shown to us. Who may not see them is told that there are none.
    async fn sees_connections(&mut self) -> Result<bool, SqlError> {
        let step = "look up the administrator";
        // A name may contain an @.
        let statement = "SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'PROCESS' AND grantee = \
                         CONCAT('''', LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - 1 - \
                         CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))), '''@''', \
                         SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')";
        Ok(!self.ask(step, statement, &[]).await?.is_empty() || !self.ask(step, ROLES, &[]).await?.is_empty())
    }

    /// The database's name as rights are given for it.
    async fn pattern(&mut self, schema: &str) -> Result<String, SqlError> {
        // Servers that can take rights back in part take names for what they are.
        let statement = "SHOW VARIABLES WHERE Variable_name = 'partial_revokes' AND Value = 'ON'";
        let plain = self.ask("ask how rights are given", statement, &[]).await?;
        Ok(if plain.is_empty() {
            exactly(schema)
        } else {
            schema.to_owned()
        })
    }

    /// The user has the rights on its database and no others.
    async fn grant(&mut self, claim: &Claim) -> Result<(), SqlError> {
        let (pattern, account) = (self.pattern(&claim.schema).await?, account(&claim.user)?);
        let statement = format!("GRANT {RIGHTS} ON {}.* TO {account}", MYSQL.marked(&pattern));
        self.order("give rights on a database", &statement).await?;
        let statement = "SELECT Db FROM mysql.db WHERE User = ? AND Host = '%'";
        let given = self.ask("look up rights", statement, &[&claim.user]).await?;
        for other in given.into_iter().flatten().filter(|other| *other != pattern) {
            let statement = format!("REVOKE ALL PRIVILEGES ON {}.* FROM {account}", MYSQL.marked(&other));
            self.order("take rights back", &statement).await?;
        }
        Ok(())
    }
}

impl Server for MySqlStore {
    const WORDS: Words = Words {
        holder: "SELECT owner FROM `cotenant.dev`.`names` WHERE kind = ? AND name = ?",
        record: "INSERT IGNORE INTO `cotenant.dev`.`names` (kind, name, owner) VALUES (?, ?, ?)",
        of_owner: "SELECT kind, name FROM `cotenant.dev`.`names` WHERE owner = ? ORDER BY kind, name",
        forget: "DELETE FROM `cotenant.dev`.`names` WHERE kind = ? AND name = ? AND owner = ?",
        moves: Moves {
            make: "CREATE TABLE IF NOT EXISTS `cotenant.dev`.`moves` (owner VARCHAR(255) NOT NULL, place VARCHAR(16) NOT NULL, \
                   record TEXT NOT NULL, PRIMARY KEY (owner, place)) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE \
                   utf8mb4_bin",
            read: "SELECT record FROM `cotenant.dev`.`moves` WHERE owner = ? AND place = ?",
            write: "REPLACE INTO `cotenant.dev`.`moves` (owner, place, record) VALUES (?, ?, ?)",
            remove: "DELETE FROM `cotenant.dev`.`moves` WHERE owner = ? AND place = ?",
        },
    };

    fn administrator(&self) -> &str {
        &self.login.user
    }

    fn check_name(name: &str) -> Result<(), Unquotable> {
        MYSQL.check(name)
    }

    async fn open_records(&mut self, make: bool) -> Result<bool, SqlError> {
        let step = "make the records";
        if make {
            self.order(step, "CREATE DATABASE IF NOT EXISTS `cotenant.dev`").await?;
            // Names are compared by their bytes, as the server compares those of users.
            let statement = "CREATE TABLE IF NOT EXISTS `cotenant.dev`.`names` (kind VARCHAR(16) NOT NULL, name VARCHAR(255) \
                             NOT NULL, owner VARCHAR(255) NOT NULL, PRIMARY KEY (kind, name)) ENGINE = InnoDB \
                             CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
            self.order(step, statement).await?;
            return Ok(true);
        }
        let statement =
            "SELECT 1 FROM information_schema.tables WHERE table_schema = 'cotenant.dev' AND table_name = 'names'";
        Ok(!self.ask("open the records", statement, &[]).await?.is_empty())
    }

    async fn records(
        &mut self,
        step: &'static str,
        statement: &'static str,
        values: &[&str],
    ) -> Result<Vec<Vec<String>>, SqlError> {
        self.ask(step, statement, values).await
    }

    async fn log_in_as_administrator(&self, password: &str) -> Result<(), SqlError> {
        leave(open(&self.login, &self.login.user, password, None).await?).await;
        Ok(())
    }

    async fn log_in(&self, claim: &Claim, password: &str) -> Result<(), SqlError> {
        leave(open(&self.login, &claim.user, password, Some(&claim.schema)).await?).await;
        Ok(())
    }

    async fn owns(&mut self, claim: &Claim) -> Result<bool, SqlError> {
        let statement =
            "SELECT 1 FROM mysql.db WHERE User = ? AND Host = '%' AND Db IN (?, ?) AND Create_priv = 'Y' LIMIT 1";
        let values = [claim.user.as_str(), &claim.schema, &exactly(&claim.schema)];
        Ok(!self.ask("look up rights", statement, &values).await?.is_empty())
    }

    async fn change_password(&mut self, user: &str, password: &str) -> Result<(), SqlError> {
        let statement = format!("ALTER USER {} IDENTIFIED BY {}", account(user)?, literal(password)?);
        self.order("set a password", &statement).await
    }

    async fn schema_exists(&mut self, schema: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1 FROM information_schema.schemata WHERE schema_name = ?";
        self.exists("look for a database", statement, schema).await
    }

    async fn user_exists(&mut self, user: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1 FROM mysql.user WHERE User = ? LIMIT 1";
        self.exists("look for a user", statement, user).await
    }

    async fn has_rights_of_its_own(&mut self, user: &str) -> Result<bool, SqlError> {
        let statement = "SELECT 1 FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE' AND grantee LIKE \
                         CONCAT('''', REPLACE(REPLACE(?, '_', '|_'), '%', '|%'), '''@%') ESCAPE '|' LIMIT 1";
        self.exists("look up a user", statement, user).await
    }

    async fn make(&mut self, claim: &Claim) -> Result<(), SqlError> {
        let nobodys = literal(&uuid::Uuid::new_v4().to_string())?;
        let statement = format!(
            "CREATE USER IF NOT EXISTS {} IDENTIFIED BY {nobodys}",
            account(&claim.user)?
        );
        self.order("make a user", &statement).await?;
        let statement = format!("CREATE DATABASE IF NOT EXISTS {}", MYSQL.identifier(&claim.schema)?);
        self.order("make a database", &statement).await?;
        self.grant(claim).await
    }

    /// Rights that are taken away still serve connections that are open, and these could make the database anew.
    async fn lock_out(&mut self, user: &str) -> Result<(), SqlError> {
        if !self.sees_connections().await? {
            return Err(SqlError::BlindToConnections {
                user: self.login.user.clone(),
            });
        }
        let statement = format!("DROP USER IF EXISTS {}", account(user)?);
        self.order("drop a user", &statement).await?;
        let statement = "SELECT CAST(ID AS CHAR) FROM information_schema.processlist WHERE USER = ?";
        let open = self.ask("look for connections of a user", statement, &[user]).await?;
        for id in open.into_iter().flatten().filter_map(|id| id.parse::<u64>().ok()) {
            match self.order("end a connection", &format!("KILL CONNECTION {id}")).await {
                // It has ended by itself.
                Err(error) if error.code() == "1094" => {}
                result => result?,
            }
        }
        Ok(())
    }

    async fn drop_schema(&mut self, schema: &str) -> Result<(), SqlError> {
        let statement = format!("DROP DATABASE IF EXISTS {}", MYSQL.identifier(schema)?);
        self.order("drop a database", &statement).await
    }

    async fn drop_user(&mut self, user: &str) -> Result<(), SqlError> {
        self.lock_out(user).await
    }
}

/// A user as statements name it: from any host.
fn account(user: &str) -> Result<String, SqlError> {
    Ok(format!("{}@`%`", MYSQL.identifier(user)?))
}

pub(super) async fn open(
    login: &SqlLogin,
    user: &str,
    password: &str,
    database: Option<&str>,
) -> Result<Conn, SqlError> {
    let step = "connect";
    let tls = login.tls.as_ref().map(|tls| -> Result<SslOpts, SqlError> {
        // What is no certificate is said here, and not when the connection fails.
        tls.config()?;
        let client = tls.client.as_ref().map(|pair| {
            let (chain, key) = (pair.cert_pem.clone().into_bytes(), pair.key_pem.clone().into_bytes());
            ClientIdentity::new(chain.into(), key.into())
        });
        Ok(SslOpts::default()
            .with_root_certs(vec![tls.ca_pem.clone().into_bytes().into()])
            .with_disable_built_in_roots(true)
            .with_client_identity(client))
    });
    let options: Opts = OptsBuilder::default()
        .ip_or_hostname(login.host.as_str())
        .tcp_port(login.port)
        .prefer_socket(false)
        .user(Some(user))
        .pass(Some(password))
        .db_name(database)
        .ssl_opts(tls.transpose()?)
        // Quotes within texts are doubled, and nothing else means anything there.
        .init(vec!["SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'"])
        .into();
    let answer = Conn::new(options);
    within(ANSWER_WITHIN, step, async {
        answer.await.map_err(|error| failed(step, error))
    })
    .await
}

/// A connection that is dropped is a warning in the server's log. What it says at its end is of no use.
async fn leave(connection: Conn) {
    let _ = tokio::time::timeout(ANSWER_WITHIN, connection.disconnect()).await;
}

/// The columns as text. Numbers are only ever looked for.
fn texts(row: mysql_async::Row) -> Vec<String> {
    let text = |value| match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    };
    row.unwrap().into_iter().map(text).collect()
}

pub(super) fn failed(step: &'static str, error: MySqlError) -> SqlError {
    let (code, trouble) = match &error {
        MySqlError::Server(server) => (server.code.to_string(), trouble(server.code)),
        MySqlError::Driver(DriverError::NoClientSslFlagFromServer) => (String::new(), Trouble::TlsFailed),
        MySqlError::Driver(DriverError::ConnectionClosed) => (String::new(), Trouble::Unreachable),
        other => (String::new(), trouble_below(other).unwrap_or(Trouble::Other)),
    };
    SqlError::Step {
        step,
        trouble,
        code,
        source: Cause::from(error),
    }
}

/// By the server's number: https://mariadb.com/kb/en/mariadb-error-code-reference/
fn trouble(code: u16) -> Trouble {
    match code {
        // Access denied; host not allowed; TLS or another way to log in is wanted; the account is locked.
        1045 | 1130 | 1251 | 1698 | 3118 | 3159 | 4151 => Trouble::LoginRefused,
        // No right to a database, to another's connections, to a table, a kind of statement, to make users.
        1044 | 1095 | 1142 | 1227 | 1410 | 1419 => Trouble::NotAdministrator,
        // Disk, connections, memory, table.
        1021 | 1037 | 1040 | 1041 | 1114 | 1203 => Trouble::Full,
        1290 | 1792 | 1836 => Trouble::ReadOnly,
        1053 | 1077 | 1927 | 2006 | 2013 => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_is_wrong() {
        let rows = [
            (1045, Trouble::LoginRefused),
            (1044, Trouble::NotAdministrator),
            (1095, Trouble::NotAdministrator),
            (1021, Trouble::Full),
            (1040, Trouble::Full),
            (1290, Trouble::ReadOnly),
            (1053, Trouble::Unreachable),
            (1064, Trouble::Other),
        ];
        for (code, expected) in rows {
            assert_eq!(trouble(code), expected, "{code}");
        }
    }
}
