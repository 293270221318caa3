//! Where a client says it stands: a cursor, and everything else that `since` takes.

use channelapi_core::broker::Since;
use channelapi_core::model::{Cursor, Position};

/// The input is a text.
///
/// - A cursor has one form: written again it is the same text.
/// - `since` takes it for a cursor exactly if it is one, and nothing is two things at once.
pub fn cursor(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read: Option<Cursor> = text.parse().ok();
    if let Some(cursor) = read {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(Cursor::from_bytes(cursor.to_bytes()), cursor);
    }
    let position: Option<Position> = text.parse().ok();
    assert!(read.is_none() || position.is_none(), "a cursor and a position");
    let since: Option<Since> = text.parse().ok();
    assert_eq!(read, if let Some(Since::Cursor(cursor)) = since { Some(cursor) } else { None });
    if let Some(Since::Position(since)) = since {
        assert_eq!(Some(since), position);
    }
    since.is_some()
}
