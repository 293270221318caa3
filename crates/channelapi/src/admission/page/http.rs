//! Limits of HTTP and of the API for publishers.

use super::row::{Row, bytes, fixed, set, time};
use channelapi_core::limits as core;

#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn rows() -> Vec<Row> {
    vec![
        time("Head of a request", core::HTTP_HEADER_TIMEOUT, "closed", "`http_timeouts{head}`"),
        time(
            "Body of a request",
            core::HTTP_BODY_TIMEOUT,
            "408; each 16 KiB that have arrived give it another second",
            "`http_timeouts{body}`",
        ),
        time("Silence between two requests", core::HTTP_IDLE_TIMEOUT, "closed", "`http_timeouts{idle}`"),
        time(
            "An answer of which nothing is taken",
            core::HTTP_WRITE_TIMEOUT,
            "closed; whoever takes 1 KiB a second has longer",
            "`http_timeouts{answer}`",
        ),
        time(
            "An event stream of which nothing is taken",
            core::STREAM_STALL_TIMEOUT,
            "closed",
            "`http_timeouts{answer}`",
        ),
        time(
            "Bytes that the network does not confirm",
            core::TCP_USER_TIMEOUT,
            "the kernel closes",
            "`disconnects{lost}`",
        ),
        bytes("Head of a request", core::HTTP_HEADER_BYTES_MAX, "431", "`http_refused{too_large}`"),
        bytes("Path and query of a request", core::HTTP_TARGET_BYTES_MAX, "414", "`http_refused{too_large}`"),
        fixed(
            "Parameters of the query of a request to the API",
            core::QUERY_PARAMETERS_MAX,
            "400",
            "`requests_refused{invalid}`",
        ),
        fixed("Header fields", core::HTTP_HEADERS_MAX, "431", "`http_refused{too_large}`"),
        time(
            "Reading on in the body of a request that is refused or wants none",
            core::HTTP_DISCARD_TIMEOUT,
            "closed behind the answer; so it is after 1 MiB, or 4 MiB for the API",
            "`http_timeouts{body}`, `http_refused{too_large}`, none more if the request is refused",
        ),
        bytes(
            "Body of a request to the API",
            core::API_BODY_BYTES_MAX,
            "413",
            "`requests_refused{too_large}`",
        ),
        bytes("Data of a message", core::DATA_BYTES_MAX, "413", "`requests_refused{too_large}`"),
        fixed("Levels of the data of a message", core::DATA_DEPTH_MAX, "400", "`requests_refused{invalid}`"),
        fixed("Messages of a batch", core::BATCH_ITEMS_MAX, "413", "`requests_refused{too_large}`"),
        fixed("Fields of an object", core::FIELDS_MAX, "400", "`requests_refused{invalid}`"),
        bytes("Name of a channel", core::CHANNEL_NAME_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        bytes("Name of an event", core::EVENT_NAME_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        bytes(
            "Name of a consumer",
            core::CONSUMER_NAME_BYTES_MAX,
            "400",
            "`requests_refused{invalid}`, `acks_refused{bad_request}`, `joins_refused{bad_request}`",
        ),
        bytes("Idempotency key", core::IDEMPOTENCY_KEY_BYTES_MAX, "400", "`requests_refused{invalid}`"),
        fixed(
            "Idempotency keys that are remembered",
            core::IDEMPOTENCY_KEYS_MAX,
            "the oldest are forgotten before their 10 minutes are over",
            "`idempotency_keys_forgotten`",
        ),
        set(
            "Size of the log",
            "store.max_disk",
            "the oldest segment is given up with everything in it; clients that come back for it are told",
            "`publications_given_up`, `gaps`",
        ),
        bytes(
            "Messages that are kept in memory only, of all channels",
            core::MEMORY_HISTORY_BYTES_MAX,
            "the oldest are given up, of whatever channel; clients that come back for them are told",
            "`memory_publications_given_up`, `gaps`",
        ),
        fixed(
            "Channels of which nothing is kept but where they stand",
            core::IDLE_CHANNELS_MAX,
            "the longest idle are forgotten; clients that come back to them are told that something may be missing",
            "`channels_forgotten`, `gaps`",
        ),
        fixed("Messages of a page of history", core::HISTORY_LIMIT_MAX, "400", "`requests_refused{invalid}`"),
        fixed("Revocations", core::REVOCATIONS_MAX, "409", "`requests_refused{conflict}`"),
        set(
            "Messages a second of one key",
            "limits.publish_rate_per_key",
            "429 with `Retry-After`",
            "`requests_refused{key_rate}`",
        ),
        set(
            "Messages a second to one channel",
            "limits.publish_rate_per_channel",
            "429 with `Retry-After`",
            "`requests_refused{channel_rate}`",
        ),
        bytes(
            "Messages that are being stored",
            core::PUBLISHING_BYTES_MAX,
            "503 `overloaded` with `Retry-After`",
            "`requests_refused{overloaded}`",
        ),
        time(
            "Wait for room before the disk or the fan-out",
            core::PUBLISH_ROOM_WAIT,
            "503 `overloaded` with `Retry-After`",
            "`requests_refused{overloaded}`",
        ),
        time(
            "Wait for the disk",
            core::PUBLISH_TIMEOUT,
            "504 `indeterminate`, up to a second later",
            "`requests_refused{unavailable}`",
        ),
        fixed(
            "Consumers of one channel",
            usize::try_from(core::CONSUMERS_PER_CHANNEL_MAX).unwrap_or(0),
            "409, or an answer to `ack`",
            "`requests_refused{conflict}`, `acks_refused{consumers}`",
        ),
    ]
}
