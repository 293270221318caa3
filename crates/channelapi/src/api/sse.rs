//! The bytes of an event stream (WHATWG HTML, "Server-sent events").

use channelapi_core::broker::Gap;
use channelapi_core::clock::millis_of;
use channelapi_core::model::{ChannelName, Cursor, Publication};
use serde_json::Value;
use std::time::Duration;

/// Appends a publication. Its id is the cursor to go on from. With `is_meta`, its data says where and when, too.
pub(crate) fn publication(publication: &Publication, is_meta: bool, out: &mut Vec<u8>) {
    if let Some(kept) = publication.kept {
        field(b"id", &kept.cursor.encode(), out);
    }
    field(b"event", publication.event.as_str().as_bytes(), out);
    if is_meta {
        for line in meta(publication).split(|byte| matches!(byte, b'\n' | b'\r')) {
            field(b"data", line, out);
        }
    } else {
        for line in publication.data.split(|byte| matches!(byte, b'\n' | b'\r')) {
            field(b"data", line, out);
        }
    }
    out.push(b'\n');
}

/// Appends the event that says that something is missing.
pub(crate) fn gap(channel: &ChannelName, gap: Gap, out: &mut Vec<u8>) {
    field(b"event", b"gap", out);
    let channel = Value::from(channel.as_str());
    field(b"data", format!(r#"{{"channel":{channel},"reason":"{gap}"}}"#).as_bytes(), out);
    out.push(b'\n');
}

/// Appends where the client stands. It is no event: clients keep the id, and tell nobody.
pub(super) fn place(cursor: &Cursor, out: &mut Vec<u8>) {
    field(b"id", &cursor.encode(), out);
    out.push(b'\n');
}

/// What tells a client to wait for so long before it comes back. It is no event.
pub(super) fn retry(pause: Duration) -> String {
    format!("retry: {}\n\n", millis_of(pause))
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn meta(publication: &Publication) -> Vec<u8> {
    let (channel, event) =
        (Value::from(publication.channel.as_str()), Value::from(publication.event.as_str()));
    let mut meta = match publication.kept {
        None => format!(r#"{{"channel":{channel},"event":{event},"ts":{},"data":"#, publication.published_at),
        Some(kept) => format!(
            r#"{{"id":"{}","channel":{channel},"offset":{},"event":{event},"cursor":"{}","ts":{},"data":"#,
            kept.position, kept.position.offset, kept.cursor, publication.published_at
        ),
    }
    .into_bytes();
    meta.extend_from_slice(&publication.data);
    meta.push(b'}');
    meta
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use channelapi_core::model::{CURSOR_BYTES, EventName, Kept, Position};

    #[test]
    fn data_of_several_lines_stays_one_event() {
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        let kept = Kept { position: Position { epoch: 1, offset: 2, tag: 3 }, turn: 2, cursor };
        let one = Publication {
            channel: ChannelName::parse("a").unwrap(),
            event: EventName::default(),
            data: Bytes::from_static(b"{\n\"a\": 1}"),
            published_at: 7,
            kept: Some(kept),
        };
        let mut out = Vec::new();
        publication(&one, false, &mut out);
        let expected = format!("id: {cursor}\nevent: message\ndata: {{\ndata: \"a\": 1}}\n\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
