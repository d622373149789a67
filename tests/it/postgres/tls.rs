//! What is encrypted and what is verified, for every `sslmode` and every kind of server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use schoolbell::demo::cluster::{Cluster, Options, Shutdown};
use schoolbell::demo::stand_in;
use schoolbell::postgres::failure;
use schoolbell::postgres::url::DatabaseUrl;
use tokio_postgres::Client;

use crate::support::program::{Ended, Program};

const PASSWORD: &str = "hunter2-never-shown";
/// Everybody is let in, with and without TLS.
const OPEN: &str = "host all bell all trust";

/// An authority of its own for every test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For a server of these names.
    fn server(&self, names: &[&str]) -> Issued {
        self.issue(&server_params(names))
    }

    fn expired_server(&self, names: &[&str]) -> Issued {
        let mut params = server_params(names);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.issue(&params)
    }

    /// For a client that is this database user.
    fn client(&self, user: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    params
}

/// As `openssl req -x509` makes it: its own authority.
fn self_signed(names: &[&str]) -> Issued {
    let mut params = server_params(names);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Issued { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// A cluster whose certificate and rules a test chooses. User `bell` has a password.
struct Server {
    cluster: Cluster,
}

impl Server {
    /// Without TLS, and everybody is let in.
    async fn start() -> Self {
        let cluster = Cluster::start(Options::open()).await.unwrap();
        let sql = format!("create role bell superuser login password '{PASSWORD}'");
        cluster.connect("postgres").await.unwrap().batch_execute(&sql).await.unwrap();
        Self { cluster }
    }

    async fn with(issued: &Issued, rules: &str) -> Self {
        let server = Self::start().await;
        server.presents(issued, rules).await;
        server
    }

    /// From now on with TLS, this certificate and these rules for `bell`.
    async fn presents(&self, issued: &Issued, rules: &str) {
        self.server_file("server.crt", &issued.certificate);
        self.server_file("server.key", &issued.key);
        self.server_file("postgresql.auto.conf", "ssl = on");
        // The test's own connections.
        self.server_file("pg_hba.conf", &format!("host all postgres all trust\n{rules}\n"));
        self.cluster.restart(Shutdown::Fast).await.unwrap();
    }

    /// A file in the data folder that belongs to the server's user alone.
    fn server_file(&self, name: &str, text: &str) {
        let data = self.cluster.folder().join("data");
        let owner = fs::metadata(&data).unwrap();
        let path = data.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// A file of the client. It vanishes with the cluster.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.cluster.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The client knows it as `localhost`.
    fn url(&self, parameters: &str) -> String {
        self.url_of("postgres", parameters)
    }

    fn url_of(&self, database: &str, parameters: &str) -> String {
        let port = self.cluster.port();
        format!(
            "postgres://bell:{PASSWORD}@localhost:{port}/{database}?hostaddr=127.0.0.1&{parameters}"
        )
    }

    fn url_by_address(&self, parameters: &str) -> String {
        format!(
            "postgres://bell:{PASSWORD}@127.0.0.1:{}/postgres?{parameters}",
            self.cluster.port()
        )
    }
}

/// `sslrootcert=…` for a file.
fn root(path: &Path) -> String {
    format!("sslrootcert={}", path.display())
}

/// What became of an attempt to connect: `TLS`, `plain`, or the reason for a refusal.
async fn verdict(url: &str) -> String {
    match connect(url).await {
        Ok(client) if uses_tls(&client).await => "TLS".into(),
        Ok(_) => "plain".into(),
        Err(reason) => reason,
    }
}

async fn connect(url: &str) -> Result<Client, String> {
    let url = DatabaseUrl::parse("DATABASE_URL", url, &|_| None).map_err(|e| e.to_string())?;
    let connector = url.connector().map_err(|e| e.to_string())?;
    let (client, connection) =
        url.connect(&connector).await.map_err(|error| failure::chain(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// As the server sees it.
async fn uses_tls(client: &Client) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn migrate(url: &str, environment: &[(&str, &str)]) -> Ended {
    let mut program = Program::new(&["migrate"]).env("DATABASE_URL", url);
    for (name, value) in environment {
        program = program.env(name, value);
    }
    program.run().await
}

/// The columns of the matrix: what answers, and whether `sslrootcert` is its authority.
const SERVERS: [&str; 5] = ["without TLS", "right", "wrong CA", "wrong host name", "expired"];
/// What a refusal says.
const NO_TLS: &str = "server does not support TLS";
const WRONG_CA: &str = "the server's certificate is not from an authority in";
const WRONG_HOST: &str = "the server's certificate is not for host localhost";
const EXPIRED: &str = "the server's certificate has expired";

/// `sslmode`, whether `sslrootcert` is given, and libpq's verdict for each server.
const MATRIX: [(&str, bool, [&str; 5]); 11] = [
    ("disable", false, ["plain", "plain", "plain", "plain", "plain"]),
    ("allow", false, ["plain", "plain", "plain", "plain", "plain"]),
    ("prefer", false, ["plain", "TLS", "TLS", "TLS", "TLS"]),
    ("", false, ["plain", "TLS", "TLS", "TLS", "TLS"]),
    ("require", false, [NO_TLS, "TLS", "TLS", "TLS", "TLS"]),
    ("disable", true, ["plain", "plain", "plain", "plain", "plain"]),
    ("allow", true, ["plain", "plain", "plain", "plain", "plain"]),
    // With a root file the authority is verified, but `prefer` takes no TLS for an answer.
    ("prefer", true, ["plain", "TLS", "plain", "TLS", "plain"]),
    ("require", true, [NO_TLS, "TLS", WRONG_CA, "TLS", EXPIRED]),
    ("verify-ca", true, [NO_TLS, "TLS", WRONG_CA, "TLS", EXPIRED]),
    ("verify-full", true, [NO_TLS, "TLS", WRONG_CA, WRONG_HOST, EXPIRED]),
];

#[tokio::test]
async fn every_sslmode_gives_libpq_s_verdict_on_every_kind_of_server() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Server::start().await;
    let (right, wrong) =
        (server.file("ours.pem", &ours.pem), server.file("theirs.pem", &theirs.pem));

    let mut mistakes = Vec::new();
    for (column, kind) in SERVERS.into_iter().enumerate() {
        match kind {
            "right" => server.presents(&ours.server(&["localhost"]), OPEN).await,
            "wrong host name" => server.presents(&ours.server(&["elsewhere.example"]), OPEN).await,
            "expired" => server.presents(&ours.expired_server(&["localhost"]), OPEN).await,
            _ => {}
        }
        for (mode, rooted, expected) in &MATRIX {
            let mut parameters = Vec::new();
            if !mode.is_empty() {
                parameters.push(format!("sslmode={mode}"));
            }
            if *rooted {
                parameters.push(root(if kind == "wrong CA" { &wrong } else { &right }));
            }
            let found = verdict(&server.url(&parameters.join("&"))).await;
            if !found.contains(expected[column]) {
                let expected = expected[column];
                mistakes
                    .push(format!("{parameters:?} × {kind}: {found:?} instead of {expected:?}"));
            }
        }
    }

    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[tokio::test]
async fn allow_and_prefer_take_the_way_that_the_server_s_rules_leave_open() {
    let ours = Authority::new("ours");
    let certificate = ours.server(&["localhost"]);
    let server = Server::with(&certificate, "hostssl all bell all scram-sha-256").await;
    assert_eq!(verdict(&server.url("sslmode=allow")).await, "TLS");
    assert_eq!(verdict(&server.url("sslmode=prefer")).await, "TLS");
    assert!(verdict(&server.url("sslmode=disable")).await.contains("no encryption"));

    server.presents(&certificate, "hostnossl all bell all scram-sha-256").await;
    assert_eq!(verdict(&server.url("sslmode=allow")).await, "plain");
    assert_eq!(verdict(&server.url("sslmode=prefer")).await, "plain");
    assert!(verdict(&server.url("sslmode=require")).await.contains("SSL encryption"));
}

/// Of the two reasons the one that helps is reported: not "no rule for plain connections", but the password.
#[tokio::test]
async fn when_both_ways_fail_the_reason_is_that_of_the_way_with_tls() {
    let ours = Authority::new("ours");
    let server =
        Server::with(&ours.server(&["localhost"]), "hostssl all bell all scram-sha-256").await;
    for mode in ["allow", "prefer"] {
        let url = server.url(&format!("sslmode={mode}")).replace(PASSWORD, "mistyped");
        let found = verdict(&url).await;
        let refused =
            "the login is refused: the password is wrong, or there is no such role (28P01)";
        assert_eq!(found, refused, "{mode}");
    }

    server.server_file("postgresql.auto.conf", "ssl = off");
    server.server_file("pg_hba.conf", "host all postgres all trust\nhost all bell all reject\n");
    server.cluster.restart(Shutdown::Fast).await.unwrap();
    for mode in ["allow", "prefer"] {
        let found = verdict(&server.url(&format!("sslmode={mode}"))).await;
        assert!(found.contains("pg_hba.conf does not let it in"), "{mode}: {found}");
    }
}

#[tokio::test]
async fn verify_full_knows_a_server_by_its_address() {
    let ours = Authority::new("ours");
    let server = Server::with(&ours.server(&["localhost", "127.0.0.1"]), OPEN).await;
    let verify = format!("sslmode=verify-full&{}", root(&server.file("ca.pem", &ours.pem)));
    assert_eq!(verdict(&server.url_by_address(&verify)).await, "TLS");
    assert_eq!(verdict(&server.url(&verify)).await, "TLS");

    server.presents(&ours.server(&["localhost"]), OPEN).await;
    let found = verdict(&server.url_by_address(&verify)).await;
    assert!(found.contains("the server's certificate is not for host 127.0.0.1"), "{found}");
}

/// The way that PostgreSQL's manual shows first: the server's own certificate is the root file.
#[tokio::test]
async fn a_self_signed_certificate_is_verified_against_itself() {
    let (issued, other) = (self_signed(&["localhost"]), self_signed(&["localhost"]));
    let server = Server::with(&issued, OPEN).await;
    let itself = root(&server.file("itself.pem", &issued.certificate));
    let another = root(&server.file("another.pem", &other.certificate));

    for mode in ["require", "verify-ca", "verify-full"] {
        let url = |root: &str| server.url(&format!("sslmode={mode}&{root}"));
        assert_eq!(verdict(&url(&itself)).await, "TLS", "{mode}");
        let found = verdict(&url(&another)).await;
        assert!(found.contains("itself an authority that is not in"), "{mode}: {found}");
    }
    let found = verdict(&server.url_by_address(&format!("sslmode=verify-full&{itself}"))).await;
    assert!(found.contains("the server's certificate is not for host 127.0.0.1"), "{found}");
    let by_address = server.url_by_address(&format!("sslmode=verify-ca&{itself}"));
    assert_eq!(verdict(&by_address).await, "TLS");
}

#[tokio::test]
async fn a_client_certificate_stands_for_a_password() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Server::start().await;
    server.server_file("clients.crt", &ours.pem);
    let rules = "hostssl all bell all cert";
    server.presents(&ours.server(&["localhost"]), rules).await;
    server.server_file("postgresql.auto.conf", "ssl = on\nssl_ca_file = 'clients.crt'");
    server.cluster.restart(Shutdown::Fast).await.unwrap();
    let presenting = |issued: &Issued, name: &str| {
        let cert = server.file(&format!("{name}.crt"), &issued.certificate);
        let key = server.file(&format!("{name}.key"), &issued.key);
        let (cert, key) = (cert.display(), key.display());
        server.url(&format!("sslmode=require&sslcert={cert}&sslkey={key}"))
    };

    let right = connect(&presenting(&ours.client("bell"), "right")).await.unwrap();
    let sql = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    let name: String = right.query_one(sql, &[]).await.unwrap().get(0);
    assert!(name.contains("CN=bell"), "{name}");

    assert!(connect(&presenting(&ours.client("somebody"), "somebody")).await.is_err());
    assert!(connect(&presenting(&theirs.client("bell"), "theirs")).await.is_err());
    let without = verdict(&server.url("sslmode=require")).await;
    assert!(without.contains("valid client certificate"), "{without}");
}

#[tokio::test]
async fn a_scram_password_is_bound_to_the_certificate_when_asked_for() {
    let ours = Authority::new("ours");
    let server =
        Server::with(&ours.server(&["localhost"]), "host all bell all scram-sha-256").await;
    let bound = "channel_binding=require";
    for mode in ["require", "prefer"] {
        let url = server.url(&format!("sslmode={mode}&{bound}"));
        assert_eq!(verdict(&url).await, "TLS", "{mode}");
    }
    let unbound = server.url("sslmode=require&channel_binding=disable");
    assert_eq!(verdict(&unbound).await, "TLS");

    let in_plaintext = verdict(&server.url(&format!("sslmode=disable&{bound}"))).await;
    assert!(in_plaintext.contains("channel binding"), "{in_plaintext}");

    // The driver binds where it can: without being asked as well, but then it does not insist.
    server.presents(&ours.server(&["localhost"]), "host all bell all password").await;
    assert_eq!(verdict(&server.url("sslmode=require")).await, "TLS");
    let sent_openly = verdict(&server.url(&format!("sslmode=require&{bound}"))).await;
    assert!(sent_openly.contains("channel binding"), "{sent_openly}");
}

#[tokio::test]
async fn a_socket_of_this_machine_is_used_without_tls_in_every_mode() {
    let server = Server::start().await;
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let folder = server.cluster.folder().display().to_string().replace('/', "%2F");
        let port = server.cluster.port();
        let url = format!("postgres://bell@{folder}:{port}/postgres?sslmode={mode}");
        assert_eq!(verdict(&url).await, "plain", "{mode}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named_in_one_sentence() {
    let ours = Authority::new("ours");
    let server = Server::start().await;
    let (one, other) = (ours.client("bell"), ours.client("bell"));
    let cert = server.file("one.crt", &one.certificate).display().to_string();
    let key = server.file("one.key", &one.key).display().to_string();
    let wrong_key = server.file("other.key", &other.key).display().to_string();
    let lent = server.file("lent.key", &one.key);
    fs::set_permissions(&lent, fs::Permissions::from_mode(0o644)).unwrap();
    let empty = server.file("empty.pem", "").display().to_string();

    let cases = [
        ("sslmode=sure".into(), "sslmode has an unknown value".to_string()),
        ("sslmode=require&sslrootcert=system".into(), "needs sslmode=verify-full".into()),
        ("sslmode=verify-ca&sslrootcert=/no/ca.pem".into(), "/no/ca.pem: No such file".into()),
        (format!("sslmode=verify-ca&sslrootcert={empty}"), "no certificate is in this".into()),
        (format!("sslmode=require&sslcert={cert}"), "are needed together".into()),
        (format!("sslcert={cert}&sslkey=/no.key"), "sslkey /no.key: No such file".into()),
        (format!("sslcert=/no.crt&sslkey={key}"), "sslcert /no.crt: No such file".into()),
        (format!("sslcert={cert}&sslkey={empty}"), "no key without a passphrase".into()),
        (format!("sslcert={cert}&sslkey={wrong_key}"), "do not fit".into()),
        (format!("sslcert={cert}&sslkey={}", lent.display()), "chmod it to 0600".into()),
        ("channel_binding=sure".into(), "channel_binding has an unknown value".into()),
    ];
    for (parameters, wanted) in cases {
        let ended = migrate(&server.url(&parameters), &[]).await;
        assert_eq!(ended.code, 2, "{parameters}: {ended}");
        assert!(ended.stderr.contains(&wanted), "{parameters}: {ended}");
        assert_eq!(ended.stderr.trim().lines().count(), 1, "{parameters}: {ended}");
        assert!(!ended.to_string().contains(PASSWORD), "{ended}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_ends_a_command_with_its_reason_and_code_2() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Server::start().await;
    let verify = format!("sslmode=verify-full&{}", root(&server.file("ca.pem", &ours.pem)));
    let refused = async |wanted: &str| {
        let ended = migrate(&server.url(&verify), &[]).await;
        assert_eq!(ended.code, 2, "{ended}");
        assert!(ended.stderr.contains(wanted), "{ended}");
        assert_eq!(ended.stderr.trim().lines().count(), 1, "{ended}");
        assert!(!ended.to_string().contains(PASSWORD), "{ended}");
    };

    refused(NO_TLS).await;
    server.presents(&theirs.server(&["localhost"]), OPEN).await;
    refused(WRONG_CA).await;
    server.presents(&ours.server(&["elsewhere.example"]), OPEN).await;
    refused(WRONG_HOST).await;
    server.presents(&ours.expired_server(&["localhost"]), OPEN).await;
    refused(EXPIRED).await;
}

/// Both databases let `bell` in with TLS only. A school that was written reaches the target.
async fn migrate_and_run(mode: &str, parameters: &str) {
    let ours = Authority::new("ours");
    let server = Server::start().await;
    for name in ["source", "target"] {
        server.cluster.create_database(name, None).await.unwrap();
    }
    let source = server.cluster.connect("source").await.unwrap();
    let target = server.cluster.connect("target").await.unwrap();
    stand_in::install_application(&source).await.unwrap();
    stand_in::install_heroku_connect(&target).await.unwrap();
    server.presents(&ours.server(&["localhost"]), "hostssl all bell all scram-sha-256").await;
    let ca = server.file("ca.pem", &ours.pem).display().to_string();
    let program = |arguments: &[&str]| {
        Program::new(arguments)
            .env("DATABASE_URL", &server.url_of("source", parameters))
            .env("SALESFORCE_CONNECT_URL", &server.url_of("target", parameters))
            .env("SALESFORCE_ENABLED", "true")
            .env("PGSSLMODE", mode)
            .env("PGSSLROOTCERT", &ca)
    };

    let migrated = program(&["migrate"]).run().await;
    assert_eq!(migrated.code, 0, "{migrated}");
    let source = server.cluster.connect("source").await.unwrap();
    let sql = "insert into schools (name, address_line_1, municipality, country_code, website, created_at, \
               updated_at) values ('Acme', '1 Road', 'Town', 'GB', 'https://acme.example', now(), now())";
    source.batch_execute(sql).await.unwrap();
    let drained = program(&["run", "--drain"]).run().await;
    assert_eq!(drained.code, 0, "{drained}");

    let target = server.cluster.connect("target").await.unwrap();
    let row = target.query_one("select name from salesforce.editor__c", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "Acme");
}

#[tokio::test]
async fn doctor_tells_protocol_cipher_and_mode() {
    let ours = Authority::new("ours");
    let server =
        Server::with(&ours.server(&["localhost"]), "hostssl all bell all scram-sha-256").await;

    let ended =
        Program::new(&["doctor"]).env("DATABASE_URL", &server.url("sslmode=require")).run().await;

    let tls = ended.stdout.lines().find(|line| line.contains("source encryption")).unwrap();
    assert!(tls.starts_with("ok ") && tls.contains(" TLSv1.3 (TLS_"), "{ended}");
    assert!(tls.ends_with(", sslmode=require"), "{ended}");
}

#[tokio::test]
async fn migrate_and_run_verify_both_databases_in_full() {
    migrate_and_run("verify-full", "channel_binding=require").await;
}

/// Programs find the system's authorities where `SSL_CERT_FILE` says.
#[tokio::test]
async fn the_authorities_of_the_system_are_trusted_when_asked_for() {
    let ours = Authority::new("ours");
    let server = Server::with(&ours.server(&["localhost"]), OPEN).await;
    let (right, wrong) = (
        server.file("right.pem", &ours.pem).display().to_string(),
        server.file("wrong.pem", &Authority::new("theirs").pem).display().to_string(),
    );
    for parameters in ["sslrootcert=system", "sslmode=verify-full", "sslmode=verify-ca"] {
        let ended = migrate(&server.url(parameters), &[("SSL_CERT_FILE", &right)]).await;
        assert!(ended.stderr.contains("schools"), "let in, but nothing is there: {ended}");
        let ended = migrate(&server.url(parameters), &[("SSL_CERT_FILE", &wrong)]).await;
        assert!(
            ended
                .stderr
                .contains("the server's certificate is not from an authority in the system's list"),
            "{ended}"
        );
    }
}

#[tokio::test]
async fn migrate_and_run_use_tls_under_allow_where_plaintext_is_refused() {
    migrate_and_run("allow", "").await;
}
