//! One law per parser. Each answers whether its input was accepted, so that seeds can say what they expect.

mod ack;
mod auth_event;
mod config_file;
mod cursor;
mod eio_packet;
mod eio_payload;
mod eio_query;
mod handshake_auth;
mod http_head;
mod http_pipeline;
mod join_request;
mod jwks;
mod jwt;
mod jwt_claims;
mod pid;
mod proxy_header;
mod publish_body;
mod sio_attachments;
mod sio_packet;
mod store_record;
mod store_recovery;
mod tls_session;
mod ws_frames;

pub use self::ack::ack;
pub use self::auth_event::auth_event;
pub use self::config_file::config_file;
pub use self::cursor::cursor;
pub use self::eio_packet::eio_packet;
pub use self::eio_payload::eio_payload;
pub use self::eio_query::eio_query;
pub use self::handshake_auth::handshake_auth;
pub use self::http_head::http_head;
pub use self::http_pipeline::http_pipeline;
pub use self::join_request::join_request;
pub use self::jwks::jwks;
pub use self::jwt::jwt;
pub use self::jwt_claims::jwt_claims;
pub use self::pid::pid;
pub use self::proxy_header::proxy_header;
pub use self::publish_body::publish_body;
pub use self::sio_attachments::sio_attachments;
pub use self::sio_packet::sio_packet;
pub use self::store_record::store_record;
pub use self::store_recovery::store_recovery;
pub use self::tls_session::tls_session;
pub use self::ws_frames::ws_frames;

/// A law, fed with any bytes.
pub type Law = fn(&[u8]) -> bool;

/// All laws by name; a fuzz target and a directory of seeds carry the same name.
pub const ALL: &[(&str, Law)] = &[
    ("ack", ack),
    ("auth_event", auth_event),
    ("config_file", config_file),
    ("cursor", cursor),
    ("eio_packet", eio_packet),
    ("eio_payload", eio_payload),
    ("eio_query", eio_query),
    ("handshake_auth", handshake_auth),
    ("http_head", http_head),
    ("http_pipeline", http_pipeline),
    ("join_request", join_request),
    ("jwks", jwks),
    ("jwt", jwt),
    ("jwt_claims", jwt_claims),
    ("pid", pid),
    ("proxy_header", proxy_header),
    ("publish_body", publish_body),
    ("sio_attachments", sio_attachments),
    ("sio_packet", sio_packet),
    ("store_record", store_record),
    ("store_recovery", store_recovery),
    ("tls_session", tls_session),
    ("ws_frames", ws_frames),
];
