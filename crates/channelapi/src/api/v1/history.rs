//! What a channel holds: pages of it, single messages, and its end.

use super::super::in_time::in_time;
use super::json::{self, Object};
use super::problem::Problem;
use super::query::{Query, refused};
use super::since::Place;
use super::{answer, time};
use crate::http::Response;
use channelapi_core::broker::{HistoryPage, HistoryQuery, PublishError, Since, Start};
use channelapi_core::hub::Hub;
use channelapi_core::limits::{HISTORY_LIMIT, HISTORY_LIMIT_MAX};
use channelapi_core::model::{ChannelName, Position, Publication};
use hyper::StatusCode;
use std::pin::pin;
use std::sync::Arc;

/// What a reader wants to see.
struct Question {
    since: Option<Place>,
    before: Option<Before>,
    limit: usize,
    is_reverse: bool,
}

/// The end of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Offset(u64),
    Id(Position),
}

/// `GET /v1/channels/{c}/messages`
pub(super) async fn page(hub: &Arc<Hub>, channel: ChannelName, query: &str) -> Result<Response, Problem> {
    let Question { since, before, limit, is_reverse } = Question::parse(query)?;
    let since = match since {
        Some(place) => Some(place.settle(hub, &channel).await?),
        None => None,
    };
    let start = since.as_ref().map_or(Start { after: 0, gap: None }, |place| place.locate(hub, &channel));
    let end = before.map_or(Ok(u64::MAX), |before| offset_of(hub, &channel, before))?;
    let query = HistoryQuery { after: start.after, before: end, limit, is_reverse };
    let page = read(hub, channel.clone(), query).await?;
    // Whatever retention took between the two looks at the channel is missing in the page.
    let gap = start.gap.or_else(|| since.as_ref().and_then(|place| place.locate(hub, &channel).gap));
    let HistoryPage { publications, has_more, cursor, standing } = page;
    let mut object = Object::new().text("channel", channel.as_str());
    object = match standing {
        Some(standing) => object.text("epoch", &format!("{:016x}", standing.epoch)),
        None => object.raw("epoch", b"null"),
    };
    object = object
        .array("messages", publications.iter().map(|publication| message_object(publication).finish()))
        .value("first_offset", standing.map_or(1, |standing| standing.first_offset))
        .value("next_offset", standing.map_or(1, |standing| standing.next_offset))
        .text("cursor", &cursor.to_string());
    if since.is_some() {
        object = object.value("recovered", gap.is_none());
    }
    if let Some(gap) = gap {
        object = object.text("reason", gap.as_str());
    }
    Ok(answer(StatusCode::OK, object.value("has_more", has_more)))
}

/// `GET /v1/channels/{c}/messages/{id}`
pub(super) async fn message(hub: &Arc<Hub>, channel: ChannelName, id: &str) -> Result<Response, Problem> {
    let not_found = || {
        let hint = "A message is gone when its channel's retention, its ttl or a purge took it.";
        Problem::not_found("The channel has no such message.", hint)
    };
    let wanted: Before = id.parse().map_err(|()| not_found())?;
    let offset = wanted.offset();
    let before = offset.checked_add(1).ok_or_else(not_found)?;
    let after = hub.broker.locate(&channel, Since::Offset(offset.saturating_sub(1))).after;
    let query = HistoryQuery { after, before, limit: 1, is_reverse: false };
    let page = read(hub, channel.clone(), query).await?;
    let is_it = |publication: &Publication| match (wanted, publication.kept) {
        (Before::Offset(offset), Some(kept)) => kept.position.offset == offset,
        (Before::Id(position), Some(kept)) => kept.position == position,
        (_, None) => false,
    };
    let found = page.publications.into_iter().find(is_it).ok_or_else(not_found)?;
    let acked_by = hub.consumers.acked_by(&channel, offset).await;
    let acked_by = acked_by.map_err(|error| Problem::unavailable(&error))?;
    let names = acked_by.iter().map(|name| json::text(name.as_str()));
    Ok(answer(StatusCode::OK, message_object(&found).array("acked_by", names)))
}

