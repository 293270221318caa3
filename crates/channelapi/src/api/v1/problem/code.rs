//! The kinds of problems there are: what programs know each by, what people are told, and what it counts as.

use crate::metrics::RequestRefused;
use hyper::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $name:literal $status:ident $title:literal $hint:literal)*) => {
        /// What kind of problem it is. The names never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in super::super) enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$code,)*];

            /// The name that programs know it by.
            pub(in super::super) fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }

            /// The status of an answer with it.
            pub(in super::super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)*
                }
            }

            pub(super) fn title(self) -> &'static str {
                match self {
                    $(Self::$code => $title,)*
                }
            }

            pub(super) fn hint(self) -> &'static str {
                match self {
                    $(Self::$code => $hint,)*
                }
            }
        }
    };
}

codes! {
    /// The body is not of the form that the route wants.
    InvalidBody "invalid_body" BAD_REQUEST "The body is not what this route takes"
        "docs/http-api.md shows the body of every route."
    /// The body has a key that means nothing here.
    UnknownField "unknown_field" BAD_REQUEST "The body has an unknown field"
        "Remove the field, or correct its spelling; names are case-sensitive."
    /// The query string is not understood.
    InvalidQuery "invalid_query" BAD_REQUEST "The query string is not understood"
        "docs/http-api.md lists the parameters of every route."
    /// It is no name of a channel.
    InvalidChannel "invalid_channel" BAD_REQUEST "The channel has no valid name"
        "A name is 1 to 255 bytes of UTF-8 without control or invisible characters, and one percent-encoded segment of the path: a/b is a%2Fb."
    /// It is no name of a consumer.
    InvalidConsumer "invalid_consumer" BAD_REQUEST "The consumer has no valid name"
        "A name is 1 to 128 bytes of UTF-8 without control characters, and one percent-encoded segment of the path."
    /// It is no name of an event.
    InvalidEvent "invalid_event" BAD_REQUEST "The event has no valid name"
        "A name is 1 to 64 bytes of UTF-8 without control characters."
    /// Clients or the server use the name of the event for something else.
    ReservedEvent "reserved_event" BAD_REQUEST "The name of the event is reserved"
        "Choose another name: Socket.IO clients act upon this one themselves."
    /// The event would end like a checkpoint.
    ReservedData "reserved_data" BAD_REQUEST "The data has the form of a cursor"
        "Put the cursor into an object or a list, or name the event differently if it has no data."
    /// It is no lifetime.
    InvalidTtl "invalid_ttl" BAD_REQUEST "The time to live is not valid"
        "Write a number of seconds, or a whole number and a unit: 30s, 10m, 1h, 7d."
    /// It is no idempotency key.
    InvalidKey "invalid_idempotency_key" BAD_REQUEST "The idempotency key is not valid"
        "A key is 1 to 255 visible ASCII characters, without spaces; a UUID is a good one."
    /// The key is where it does not belong.
    KeyInUrl "key_in_url" BAD_REQUEST "The URL has a parameter for a key"
        "Send the key as `Authorization: Bearer <key>` or as `X-API-Key: <key>`, and replace it: it is in logs now."
    /// Which key counts cannot be told.
    SeveralKeys "several_keys" BAD_REQUEST "The request has several headers for a key"
        "Send one header Authorization, or one X-API-Key; look at what stands between the program and the server."
    /// Which page asks cannot be told.
    InvalidOrigin "invalid_origin" BAD_REQUEST "The request has no single origin"
        "A browser sends one header Origin; look at what stands between it and the server."
    /// The key is missing or wrong.
    Forbidden "forbidden" FORBIDDEN "The API key is missing or wrong"
        "Send it as `Authorization: Bearer <key>` or as `X-API-Key: <key>`; the server's log says at its start where the key is from."
    /// The key has ended.
    KeyExpired "key_expired" FORBIDDEN "The API key has expired"
        "Use the key that replaces it, or ask whoever runs the server for one."
    /// The key protects nothing from a page that makes a name lead here.
    WeakKey "weak_key" FORBIDDEN "The API key is weak, and the server was called by a public name"
        "Give the server a key of its own (`channelapi key create` makes one), or call it by its address or as localhost."
    /// The key is for something else.
    MissingScope "missing_scope" FORBIDDEN "The API key may not do this"
        "Use a key with that scope, or ask whoever runs the server to add it to this one."
    /// The key is for other channels.
    ChannelNotAllowed "channel_not_allowed" FORBIDDEN "The API key is not for this channel"
        "Use a key whose `channels` match it, or ask whoever runs the server to add it to this one."
    /// The token is nobody's.
    TokenInvalid "token_invalid" FORBIDDEN "The token is not valid"
        "Get another token from your backend, and open the stream with it."
    /// The JWT will be good in a while.
    TokenNotYetValid "token_not_yet_valid" FORBIDDEN "The token is not valid yet"
        "Try again in a moment; if that goes on, the clock of the server or that of whoever issues tokens is wrong."
    /// The JWT has ended.
    TokenExpired "token_expired" FORBIDDEN "The token has expired"
        "Get another token from your backend, and open the stream with it."
    /// The JWT was revoked.
    TokenRevoked "token_revoked" FORBIDDEN "The token was revoked"
        "Log in again, and open the stream with the token that comes of it."
    /// The token is for other channels.
    NotGranted "not_granted" FORBIDDEN "The token does not open this channel"
        "Get a token for this channel from your backend, or open the stream of one that the token is for."
    /// The page is not among those that may.
    OriginNotAllowed "origin_not_allowed" FORBIDDEN "This page may not read the stream"
        "Whoever runs the server can name the origin in the option http.cors_origins, exactly as the browser writes it."
    /// There is no such thing.
    NotFound "not_found" NOT_FOUND "There is nothing here"
        "docs/http-api.md lists the routes."
    /// The path has other methods.
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path does not have this method"
        "Use one of the methods in the header Allow."
    /// The body did not come.
    BodyTimeout "body_timeout" REQUEST_TIMEOUT "The body did not arrive in time"
        "Nothing was stored. Send the request again."
    /// The key was used for something else.
    KeyReused "idempotency_key_reused" CONFLICT "The idempotency key was used for another message"
        "Use a new key for each message, and the same one only to repeat it unchanged."
    /// A consumer cannot have confirmed what was not published.
    Ahead "ahead" CONFLICT "The offset is ahead of the newest message"
        "Confirm no more than what was received."
    /// A consumer confirms by an id of an epoch that is not the channel's.
    Epoch "epoch" CONFLICT "The id is of another history than the channel has"
        "Nothing was confirmed. Read the channel again: it began anew, and what it has goes by other ids."
    /// A consumer confirms by an id that another message has taken the place of.
    Diverged "diverged" CONFLICT "The place of the id has another message"
        "Nothing was confirmed. Read the channel again: it is another life of the server, as after a restored backup."
    /// The channel has too many consumers.
    TooManyConsumers "too_many_consumers" CONFLICT "The channel has too many consumers"
        "Remove consumers that are not needed any more with DELETE."
    /// There are too many revocations.
    TooManyRevocations "too_many_revocations" CONFLICT "There are too many revocations"
        "Remove some that are not needed any more with DELETE, or revoke subjects and channels instead of single JWTs."
    /// It is over a limit.
    TooLarge "too_large" PAYLOAD_TOO_LARGE "The request is too large"
        "Publish a reference to large data instead of the data, or divide the batch."
    /// There are too many items.
    BatchSize "batch_size" PAYLOAD_TOO_LARGE "The batch is too long"
        "Send up to 1,000 items, and the others in further requests."
    /// Its body is compressed.
    Encoding "unsupported_encoding" UNSUPPORTED_MEDIA_TYPE "The body is encoded"
        "Send the body as it is, without a Content-Encoding."
    /// It would have been good by itself.
    BatchRefused "batch_refused" FAILED_DEPENDENCY "Another item of the same channel was refused"
        "Correct that item, and send those of this channel again: they are stored together or not at all."
    /// It cannot be done now.
    Unavailable "unavailable" SERVICE_UNAVAILABLE "The server cannot do this right now"
        "Nothing was stored. Try again after the seconds in the header Retry-After; the server's log says why."
    /// Too much waits already.
    Overloaded "overloaded" SERVICE_UNAVAILABLE "The server has too much to do"
        "Nothing was stored. Try again after the seconds in the header Retry-After, and publish less at once."
    /// There is too little memory.
    ShortOfMemory "short_of_memory" SERVICE_UNAVAILABLE "The server is short of memory"
        "Nothing was stored. Try again after the seconds in the header Retry-After; the option limits.memory says how much it may use."
    /// It publishes more than it may.
    TooFast "rate_limited" TOO_MANY_REQUESTS "More is published to the channel than may be"
        "Nothing was stored. Try again after the seconds in the header Retry-After; the option limits.publish_rate_per_channel says how much may be."
    /// Its key publishes more than it may.
    KeyTooFast "key_rate_limited" TOO_MANY_REQUESTS "More is published with the API key than may be"
        "Nothing was stored. Try again after the seconds in the header Retry-After; the option limits.publish_rate_per_key says how much may be."
    /// Its address has tried too many tokens.
    TooManyAttempts "too_many_attempts" TOO_MANY_REQUESTS "Too many tokens that are not good came from this address"
        "Try again after the seconds in the header Retry-After; the option limits.failed_tokens says how many may be wrong."
    /// Whom its JWT speaks of has too many connections.
    TooManyConnections "too_many_connections" TOO_MANY_REQUESTS "The user has as many connections as it may"
        "Try again after the seconds in the header Retry-After; the option limits.connections_per_user says how many there may be."
    /// Its address has too many clients.
    TooManyFromAddress "too_many_from_address" TOO_MANY_REQUESTS "The address has as many clients as it may"
        "Try again after the seconds in the header Retry-After; the option limits.connections_per_address says how many there may be."
    /// There are too many clients.
    TooManyClients "too_many_clients" SERVICE_UNAVAILABLE "The server has as many clients as it may"
        "Try again after the seconds in the header Retry-After; the option limits.connections says how many there may be."
    /// Nobody knows.
    Indeterminate "indeterminate" GATEWAY_TIMEOUT "The outcome is unknown"
        "The message may or may not be stored. Repeat the request with the same Idempotency-Key: it is stored once."
    /// There are as many channels as there may be.
    TooManyChannels "too_many_channels" INSUFFICIENT_STORAGE "The server knows as many channels as its memory has room for"
        "Nothing was stored. Publish to channels that have messages, keep less of them (the history options), or give the server more memory (limits.memory)."
    /// The disk has no room.
    StorageFull "storage_full" INSUFFICIENT_STORAGE "The server's disk is full"
        "Nothing was stored. Make room on the server's disk, or keep less: see max_disk and the history options."
}

