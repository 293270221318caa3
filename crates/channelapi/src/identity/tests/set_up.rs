//! What an operator may configure, and the JWTs that go with it.

use super::*;
use crate::identity::issuer::SetUpError;
use crate::identity::signing::{SignRequest, sign};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join(format!("{:x}", text.len()));
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn each_algorithm_verifies_what_its_own_key_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in ["HS256", "HS384", "HS512"] {
        let path = file(folder.path(), &format!("{SECRET}\r\n"));
        let settings = Issuer { algorithms: vec![algorithm.into()], ..issuer(KeySource::SecretFile(path)) };
        let issuers = Issuers::set_up(&[settings], None).unwrap();
        verify(&issuers, &Signer::secret(algorithm, SECRET).sign(&claims())).await.expect(algorithm);
    }
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(Signer::rsa);
    let curves = ["ES256", "ES384", "EdDSA"].map(Signer::new);
    for signer in rsa.iter().chain(&curves) {
        let algorithm = signer.algorithm;
        let path = file(folder.path(), &signer.pem());
        let jwks = folder.path().join("jwks");
        std::fs::write(&jwks, json!({"keys": [signer.jwk("1")]}).to_string()).unwrap();
        for keys in [KeySource::PublicKeyFile(path), KeySource::JwksFile(jwks)] {
            let settings = Issuer { algorithms: vec![algorithm.into()], ..issuer(keys) };
            let issuers = Issuers::set_up(std::slice::from_ref(&settings), None).unwrap();
            verify(&issuers, &signer.sign(&claims())).await.expect(algorithm);
            let usual = Issuers::set_up(&[Issuer { algorithms: Vec::new(), ..settings }], None).unwrap();
            let is_usual = matches!(algorithm, "RS256" | "ES256" | "ES384" | "EdDSA");
            assert_eq!(verify(&usual, &signer.sign(&claims())).await.is_ok(), is_usual, "{algorithm}");
        }
    }
}

/// Of a JWKS each key is an object. Once, an object with the key in a text was one, at any depth, and so was an array of its values.
#[tokio::test]
async fn what_is_no_key_in_a_jwks_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("ES256");
    let key = signer.jwk("1");
    let dressed = json!({"$serde_json::private::RawValue": key.to_string()});
    let (x, y) = (&key["x"], &key["y"]);
    let array = json!(["EC", "1", "ES256", "sig", null, "P-256", null, null, x, y]);
    for other in [dressed, array, json!(null), json!([[]])] {
        let path = folder.path().join("jwks");
        let set_up = |keys: Value| {
            std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
            Issuers::set_up(&[issuer(KeySource::JwksFile(path.clone()))], None)
        };
        let error = set_up(json!([other])).err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains("no key in it")), "{other}: {error:?}");
        verify(&set_up(json!([other, key])).unwrap(), &signer.sign(&claims())).await.unwrap();
    }
}

#[test]
fn a_key_that_cannot_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let check = |settings: Issuer, part: &str| {
        let error = Issuers::set_up(&[settings], None).err().map(|error: SetUpError| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains(part)), "{part}: {error:?}");
    };
    let es = Signer::new("ES256");
    check(issuer(KeySource::Secret(Secret::new("short"))), "5 bytes, and must have 32");
    check(issuer(KeySource::Secret(Secret::new(es.pem()))), "public_key_file");
    check(issuer(KeySource::SecretFile(folder.path().join("none"))), "No such file");
    check(issuer(KeySource::PublicKeyFile(file(folder.path(), "nothing"))), "no public key in PEM form");
    let small = "-----BEGIN PUBLIC KEY-----\n\
        MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALqZRkhVqSgZJrTMRHEsMSRxBbBNhQ1L\n\
        kz3f8jJ4E0cH2kqV0d3Xb1kBqQy0Tn3tKc7oNnQ2kVxQ2m6zQ0W9G1kCAwEAAQ==\n\
        -----END PUBLIC KEY-----\n";
    check(issuer(KeySource::PublicKeyFile(file(folder.path(), small))), "no public key in PEM form");
    check(
        issuer(KeySource::PublicKeyFile(file(folder.path(), &"x".repeat(300_000)))),
        "larger than 262144 bytes",
    );
    let with = |algorithms: &[&str], keys| Issuer {
        algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        ..issuer(keys)
    };
    let pem = KeySource::PublicKeyFile(file(folder.path(), &es.pem()));
    check(with(&["ES384"], pem.clone()), "cannot be used with ES384; it goes with ES256");
    check(with(&["HS256"], pem), "cannot be used with HS256");
    check(with(&["RS256"], secret()), "cannot be used with RS256; it goes with HS256, HS384, HS512");
    let jwks = |text: String| issuer(KeySource::JwksFile(file(folder.path(), &text)));
    check(jwks("{}".into()), "it is no JWKS");
    check(jwks(json!({"keys": []}).to_string()), "no key in it that can be used");
    check(jwks(json!({"keys": [hs256().jwk("1")]}).to_string()), "no key in it that can be used");
    let mut encryption = es.jwk("1");
    encryption["use"] = "enc".into();
    check(jwks(json!({"keys": [encryption, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}).to_string()), "no key in it that can be used");
    // Once, the text was that there is no key that can be used.
    let set = json!({"keys": [es.jwk("1"), Signer::rsa("RS256").jwk("2")]}).to_string();
    let other = |algorithms, text: &str| with(algorithms, KeySource::JwksFile(file(folder.path(), text)));
    check(
        other(&["ES384", "EdDSA"], &set),
        "its keys are for ES256, RS256, RS384, RS512, PS256, PS384, PS512, and `algorithms` allows ES384, EdDSA alone",
    );
    let mut bound = Signer::rsa("RS256").jwk("1");
    bound["alg"] = "RS256".into();
    let bound = json!({"keys": [bound]}).to_string();
    check(other(&["PS256"], &bound), "its keys are for RS256, and `algorithms` allows PS256 alone");
    let many: Vec<_> = (0..65).map(|number| es.jwk(&number.to_string())).collect();
    check(jwks(json!({"keys": many}).to_string()), "more than 64 keys");
}

