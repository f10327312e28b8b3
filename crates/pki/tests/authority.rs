//! What is issued here, as TLS itself and OpenSSL's view of existing keys judge it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use pki::{
    AUTHORITY_VALIDITY, Authority, KeyKind, KeyPair, LeafRequest, San, Usage, inspect, is_signed_by, matches_key,
    public_key_hash, service_account_key_pair, service_account_keys_match,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::request::CertReq;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-05T12:00:00Z")
}

fn authority() -> Authority {
    Authority::new(
        "kubernetes",
        &[San::Dns("kubernetes".into())],
        AUTHORITY_VALIDITY,
        now(),
    )
    .unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut out, octet| {
        write!(out, "{octet:02x}").unwrap();
        out
    })
}

fn roots(ca_pem: &str) -> Arc<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(time.as_second().try_into().unwrap()))
}

/// The certificate and what stands behind it.
fn presented(leaf: &KeyPair) -> (CertificateDer<'static>, Vec<CertificateDer<'static>>) {
    let mut all: Vec<_> = CertificateDer::pem_slice_iter(leaf.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    (all.remove(0), all)
}

fn accepted_as_server(ca_pem: &str, leaf: &KeyPair, name: &str, time: Timestamp) -> bool {
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots(ca_pem), provider())
        .build()
        .unwrap();
    let (leaf, behind) = presented(leaf);
    verifier
        .verify_server_cert(&leaf, &behind, &ServerName::try_from(name).unwrap(), &[], unix(time))
        .is_ok()
}

fn accepted_as_client(ca_pem: &str, leaf: &KeyPair, time: Timestamp) -> bool {
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots(ca_pem), provider())
        .build()
        .unwrap();
    let (leaf, behind) = presented(leaf);
    verifier.verify_client_cert(&leaf, &behind, unix(time)).is_ok()
}

#[test]
fn a_server_certificate_is_accepted_for_its_names_within_its_year_and_not_otherwise() {
    let ca = authority();
    let sans = vec![
        San::parse("kubernetes.default.svc").unwrap(),
        San::parse("10.96.0.1").unwrap(),
    ];
    let leaf = ca.issue(&LeafRequest::server("kube-apiserver", sans, now())).unwrap();

    assert!(accepted_as_server(
        ca.cert_pem(),
        &leaf,
        "kubernetes.default.svc",
        now()
    ));
    assert!(accepted_as_server(ca.cert_pem(), &leaf, "10.96.0.1", now()));
    assert!(
        accepted_as_server(ca.cert_pem(), &leaf, "10.96.0.1", at("2026-11-05T11:56:00Z")),
        "clocks may be behind"
    );
    assert!(accepted_as_server(
        ca.cert_pem(),
        &leaf,
        "10.96.0.1",
        at("2027-11-05T11:59:00Z")
    ));

    assert!(!accepted_as_server(ca.cert_pem(), &leaf, "kubernetes.default", now()));
    assert!(!accepted_as_server(ca.cert_pem(), &leaf, "10.96.0.2", now()));
    assert!(!accepted_as_server(
        ca.cert_pem(),
        &leaf,
        "10.96.0.1",
        at("2027-11-05T12:01:00Z")
    ));
    assert!(
        !accepted_as_server(authority().cert_pem(), &leaf, "10.96.0.1", now()),
        "another authority"
    );
    assert!(
        !accepted_as_client(ca.cert_pem(), &leaf, now()),
        "a server's certificate opens no client's door"
    );
}

#[test]
fn a_client_certificate_carries_every_group() {
    let ca = authority();
    let request = LeafRequest::client(
        "quinn",
        &["projectcapsule.dev", "qa-owners", "system:authenticated"],
        now(),
    );
    let leaf = ca.issue(&request).unwrap();
    assert!(accepted_as_client(ca.cert_pem(), &leaf, now()));

    let info = inspect(&leaf.cert_pem).unwrap();
    assert_eq!(info.common_name.as_deref(), Some("quinn"));
    assert_eq!(
        info.organizations,
        ["projectcapsule.dev", "qa-owners", "system:authenticated"]
    );
    assert_eq!(info.issuer_common_name.as_deref(), Some("kubernetes"));
    assert_eq!(info.usages, [Usage::Client]);
    assert_eq!(info.sans, []);
    assert_eq!(info.key, KeyKind::P256);
    assert_eq!(info.not_before, at("2026-11-05T11:55:00Z"));
    assert_eq!(info.not_after, at("2027-11-05T12:00:00Z"));
    assert!(!info.is_authority);
}

