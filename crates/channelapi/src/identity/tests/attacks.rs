//! Every known way to pass off a JWT that is not good, each in one line.

use super::signers::base64url;
use super::*;
use crate::identity::Denied;
use channelapi_core::limits::{JWT_CLAIMS_MAX, JWT_DEPTH_MAX};

/// A JWT of these texts that nobody has signed.
fn unsigned(header: &str, payload: &str) -> String {
    format!("{}.{}.", base64url(header.as_bytes()), base64url(payload.as_bytes()))
}

/// An issuer that signs with a secret.
fn by_secret() -> Issuers {
    Issuers::set_up(&[issuer(secret())], None).unwrap()
}

/// An issuer that signs with this key, given as PEM.
fn by_pem(signer: &Signer) -> Issuers {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, signer.pem()).unwrap();
    Issuers::set_up(&[issuer(KeySource::PublicKeyFile(path))], None).unwrap()
}

#[track_caller]
pub(super) fn refused(verified: Result<Claims, Refused>, what: &str) {
    assert_eq!(verified.map(|_| ()).map_err(|refused| refused.denied()), Err(Denied::Invalid), "{what}");
}

#[tokio::test]
async fn a_jwt_that_is_good_is_taken() {
    let issuers = by_secret();
    let claims = verify(&issuers, &hs256().sign(&claims())).await.unwrap();
    assert_eq!(names(&claims), ["a", "user:1"]);
    assert_eq!((claims.bearer.subject.as_deref(), claims.bearer.id.as_deref()), (Some("ann"), Some("1")));
    assert_eq!((claims.bearer.issued_at, claims.expires_at), ((NOW - 60) * 1_000, (NOW + 600) * 1_000));
    for more in [json!({"typ": "at+jwt"}), json!({"typ": "application/AT+JWT"}), json!({"kid": "whatever"})] {
        verify(&issuers, &hs256().sign_with(&more, &super::claims())).await.expect("one key needs no name");
    }
}

