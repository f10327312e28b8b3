//! What PostgreSQL and MySQL have in common: how to log in, what goes wrong, and how it is remembered whose the names are.
//!
//! Who has which names is written down in the store itself, as in [`super::etcd`] and for the same reasons: in a database of
//! our own, `cotenant.dev`, which no control plane is given. A row is made before anything else and removed after everything
//! else, so each step can be repeated after a crash at any point. Of two who want one name at the same time the key of the
//! table lets one have it.
//!
//! We never log into a control plane's database as administrator: its owner may put functions, operators and settings
//! there that would run with our rights.

use tenancy::control_plane::storage;

use super::claim::{Claim, Held, Unrecorded};
use super::error::{ANSWER_WITHIN, StoreError, UNREACHABLE};
use super::moves::{Order, PLACES};
use super::quoting::Unquotable;
use super::tls::ClientTls;

pub(super) const SCHEMA: &str = "schema";
pub(super) const USER: &str = "user";

/// Where and as whom to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlLogin {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// `None` if the DataStore has no `tlsConfig`.
    pub tls: Option<ClientTls>,
}

impl std::fmt::Debug for SqlLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlLogin")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong, as far as a server or a connection lets us know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// User, password or client certificate are not accepted.
    LoginRefused,
    /// The server's certificate is not its own, or not of the DataStore's authority.
    CertificateInvalid,
    /// TLS came to nothing for another reason.
    TlsFailed,
    Unreachable,
    /// Disk, memory or connections are used up.
    Full,
    /// It is a replica, or has been set so.
    ReadOnly,
    /// We may log in and not do what has to be done.
    NotAdministrator,
    Other,
}

impl Trouble {
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::LoginRefused => "LoginRefused",
            Self::CertificateInvalid => "CertificateInvalid",
            Self::TlsFailed => "TlsFailed",
            Self::Unreachable => UNREACHABLE,
            Self::Full => "StoreFull",
            Self::ReadOnly => "StoreReadOnly",
            Self::NotAdministrator => "NotAdministrator",
            Self::Other => "StepFailed",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::LoginRefused => ": the store refuses this user with this password or client certificate",
            Self::CertificateInvalid => {
                ": the server's certificate is not for this host, or not signed by spec.tlsConfig.certificateAuthority"
            }
            Self::TlsFailed => ": no TLS with the server",
            Self::Unreachable => ": the store does not answer",
            Self::Full => ": the store has no room or no connections left",
            Self::ReadOnly => ": the store takes no writes; name the primary in spec.endpoints",
            Self::NotAdministrator => {
                ": the user of the DataStore must be allowed to make databases and users, and to end their connections"
            }
            Self::Other => "",
        }
    }
}

/// Why an SQL store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("failed to {step}{}", trouble.advice())]
    Step {
        step: &'static str,
        trouble: Trouble,
        /// The server's own number of the error, if it gave one.
        code: String,
        #[source]
        source: Cause,
    },
    #[error("failed to {step}: no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent { step: &'static str },
    #[error("failed to {step}: the server sends more than it said there was")]
    TooMuch { step: &'static str },
    #[error("failed to read the certificates of the DataStore")]
    Material(#[source] Cause),
    #[error("failed to use the store: its user {user:?} may not make databases and users")]
    NotAdministrator { user: String },
    #[error(
        "failed to look for connections of a user: the store shows its user {user:?} none but its own; grant it PROCESS on *.*"
    )]
    BlindToConnections { user: String },
    #[error(
        "failed to use the store: it is a replica, or takes no writes for another reason; name the primary in spec.endpoints"
    )]
    ReadOnly,
    #[error("failed to use the store: its database {0:?} belongs to somebody who is no administrator")]
    ForeignRecords(&'static str),
    #[error("failed to write a statement")]
    Unquotable(#[from] Unquotable),
}

impl SqlError {
    pub(super) fn category(&self) -> &'static str {
        match self {
            Self::Step { trouble, .. } => trouble.category(),
            Self::Silent { .. } => UNREACHABLE,
            Self::Material(_) => "CredentialsInvalid",
            Self::NotAdministrator { .. } | Self::BlindToConnections { .. } => "NotAdministrator",
            Self::ReadOnly => Trouble::ReadOnly.category(),
            Self::ForeignRecords(_) => "RecordsForeign",
            Self::TooMuch { .. } => Trouble::Other.category(),
            Self::Unquotable(_) => "NameRefused",
        }
    }

    pub(super) fn is_refused_login(&self) -> bool {
        matches!(
            self,
            Self::Step {
                trouble: Trouble::LoginRefused,
                ..
            }
        )
    }

    pub(super) fn code(&self) -> &str {
        match self {
            Self::Step { code, .. } => code,
            _ => "",
        }
    }
}

