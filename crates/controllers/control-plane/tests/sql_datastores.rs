//! PostgreSQL and MySQL as datastores, against real servers: a PostgreSQL and a MariaDB that want TLS, a client
//! certificate and a password.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own functions are tests too")]

mod bed;

use api::kamaji::v1alpha1::DataStore;
use bed::{World, eventually, merge, when};
use control_plane_controller::datastore::claim::{Claim, Held, Unrecorded};
use control_plane_controller::datastore::error::StoreError;
use control_plane_controller::datastore::sql::SqlLogin;
use control_plane_controller::datastore::store::{Login, Store};
use control_plane_controller::datastore::tls::ClientTls;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::SqlServer;

fn login(server: &SqlServer) -> SqlLogin {
    let (host, port) = server.endpoint.rsplit_once(':').unwrap();
    SqlLogin {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        user: server.user.clone(),
        password: server.password.clone(),
        tls: Some(ClientTls {
            ca_pem: server.ca_cert_pem.clone(),
            client: Some(server.client.clone()),
        }),
    }
}

async fn connect(server: &SqlServer, login: SqlLogin) -> Result<Store, StoreError> {
    let login = match server.driver() {
        "PostgreSQL" => Login::Postgres(login),
        _ => Login::MySql(login),
    };
    Store::connect(&login).await
}

async fn administrate(server: &SqlServer) -> Store {
    connect(server, login(server)).await.unwrap()
}

fn claim(schema: &str, user: &str, owner: &str) -> Claim {
    Claim {
        schema: schema.to_owned(),
        user: user.to_owned(),
        owner: owner.to_owned(),
    }
}

fn held(schemas: &[&str], users: &[&str]) -> Held {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Held {
        schemas: owned(schemas),
        users: owned(users),
    }
}

async fn databases(server: &SqlServer) -> Vec<String> {
    let statement = match server.driver() {
        "PostgreSQL" => "SELECT datname FROM pg_database ORDER BY datname",
        _ => "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name",
    };
    let listed = server.run(statement).await.unwrap();
    listed.lines().map(str::to_owned).collect()
}