#[tokio::test]
async fn the_algorithm_goes_with_the_key_and_never_with_the_header() {
    let payload = claims().to_string();
    let (hs, rs) = (by_secret(), by_pem(&Signer::rsa("RS256")));
    let es_signer = Signer::new("ES256");
    let es = by_pem(&es_signer);
    for algorithm in
        ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS1", "ES256K", "ES512", "dir", "A128KW"]
    {
        let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
        for issuers in [&hs, &rs, &es] {
            refused(verify(issuers, &unsigned(&header, &payload)).await, algorithm);
            let signed = hs256().sign_text(&header, &payload);
            refused(verify(issuers, &signed).await, algorithm);
        }
    }
    for header in [
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":256}"#,
        "{}",
        "[]",
        r#"["HS256"]"#,
        "",
        "null",
        "{",
    ] {
        refused(verify(&hs, &hs256().sign_text(header, &payload)).await, header);
    }
    // The public key is known to everybody. As a secret it would let everybody sign.
    let pem = Signer::rsa("RS256").pem();
    for text in [pem.as_str(), pem.trim_end()] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let signer = Signer::secret(algorithm, text);
            refused(verify(&rs, &signer.sign(&claims())).await, algorithm);
        }
    }
    // The right key, with an algorithm that it was not given for.
    for algorithm in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        refused(verify(&rs, &Signer::rsa(algorithm).sign(&claims())).await, algorithm);
    }
    for algorithm in ["HS384", "HS512"] {
        refused(verify(&hs, &Signer::secret(algorithm, SECRET).sign(&claims())).await, algorithm);
    }
    verify(&rs, &Signer::rsa("RS256").sign(&claims())).await.unwrap();
    verify(&es, &es_signer.sign(&claims())).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_is_no_signature_is_refused() {
    let signer = Signer::new("ES256");
    let es = by_pem(&signer);
    let good = signer.sign(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let zeros = base64url(&[0; 64]);
    let der = base64url(&[0x30, 6, 2, 1, 0, 2, 1, 0]);
    let n = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let order = base64url(&[n, n].concat());
    for (what, signature) in [
        ("none", ""),
        ("r = s = 0", &*zeros),
        ("in DER", &der),
        ("r = s = n", &order),
        ("shortened", &signature[..signature.len() - 2]),
        ("half", &signature[..signature.len() / 2]),
        ("longer", &format!("{signature}AA")),
        ("padded", &format!("{signature}==")),
        ("with a space", &format!("{signature} ")),
        ("with a line end", &format!("{signature}\n")),
        ("with a foreign character", &format!("{signature}+/")),
    ] {
        refused(verify(&es, &format!("{message}.{signature}")).await, what);
    }
    let hs = by_secret();
    let good = hs256().sign(&claims());
    for length in 0..good.len() {
        refused(verify(&hs, &good[..length]).await, "cut off");
    }
    for place in [5, good.len() / 2, good.len() - 3] {
        let mut changed = good.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        refused(verify(&hs, std::str::from_utf8(&changed).unwrap()).await, "changed");
    }
    // What decodes to the same bytes by bits that mean nothing would be a second name of the same JWT.
    let last = good.as_bytes()[good.len() - 1];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.iter().filter(|other| **other != last) {
        let changed = format!("{}{}", &good[..good.len() - 1], char::from(*other));
        refused(verify(&hs, &changed).await, "other trailing bits");
    }
    refused(
        verify(&hs, &Signer::secret("HS256", "another secret of more than 32 bytes").sign(&claims())).await,
        "another key",
    );
}

#[tokio::test]
async fn what_a_jwt_says_of_itself_is_held_to_its_type() {
    let issuers = by_secret();
    let check = async |name: &str, value: Option<Value>, expected: Result<(), Denied>| {
        let verified = verify(&issuers, &hs256().sign(&claims_with(name, value.clone()))).await;
        assert_eq!(verified.map(|_| ()).map_err(|refused| refused.denied()), expected, "{name}: {value:?}");
    };
    let invalid = Err(Denied::Invalid);
    for exp in [
        json!((NOW + 600).to_string()),
        json!(f64::from(2_000_000_000_u32) + 0.5),
        json!(1.8e9 + 600.0),
        json!(-1),
        json!(0.0),
        json!(null),
        json!(true),
        json!([NOW + 600]),
        json!({"$gt": 0}),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(NOW + 367 * 86_400),
    ] {
        check("exp", Some(exp), invalid).await;
    }
    check("exp", None, invalid).await;
    for (exp, expected) in [
        (0, Err(Denied::Expired)),
        (NOW - 600, Err(Denied::Expired)),
        (NOW - 10, Err(Denied::Expired)),
        (NOW - 9, Ok(())),
        (NOW + 1, Ok(())),
        (NOW - 60 + 366 * 86_400, Ok(())),
    ] {
        check("exp", Some(json!(exp)), expected).await;
    }
    for name in ["nbf", "iat"] {
        for value in [json!("0"), json!(-1), json!(0.5), json!([])] {
            check(name, Some(value), invalid).await;
        }
        check(name, Some(json!(NOW + 11)), Err(Denied::Early)).await;
        // None of these is ever good.
        check(name, Some(json!(NOW * 1_000)), invalid).await;
        check(name, Some(json!(NOW + 367 * 86_400)), invalid).await;
        check(name, Some(json!(NOW + 100_000)), invalid).await;
        check(name, None, Ok(())).await;
        check(name, Some(json!(NOW + 10)), Ok(())).await;
    }
    for issuer in [
        json!("https://issuer.example/"),
        json!("HTTPS://issuer.example"),
        json!(""),
        json!(null),
        json!(["https://issuer.example"]),
    ] {
        check("iss", Some(issuer), invalid).await;
    }
    check("iss", None, invalid).await;
    for audience in [
        json!("other"),
        json!("pus"),
        json!(""),
        json!([]),
        json!(["other"]),
        json!(null),
        json!({"push": 1}),
        json!([["push"]]),
        json!(["push", 1]),
    ] {
        check("aud", Some(audience), invalid).await;
    }
    check("aud", None, invalid).await;
    check("aud", Some(json!(["other", "push"])), Ok(())).await;
    for (name, value) in [
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("x".repeat(256))),
        ("sub", json!("a\u{0}b")),
        ("jti", json!({"$ne": ""})),
        ("jti", json!("x".repeat(256))),
    ] {
        check(name, Some(value), invalid).await;
    }
    for typ in ["ID", "Refresh", "Offline", "Logout"] {
        check("typ", Some(json!(typ)), invalid).await;
    }
    check("typ", Some(json!("Bearer")), Ok(())).await;
}