/// What a connection's failure is, from what lies at its ground. `None` if that is neither TLS nor the network.
pub(super) fn trouble_below(error: &(dyn std::error::Error + 'static)) -> Option<Trouble> {
    let mut at = Some(error);
    let mut found = None;
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            found = Some(Trouble::Unreachable);
            if let Some(inner) = io.get_ref() {
                at = Some(inner);
                continue;
            }
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(match tls {
                rustls::Error::InvalidCertificate(_) => Trouble::CertificateInvalid,
                // The server's side of the same: it does not want ours.
                rustls::Error::AlertReceived(_) => Trouble::LoginRefused,
                _ => Trouble::TlsFailed,
            });
        }
        at = error.source();
    }
    found
}

/// Questions and orders that both servers understand, each in its own words.
pub(super) struct Words {
    /// Owner of a name: kind, name.
    pub(super) holder: &'static str,
    /// Writes a name down unless it is: kind, name, owner.
    pub(super) record: &'static str,
    /// Kind and name of everything of an owner, in order.
    pub(super) of_owner: &'static str,
    /// Removes a name of an owner: kind, name, owner.
    pub(super) forget: &'static str,
    pub(super) moves: Moves,
}

/// The table of [`super::moves`].
pub(super) struct Moves {
    pub(super) make: &'static str,
    /// What is on record: owner, place.
    pub(super) read: &'static str,
    /// Writes it down in the place of what was there: owner, place, record.
    pub(super) write: &'static str,
    /// Removes it: owner, place.
    pub(super) remove: &'static str,
}

/// One server, as its administrator.
pub(super) trait Server {
    const WORDS: Words;

    /// What the server calls us.
    fn administrator(&self) -> &str;
    /// Refuses what cannot be a name there.
    fn check_name(name: &str) -> Result<(), Unquotable>;
    /// Opens our own database, and makes it if `make`. Gives whether it is there.
    async fn open_records(&mut self, make: bool) -> Result<bool, SqlError>;
    /// Asks our own database. All columns are text.
    async fn records(
        &mut self,
        step: &'static str,
        statement: &'static str,
        values: &[&str],
    ) -> Result<Vec<Vec<String>>, SqlError>;
    /// Logs in as the administrator.
    async fn log_in_as_administrator(&self, password: &str) -> Result<(), SqlError>;
    /// Logs in as a user, to its database.
    async fn log_in(&self, claim: &Claim, password: &str) -> Result<(), SqlError>;
    /// Whether the user has the rights on its database that only a user made for it has.
    async fn owns(&mut self, claim: &Claim) -> Result<bool, SqlError>;
    /// Makes this the password of a user.
    async fn change_password(&mut self, user: &str, password: &str) -> Result<(), SqlError>;
    async fn schema_exists(&mut self, schema: &str) -> Result<bool, SqlError>;
    async fn user_exists(&mut self, user: &str) -> Result<bool, SqlError>;
    /// Whether a user exists that may do something to the server itself.
    async fn has_rights_of_its_own(&mut self, user: &str) -> Result<bool, SqlError>;
    /// Makes user and database, and gives the one all rights that it needs to the other, and no more.
    async fn make(&mut self, claim: &Claim) -> Result<(), SqlError>;
    /// Ends what a user does and keeps it from coming back.
    async fn lock_out(&mut self, user: &str) -> Result<(), SqlError>;
    async fn drop_schema(&mut self, schema: &str) -> Result<(), SqlError>;
    async fn drop_user(&mut self, user: &str) -> Result<(), SqlError>;
}

/// See [`super::store::Store::ensure`].
pub(super) async fn ensure<S: Server>(server: &mut S, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
    claim.check(unrecorded)?;
    refuse_own(server, &claim.schema)?;
    refuse_own(server, &claim.user)?;
    refuse_administrator(server, &claim.user).await?;
    // Once per account: a server may count logins that fail.
    let owner = Some(claim.owner.clone());
    if holders(server, claim).await?.iter().any(|holder| *holder != owner) {
        demand_password(server).await?;
    }
    server.open_records(true).await?;
    record(server, claim, unrecorded).await?;
    Ok(server.make(claim).await?)
}

