//! Several issuers side by side: whose a JWT is, and what is told when none takes it.

use super::attacks::refused;
use super::*;
use crate::config::jwt::JwksUrl;
use crate::config::value::Value as _;
use crate::identity::Denied;
use crate::identity::jwks::Times;
use std::time::Duration;

#[tokio::test]
async fn issuers_do_not_open_each_others_channels() {
    let (ours, theirs) = (Signer::new("ES256"), Signer::new("ES256"));
    let folder = tempfile::tempdir().unwrap();
    let jwks = |name: &str, keys: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
        KeySource::JwksFile(path)
    };
    let named = |name: &str, keys, grants: &str| Issuer {
        issuer: Some(name.into()),
        grants: vec![grants.into()],
        ..issuer(keys)
    };
    // Both call their key the same.
    let issuers = Issuers::set_up(
        &[
            named("ours", jwks("ours", json!([ours.jwk("1")])), "*"),
            named("theirs", jwks("theirs", json!([theirs.jwk("1")])), "their:*"),
        ],
        None,
    )
    .unwrap();
    let kid = json!({"kid": "1"});
    let says = |issuer: &str, channel: &str| {
        let mut claims = claims_with("channels", Some(json!([channel])));
        claims["iss"] = issuer.into();
        claims
    };
    verify(&issuers, &ours.sign_with(&kid, &says("ours", "secret"))).await.unwrap();
    verify(&issuers, &theirs.sign_with(&kid, &says("theirs", "their:1"))).await.unwrap();
    refused(
        verify(&issuers, &theirs.sign_with(&kid, &says("ours", "secret"))).await,
        "theirs says that it is ours",
    );
    refused(verify(&issuers, &theirs.sign_with(&kid, &says("theirs", "secret"))).await, "theirs opens ours");
    refused(
        verify(&issuers, &ours.sign_with(&kid, &says("theirs", "their:1"))).await,
        "the wrong key of the same name",
    );
    for kid in ["../../dev/null", "' OR 1=1 --", "http://mallory.example/k", "1\u{200b}", "ours", "2"] {
        refused(verify(&issuers, &ours.sign_with(&json!({"kid": kid}), &says("ours", "a"))).await, kid);
    }
    verify(&issuers, &ours.sign(&says("ours", "a"))).await.expect("there is only one key");
}

/// One secret once stood for two audiences, and JWTs of the second were refused because the first entry did not take them.
#[tokio::test]
async fn of_several_entries_of_one_issuer_each_takes_what_is_for_it() {
    let entry = |audience: &str, grants: &str| Issuer {
        audience: vec![audience.into()],
        grants: vec![grants.into()],
        ..issuer(secret())
    };
    let issuers = Issuers::set_up(&[entry("a", "user:*"), entry("b", "a")], None).unwrap();
    let says = |name: &str, value: Value, audience: &str| {
        let mut claims = claims_with(name, Some(value));
        claims["aud"] = audience.into();
        hs256().sign(&claims)
    };
    let of = async |audience: &str| verify(&issuers, &says("sub", json!("ann"), audience)).await;
    assert_eq!(names(&of("a").await.unwrap()), ["user:1"], "as far as its entry grants");
    assert_eq!(names(&of("b").await.unwrap()), ["a"]);
    refused(of("c").await, "for nobody here");
    for audience in ["a", "b"] {
        let ended = verify(&issuers, &says("exp", json!(NOW - 600), audience)).await;
        assert_eq!(ended.unwrap_err().denied(), Denied::Expired, "{audience}");
    }
}

#[tokio::test]
async fn of_several_reasons_the_one_that_says_most_is_told() {
    // Nobody fetches the keys of this one.
    let url = JwksUrl::parse("http://127.0.0.1:9/jwks.json").unwrap();
    let unknown = issuer(KeySource::JwksUrl { url, ca_file: None });
    let other =
        issuer(KeySource::Secret(Secret::new("another secret of an issuer, and more than 32 bytes long")));
    let elsewhere = Issuer { audience: vec!["elsewhere".into()], ..issuer(secret()) };
    let times = Times { timeout: Duration::from_millis(1), ..Times::default() };
    let told = async |entries: Vec<&Issuer>| {
        let entries: Vec<Issuer> = entries.into_iter().cloned().collect();
        verify(&Issuers::set_up_with(&entries, times), &hs256().sign(&claims())).await.unwrap_err()
    };
    for entries in [vec![&elsewhere, &other], vec![&other, &elsewhere]] {
        let reason = told(entries).await;
        assert!(matches!(reason, Refused::Claims(_)), "{reason}");
    }
    for entries in [vec![&unknown, &elsewhere, &other], vec![&elsewhere, &other, &unknown]] {
        assert_eq!(told(entries).await, Refused::Unavailable);
    }
    assert_eq!(told(vec![&other, &other]).await, Refused::Signature);
}

/// While a secret is changed, JWTs of both are good, and each has the rights of its own entry.
#[tokio::test]
async fn an_issuer_may_have_an_old_and_a_new_secret() {
    let new = "the secret that comes next has more than 32 bytes";
    let issuers =
        Issuers::set_up(&[issuer(secret()), issuer(KeySource::Secret(Secret::new(new)))], None).unwrap();
    verify(&issuers, &hs256().sign(&claims())).await.unwrap();
    verify(&issuers, &Signer::secret("HS256", new).sign(&claims())).await.unwrap();
    refused(
        verify(
            &issuers,
            &Signer::secret("HS256", "a third secret of more than 32 bytes is not good").sign(&claims()),
        )
        .await,
        "a third",
    );
}