#[tokio::test]
async fn an_issuer_without_a_name_takes_what_its_key_has_signed_whoever_that_says_it_is() {
    let settings = Issuer { issuer: None, audience: Vec::new(), ..issuer(secret()) };
    let issuers = Issuers::set_up(&[settings], None).unwrap();
    for name in [None, Some(json!("anybody"))] {
        let mut claims = claims_with("iss", name);
        claims.as_object_mut().unwrap().remove("aud");
        let claims = verify(&issuers, &hs256().sign(&claims)).await.unwrap();
        assert_eq!(&*claims.bearer.issuer, "", "what can be revoked is named by the configuration");
    }
}

#[tokio::test]
async fn what_is_signed_for_trying_things_out_is_good() {
    let settings =
        Issuer { channels_claim: "topics".into(), algorithms: vec!["HS512".into()], ..issuer(secret()) };
    let request = SignRequest {
        channels: vec!["a".into(), "b".into()],
        subject: Some("ann".into()),
        ttl: Duration::from_hours(1),
        ..SignRequest::default()
    };
    let issuers = Issuers::set_up(std::slice::from_ref(&settings), None).unwrap();
    let token = sign(&settings, &request, NOW).unwrap();
    let claims = verify(&issuers, &token).await.unwrap();
    assert_eq!((names(&claims), claims.expires_at), (vec!["a", "b"], (NOW + 3_600) * 1_000));
    let other = SignRequest { algorithm: Some("ES256".into()), ..request.clone() };
    assert!(sign(&settings, &other, NOW).unwrap_err().to_string().contains("cannot be used with ES256"));
    let public = Issuer { keys: KeySource::JwksFile("x".into()), ..settings };
    assert!(sign(&public, &request, NOW).unwrap_err().to_string().contains("--key-file"));
}

/// Once, whoever came with a JWT from a clock that was ahead counted as let in after a revocation that followed.
#[tokio::test]
async fn an_issuer_whose_clock_is_ahead_has_issued_nothing_later_than_now() {
    let folder = tempfile::tempdir().unwrap();
    let settings = issuer(KeySource::SecretFile(file(folder.path(), SECRET)));
    let issuers = Issuers::set_up(&[settings], None).unwrap();
    for (ahead, expected) in [(0, 0), (9, 0), (-1, -1)] {
        let issued_at = NOW.checked_add_signed(ahead).unwrap();
        let token = hs256().sign(&claims_with("iat", Some(json!(issued_at))));
        let claims = issuers.verify(&token, NOW * 1_000 + 999).await.unwrap();
        assert_eq!(claims.bearer.issued_at, NOW.checked_add_signed(expected).unwrap() * 1_000, "{ahead}");
    }
}

/// Once, a public key was said not to go with RS256, and to leave out an option that was not there.
#[test]
fn a_file_that_signs_nothing_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf, algorithms: &[&str]| {
        let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
        let request = SignRequest { key_file: Some(path), ..SignRequest::default() };
        sign(&Issuer { algorithms, ..issuer(secret()) }, &request, NOW).unwrap_err().to_string()
    };
    let none = folder.path().join("none");
    assert_eq!(
        refused(none.clone(), &[]),
        format!("--key-file: cannot read {}: No such file or directory (os error 2)", none.display())
    );
    for (text, part) in [
        (&*Signer::rsa("RS256").pem(), "it is a public key; name the private one"),
        (&*Signer::new("ES256").pem(), "it is a public key; name the private one"),
        (
            "-----BEGIN EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\n",
            "openssl pkcs8 -topk8 -nocrypt -in /",
        ),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "the key is encrypted: `openssl pkcs8 -in /"),
        ("nothing", "there is no private key in PEM form"),
    ] {
        let error = refused(file(folder.path(), text), &[]);
        assert!(error.contains(part), "{error}");
    }
    let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let error = refused(file(folder.path(), &pkcs8), &["RS256"]);
    assert!(error.contains("RS256, which the `algorithms` of the jwt entry begin with"), "{error}");
}

/// Once, whoever mistyped an issuer was told that it was revoked.
#[tokio::test]
async fn an_issuer_is_known_by_its_name_also_when_the_configuration_does_not_name_it_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let settings = issuer(KeySource::SecretFile(file(folder.path(), SECRET)));
    let first = Issuers::set_up(&[settings], None).unwrap();
    let second = Issuers::set_up(&[], Some(&first)).unwrap();
    let third = Issuers::set_up(&[], Some(&second)).unwrap();
    for issuers in [&first, &second, &third] {
        assert!(issuers.has_had("https://issuer.example"));
        assert!(!issuers.has_had("https://issuer.exampl"));
    }
}