/// `DELETE /v1/channels/{c}/messages`
pub(super) async fn purge(hub: &Arc<Hub>, channel: ChannelName) -> Result<Response, Problem> {
    let purged = in_time(pin!(hub.broker.purge(&channel))).await?;
    let purged = purged.map_err(|error| match error {
        PublishError::Stopped => Problem::from(error),
        _ => Problem::new(Problem::from(error).code, "The channel was not purged."),
    })?;
    let object = Object::new().text("channel", channel.as_str()).value("purged", purged);
    Ok(answer(StatusCode::OK, object))
}

/// Reads a page. The disk may keep a thread waiting, but what is new is in memory.
async fn read(hub: &Arc<Hub>, channel: ChannelName, query: HistoryQuery) -> Result<HistoryPage, Problem> {
    if let Some(page) = hub.broker.recent_history(&channel, query) {
        return Ok(page);
    }
    let broker = hub.broker.clone();
    let page = tokio::task::spawn_blocking(move || broker.history(&channel, query)).await;
    let page = page.map_err(|panic| Problem::unavailable(&panic))?;
    page.map_err(|error| Problem::unavailable(&error))
}

/// A message as it is shown.
fn message_object(publication: &Publication) -> Object {
    let object = match publication.kept {
        Some(kept) => {
            Object::new().text("id", &kept.position.to_string()).value("offset", kept.position.offset)
        }
        None => Object::new(),
    };
    object
        .text("event", publication.event.as_str())
        .raw("data", &publication.data)
        .text("ts", &time::rfc3339(publication.published_at))
}

/// The offset of the end of what is shown. An id of another history names nothing in this one.
fn offset_of(hub: &Hub, channel: &ChannelName, before: Before) -> Result<u64, Problem> {
    let epoch = hub.broker.standing(channel).map(|standing| standing.epoch);
    match before {
        Before::Id(position) if epoch != Some(position.epoch) => {
            Err(refused("`before` is a message of another history of the channel, which is gone."))
        }
        before => Ok(before.offset()),
    }
}

impl Question {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut query = Query::parse(query)?;
        let limit = query.take_as("limit", "a whole number")?.unwrap_or(HISTORY_LIMIT);
        if !(1..=HISTORY_LIMIT_MAX).contains(&limit) {
            return Err(refused(format!("`limit` must be 1 to {HISTORY_LIMIT_MAX}.")));
        }
        let before = query.take("before").map(|before| before.parse()).transpose();
        let question = Self {
            since: Place::take(&mut query)?,
            before: before.map_err(|()| refused("`before` must be an offset or the id of a message."))?,
            limit,
            is_reverse: query.take_as("reverse", "true or false")?.unwrap_or(false),
        };
        query.finish()?;
        Ok(question)
    }
}

impl Before {
    fn offset(self) -> u64 {
        match self {
            Self::Offset(offset) => offset,
            Self::Id(position) => position.offset,
        }
    }
}

impl std::str::FromStr for Before {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map(Self::Offset).map_err(|_| ())
        } else {
            text.parse().map(Self::Id).map_err(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_understood_or_refused() {
        let question = Question::parse("").unwrap();
        assert_eq!(
            (question.since.is_none(), question.before, question.limit, question.is_reverse),
            (true, None, 100, false)
        );
        let question = Question::parse("since=all&before=7&limit=1000&reverse=true").unwrap();
        assert!(matches!(question.since, Some(Place::Known(Since::All))));
        assert_eq!(
            (question.before, question.limit, question.is_reverse),
            (Some(Before::Offset(7)), 1000, true)
        );
        let id = "0123456789abcdef-42-00000007";
        assert_eq!(
            Question::parse(&format!("before={id}")).unwrap().before,
            Some(Before::Id(id.parse().unwrap()))
        );
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=",
            "before=",
            "before=x",
            "before=-1",
            "reverse=1",
            "sincE=1",
        ] {
            assert!(Question::parse(query).is_err(), "{query}");
        }
    }
}
