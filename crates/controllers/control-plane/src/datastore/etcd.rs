//! An etcd that holds many control planes, each in a key range of its own.
//!
//! A control plane has a user (known by the common name of its client certificate), a role named after its schema, and
//! that role's right to `/<schema>/` up to, not including, the next sibling. The slash at the end keeps `/cp-a/` apart
//! from `/cp-aa/`.
//!
//! Who has which names is remembered in the store itself, under `/cotenant.dev/`: two control planes whose admissions
//! crossed, or whose API objects were restored from a backup, still cannot meet. The same is remembered by owner, so that
//! what somebody has is found without believing what API objects say about it. An entry is made before anything else
//! and removed after everything else, so each step can be repeated after a crash at any point. Names that somebody has
//! without such an entry are an older operator's work: they are taken over only for a control plane whose status says
//! that they are its own, and refused to everybody else, together with whatever data lies there.

use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error as EtcdError, GetOptions, Identity,
    Permission, PutOptions, TlsOptions, Txn, TxnOp, UserAddOptions,
};
use tenancy::control_plane::storage::OWN_PREFIX;

pub use super::claim::{Claim, Held, Unrecorded};
use super::error::ANSWER_WITHIN;
pub use super::error::StoreError;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// etcd's administrator, both user and role.
const ROOT: &str = "root";

/// Where and as whom to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `host:port`
    pub endpoints: Vec<String>,
    pub ca_pem: String,
    pub client_cert_pem: String,
    pub client_key_pem: String,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// An open connection, as the store's administrator.
