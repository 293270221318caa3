//! `ack`: a client confirms what it has taken care of.

use super::connection::Connection;
use super::doors::{Doors, Refusal};
use super::frames;
use super::join::answer_error;
use super::requests::Ack;
use crate::metrics::AckRefused;
use channelapi_core::hub::AckError;
use std::sync::Arc;

/// Notes what a client confirms. Its next event is not kept waiting for the disk.
pub(super) fn handle(
    doors: &Arc<Doors>,
    connection: &Arc<Connection>,
    id: Option<u64>,
    argument: Option<&str>,
) {
    let ack = match Ack::parse(argument) {
        Ok(ack) => ack,
        Err(message) => {
            AckRefused::BadRequest.count();
            return answer_error(connection, id, &Refusal::new("bad_request", &message));
        }
    };
    if !connection.namespaces.lock().channels.contains(&ack.channel) {
        AckRefused::NotJoined.count();
        let refusal = Refusal::new("not_joined", "the client is not in this channel");
        return answer_error(connection, id, &refusal);
    }
    let Ok(under_way) = doors.acks.clone().try_acquire_owned() else {
        AckRefused::Unavailable.count();
        let refusal = Refusal::new("unavailable", "too many confirmations are under way; try again");
        return answer_error(connection, id, &refusal);
    };
    let (doors, connection) = (doors.clone(), connection.clone());
    tokio::spawn(async move {
        doors.ack(&connection, id, &ack).await;
        drop(under_way);
    });
}

impl Doors {
    /// Notes what a client confirms. The answer leaves when it is on disk.
    async fn ack(&self, connection: &Arc<Connection>, id: Option<u64>, ack: &Ack) {
        match self.confirm(ack).await {
            Ok((offset, unread)) if id.is_some() => {
                let answer = format!(r#"[{{"offset":{offset},"unread":{unread}}}]"#);
                connection.send(&frames::answer(id, &answer));
            }
            Ok(_) => {}
            Err(refusal) => answer_error(connection, id, &refusal),
        }
    }

    async fn confirm(&self, Ack { channel, mark, consumer }: &Ack) -> Result<(u64, u64), Refusal> {
        match self.hub.consumers.ack(channel, consumer, *mark).await {
            Ok(held) => Ok((held.offset, held.unread)),
            Err(AckError::Ahead { newest, .. }) => {
                AckRefused::Ahead.count();
                let message = format!("the newest offset of this channel is {newest}");
                Err(Refusal::new("ahead", &message))
            }
            Err(error @ (AckError::Epoch | AckError::Diverged)) => {
                AckRefused::History.count();
                let code = if matches!(error, AckError::Epoch) { "epoch" } else { "diverged" };
                Err(Refusal::new(code, &error.to_string()))
            }
            Err(AckError::TooManyConsumers) => {
                AckRefused::Consumers.count();
                Err(Refusal::new(
                    "too_many_consumers",
                    "this channel has too many consumers; use fewer names",
                ))
            }
            Err(error @ AckError::State(_)) => {
                AckRefused::Unavailable.count();
                Err(Refusal::unavailable(&error))
            }
        }
    }
}