#[tokio::test]
async fn a_jwt_for_nobody_in_particular_is_not_one_for_somebody_else() {
    let settings = Issuer { audience: Vec::new(), ..issuer(secret()) };
    let issuers = Issuers::set_up(&[settings], None).unwrap();
    verify(&issuers, &hs256().sign(&claims_with("aud", None))).await.unwrap();
    refused(verify(&issuers, &hs256().sign(&claims())).await, "an ID token is for another audience");
}

#[tokio::test]
async fn a_name_that_is_there_twice_means_nothing() {
    let issuers = by_secret();
    let payload = claims().to_string();
    for more in [
        format!(r#"{{"exp":{},{}"#, NOW + 999_999, &payload[1..]),
        format!(r#"{{"channels":["admin"],{}"#, &payload[1..]),
        format!(r#"{},"channels":["admin"]}}"#, &payload[..payload.len() - 1]),
        format!(r#"{},"\u0063hannels":["admin"]}}"#, &payload[..payload.len() - 1]),
        format!(r#"{},"iss":"https://issuer.example"}}"#, &payload[..payload.len() - 1]),
    ] {
        refused(verify(&issuers, &hs256().sign_text(r#"{"alg":"HS256"}"#, &more)).await, &more);
    }
    for header in [
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
    ] {
        refused(verify(&issuers, &hs256().sign_text(header, &payload)).await, header);
    }
}

#[tokio::test]
async fn keys_and_addresses_in_a_header_are_not_looked_at_and_extensions_are_refused() {
    let mallory = Signer::new("ES256");
    let issuers = by_pem(&Signer::new("ES256"));
    for more in [
        json!({"jku": "https://mallory.example/jwks.json"}),
        json!({"x5u": "https://mallory.example/x.pem"}),
        json!({"jwk": mallory.jwk("m")}),
        json!({"x5c": ["MIIB"]}),
        json!({"kid": "m", "jwk": mallory.jwk("m")}),
    ] {
        refused(verify(&issuers, &mallory.sign_with(&more, &claims())).await, &more.to_string());
    }
    let hs = by_secret();
    let jku = json!({"jku": "https://mallory.example/jwks.json", "x5u": "file:///etc/passwd", "jwk": {"kty": "oct", "k": "AA"}});
    verify(&hs, &hs256().sign_with(&jku, &claims()))
        .await
        .expect("signed well; what else it has means nothing");
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("x"), json!({"a": 1}), json!(null)] {
        refused(
            verify(&hs, &hs256().sign_with(&json!({"crit": crit, "b64": false}), &claims())).await,
            "crit",
        );
    }
    for typ in [
        json!("dpop+jwt"),
        json!("logout+jwt"),
        json!("id_token"),
        json!("JWE"),
        json!(7),
        json!(["JWT"]),
        json!(""),
    ] {
        refused(verify(&hs, &hs256().sign_with(&json!({"typ": typ}), &claims())).await, &typ.to_string());
    }
    for kid in [
        json!(7),
        json!(""),
        json!("k".repeat(256)),
        json!("k".repeat(6_000)),
        json!({"a": 1}),
        json!("a\u{0}"),
    ] {
        refused(verify(&hs, &hs256().sign_with(&json!({"kid": kid}), &claims())).await, "kid");
    }
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused_without_being_read() {
    let issuers = by_secret();
    let padded = |bytes: usize| hs256().sign(&claims_with("x", Some(json!("x".repeat(bytes)))));
    verify(&issuers, &padded(5_000)).await.unwrap();
    refused(verify(&issuers, &padded(8_000)).await, "8 KB");
    refused(verify(&issuers, &padded(1_000_000)).await, "1 MB");
    let nested = |levels: usize| {
        let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        hs256().sign(&claims_with("x", Some(serde_json::from_str(&text).unwrap())))
    };
    verify(&issuers, &nested(JWT_DEPTH_MAX - 1)).await.unwrap();
    refused(verify(&issuers, &nested(JWT_DEPTH_MAX)).await, "deep, and nothing else is wrong with it");
    for deep in ["[".repeat(100_000), "[".repeat(4_000), r#"{"a":"#.repeat(1_000)] {
        for payload in [deep.clone(), format!(r#"{{"channels":{deep}"#)] {
            refused(
                verify(&issuers, &hs256().sign_text(r#"{"alg":"HS256"}"#, &payload)).await,
                "deep payload",
            );
            refused(
                verify(&issuers, &hs256().sign_text(&payload, &claims().to_string())).await,
                "deep header",
            );
        }
    }
    let with_claims = |count: usize| {
        let mut all = claims().as_object().unwrap().clone();
        all.extend((all.len()..count).map(|number| (format!("c{number}"), json!(0))));
        hs256().sign(&Value::Object(all))
    };
    verify(&issuers, &with_claims(JWT_CLAIMS_MAX)).await.unwrap();
    refused(verify(&issuers, &with_claims(JWT_CLAIMS_MAX + 1)).await, "too many claims");
    for text in [
        "..",
        "a.b.c",
        "a..c",
        ".a.",
        "....",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        "e30.e30.e30",
        "\u{e9}.\u{e9}.\u{e9}",
    ] {
        refused(verify(&issuers, text).await, text);
    }
    for payload in ["", "null", "7", "[]", "\"x\"", "{", "\u{feff}{}", "{}x"] {
        refused(verify(&issuers, &hs256().sign_text(r#"{"alg":"HS256"}"#, payload)).await, payload);
    }
    let binary = format!("{}.{}.", base64url(b"{\"alg\":\"HS256\"}"), base64url(b"\xff\xfe"));
    refused(verify(&issuers, &binary).await, "not UTF-8");
}

#[tokio::test]
async fn a_channel_is_opened_by_its_whole_name_or_by_a_pattern_that_is_allowed() {
    let of = async |settings: &Issuer, channels: Value| {
        let issuers = Issuers::set_up(std::slice::from_ref(settings), None).unwrap();
        verify(&issuers, &hs256().sign(&claims_with("channels", Some(channels)))).await
    };
    let opens = |claims: &Claims, name: &str| {
        claims.grants(&channelapi_core::model::ChannelName::parse(name).unwrap())
    };
    let plain = issuer(secret());
    let one = of(&plain, json!(["user:1", "a,b"])).await.unwrap();
    for (name, expected) in [
        ("user:1", true),
        ("user:10", false),
        ("user:", false),
        ("USER:1", false),
        ("a,b", true),
        ("a", false),
        ("b", false),
        ("user:1 ", false),
    ] {
        assert_eq!(opens(&one, name), expected, "{name}");
    }
    for channels in [json!(["*"]), json!(["user:*"]), json!([]), json!(["**", "*a*"])] {
        refused(of(&plain, channels.clone()).await, &channels.to_string());
    }
    let mixed = of(&plain, json!(["*", "a"])).await.unwrap();
    assert!(opens(&mixed, "a") && !opens(&mixed, "b") && !opens(&mixed, "*"), "a star means nothing here");
    for channels in [
        json!("a"),
        json!("*"),
        json!({"a": 1}),
        json!([1]),
        json!([null]),
        json!([["a"]]),
        json!([""]),
        json!(["a\u{0}"]),
        json!(["x".repeat(256)]),
    ] {
        refused(of(&plain, channels.clone()).await, &channels.to_string());
    }
    let many: Vec<_> = (0..129).map(|number| format!("c{number}")).collect();
    assert_eq!(of(&plain, json!(many[..128])).await.unwrap().channels().len(), 128);
    refused(of(&plain, json!(many)).await, "too many channels");

    let patterns =
        Issuer { allow_patterns: true, grants: vec!["user:*".into(), "news".into()], ..issuer(secret()) };
    let bounded = of(&patterns, json!(["*", "secret", "news"])).await.unwrap();
    assert_eq!(names(&bounded), ["news"], "more than its issuer may open is not opened");
    assert!(opens(&bounded, "user:10") && opens(&bounded, "news") && !opens(&bounded, "secret"));
    let narrow = of(&patterns, json!(["user:1:*"])).await.unwrap();
    assert!(
        opens(&narrow, "user:1:x")
            && !opens(&narrow, "user:1")
            && !opens(&narrow, "user:10:x")
            && !opens(&narrow, "news")
    );
    refused(of(&patterns, json!(["secret"])).await, "nothing is left");

    // Once, each of these was told that `channels` is empty, or outside of the grants, also where there are none.
    for (settings, channels, why) in [
        (&plain, json!([]), "it opens nothing: its claim `channels` names no channel"),
        (
            &plain,
            json!(["a*"]),
            "it opens nothing: `a*` is a pattern, and the configuration does not set `allow_patterns`",
        ),
        (
            &patterns,
            json!(["secret"]),
            "it opens nothing that its issuer may open: `secret` lies outside of the configuration's `grants`",
        ),
    ] {
        assert_eq!(of(settings, channels).await.unwrap_err().to_string(), why);
    }
}
