//! Revoking JWTs, and sending clients away.

use super::fields::{Fields, invalid, wrong_type};
use super::json::Object;
use super::problem::{Code, Problem, sentence};
use super::query::{self, Query};
use super::{answer, time, utf8};
use crate::http::Response;
use crate::identity::Identity;
use crate::metrics;
use bytes::Bytes;
use channelapi_core::hub::{Hub, RevocationError, TokenError, kept_until};
use channelapi_core::limits::{REVOCATIONS_LIMIT, REVOCATIONS_LIMIT_MAX};
use channelapi_core::model::{ChannelName, Revocation, RevocationRequest, RevokedKind, is_claim};
use hyper::StatusCode;
use std::sync::Arc;

/// `POST /v1/revocations`
pub(super) async fn revoke(hub: &Arc<Hub>, identity: &Identity, body: &Bytes) -> Result<Response, Problem> {
    let what = parse(utf8(body)?, hub.clock().machine_millis())?;
    let issuer = if what.kind == RevokedKind::Issuer { &what.value } else { &what.issuer };
    if !issuer.is_empty() && !identity.has_had_issuer(issuer) {
        // It would count for nobody, and whoever asks would think that it did.
        return Err(invalid(
            "No [[jwt]] of the configuration has this `issuer`, and none had it since the start: it would revoke nothing.",
        ));
    }
    let node = hub.clone();
    // A task of its own: whoever asked may hang up, and the clients must go all the same.
    let task = tokio::spawn(async move { carry_out(&node, what).await });
    let revocation = task.await.map_err(|panic| Problem::unavailable(&panic))??;
    Ok(answer(StatusCode::CREATED, object_of(&revocation)))
}

async fn carry_out(hub: &Hub, what: RevocationRequest) -> Result<Revocation, Problem> {
    let revocation = hub.revocations.revoke(what).await.map_err(|error| match error {
        RevocationError::TooMany => Problem::new(Code::TooManyRevocations, sentence(&error)),
        RevocationError::State(error) => Problem::unavailable(&error),
    })?;
    metrics::REVOKED.count();
    if revocation.what.kind == RevokedKind::Channel {
        let channel = ChannelName::parse(&revocation.what.value)?;
        // Its token is good for it as well as any JWT, and so is whoever came in with that.
        hub.tokens.revoke(&channel).await.map_err(|error: TokenError| Problem::unavailable(&error))?;
        hub.disconnect_channel(&channel).await;
    }
    Ok(revocation)
}

/// `GET /v1/revocations`
pub(super) async fn list(hub: &Hub, query: &str) -> Result<Response, Problem> {
    let mut query = Query::parse(query)?;
    let after = query.take_as("after", "the id of a revocation")?.unwrap_or(0);
    let limit = query.take_as("limit", "a number from 1 to 1,000")?.unwrap_or(REVOCATIONS_LIMIT);
    query.finish()?;
    if !(1..=REVOCATIONS_LIMIT_MAX).contains(&limit) {
        return Err(query::refused("`limit` must be a number from 1 to 1,000."));
    }
    let page = hub.revocations.page(after, limit + 1).await;
    let page = page.map_err(|error| Problem::unavailable(&error))?;
    let has_more = page.len() > limit;
    let items = page.iter().take(limit).map(|revocation| object_of(revocation).finish());
    let object = Object::new().array("revocations", items).value("has_more", has_more);
    Ok(answer(StatusCode::OK, object))
}

/// `DELETE /v1/revocations/{id}`
pub(super) async fn forgive(hub: &Hub, id: &str) -> Result<Response, Problem> {
    let none = || {
        let hint = "GET /v1/revocations lists those that there are; a day after its `until` each is gone.";
        Problem::not_found("There is no such revocation.", hint)
    };
    let id = id.parse().map_err(|_| none())?;
    let forgiven = hub.revocations.forgive(id).await.map_err(|error| Problem::unavailable(&error))?;
    Ok(answer(StatusCode::OK, object_of(&forgiven.ok_or_else(none)?)))
}

/// `POST /v1/channels/{c}/disconnect`
pub(super) async fn disconnect(hub: &Arc<Hub>, channel: ChannelName) -> Result<Response, Problem> {
    let node = hub.clone();
    let task = tokio::spawn(async move {
        let disconnected = node.disconnect_channel(&channel).await;
        (channel, disconnected)
    });
    let (channel, disconnected) = task.await.map_err(|panic| Problem::unavailable(&panic))?;
    let object = Object::new().text("channel", channel.as_str()).value("disconnected", disconnected);
    Ok(answer(StatusCode::OK, object))
}

fn object_of(Revocation { id, what, created_at }: &Revocation) -> Object {
    let RevocationRequest { kind, value, issuer, before, until } = what;
    let mut object = Object::new().text("id", &id.to_string()).text(kind.as_str(), value);
    if !issuer.is_empty() {
        object = object.text("issuer", issuer);
    }
    if *kind == RevokedKind::Issuer {
        object = object.value("all", true);
    }
    if *kind != RevokedKind::Id {
        object = object.text("before", &time::rfc3339(*before));
    }
    object.text("until", &time::rfc3339(*until)).text("created_at", &time::rfc3339(*created_at))
}