async fn users(server: &SqlServer) -> Vec<String> {
    let statement = match server.driver() {
        "PostgreSQL" => "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'",
        _ => "SELECT User FROM mysql.user",
    };
    let listed = server.run(statement).await.unwrap();
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_accounts() {
    keeps_accounts(SqlServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_keeps_accounts() {
    keeps_accounts(SqlServer::mariadb().await).await;
}

/// From the first to the last day of an account, beside a neighbour whose name a pattern of rights would match.
async fn keeps_accounts(server: SqlServer) {
    let mut store = administrate(&server).await;
    let (oil, gas) = (claim("o_l", "olaf", "uid-oil"), claim("oil", "greta", "uid-gas"));
    assert_eq!(store.held("uid-oil", None).await.unwrap(), Held::default());
    store.ensure(&gas, Unrecorded::Refuse).await.unwrap();
    store.set_password(&gas, "secret of gas").await.unwrap();
    let table = "CREATE TABLE kine (name VARCHAR(630), value INTEGER)";
    let row = "INSERT INTO kine VALUES ('/registry/a', 7)";
    server.run_as("greta", "secret of gas", "oil", table).await.unwrap();
    server.run_as("greta", "secret of gas", "oil", row).await.unwrap();

    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    assert!(
        server.run_as("olaf", "", "o_l", "SELECT 1").await.is_err(),
        "nobody gets in before there is a password"
    );
    let secret = "it's \"quoted\" \\ `twice`; --";
    assert!(store.set_password(&oil, secret).await.unwrap());
    assert!(!store.set_password(&oil, secret).await.unwrap(), "it is right already");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    assert_eq!(
        administrate(&server).await.held("uid-oil", None).await.unwrap(),
        held(&["o_l"], &["olaf"])
    );
    server.run_as("olaf", secret, "o_l", table).await.unwrap();
    server.run_as("olaf", secret, "o_l", row).await.unwrap();
    let index = "CREATE INDEX kine_name_index ON kine (name)";
    server.run_as("olaf", secret, "o_l", index).await.unwrap();
    for elsewhere in ["oil", "cotenant.dev"] {
        let refused = server.run_as("olaf", secret, elsewhere, "SELECT * FROM kine").await;
        assert!(refused.is_err(), "{elsewhere}: {refused:?}");
    }

    // Somebody changes the password in the store.
    let change = match server.driver() {
        "PostgreSQL" => "ALTER ROLE olaf PASSWORD 'another'",
        _ => "ALTER USER olaf@'%' IDENTIFIED BY 'another'",
    };
    server.run(change).await.unwrap();
    assert!(server.run_as("olaf", secret, "o_l", "SELECT 1").await.is_err());
    assert!(store.set_password(&oil, secret).await.unwrap());
    let count = server.run_as("olaf", secret, "o_l", "SELECT COUNT(*) FROM kine").await;
    assert_eq!(count.unwrap().trim(), "1");

    for _ in 0..2 {
        store.remove(&oil, Unrecorded::Refuse).await.unwrap();
        assert!(!databases(&server).await.contains(&"o_l".to_owned()));
        assert!(!users(&server).await.contains(&"olaf".to_owned()));
    }
    assert_eq!(store.held("uid-oil", None).await.unwrap(), Held::default());
    let kept = server
        .run_as("greta", "secret of gas", "oil", "SELECT value FROM kine")
        .await;
    assert_eq!(kept.unwrap().trim(), "7");
    assert_eq!(store.held("uid-gas", None).await.unwrap(), held(&["oil"], &["greta"]));

    // What is on record as another's is neither given nor taken.
    let thief = claim("oil", "thief", "uid-thief");
    let refusal = store.ensure(&thief, Unrecorded::Adopt).await.unwrap_err();
    assert_eq!(refusal.category(), "NameTaken", "{refusal}");
    store.remove(&thief, Unrecorded::Adopt).await.unwrap();
    store
        .remove(&claim("oil", "greta", "uid-thief"), Unrecorded::Adopt)
        .await
        .unwrap();
    assert!(databases(&server).await.contains(&"oil".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_quotes_hostile_names() {
    quotes_hostile_names(SqlServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_quotes_hostile_names() {
    quotes_hostile_names(SqlServer::mariadb().await).await;
}

/// Names that no admission lets pass today, but that an older operator may have set up.
async fn quotes_hostile_names(server: SqlServer) {
    let mut store = administrate(&server).await;
    let victim = claim("victim", "victim", "uid-victim");
    store.ensure(&victim, Unrecorded::Refuse).await.unwrap();
    let before = (databases(&server).await, users(&server).await);
    for name in [
        "x\"; DROP DATABASE victim; --",
        "x`; DROP DATABASE victim; --",
        "x'; DROP USER victim; --",
        "back\\slash\\",
        "%",
        "vict_m",
        "ünï cödé",
        "SELECT",
    ] {
        let hostile = claim(name, name, "uid-hostile");
        let unaware = store.ensure(&hostile, Unrecorded::Adopt).await;
        unaware.unwrap_or_else(|error| panic!("{name:?}: {error} {:?}", std::error::Error::source(&error)));
        store.set_password(&hostile, "right").await.unwrap();
        let written = server
            .run_as(name, "right", name, "CREATE TABLE kine (id INTEGER)")
            .await;
        assert_eq!(written.as_deref().map(|_| ()), Ok(()), "{name:?}: {written:?}");
        let elsewhere = server
            .run_as(name, "right", "victim", "CREATE TABLE kine (id INTEGER)")
            .await;
        assert!(elsewhere.is_err(), "{name:?} reaches another's database");
        assert!(databases(&server).await.contains(&name.to_owned()), "{name:?}");
        assert_eq!(store.held("uid-hostile", None).await.unwrap(), held(&[name], &[name]));
        store.remove(&hostile, Unrecorded::Refuse).await.unwrap();
        assert_eq!((databases(&server).await, users(&server).await), before, "{name:?}");
    }
    let long = "x".repeat(64 * 1024);
    for name in ["a\0b", "a\nb", "", long.as_str()] {
        for hostile in [claim(name, "user", "uid-hostile"), claim("schema", name, "uid-hostile")] {
            let refusal = store.ensure(&hostile, Unrecorded::Adopt).await.unwrap_err();
            assert_eq!(refusal.category(), "NameRefused", "{refusal}");
        }
    }
    let administrator = server.user.to_uppercase();
    for name in [server.user.as_str(), &administrator, "cotenant.dev", "Cotenant.Dev"] {
        let refusal = store
            .ensure(&claim("mine", name, "uid-hostile"), Unrecorded::Adopt)
            .await;
        assert_eq!(refusal.unwrap_err().category(), "NameRefused", "{name}");
    }
    assert_eq!((databases(&server).await, users(&server).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_gives_a_name_once() {
    gives_a_name_once(SqlServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_gives_a_name_once() {
    gives_a_name_once(SqlServer::mariadb().await).await;
}

async fn gives_a_name_once(server: SqlServer) {
    // Whose it was before us is known to nobody, unless a status says so.
    let mut store = administrate(&server).await;
    let old = match server.driver() {
        "PostgreSQL" => [
            "CREATE ROLE older LOGIN PASSWORD 'its own'",
            "CREATE DATABASE old OWNER older",
            "CREATE DATABASE \"else\"",
        ],
        _ => [
            "CREATE DATABASE old",
            "GRANT ALL ON old.* TO older@'%' IDENTIFIED BY 'its own'",
            "CREATE DATABASE `else`",
        ],
    };
    for statement in old {
        server.run(statement).await.unwrap();
    }
    let refusal = store
        .ensure(&claim("old", "new", "uid-new"), Unrecorded::Refuse)
        .await
        .unwrap_err();
    assert!(matches!(refusal, StoreError::Taken { what: "schema", .. }), "{refusal}");
    let refusal = store
        .ensure(&claim("new", "older", "uid-new"), Unrecorded::Refuse)
        .await
        .unwrap_err();
    assert!(matches!(refusal, StoreError::Taken { what: "user", .. }), "{refusal}");
    assert_eq!(store.held("uid-new", None).await.unwrap(), Held::default());
    let adopted = claim("old", "older", "uid-old");
    for (schema, user, password, proven) in [
        ("old", "older", "its own", true),
        ("old", "older", "a guess", false),
        ("old", "new", "its own", false),
        ("new", "older", "its own", false),
        ("else", "older", "its own", false),
        ("new", "new", "of nobody", true),
        ("a\0b", "new", "of nobody", false),
    ] {
        let claim = claim(schema, user, "uid-old");
        assert_eq!(
            store.proves(&claim, password, false).await.unwrap(),
            proven,
            "{schema} {user}"
        );
    }
    store.ensure(&adopted, Unrecorded::Adopt).await.unwrap();
    assert!(store.set_password(&adopted, "made anew").await.unwrap());
    server
        .run_as("older", "made anew", "old", "CREATE TABLE kine (id INTEGER)")
        .await
        .unwrap();

    // Nothing is decided yet, and eight want it at once.
    let attempts: Vec<_> = (0..8)
        .map(|number| {
            let (server_login, driver) = (login(&server), server.driver());
            tokio::spawn(async move {
                let login = if driver == "PostgreSQL" {
                    Login::Postgres(server_login)
                } else {
                    Login::MySql(server_login)
                };
                let mut store = Store::connect(&login).await.unwrap();
                let claim = claim("same", &format!("user-{number}"), &format!("uid-{number}"));
                loop {
                    match store.ensure(&claim, Unrecorded::Refuse).await {
                        Ok(()) => return true,
                        Err(StoreError::Taken { .. }) => return false,
                        // The table of records is made by several at once; the runner would try again too.
                        Err(error) => assert!(error.is_transient(), "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut winners = 0;
    for attempt in attempts {
        winners += usize::from(attempt.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_says_what_is_wrong() {
    says_what_is_wrong(SqlServer::postgres().await, SqlServer::mariadb().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_says_what_is_wrong() {
    says_what_is_wrong(SqlServer::mariadb().await, SqlServer::postgres().await).await;
}

async fn says_what_is_wrong(server: SqlServer, other: SqlServer) {
    let category = async |login: SqlLogin| connect(&server, login).await.unwrap_err().category();
    let good = login(&server);
    let with_tls = |ca_pem: &str, client| SqlLogin {
        tls: Some(ClientTls {
            ca_pem: ca_pem.to_owned(),
            client,
        }),
        ..good.clone()
    };
    let wrong_password = SqlLogin {
        password: "wrong".into(),
        ..good.clone()
    };
    assert_eq!(category(wrong_password).await, "LoginRefused");
    let wrong_authority = with_tls(&other.ca_cert_pem, Some(server.client.clone()));
    assert_eq!(category(wrong_authority).await, "CertificateInvalid");
    let no_certificate = with_tls(&server.ca_cert_pem, None);
    assert_eq!(category(no_certificate).await, "LoginRefused");
    let no_authority = with_tls("not a certificate", None);
    assert_eq!(category(no_authority).await, "CredentialsInvalid");
    let in_the_clear = SqlLogin {
        tls: None,
        ..good.clone()
    };
    assert_eq!(category(in_the_clear).await, "LoginRefused");
    let nowhere = SqlLogin {
        port: 1,
        ..good.clone()
    };
    assert_ne!(category(nowhere).await, "StepFailed");

    // One of the tenants is no administrator.
    let tenant = claim("oil", "olaf", "uid-oil");
    let mut store = administrate(&server).await;
    store.ensure(&tenant, Unrecorded::Refuse).await.unwrap();
    store.set_password(&tenant, "secret").await.unwrap();
    let as_tenant = SqlLogin {
        user: "olaf".into(),
        password: "secret".into(),
        ..good.clone()
    };
    assert_eq!(category(as_tenant).await, "NotAdministrator");

    server.freeze(true).await;
    // The signal goes through a pipe; what comes before it is still answered.
    let frozen = loop {
        if let Err(error) = connect(&server, good.clone()).await {
            break error;
        }
    };
    assert_eq!(frozen.category(), "Unreachable");
    server.freeze(false).await;
    server.stop().await;
    let gone = connect(&server, good.clone()).await.unwrap_err();
    assert_eq!((gone.category(), gone.is_transient()), ("Unreachable", true));
    let broken = store
        .ensure(&claim("gas", "greta", "uid-gas"), Unrecorded::Refuse)
        .await;
    assert_eq!(broken.unwrap_err().category(), "Unreachable");
    server.restart().await;
    assert!(
        !users(&server).await.contains(&"greta".to_owned()),
        "nothing is half made"
    );
    connect(&server, good).await.unwrap();
}

/// As managed servers give it to their customers.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_administrated_without_a_superuser() {
    let server = SqlServer::postgres().await;
    let statement = "CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'managed'";
    server.run(statement).await.unwrap();
    let manager = SqlLogin {
        user: "manager".into(),
        password: "managed".into(),
        ..login(&server)
    };
    let mut store = connect(&server, manager).await.unwrap();
    let oil = claim("oil", "olaf", "uid-oil");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    store.set_password(&oil, "secret").await.unwrap();
    let made = server
        .run_as("olaf", "secret", "oil", "CREATE TABLE kine (id INTEGER)")
        .await;
    assert!(made.is_ok(), "{made:?}");
    store.remove(&oil, Unrecorded::Refuse).await.unwrap();
    assert!(!databases(&server).await.contains(&"oil".to_owned()));
    assert!(!users(&server).await.contains(&"olaf".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_believes_everybody_is_refused() {
    let server = SqlServer::postgres().await;
    let mut store = administrate(&server).await;
    let oil = claim("oil", "olaf", "uid-oil");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    let rules = server.run("SHOW hba_file").await.unwrap();
    let trust = format!("COPY (SELECT 'hostssl all all all trust') TO '{}'", rules.trim());
    server.run(&trust).await.unwrap();
    server.run("SELECT pg_reload_conf()").await.unwrap();
    eventually("the server believes everybody", || {
        server.run_as("olaf", "any", "oil", "SELECT 1")
    })
    .await;
    let refusal = store.set_password(&oil, "secret").await.unwrap_err();
    assert_eq!(refusal.category(), "AuthenticationDisabled", "{refusal}");
}

/// Pods of every control plane in the store have the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_believes_the_certificate_alone_is_refused() {
    let server = SqlServer::postgres().await;
    let mut store = administrate(&server).await;
    let oil = claim("oil", "olaf", "uid-oil");
    let rules = server.run("SHOW hba_file").await.unwrap();
    let rule = format!("hostssl all {} all trust clientcert=verify-ca", server.user);
    let trust = format!(
        "COPY (SELECT '{rule}' UNION ALL SELECT 'hostssl all all all scram-sha-256') TO '{}'",
        rules.trim()
    );
    server.run(&trust).await.unwrap();
    server.run("SELECT pg_reload_conf()").await.unwrap();
    eventually("the server believes the certificate", || {
        server.run_as(&server.user, "any", "postgres", "SELECT 1")
    })
    .await;
    let refusal = store.ensure(&oil, Unrecorded::Refuse).await.unwrap_err();
    assert_eq!(refusal.category(), "PasswordNotAsked", "{refusal}");
    assert!(!users(&server).await.contains(&"olaf".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_believes_the_certificate_alone_is_refused() {
    let server = SqlServer::mariadb().await;
    for statement in [
        "CREATE USER certified@'%' REQUIRE X509",
        "GRANT ALL PRIVILEGES ON *.* TO certified@'%' WITH GRANT OPTION",
    ] {
        server.run(statement).await.unwrap();
    }
    let certified = SqlLogin {
        user: "certified".into(),
        password: String::new(),
        ..login(&server)
    };
    let mut store = connect(&server, certified).await.unwrap();
    let oil = claim("oil", "olaf", "uid-oil");
    let refusal = store.ensure(&oil, Unrecorded::Refuse).await.unwrap_err();
    assert_eq!(refusal.category(), "PasswordNotAsked", "{refusal}");
    assert!(!users(&server).await.contains(&"olaf".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_stays_while_nobody_can_see_who_is_connected_to_it() {
    let server = SqlServer::mariadb().await;
    let everything_else = "GRANT CREATE USER, RELOAD, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, SELECT, INSERT, \
                           UPDATE, DELETE, CONNECTION ADMIN ON *.* TO `at@home`@'%' WITH GRANT OPTION";
    for statement in [
        "CREATE USER `at@home`@'%' IDENTIFIED BY 'secret' REQUIRE X509",
        everything_else,
    ] {
        server.run(statement).await.unwrap();
    }
    let limited = SqlLogin {
        user: "at@home".into(),
        password: "secret".into(),
        ..login(&server)
    };
    let mut store = connect(&server, limited).await.unwrap();
    let oil = claim("oil", "olaf", "uid-oil");
    store.ensure(&oil, Unrecorded::Refuse).await.unwrap();
    let refusal = store.remove(&oil, Unrecorded::Refuse).await.unwrap_err();
    assert_eq!(refusal.category(), "NotAdministrator", "{refusal}");
    assert!(databases(&server).await.contains(&"oil".to_owned()));
    assert!(users(&server).await.contains(&"olaf".to_owned()));

    server.run("GRANT PROCESS ON *.* TO `at@home`@'%'").await.unwrap();
    store.remove(&oil, Unrecorded::Refuse).await.unwrap();
    assert!(!databases(&server).await.contains(&"oil".to_owned()));
    assert!(!users(&server).await.contains(&"olaf".to_owned()));
}

const REACHABLE: &str = "cotenant.dev/DataStoreReachable";

/// What the DataStore's Secret says from now on.
async fn write_secret(world: &World, authority: &str, password: &str) {
    let changes = json!({"stringData": {"ca.crt": authority, "password": password}});
    merge(&world.api::<Secret>(), "sql-store", changes).await;
}

async fn until_reachable(world: &World, reason: &str) {
    let stores: Api<DataStore> = Api::all(world.client.clone());
    eventually(&format!("the DataStore says {reason}"), || async {
        let conditions = stores.get("sql").await.unwrap().status.unwrap_or_default().conditions;
        let found = conditions
            .iter()
            .any(|one| one.type_ == REACHABLE && one.reason == reason);
        when(found, || format!("{conditions:#?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_on_postgres_has_an_account_as_long_as_it_lives() {
    lives_on(SqlServer::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_on_mariadb_has_an_account_as_long_as_it_lives() {
    lives_on(SqlServer::mariadb().await).await;
}

async fn lives_on(server: SqlServer) {
    let world = World::new(&[]).await;
    world.add_datastore("sql", &server).await;
    until_reachable(&world, "StoreAnswers").await;
    write_secret(&world, &server.ca_cert_pem, "wrong").await;
    until_reachable(&world, "LoginRefused").await;
    write_secret(&world, &world.etcd.ca_cert_pem, &server.password).await;
    until_reachable(&world, "CertificateInvalid").await;
    write_secret(&world, &server.ca_cert_pem, &server.password).await;
    until_reachable(&world, "StoreAnswers").await;

    let oil = world.create_control_plane("oil", json!({"dataStore": "sql"})).await;
    let uid = oil.uid().unwrap();
    let user = match server.driver() {
        "PostgreSQL" => uid.clone(),
        // 32 characters, all that MySQL takes.
        _ => uid.replace('-', ""),
    };
    let secrets: Api<Secret> = world.api();
    let password = async || {
        let secret = secrets
            .get("oil-datastore-config")
            .await
            .map_err(|error| error.to_string())?;
        let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
        let shown = (text("DB_CONNECTION_STRING"), text("DB_SCHEMA"), text("DB_USER"));
        assert_eq!(shown, (server.endpoint.clone(), uid.clone(), user.clone()));
        Ok::<_, String>(text("DB_PASSWORD"))
    };
    let works = async |not: &str| {
        let password = password().await?;
        when(password != not, || "the password is still the old one".to_owned())?;
        server.run_as(&user, &password, &uid, "SELECT 1").await?;
        Ok(password)
    };
    let first = eventually("the account is there", || works("")).await;
    let table = "CREATE TABLE precious (id INTEGER)";
    server.run_as(&user, &first, &uid, table).await.unwrap();

    // Somebody breaks the Secret: a new password, in the store as well.
    let patch = json!({"stringData": {"DB_PASSWORD": "corrupted"}});
    merge(&secrets, "oil-datastore-config", patch).await;
    let second = eventually("the password is made anew", || async {
        let password = works(&first).await?;
        when(password != "corrupted", || "it is still corrupted".to_owned())?;
        Ok(password)
    })
    .await;

    // Somebody changes the password in the store: it is put right, and the Secret stays.
    let change = match server.driver() {
        "PostgreSQL" => format!("ALTER ROLE \"{user}\" PASSWORD 'another'"),
        _ => format!("ALTER USER `{user}`@`%` IDENTIFIED BY 'another'"),
    };
    server.run(&change).await.unwrap();
    let third = eventually("the password is right again", || works("")).await;
    assert_eq!(third, second);

    world.delete("oil").await;
    assert!(!databases(&server).await.contains(&uid), "its database goes with it");
    assert!(!users(&server).await.contains(&user), "its user goes with it");
}
