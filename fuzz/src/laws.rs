//! One law per parser. Each answers whether its input was accepted, so that seeds can say what they expect.

mod eio_payload;
mod eio_query;
mod sio_attachments;
mod sio_packet;
mod ws_frames;

pub use self::eio_payload::eio_payload;
pub use self::eio_query::eio_query;
pub use self::sio_attachments::sio_attachments;
pub use self::sio_packet::sio_packet;
pub use self::ws_frames::ws_frames;

/// A law, fed with any bytes.
pub type Law = fn(&[u8]) -> bool;

/// All laws by name; a fuzz target and a directory of seeds carry the same name.
pub const ALL: &[(&str, Law)] = &[
    ("eio_payload", eio_payload),
    ("eio_query", eio_query),
    ("sio_attachments", sio_attachments),
    ("sio_packet", sio_packet),
    ("ws_frames", ws_frames),
];