/// Reads what is to be revoked.
fn parse(body: &str, now: u64) -> Result<RevocationRequest, Problem> {
    let mut fields = Fields::parse(body)?;
    let mut named = Vec::new();
    for kind in [RevokedKind::Id, RevokedKind::Subject, RevokedKind::Channel] {
        named.extend(fields.take_text(kind.as_str())?.map(|value| (kind, value)));
    }
    let mut issuer = fields.take_text("issuer")?.unwrap_or_default();
    // A field that was to name somebody, and is missing because it was empty, must not send everybody away.
    let all = fields.take_as("all", "true or false")?;
    match (named.is_empty() && !issuer.is_empty(), all) {
        (true, Some(true)) => named.push((RevokedKind::Issuer, std::mem::take(&mut issuer))),
        (true, _) => {
            return Err(invalid(
                "`issuer` alone names nobody: add `jti`, `subject` or `channel`, or `\"all\":true` to revoke all that it has issued.",
            ));
        }
        (false, Some(true)) => return Err(invalid("`all` is for `issuer` alone.")),
        (false, _) => {}
    }
    let (kind, value) = match <[_; 1]>::try_from(named) {
        Ok([one]) => one,
        Err(named) if named.is_empty() => {
            return Err(fields.missing("jti`, `subject`, `channel` or `issuer", &["before", "until"]));
        }
        Err(_) => return Err(invalid("Only one of `jti`, `subject` and `channel` can be revoked at once.")),
    };
    if kind == RevokedKind::Channel {
        ChannelName::parse(&value)?;
    } else if !is_claim(&value) {
        return Err(wrong_type(kind.as_str(), "1 to 255 bytes without control characters"));
    }
    if !issuer.is_empty() && !is_claim(&issuer) {
        return Err(wrong_type("issuer", "1 to 255 bytes without control characters"));
    }
    // Whoever leaves a channel leaves it now; a JWT by its name is good or not.
    let before = match fields.take("before") {
        Some(before) if matches!(kind, RevokedKind::Subject | RevokedKind::Issuer) => {
            time::moment("before", before)?
        }
        Some(_) => return Err(invalid("`before` can be given with `subject` and with `issuer` alone only.")),
        None => now,
    };
    let kept = kept_until(before.max(now));
    let until = match fields.take("until") {
        Some(until) => time::moment("until", until)?,
        None => kept,
    };
    if before > kept_until(now) {
        return Err(invalid("`before` lies more than 366 days ahead."));
    }
    if until <= now {
        return Err(invalid("`until` is over: it must be in the future."));
    }
    if until > kept {
        return Err(invalid("`until` lies more than 366 days after `before` or now: no JWT lives so long."));
    }
    fields.finish()?;
    Ok(RevocationRequest { kind, value: value.into(), issuer: issuer.into(), before, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_revoked_at_a_time_and_nothing_is_guessed() {
        let now = 1_800_000_000_000;
        let read = |body: &str| parse(body, now);
        let subject =
            read(r#"{"subject":"ann","issuer":"i","before":1700000000,"until":"2027-06-01T00:00:00Z"}"#)
                .unwrap();
        assert_eq!((subject.kind, &*subject.value, &*subject.issuer), (RevokedKind::Subject, "ann", "i"));
        assert_eq!((subject.before, subject.until), (1_700_000_000_000, 1_811_808_000_000));
        let jti = read(r#"{"jti":"1"}"#).unwrap();
        assert_eq!((jti.kind, jti.before, jti.until), (RevokedKind::Id, now, kept_until(now)));
        assert_eq!(read(r#"{"channel":"a/b"}"#).unwrap().kind, RevokedKind::Channel);
        let issuer = read(r#"{"issuer":"i","all":true,"before":1700000000}"#).unwrap();
        assert_eq!((issuer.kind, &*issuer.value, &*issuer.issuer), (RevokedKind::Issuer, "i", ""));
        assert_eq!(issuer.before, 1_700_000_000_000);
        for body in [
            "",
            "{}",
            r#"{"jti":"1","subject":"ann"}"#,
            r#"{"jti":""}"#,
            r#"{"issuer":""}"#,
            r#"{"issuer":"i"}"#,
            r#"{"issuer":"i","all":false}"#,
            r#"{"issuer":"i","all":1}"#,
            r#"{"subject":"ann","all":true}"#,
            r#"{"all":true}"#,
            r#"{"subject":7}"#,
            r#"{"jti":"1","before":1}"#,
            r#"{"channel":"a","before":1}"#,
            r#"{"subject":"ann","until":1}"#,
            r#"{"subject":"ann","until":"soon"}"#,
            r#"{"subject":"ann","before":9999999999}"#,
            r#"{"subject":"ann","issuer":7}"#,
        ] {
            assert_eq!(read(body).unwrap_err().code, Code::InvalidBody, "{body}");
        }
        assert_eq!(read(r#"{"channel":""}"#).unwrap_err().code, Code::InvalidChannel);
        // Once, each of them was told of `until`.
        for (body, detail) in [
            (r#"{"subject":"ann","before":1900000000}"#, "`before` lies more than 366 days ahead."),
            (r#"{"subject":"ann","until":1700000000}"#, "`until` is over: it must be in the future."),
            (
                r#"{"jti":"1","until":1900000000}"#,
                "`until` lies more than 366 days after `before` or now: no JWT lives so long.",
            ),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!((problem.code, &*problem.detail), (Code::InvalidBody, detail), "{body}");
        }
        // What lies long ago revokes nothing that lives, and is no mistake; a later `before` needs a later `until`.
        assert_eq!(read(r#"{"subject":"ann","before":"2020-01-01"}"#).unwrap().until, kept_until(now));
        let later = now + 86_400_000;
        let ahead = read(&format!(r#"{{"subject":"ann","before":{}}}"#, later / 1_000)).unwrap();
        assert_eq!((ahead.before, ahead.until), (later, kept_until(later)));
        assert_eq!(read(r#"{"jti":"1","sub":"ann"}"#).unwrap_err().code, Code::UnknownField);
    }
}