#[test]
fn an_authority_lasts_ten_years_and_names_itself() {
    let ca = authority();
    let info = inspect(ca.cert_pem()).unwrap();
    assert!(info.is_authority);
    assert_eq!(info.common_name.as_deref(), Some("kubernetes"));
    assert_eq!(info.sans, [San::Dns("kubernetes".into())]);
    assert_eq!(info.not_before, at("2026-11-05T11:55:00Z"));
    assert_eq!(info.not_after, at("2036-11-02T12:00:00Z"));
    assert!(is_signed_by(ca.cert_pem(), ca.cert_pem()).unwrap());
    assert_eq!(public_key_hash(ca.cert_pem()).unwrap(), ca.public_key_hash());
}

/// Made by OpenSSL 3 as its manual shows; the last column is `sha256sum` of `openssl pkey -pubin -outform DER`.
const EXISTING: [(&str, &str, &str, KeyKind, &str); 5] = [
    (
        "RSA, PKCS#1",
        include_str!("keys/rsa.crt"),
        include_str!("keys/rsa-pkcs1.key"),
        KeyKind::Rsa(2048),
        "96696d35212d692e2ed109207aee802d6771e9a83dec1ae76345bd7afc15b7e7",
    ),
    (
        "RSA, PKCS#8",
        include_str!("keys/rsa.crt"),
        include_str!("keys/rsa-pkcs8.key"),
        KeyKind::Rsa(2048),
        "96696d35212d692e2ed109207aee802d6771e9a83dec1ae76345bd7afc15b7e7",
    ),
    (
        "P-256, SEC1 after parameters",
        include_str!("keys/ec.crt"),
        include_str!("keys/ec-sec1.key"),
        KeyKind::P256,
        "d682de27ca9d0474ed0078395ac5ce86b9471df2885de047d8cb5f092eae0b18",
    ),
    (
        "P-256, PKCS#8",
        include_str!("keys/ec.crt"),
        include_str!("keys/ec-pkcs8.key"),
        KeyKind::P256,
        "d682de27ca9d0474ed0078395ac5ce86b9471df2885de047d8cb5f092eae0b18",
    ),
    (
        "P-384, SEC1",
        include_str!("keys/ec384.crt"),
        include_str!("keys/ec384-sec1.key"),
        KeyKind::P384,
        "419942ef75b40c7a924d8d905d8ef9fef51dd0546a5c47233c84c20ba6b1ae21",
    ),
];

#[test]
fn existing_authorities_go_on_signing() {
    for (name, cert, key, kind, hash) in EXISTING {
        let ca = Authority::from_pem(cert, key).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(inspect(cert).unwrap().key, kind, "{name}");
        assert_eq!(public_key_hash(cert).unwrap(), format!("sha256:{hash}"), "{name}");
        assert!(matches_key(cert, key).unwrap(), "{name}");
        assert_eq!(ca.key_pem(), key, "{name}: the key is kept as it was");
        let leaf = ca.issue(&LeafRequest::client("someone", &["a", "b"], now())).unwrap();
        assert!(is_signed_by(&leaf.cert_pem, cert).unwrap(), "{name}");
        assert!(matches_key(&leaf.cert_pem, &leaf.key_pem).unwrap(), "{name}");
        assert!(accepted_as_client(cert, &leaf, now()), "{name}");
    }
}

#[test]
fn whoever_trusts_an_old_authority_follows_the_new_one_that_it_vouches_for() {
    let mut olds = vec![("our own", authority())];
    for (name, cert, key, ..) in EXISTING {
        olds.push((name, Authority::from_pem(cert, key).unwrap()));
    }
    for (name, old) in olds {
        let new = Authority::new("kubernetes", &[], AUTHORITY_VALIDITY, now()).unwrap();
        let sans = vec![San::parse("a.example").unwrap()];
        let request = LeafRequest::server("kube-apiserver", sans, now());
        let (bare, client) = (
            new.issue(&request).unwrap(),
            new.issue(&LeafRequest::client("someone", &[], now())).unwrap(),
        );
        let vouched = old.vouch_for(&new, now()).unwrap();
        let behind = |leaf: &KeyPair| KeyPair {
            cert_pem: format!("{}{vouched}", leaf.cert_pem),
            key_pem: leaf.key_pem.clone(),
        };
        assert!(!accepted_as_server(old.cert_pem(), &bare, "a.example", now()), "{name}");
        assert!(
            accepted_as_server(old.cert_pem(), &behind(&bare), "a.example", now()),
            "{name}"
        );
        assert!(
            accepted_as_server(new.cert_pem(), &behind(&bare), "a.example", now()),
            "{name}"
        );
        assert!(accepted_as_client(old.cert_pem(), &behind(&client), now()), "{name}");
        assert!(
            !accepted_as_client(authority().cert_pem(), &behind(&client), now()),
            "{name}"
        );
        let both = format!("{}{}", new.cert_pem(), old.cert_pem());
        assert_eq!(pki::first_certificate(&both).unwrap(), new.cert_pem(), "{name}");
    }
    let past = Authority::new("old", &[], SignedDuration::from_hours(1), now()).unwrap();
    let later = now() + SignedDuration::from_hours(2);
    assert!(past.vouch_for(&authority(), later).is_err(), "it has ended");
}

