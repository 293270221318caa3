//! The argument of `ack`.

use serde_json::{Value, json};

use channelapi_core::hub::Mark;

use crate::server::requests::Ack;

/// The input is the argument as it stands in the event.
///
/// - What is confirmed is what a plain parser finds: an offset that is a whole number, or a message's id, and not both; and names that are good.
/// - Written down again, it says the same.
pub fn ack(data: &[u8]) -> bool {
    let Ok(argument) = std::str::from_utf8(data) else { return false };
    let Ok(ack) = Ack::parse(Some(argument)) else { return false };
    // The plain parser holds no number like 1e400, which may be in what nobody reads.
    if let Ok(plain) = serde_json::from_str::<Value>(argument) {
        assert_eq!(plain["channel"], ack.channel.as_str());
        let (offset, id) = written(ack.mark);
        assert_eq!((&plain["offset"], &plain["id"]), (&offset, &id));
        if let Some(consumer) = plain["consumer"].as_str() {
            assert_eq!(consumer, ack.consumer.as_str());
        }
    }
    let (offset, id) = written(ack.mark);
    let again = json!({
        "channel": ack.channel.as_str(),
        "offset": offset,
        "id": id,
        "consumer": ack.consumer.as_str(),
    });
    assert_eq!(Ack::parse(Some(&again.to_string())).as_ref(), Ok(&ack));
    true
}

/// The offset and the id, of which one is null.
fn written(mark: Mark) -> (Value, Value) {
    match mark {
        Mark::Offset(offset) => (offset.into(), Value::Null),
        Mark::Id(id) => (Value::Null, id.to_string().into()),
    }
}