/// Refuses a server that lets its administrator in without the password. The client certificate does not tell: pods of all
/// control planes in the store have it.
async fn demand_password<S: Server>(server: &S) -> Result<(), StoreError> {
    for password in [uuid::Uuid::new_v4().to_string(), String::new()] {
        match server.log_in_as_administrator(&password).await {
            Ok(()) => {
                return Err(StoreError::PasswordNotAsked {
                    user: server.administrator().to_owned(),
                });
            }
            Err(error) if error.is_refused_login() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// See [`super::store::Store::set_password`].
pub(super) async fn set_password<S: Server>(server: &mut S, claim: &Claim, password: &str) -> Result<bool, StoreError> {
    // A server that lets everybody in is told from one that knows the password by one that nobody has.
    match server.log_in(claim, &uuid::Uuid::new_v4().to_string()).await {
        Ok(()) => return Err(StoreError::AuthenticationDisabled),
        Err(error) if error.is_refused_login() => {}
        Err(error) => return Err(error.into()),
    }
    match server.log_in(claim, password).await {
        Ok(()) => return Ok(false),
        Err(error) if error.is_refused_login() => {}
        Err(error) => return Err(error.into()),
    }
    server.change_password(&claim.user, password).await?;
    server.log_in(claim, password).await?;
    Ok(true)
}

/// See [`super::store::Store::proves`].
pub(super) async fn proves<S: Server>(server: &mut S, claim: &Claim, password: &str) -> Result<bool, StoreError> {
    if S::check_name(&claim.schema).is_err() || S::check_name(&claim.user).is_err() {
        return Ok(false);
    }
    match server.log_in(claim, password).await {
        // Others' databases may be open to everybody.
        Ok(()) => Ok(server.owns(claim).await?),
        Err(error) if error.category() == Trouble::Unreachable.category() => Err(error.into()),
        Err(_) => Ok(!has(server, claim).await?),
    }
}

/// See [`super::store::Store::has`].
pub(super) async fn has<S: Server>(server: &mut S, claim: &Claim) -> Result<bool, StoreError> {
    Ok(server.schema_exists(&claim.schema).await? || server.user_exists(&claim.user).await?)
}

/// See [`super::store::Store::remove`].
pub(super) async fn remove<S: Server>(server: &mut S, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
    if claim.schema.is_empty() || claim.user.is_empty() {
        return Err(StoreError::Refused("a name is empty".into()));
    }
    let [schema, user] = holders(server, claim).await?;
    let ours = |holder: &Option<String>| match holder {
        Some(holder) => *holder == claim.owner,
        None => unrecorded == Unrecorded::Adopt,
    };
    let (schema_is_ours, user_is_ours) = (ours(&schema), ours(&user));
    let names = [
        (SCHEMA, &claim.schema, schema_is_ours),
        (USER, &claim.user, user_is_ours),
    ];
    for (kind, name, _) in names.iter().filter(|(_, _, is_ours)| *is_ours) {
        refuse_own(server, name)?;
        if *kind == USER {
            refuse_administrator(server, name).await?;
        }
    }
    for (kind, name, _) in names.iter().filter(|(_, _, is_ours)| *is_ours) {
        // What is half gone shows no more whose it was.
        server.open_records(true).await?;
        let values = [*kind, name.as_str(), claim.owner.as_str()];
        server.records("record an owner", S::WORDS.record, &values).await?;
    }
    if user_is_ours {
        server.lock_out(&claim.user).await?;
    }
    if schema_is_ours {
        server.drop_schema(&claim.schema).await?;
    }
    if user_is_ours {
        server.drop_user(&claim.user).await?;
    }
    for (kind, name, _) in names.iter().filter(|(_, _, is_ours)| *is_ours) {
        let values = [*kind, name.as_str(), claim.owner.as_str()];
        server.records("remove a record", S::WORDS.forget, &values).await?;
    }
    if schema_is_ours {
        for place in PLACES {
            let owner = claim.owner.as_str();
            on_moves(server, Order::Remove { owner, place }).await?;
        }
    }
    Ok(())
}

/// See [`super::store::Store::held`].
pub(super) async fn held<S: Server>(server: &mut S, owner: &str) -> Result<Held, StoreError> {
    let mut held = Held::default();
    if !server.open_records(false).await? {
        return Ok(held);
    }
    for row in server.records("look up an owner", S::WORDS.of_owner, &[owner]).await? {
        match &row[..] {
            [kind, name] if kind == SCHEMA => held.schemas.push(name.clone()),
            [kind, name] if kind == USER => held.users.push(name.clone()),
            _ => {}
        }
    }
    Ok(held)
}

/// See [`super::moves`].
pub(super) async fn on_moves<S: Server>(server: &mut S, order: Order<'_>) -> Result<Option<String>, StoreError> {
    server.open_records(true).await?;
    server
        .records("make the records of moves", S::WORDS.moves.make, &[])
        .await?;
    let (step, statement, values) = match &order {
        Order::Read { owner, place } => ("read the record of a move", S::WORDS.moves.read, vec![*owner, *place]),
        Order::Write { owner, place, record } => ("record a move", S::WORDS.moves.write, vec![*owner, *place, *record]),
        Order::Remove { owner, place } => (
            "remove the record of a move",
            S::WORDS.moves.remove,
            vec![*owner, *place],
        ),
    };
    let rows = server.records(step, statement, &values).await?;
    Ok(rows.into_iter().flatten().next())
}

/// Names of the server's own, and ours, are nobody's, however they came into an object.
fn refuse_own<S: Server>(server: &S, name: &str) -> Result<(), StoreError> {
    S::check_name(name).map_err(|error| StoreError::Refused(error.to_string()))?;
    if name.eq_ignore_ascii_case(server.administrator()) || storage::is_reserved(name) {
        return Err(administrators());
    }
    Ok(())
}

/// A user that may do more than a control plane's is not one.
async fn refuse_administrator<S: Server>(server: &mut S, user: &str) -> Result<(), StoreError> {
    if server.has_rights_of_its_own(user).await? {
        return Err(administrators());
    }
    Ok(())
}

fn administrators() -> StoreError {
    StoreError::Refused("a name belongs to the store's administrator".into())
}

/// Writes down whose the names are, unless that is known.
async fn record<S: Server>(server: &mut S, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
    let taken = |what: &'static str, name: &str| {
        Err(StoreError::Taken {
            what,
            name: name.to_owned(),
        })
    };
    let [schema, user] = holders(server, claim).await?;
    let names = [(SCHEMA, &claim.schema, schema), (USER, &claim.user, user)];
    for (what, name, holder) in &names {
        if holder.as_ref().is_some_and(|holder| *holder != claim.owner) {
            return taken(what, name);
        }
        let unknown = holder.is_none() && unrecorded == Unrecorded::Refuse;
        let exists = unknown
            && match *what {
                SCHEMA => server.schema_exists(name).await?,
                _ => server.user_exists(name).await?,
            };
        if exists {
            return taken(what, name);
        }
    }
    for (what, name, holder) in &names {
        if holder.is_some() {
            continue;
        }
        // Whoever comes first has it.
        let values = [*what, name.as_str(), claim.owner.as_str()];
        server.records("record an owner", S::WORDS.record, &values).await?;
        if find_holder(server, what, name).await?.as_ref() != Some(&claim.owner) {
            return taken(what, name);
        }
    }
    Ok(())
}

async fn holders<S: Server>(server: &mut S, claim: &Claim) -> Result<[Option<String>; 2], SqlError> {
    if !server.open_records(false).await? {
        return Ok([None, None]);
    }
    Ok([
        find_holder(server, SCHEMA, &claim.schema).await?,
        find_holder(server, USER, &claim.user).await?,
    ])
}

async fn find_holder<S: Server>(server: &mut S, kind: &str, name: &str) -> Result<Option<String>, SqlError> {
    // What cannot be a name has no holder.
    if S::check_name(name).is_err() {
        return Ok(None);
    }
    let rows = server.records("read a record", S::WORDS.holder, &[kind, name]).await?;
    Ok(rows.into_iter().flatten().next())
}

/// An answer in time, or words about it. Drivers' futures are large, and copied on the way: they are boxed.
pub(super) async fn within<T>(
    time: std::time::Duration,
    step: &'static str,
    answer: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    tokio::time::timeout(time, Box::pin(answer))
        .await
        .unwrap_or(Err(SqlError::Silent { step }))
}

/// How long a server may need to make or drop a database: it copies and removes files.
pub(super) const MAKE_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);