#[test]
fn a_certificate_and_a_key_of_different_authorities_are_refused() {
    let (one, other) = (authority(), authority());
    let error = Authority::from_pem(one.cert_pem(), other.key_pem()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to use the authority: its private key does not belong to its certificate"
    );
    let leaf = one.issue(&LeafRequest::client("someone", &[], now())).unwrap();
    let error = Authority::from_pem(&leaf.cert_pem, &leaf.key_pem).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to use the authority: its certificate is not one of a certificate authority"
    );
    assert!(
        !is_signed_by(&leaf.cert_pem, other.cert_pem()).unwrap(),
        "same name, other key"
    );
    assert!(!matches_key(&leaf.cert_pem, other.key_pem()).unwrap());
}

#[test]
fn service_account_keys_of_every_kind_find_their_other_half() {
    let new = service_account_key_pair().unwrap();
    assert!(new.public_pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
    assert!(service_account_keys_match(&new.public_pem, &new.private_pem).unwrap());
    for (name, public, private) in [
        ("RSA", include_str!("keys/rsa.pub"), include_str!("keys/rsa-pkcs1.key")),
        (
            "RSA, PKCS#1",
            include_str!("keys/rsa-pkcs1.pub"),
            include_str!("keys/rsa-pkcs8.key"),
        ),
        ("P-256", include_str!("keys/ec.pub"), include_str!("keys/ec-sec1.key")),
    ] {
        assert!(service_account_keys_match(public, private).unwrap(), "{name}");
        assert!(!service_account_keys_match(public, &new.private_pem).unwrap(), "{name}");
    }
}

#[test]
fn renewal_begins_exactly_the_threshold_before_the_end() {
    let day = SignedDuration::from_hours(24);
    let leaf = authority().issue(&LeafRequest::client("someone", &[], now())).unwrap();
    let info = inspect(&leaf.cert_pem).unwrap();
    assert!(!info.needs_renewal(at("2027-11-04T11:59:59Z"), day));
    assert!(info.needs_renewal(at("2027-11-04T12:00:00Z"), day));
    assert!(info.needs_renewal(at("2026-11-05T11:54:00Z"), day), "not valid yet");
    assert_eq!(info.renewal_at(day), at("2027-11-04T12:00:00Z"));
}

#[test]
fn missing_names_are_found_and_extra_ones_tolerated() {
    let sans = vec![San::parse("a.example").unwrap(), San::parse("fd00::1").unwrap()];
    let leaf = authority().issue(&LeafRequest::server("x", sans, now())).unwrap();
    let info = inspect(&leaf.cert_pem).unwrap();
    let wanted = [
        San::parse("A.Example").unwrap(),
        San::parse("10.0.0.1").unwrap(),
        San::parse("[fd00::1]").unwrap(),
    ];
    assert_eq!(info.missing_sans(&wanted), [&San::Ip("10.0.0.1".parse().unwrap())]);
}

#[test]
fn names_that_no_certificate_may_carry_are_refused() {
    for bad in ["", "a b", "a\nb", "ex\u{e4}mple", &"a".repeat(254)] {
        assert!(San::parse(bad).is_err(), "{bad:?}");
    }
    assert!(authority().issue(&LeafRequest::client("", &[], now())).is_err());
    assert!(authority().issue(&LeafRequest::client("x", &["a\0b"], now())).is_err());
    let upside_down = LeafRequest {
        not_after: at("2020-01-01T00:00:00Z"),
        ..LeafRequest::client("x", &[], now())
    };
    assert!(authority().issue(&upside_down).is_err());
}

#[test]
fn key_material_is_not_printed() {
    let ca = authority();
    let leaf = ca.issue(&LeafRequest::client("x", &[], now())).unwrap();
    let printed = format!("{ca:?} {leaf:?} {:?}", service_account_key_pair().unwrap());
    // The authority's Debug names the field; its content must not be there.
    assert!(!printed.contains("PRIVATE KEY"), "{printed}");
}

#[test]
fn a_signing_request_verifies_and_names_user_and_groups() {
    let request = pki::signing_request("alice", &["projectcapsule.dev".into(), "dev".into()]).unwrap();
    assert!(request.csr_pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
    let csr = CertReq::from_der(&der(&request.csr_pem)).unwrap();
    assert_eq!(
        hex(&csr.info.subject.to_der().unwrap()),
        concat!(
            "303b",
            "311b301906035504 0a0c12 70726f6a65637463617073756c652e646576", // O=projectcapsule.dev
            "310c300a06035504 0a0c03 646576",                               // O=dev
            "310e300c06035504 030c05 616c696365",                           // CN=alice
        )
        .replace(' ', ""),
    );
    assert!(csr.info.attributes.is_empty());
    UnparsedPublicKey::new(
        &ECDSA_P256_SHA256_ASN1,
        csr.info.public_key.subject_public_key.raw_bytes(),
    )
    .verify(&csr.info.to_der().unwrap(), csr.signature.raw_bytes())
    .unwrap();
}

/// (OID, critical, value) of every extension, in order.
fn extensions(cert_pem: &str) -> Vec<(String, bool, String)> {
    let cert = Certificate::from_der(&der(cert_pem)).unwrap();
    let extensions = cert.tbs_certificate().extensions().unwrap();
    extensions
        .iter()
        .map(|e| (e.extn_id.to_string(), e.critical, hex(e.extn_value.as_bytes())))
        .collect()
}

fn extension(oid: &str, critical: bool, value: &str) -> (String, bool, String) {
    (oid.to_owned(), critical, value.replace(' ', ""))
}

#[test]
fn certificates_carry_what_kubeadm_writes_in_its_order() {
    let ca = authority();
    let sans = vec![San::parse("ab.c").unwrap(), San::parse("10.96.0.1").unwrap()];
    let mut server = LeafRequest::server("kube-apiserver", sans, now());
    server.usages.push(Usage::Client);
    let leaf = ca.issue(&server).unwrap();

    let ca_cert = Certificate::from_der(&der(ca.cert_pem())).unwrap();
    let ca_key = ca_cert.tbs_certificate().subject_public_key_info();
    let digest = ring::digest::digest(&ring::digest::SHA256, ca_key.subject_public_key.raw_bytes());
    let identifier = hex(&digest.as_ref()[..20]);
    assert_eq!(
        extensions(ca.cert_pem()),
        [
            extension("2.5.29.15", true, "0302 02a4"), // digitalSignature, keyEncipherment, keyCertSign
            extension("2.5.29.19", true, "3003 0101ff"),
            extension("2.5.29.14", false, &format!("0414 {identifier}")),
            extension("2.5.29.17", false, "300c 820a 6b756265726e65746573"),
        ]
    );
    assert_eq!(
        extensions(&leaf.cert_pem),
        [
            extension("2.5.29.15", true, "0302 05a0"), // digitalSignature, keyEncipherment
            extension(
                "2.5.29.37",
                false,
                "3014 06082b06010505070301 06082b06010505070302" // serverAuth, clientAuth
            ),
            extension("2.5.29.19", true, "3000"),
            extension("2.5.29.35", false, &format!("3016 8014 {identifier}")),
            extension("2.5.29.17", false, "300c 8204 61622e63 8704 0a600001"),
        ]
    );
}

#[test]
fn serial_numbers_are_random_positive_and_at_most_20_octets() {
    let ca = authority();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let leaf = ca.issue(&LeafRequest::client("x", &[], now())).unwrap();
        let cert = Certificate::from_der(&der(&leaf.cert_pem)).unwrap();
        let serial = cert.tbs_certificate().serial_number().as_bytes().to_vec();
        assert_eq!(serial.len(), 20);
        assert!(serial[0] < 0x80, "negative");
        assert!(seen.insert(serial), "twice");
    }
}

#[test]
fn an_issuer_is_repeated_byte_for_byte() {
    for (name, cert, key, ..) in EXISTING {
        let ca = Authority::from_pem(cert, key).unwrap();
        let leaf = der(&ca.issue(&LeafRequest::client("x", &[], now())).unwrap().cert_pem);
        let subject = Certificate::from_der(&der(cert)).unwrap();
        let subject = subject.tbs_certificate().subject().to_der().unwrap();
        for certificate in [&der(cert), &leaf] {
            assert!(certificate.windows(subject.len()).any(|part| part == subject), "{name}");
        }
    }
}

#[test]
fn validity_changes_its_form_in_2050_and_ends_where_certificates_can_say_it() {
    let ca = authority();
    let until = |not_after: &str| LeafRequest {
        not_after: at(not_after),
        ..LeafRequest::client("x", &[], now())
    };
    for (not_after, encoded) in [
        ("2049-12-31T23:59:59Z", &b"\x17\x0d491231235959Z"[..]),
        ("2050-01-02T03:04:05Z", &b"\x18\x0f20500102030405Z"[..]),
    ] {
        let leaf = ca.issue(&until(not_after)).unwrap();
        assert_eq!(inspect(&leaf.cert_pem).unwrap().not_after, at(not_after));
        assert!(der(&leaf.cert_pem).windows(encoded.len()).any(|part| part == encoded));
    }
    let early = LeafRequest {
        not_before: at("1969-12-31T23:59:59Z"),
        ..LeafRequest::client("x", &[], now())
    };
    let error = ca.issue(&early).unwrap_err().to_string();
    assert!(error.starts_with("failed to encode a certificate: "), "{error}");
}

#[test]
fn a_certificate_that_was_changed_after_it_was_signed_is_nobodys() {
    let ca = authority();
    let leaf = ca.issue(&LeafRequest::client("mallory", &[], now())).unwrap();
    let mut changed = der(&leaf.cert_pem);
    let name = changed.windows(7).position(|part| part == b"mallory").unwrap();
    changed[name] = b'M';
    let changed = pem::encode(&pem::Pem::new("CERTIFICATE", changed));
    assert_eq!(inspect(&changed).unwrap().common_name.as_deref(), Some("Mallory"));
    assert!(!is_signed_by(&changed, ca.cert_pem()).unwrap());
    assert!(is_signed_by(&leaf.cert_pem, ca.cert_pem()).unwrap());
}

#[test]
fn openssl_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        let output = command
            .current_dir(directory.path())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: no openssl(1) on this machine to ask");
        return;
    }
    let at_now = format!("-x509_strict -attime {}", now().as_second());
    // Older authorities are not as strict, and begin at the time of their making.
    let mut authorities = vec![("our own", authority(), at_now.as_str())];
    for (name, cert, key, ..) in EXISTING {
        authorities.push((name, Authority::from_pem(cert, key).unwrap(), "-no_check_time"));
    }
    for (name, ca, how) in authorities {
        let sans = vec![San::parse("a.example").unwrap(), San::parse("fd00::1").unwrap()];
        let leaf = ca.issue(&LeafRequest::server("kube-apiserver", sans, now())).unwrap();
        write("ca.crt", ca.cert_pem());
        write("leaf.crt", &leaf.cert_pem);
        write("leaf.key", &leaf.key_pem);
        for answers in ["-verify_hostname a.example", "-verify_ip fd00::1"] {
            let arguments = format!("verify {how} -purpose sslserver {answers} -CAfile ca.crt leaf.crt");
            assert_eq!(openssl(&arguments), (true, "leaf.crt: OK\n".to_owned()), "{name}");
        }
        let public = openssl("x509 -in leaf.crt -noout -pubkey");
        assert_eq!(openssl("pkey -in leaf.key -pubout"), public, "{name}");
        let next = Authority::new("kubernetes", &[], AUTHORITY_VALIDITY, now()).unwrap();
        write("next.crt", &ca.vouch_for(&next, now()).unwrap());
        let leaf = next.issue(&LeafRequest::client("someone", &[], now())).unwrap();
        write("leaf.crt", &leaf.cert_pem);
        let arguments = format!("verify {how} -purpose sslclient -CAfile ca.crt -untrusted next.crt leaf.crt");
        assert_eq!(openssl(&arguments), (true, "leaf.crt: OK\n".to_owned()), "{name}");
    }
    let request = pki::signing_request("system:alice", &["a,b".into(), "\u{e9}".into()]).unwrap();
    write("request.csr", &request.csr_pem);
    assert_eq!(
        openssl("req -in request.csr -verify -noout -subject -nameopt oneline,utf8,-esc_msb"),
        (true, "subject=O = \"a,b\", O = \u{e9}, CN = system:alice\n".to_owned())
    );
}

proptest::proptest! {
    #[test]
    fn nothing_that_claims_to_be_a_certificate_or_key_panics(text in ".*", der in proptest::collection::vec(0_u8.., 0..200)) {
        let _ = inspect(&text);
        let _ = Authority::from_pem(&text, &text);
        let _ = pki::Kubeconfig::parse(&text);
        let body = STANDARD.encode(der);
        for label in ["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            let _ = inspect(&pem);
            let _ = pki::PrivateKey::from_pem(&pem);
        }
    }
}
