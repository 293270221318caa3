//! What a JWT says, signed by who may.

use channelapi_core::model::ChannelName;
use serde_json::Value;

use super::jwt::{assert_limits, encode, member, sign};
use crate::identity::{Claims, Denied, NOW, OTHER_SECRET, SECRET, verify};

/// The input is a header, a line end, and a payload. Both secrets sign them: whatever they say, the signature is good.
///
/// - At most one of the two is good: that of the issuer which it names.
/// - It is good only if its algorithm is the one of the secret, it is for us, it ends and has not ended, and it names channels.
/// - No name is there twice.
/// - When its time is over, it has expired.
pub fn jwt_claims(data: &[u8]) -> bool {
    let Some(line_end) = data.iter().position(|byte| *byte == b'\n') else { return false };
    let (header, payload) = (&data[..line_end], &data[line_end + 1..]);
    let good: Vec<(&str, Claims)> = [("https://a.example", SECRET), ("https://b.example", OTHER_SECRET)]
        .into_iter()
        .filter_map(|(issuer, secret)| {
            let claims = verify(&signed(secret, header, payload), NOW * 1_000).ok()?;
            assert_twice_is_refused(secret, header, payload);
            let over = verify(&signed(secret, header, payload), claims.expires_at + 10_000);
            assert_eq!(over.err(), Some(Denied::Expired), "it does not end");
            Some((issuer, claims))
        })
        .collect();
    let [(issuer, claims)] = &good[..] else {
        assert!(good.is_empty(), "it is of two issuers");
        return false;
    };
    assert!(member(header, "alg") == "HS256" && member(header, "crit").is_null(), "{header:?}");
    assert_says(payload, issuer, claims);
    assert_limits(claims);
    true
}

fn signed(secret: &str, header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    format!("{message}.{}", sign(secret, &message))
}

/// The payload says what was understood.
fn assert_says(payload: &[u8], issuer: &str, claims: &Claims) {
    assert_eq!(member(payload, "iss"), issuer);
    assert_eq!(&*claims.bearer.issuer, issuer);
    let is_for_us = |audience: &Value| audience == "push";
    let audience = member(payload, "aud");
    assert!(is_for_us(&audience) || audience.as_array().is_some_and(|all| all.iter().any(is_for_us)));
    assert_eq!(member(payload, "exp").as_u64().map(|seconds| seconds * 1_000), Some(claims.expires_at));
    assert_eq!(member(payload, "sub").as_str(), claims.bearer.subject.as_deref());
    assert_eq!(member(payload, "jti").as_str(), claims.bearer.id.as_deref());
    let names = member(payload, "channels");
    let names = names.as_array().expect("channels are in an array");
    for channel in claims.channels() {
        assert!(names.iter().any(|name| name == channel.as_str()), "{channel} is not named");
        // A name that begins alike is another one.
        if let Ok(other) = ChannelName::parse(&format!("{channel}0")) {
            let is_named = claims.channels().contains(&other) || names.iter().any(is_pattern);
            assert!(is_named || !claims.grants(&other), "{other} is not named");
        }
    }
}

fn is_pattern(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.contains('*'))
}

/// Its end once more, and another algorithm once more.
fn assert_twice_is_refused(secret: &str, header: &[u8], payload: &[u8]) {
    for (name, header, payload) in [
        ("exp", header.to_vec(), with_first(r#""exp":1900000000,"#, payload)),
        ("alg", with_first(r#""alg":"HS256","#, header), payload.to_vec()),
    ] {
        let twice = signed(secret, &header, &payload);
        assert_eq!(verify(&twice, NOW * 1_000).err(), Some(Denied::Invalid), "{name} is there twice");
    }
}

/// An object with one more entry in front.
fn with_first(entry: &str, object: &[u8]) -> Vec<u8> {
    let brace = object.iter().position(|byte| *byte == b'{').expect("it is an object");
    [&object[..=brace], entry.as_bytes(), &object[brace + 1..]].concat()
}
