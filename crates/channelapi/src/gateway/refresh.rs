//! `auth`: a client that stays brings new JWTs before the ones that it came with have ended.

use super::connection::Connection;
use super::doors::{Doors, Refusal};
use super::frames;
use super::grants::Grants;
use super::join::answer_error;
use super::requests::Fresh;
use crate::identity::{Claims, Credential, Denied, is_jwt};
use channelapi_core::delivery::Subscriber as _;
use channelapi_core::model::ChannelName;
use serde_json::{Value, json};
use std::sync::Arc;

impl Doors {
    /// Takes new JWTs in the place of all those before. Channels that they do not open are left; none is joined. If one of them is not
    /// good, nothing changes.
    pub(super) async fn refresh(&self, connection: &Arc<Connection>, ack: Option<u64>, fresh: Option<Fresh>) {
        match self.renewed(connection, fresh.as_ref()).await {
            Ok(answer) if ack.is_some() => connection.send(&frames::answer(ack, &format!("[{answer}]"))),
            Ok(_) => {}
            Err(refusal) => {
                refusal.counted().count();
                if refusal.is_guess() {
                    connection.failed_token(fresh.map(|fresh| fresh.tokens).as_deref().unwrap_or_default());
                }
                answer_error(connection, ack, &refusal);
            }
        }
        if connection.is_revoked(&self.hub.revocations) {
            self.put_out(connection).await;
        }
    }

    async fn renewed(&self, connection: &Arc<Connection>, fresh: Option<&Fresh>) -> Result<Value, Refusal> {
        let bad = |message| Refusal::new("bad_request", message);
        if connection.is_out_of_tokens() {
            return Err(Refusal::new(
                "too_many_attempts",
                "too many tokens that are not good came from this address",
            ));
        }
        let Fresh { tokens } = fresh.ok_or_else(|| bad("auth takes {token} or {tokens}"))?;
        let nowhere = || bad("the client is in no channel by a JWT");
        let mut all = Vec::with_capacity(tokens.len());
        for (count, token) in tokens.iter().enumerate() {
            if is_jwt(token) && !connection.has_grants() {
                return Err(nowhere());
            }
            // The event has paid for one of them.
            if count > 0 && !connection.may_join() {
                return Err(bad("that are more JWTs than may be judged at once"));
            }
            match self.identity.verify(token).await? {
                Credential::Jwt(claims) => all.push(*claims),
                Credential::Token(_) => return Err(bad("auth takes JWTs; other tokens need no renewal")),
            }
        }
        let taken = connection.change_grants(|grants| {
            if grants.is_empty() {
                return Err(nowhere());
            }
            grants.admit(all.iter().map(|claims| &claims.bearer), &connection.gateway().admission)?;
            let left = self.replace(grants, all)?;
            let end = grants.first_end();
            Ok((grants.channels().cloned().collect::<Vec<_>>(), left, end, grants.is_told()))
        });
        let (held, left, end, is_told) = taken?;
        for channel in &left {
            let session = {
                let mut namespaces = connection.namespaces.lock();
                namespaces.channels.retain(|known| known != channel);
                namespaces.form = namespaces.form.leaving();
                namespaces.session.as_ref().map(|session| session.name)
            };
            if let Some(session) = session {
                self.sessions.note_left(session, channel);
            }
            _ = self.hub.leave(connection.id(), channel).await;
        }
        if is_told && !left.is_empty() {
            connection.send(&frames::left(&left));
        }
        let now = self.hub.clock().monotonic_millis();
        let expires_in = end.map(|end| end.saturating_sub(now) / 1_000);
        Ok(json!({"expires_in": expires_in, "channels": frames::names(&held), "left": frames::names(&left)}))
    }

    /// Puts these JWTs in the place of others, and returns the channels that none of them opens. If one of them is revoked for a channel
    /// that it would open, by a pattern, nothing changes.
    fn replace(&self, grants: &mut Grants, all: Vec<Claims>) -> Result<Vec<ChannelName>, Denied> {
        let held: Vec<_> = grants.channels().cloned().collect();
        let (mut left, mut fresh) = (held.clone(), Vec::with_capacity(all.len()));
        for claims in all {
            let (opened, others): (Vec<_>, _) = left.into_iter().partition(|channel| claims.grants(channel));
            left = others;
            if self.hub.revocations.cover(&claims.bearer, &opened) {
                return Err(Denied::Revoked);
            }
            fresh.push(self.grant(claims, opened));
        }
        for channel in &held {
            grants.release(channel);
        }
        for grant in fresh {
            grants.add(grant);
        }
        Ok(left)
    }
}
