//! One segment of a path, decoded to exactly its bytes.

use super::problem::{Code, Problem};
use channelapi_core::model::{ChannelName, ConsumerName};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// What a segment says. What is no text is nothing that we know either.
pub(super) fn text(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// A channel by its segment.
pub(super) fn channel(segment: &str) -> Result<ChannelName, Problem> {
    whole_escapes(segment, Code::InvalidChannel)?;
    let name: Cow<'_, [u8]> = percent_decode_str(segment).into();
    Ok(ChannelName::parse_bytes(&name)?)
}

/// A consumer by its segment.
pub(super) fn consumer(segment: &str) -> Result<ConsumerName, Problem> {
    whole_escapes(segment, Code::InvalidConsumer)?;
    let name = percent_decode_str(segment).decode_utf8();
    let name = name.map_err(|_| Problem::new(Code::InvalidConsumer, "The consumer's name is not UTF-8."))?;
    Ok(ConsumerName::parse(&name)?)
}

/// Makes sure that whatever begins an escape is one. Passed over, as decoders do, it would be a part of another name.
fn whole_escapes(segment: &str, code: Code) -> Result<(), Problem> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if segment.split('%').skip(1).all(is_escape) {
        return Ok(());
    }
    let detail = "A % in the path is not followed by two hexadecimal digits. Write %25 for the sign itself.";
    Err(Problem::new(code, detail))
}