#[derive(Clone)]
pub struct EtcdStore {
    client: Client,
    /// Who we are there.
    administrator: String,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore")
            .field("administrator", &self.administrator)
            .finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects and makes sure that this is a store that keeps control planes apart: it answers, authentication is
    /// on, and we are its administrator.
    pub async fn connect(config: &StoreConfig) -> Result<Self, StoreError> {
        let info = pki::inspect(&config.client_cert_pem).map_err(StoreError::ClientCertificate)?;
        let urls: Vec<_> = config
            .endpoints
            .iter()
            .map(|endpoint| format!("https://{endpoint}"))
            .collect();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&config.ca_pem))
            .identity(Identity::from_pem(&config.client_cert_pem, &config.client_key_pem));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(CONNECT_WITHIN)
            .with_timeout(ANSWER_WITHIN);
        let client = match tokio::time::timeout(ANSWER_WITHIN, Client::connect(urls, Some(options))).await {
            Ok(client) => client.map_err(|error| StoreError::Connect(error.into()))?,
            Err(_) => return Err(StoreError::Silent { step: "connect" }),
        };
        let mut store = Self {
            client,
            administrator: info.common_name.unwrap_or_default(),
        };
        store.check().await?;
        Ok(store)
    }

    /// The connection itself, for what is more than accounts.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// See [`Self::connect`].
    pub async fn check(&mut self) -> Result<(), StoreError> {
        // There is no question that says whether authentication is on, but the refusal of a wrong login does.
        let mut auth = self.client.auth_client();
        let login = auth.authenticate("cotenant.dev/nobody".into(), "-".into());
        match answer("ask whether authentication is on", login).await {
            Err(StoreError::Step { source, .. }) if source.says("authentication is not enabled") => {
                return Err(StoreError::AuthenticationDisabled);
            }
            Err(StoreError::Step { source, .. }) if source.says("authentication failed") => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let user = self.administrator.clone();
        let not_root = StoreError::NotRoot { user: user.clone() };
        match answer("look up the administrator", self.client.user_get(user)).await {
            Ok(user) if user.roles().iter().any(|role| role == ROOT) => Ok(()),
            Ok(_) => Err(not_root),
            Err(StoreError::Step { source, .. }) if source.says("not found") || source.says("permission denied") => {
                Err(not_root)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes user, role and key range, as far as they are not there. Can be repeated.
    pub async fn ensure(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        claim.check(unrecorded)?;
        self.refuse_administrators(claim)?;
        self.record(claim, unrecorded).await?;
        unless(
            "already exists",
            answer("add a role", self.client.role_add(claim.schema.as_str())).await,
        )?;
        self.grant_range(claim).await?;
        let options = UserAddOptions::new().with_no_pwd();
        let add = self.client.user_add(claim.user.as_str(), "", Some(options));
        unless("already exists", answer("add a user", add).await)?;
        self.grant_role(claim).await
    }

    /// The role's right is exactly the key range of the schema: what it has beyond that is taken away.
    async fn grant_range(&mut self, claim: &Claim) -> Result<(), StoreError> {
        let (key, end) = key_range(&claim.schema);
        let role = answer("look up a role", self.client.role_get(claim.schema.as_str())).await?;
        let mut granted = false;
        for permission in role.permissions() {
            let read_write = Permission::read_write(key.clone()).with_range_end(end.clone());
            if permission == read_write {
                granted = true;
                continue;
            }
            // Another right to the same range is replaced below in one step: nobody's reads fail in between.
            if permission.key() == key && permission.range_end() == end {
                continue;
            }
            let options =
                etcd_client::RoleRevokePermissionOptions::new().with_range_end(permission.range_end().to_vec());
            let revoke =
                self.client
                    .role_revoke_permission(claim.schema.as_str(), permission.key().to_vec(), Some(options));
            answer("take rights from a role", revoke).await?;
        }
        if !granted {
            let permission = Permission::read_write(key).with_range_end(end);
            let grant = self.client.role_grant_permission(claim.schema.as_str(), permission);
            answer("grant a key range", grant).await?;
        }
        Ok(())
    }

    /// The user has the role of its schema and no other.
    async fn grant_role(&mut self, claim: &Claim) -> Result<(), StoreError> {
        let user = answer("look up a user", self.client.user_get(claim.user.as_str())).await?;
        for role in user.roles().iter().filter(|role| **role != claim.schema) {
            let revoke = self.client.user_revoke_role(claim.user.as_str(), role.as_str());
            answer("take a role from a user", revoke).await?;
        }
        if !user.roles().contains(&claim.schema) {
            let grant = self.client.user_grant_role(claim.user.as_str(), claim.schema.as_str());
            answer("grant a role", grant).await?;
        }
        Ok(())
    }

    /// Takes the rights away, then the data, then the user. What is not there is no fault; what is on record as
    /// another's is left alone. Can be repeated.
    pub async fn remove(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        if claim.schema.is_empty() || claim.user.is_empty() {
            return Err(StoreError::Refused("a name is empty".into()));
        }
        self.refuse_administrators(claim)?;
        let [mut schema, mut user] = self.holders(claim).await?;
        let ours = |holder: &Option<String>| match holder {
            Some(holder) => *holder == claim.owner,
            None => unrecorded == Unrecorded::Adopt,
        };
        if unrecorded == Unrecorded::Adopt && ours(&schema) && ours(&user) {
            // What is half gone proves no more whose it was.
            self.record(claim, unrecorded).await?;
            [schema, user] = self.holders(claim).await?;
        }
        if ours(&schema) {
            unless(
                "not found",
                answer("delete a role", self.client.role_delete(claim.schema.as_str())).await,
            )?;
            let (key, end) = key_range(&claim.schema);
            let options = DeleteOptions::new().with_range(end);
            answer("delete keys", self.client.delete(key, Some(options))).await?;
        }
        if ours(&user) {
            unless(
                "not found",
                answer("delete a user", self.client.user_delete(claim.user.as_str())).await,
            )?;
        }
        for (record, holder) in records(claim).into_iter().zip([schema, user]) {
            if holder.as_ref() == Some(&claim.owner) {
                let both = [record_by_owner(&claim.owner, &record), record];
                let transaction = Txn::new().and_then(both.map(|key| TxnOp::delete(key, None)));
                answer("remove a record", self.client.txn(transaction)).await?;
            }
        }
        let moves = DeleteOptions::new().with_prefix();
        let record = format!("/{OWN_PREFIX}/migrations/{}/", claim.owner);
        answer("remove a record", self.client.delete(record, Some(moves))).await?;
        Ok(())
    }

    /// See [`super::store::Store::has`].
    pub async fn has(&mut self, claim: &Claim) -> Result<bool, StoreError> {
        Ok(self.schema_exists(&claim.schema).await? || self.user_exists(&claim.user).await?)
    }

    /// See [`super::store::Store::proves`]. A certificate shows who the user is, and its roles what it may reach.
    pub async fn proves(&mut self, claim: &Claim, certified: bool) -> Result<bool, StoreError> {
        match answer("look up a user", self.client.user_get(claim.user.as_str())).await {
            Ok(user) => Ok(certified && user.roles().contains(&claim.schema)),
            Err(StoreError::Step { source, .. }) if source.says("not found") => {
                Ok(!self.schema_exists(&claim.schema).await?)
            }
            Err(error) => Err(error),
        }
    }

    fn refuse_administrators(&self, claim: &Claim) -> Result<(), StoreError> {
        let is_root = |name: &str| name.eq_ignore_ascii_case(ROOT) || name == self.administrator;
        let own = |schema: &str| schema.trim_matches('/').split('/').next() == Some(OWN_PREFIX);
        if is_root(&claim.user) || is_root(&claim.schema) || own(&claim.schema) {
            return Err(StoreError::Refused(
                "a name belongs to the store's administrator".into(),
            ));
        }
        Ok(())
    }

    /// What is on record as this owner's. Of names that were recorded before there were entries by owner, only `named` are
    /// found.
    pub async fn held(&mut self, owner: &str, named: Option<(&str, &str)>) -> Result<Held, StoreError> {
        let (first, end) = range_of_owner(owner);
        let (schemas, users) = (format!("{first}schemas/"), format!("{first}users/"));
        let options = GetOptions::new().with_range(end).with_keys_only();
        let found = answer("look up an owner", self.client.get(first, Some(options))).await?;
        let mut held = Held::default();
        for entry in found.kvs() {
            let key = String::from_utf8_lossy(entry.key());
            if let Some(schema) = key.strip_prefix(&schemas) {
                held.schemas.push(schema.to_owned());
            } else if let Some(user) = key.strip_prefix(&users) {
                held.users.push(user.to_owned());
            }
        }
        let Some((schema, user)) = named else {
            return Ok(held);
        };
        for (names, name, record) in [
            (&mut held.schemas, schema, record(SCHEMAS, schema)),
            (&mut held.users, user, record(USERS, user)),
        ] {
            if !names.iter().any(|known| known == name) && self.holder(&record).await?.as_deref() == Some(owner) {
                names.push(name.to_owned());
            }
        }
        Ok(held)
    }

    /// Writes down whose the names are, unless that is known.
    async fn record(&mut self, claim: &Claim, unrecorded: Unrecorded) -> Result<(), StoreError> {
        let taken = |what: &'static str, name: &str| {
            Err(StoreError::Taken {
                what,
                name: name.to_owned(),
            })
        };
        let [schema, user] = self.holders(claim).await?;
        let foreign = |holder: &Option<String>| holder.as_ref().is_some_and(|holder| *holder != claim.owner);
        if foreign(&schema) {
            return taken("schema", &claim.schema);
        }
        if foreign(&user) {
            return taken("user", &claim.user);
        }
        if unrecorded == Unrecorded::Refuse {
            if schema.is_none() && self.schema_exists(&claim.schema).await? {
                return taken("schema", &claim.schema);
            }
            if user.is_none() && self.user_exists(&claim.user).await? {
                return taken("user", &claim.user);
            }
        }
        let names = [("schema", &claim.schema, schema), ("user", &claim.user, user)];
        for (record, (what, name, holder)) in records(claim).into_iter().zip(names) {
            let by_owner = record_by_owner(&claim.owner, &record);
            if holder.is_some() {
                // Ours. It may have been recorded before there were entries by owner.
                let transaction = Txn::new()
                    .when([Compare::create_revision(by_owner.as_str(), CompareOp::Equal, 0)])
                    .and_then([TxnOp::put(by_owner.as_str(), "", None::<PutOptions>)]);
                answer("record an owner", self.client.txn(transaction)).await?;
                continue;
            }
            // Whoever comes first has it.
            let transaction = Txn::new()
                .when([Compare::create_revision(record.as_str(), CompareOp::Equal, 0)])
                .and_then([
                    TxnOp::put(record.as_str(), claim.owner.as_str(), None::<PutOptions>),
                    TxnOp::put(by_owner, "", None::<PutOptions>),
                ]);
            let first = answer("record an owner", self.client.txn(transaction))
                .await?
                .succeeded();
            if !first && self.holder(&record).await?.as_ref() != Some(&claim.owner) {
                return taken(what, name);
            }
        }
        Ok(())
    }

    async fn schema_exists(&mut self, schema: &str) -> Result<bool, StoreError> {
        match answer("look up a role", self.client.role_get(schema)).await {
            Ok(_) => return Ok(true),
            Err(StoreError::Step { source, .. }) if source.says("not found") => {}
            Err(error) => return Err(error),
        }
        let (key, end) = key_range(schema);
        let options = GetOptions::new().with_range(end).with_limit(1).with_keys_only();
        let found = answer("look for keys", self.client.get(key, Some(options))).await?;
        Ok(!found.kvs().is_empty())
    }

    async fn user_exists(&mut self, user: &str) -> Result<bool, StoreError> {
        match answer("look up a user", self.client.user_get(user)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Step { source, .. }) if source.says("not found") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn holders(&mut self, claim: &Claim) -> Result<[Option<String>; 2], StoreError> {
        let [schema, user] = records(claim);
        Ok([self.holder(&schema).await?, self.holder(&user).await?])
    }

    async fn holder(&mut self, record: &str) -> Result<Option<String>, StoreError> {
        let found = answer("read a record", self.client.get(record, None)).await?;
        Ok(found
            .kvs()
            .first()
            .map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
    }
}

/// The keys of a schema, as first key and the first key after them.
fn key_range(schema: &str) -> (Vec<u8>, Vec<u8>) {
    let key = format!("/{}/", schema.trim_matches('/')).into_bytes();
    let mut end = key.clone();
    // The last byte is a slash, so the next one exists: `0`.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (key, end)
}

const SCHEMAS: &str = "schemas";
const USERS: &str = "users";

/// Where it is written down whose schema and user these are.
fn records(claim: &Claim) -> [String; 2] {
    [record(SCHEMAS, &claim.schema), record(USERS, &claim.user)]
}

fn record(what: &str, name: &str) -> String {
    format!("/{OWN_PREFIX}/{what}/{name}")
}

/// The same by owner, for a record.
fn record_by_owner(owner: &str, record: &str) -> String {
    let rest = record.strip_prefix(&format!("/{OWN_PREFIX}/")).unwrap_or(record);
    format!("{}{rest}", range_of_owner(owner).0)
}

/// Everything by this owner: first key, and the first one after.
fn range_of_owner(owner: &str) -> (String, String) {
    // After a slash comes `0`.
    (
        format!("/{OWN_PREFIX}/owners/{owner}/"),
        format!("/{OWN_PREFIX}/owners/{owner}0"),
    )
}

async fn answer<T>(step: &'static str, question: impl Future<Output = Result<T, EtcdError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_WITHIN, question).await {
        Ok(answer) => answer.map_err(|error| StoreError::Step {
            step,
            source: error.into(),
        }),
        Err(_) => Err(StoreError::Silent { step }),
    }
}

/// A step whose refusal with that text means that there is nothing left to do.
fn unless<T>(text: &str, result: Result<T, StoreError>) -> Result<(), StoreError> {
    match result {
        Ok(_) => Ok(()),
        Err(StoreError::Step { source, .. }) if source.says(text) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_a_schemas_keys_and_no_siblings() {
        let within = |schema: &str, key: &str| {
            let (first, end) = key_range(schema);
            (first.as_slice()..end.as_slice()).contains(&key.as_bytes())
        };
        assert!(within("cp-a", "/cp-a/registry/pods/x"));
        assert!(within("cp-a", "/cp-a/\u{10ffff}"));
        assert!(!within("cp-a", "/cp-aa/registry"));
        assert!(!within("cp-a", "/cp-a0"));
        assert!(!within("cp-a", "/cp-a"));
        assert!(!within("cp-aa", "/cp-a/registry"));
        assert!(within("/cp-a/", "/cp-a/registry"));
    }

    #[test]
    fn records_by_owner_are_apart_from_those_of_longer_names() {
        let (first, end) = range_of_owner("uid-1");
        let within = |owner: &str| {
            let key = record_by_owner(owner, &record(SCHEMAS, "oil/x"));
            (first.as_str()..end.as_str()).contains(&key.as_str())
        };
        assert_eq!(
            record_by_owner("uid-1", &record(SCHEMAS, "oil/x")),
            "/cotenant.dev/owners/uid-1/schemas/oil/x"
        );
        assert!(within("uid-1"));
        assert!(!within("uid-11") && !within("uid-") && !within("uid-0"));
    }

    #[test]
    fn configurations_do_not_print_keys() {
        let config = StoreConfig {
            endpoints: vec!["etcd:2379".into()],
            ca_pem: "ca".into(),
            client_cert_pem: "cert".into(),
            client_key_pem: "very secret".into(),
        };
        assert_eq!(format!("{config:?}"), r#"StoreConfig { endpoints: ["etcd:2379"], .. }"#);
    }
}