impl Code {
    /// The seconds after which such a request may go well, if it passes by itself.
    pub(super) fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Unavailable | Self::Overloaded | Self::ShortOfMemory | Self::TooFast | Self::KeyTooFast => {
                Some("1")
            }
            Self::TokenNotYetValid
            | Self::TooManyAttempts
            | Self::TooManyConnections
            | Self::TooManyFromAddress
            | Self::TooManyClients => Some("10"),
            _ => None,
        }
    }

    /// What a request counts as that is refused with it, unless that is counted where it is found out.
    pub(super) fn reason(self) -> Option<RequestRefused> {
        Some(match self {
            // Counted where it is found out, which knows what was wrong with the key.
            Self::Forbidden => return None,
            Self::TokenInvalid
            | Self::TokenNotYetValid
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::NotGranted => RequestRefused::Token,
            Self::KeyExpired => RequestRefused::WrongKey,
            Self::WeakKey => RequestRefused::WeakKey,
            Self::MissingScope => RequestRefused::Scope,
            Self::ChannelNotAllowed => RequestRefused::Channel,
            Self::OriginNotAllowed => RequestRefused::Origin,
            Self::KeyInUrl => RequestRefused::Query,
            Self::NotFound | Self::MethodNotAllowed => RequestRefused::NotFound,
            Self::BodyTimeout => RequestRefused::Timeout,
            Self::KeyReused
            | Self::Ahead
            | Self::Epoch
            | Self::Diverged
            | Self::TooManyConsumers
            | Self::TooManyRevocations
            | Self::BatchRefused => RequestRefused::Conflict,
            Self::TooLarge | Self::BatchSize => RequestRefused::TooLarge,
            Self::Overloaded => RequestRefused::Overloaded,
            Self::ShortOfMemory => RequestRefused::Memory,
            Self::TooFast => RequestRefused::ChannelRate,
            Self::KeyTooFast => RequestRefused::KeyRate,
            Self::TooManyAttempts => RequestRefused::TokenRate,
            Self::TooManyConnections => RequestRefused::User,
            Self::TooManyFromAddress => RequestRefused::Address,
            Self::TooManyClients => RequestRefused::Node,
            Self::Unavailable | Self::Indeterminate => RequestRefused::Unavailable,
            Self::StorageFull => RequestRefused::StorageFull,
            Self::TooManyChannels => RequestRefused::Channels,
            Self::InvalidBody
            | Self::UnknownField
            | Self::InvalidQuery
            | Self::InvalidChannel
            | Self::InvalidConsumer
            | Self::InvalidEvent
            | Self::ReservedEvent
            | Self::ReservedData
            | Self::InvalidTtl
            | Self::InvalidKey
            | Self::SeveralKeys
            | Self::InvalidOrigin
            | Self::Encoding => RequestRefused::Invalid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_a_name_of_its_own_and_is_documented() {
        let page = include_str!("../../../../../../docs/http-api.md");
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let row = format!("| `{}` | {} |", code.name(), code.status().as_u16());
            assert!(page.contains(&row), "docs/http-api.md has no row that begins with {row}");
        }
    }
}
