//! What an HTTP connection and a client that polls hold while nothing happens, in bytes: a variable more that lives across an await
//! is a decision, and never slips in.

use super::Face;
use crate::listener::{self, Service as _, future_bytes};
use channelapi_core::hub::Publishing;

#[test]
fn who_waits_stays_small() {
    // With what comes before HTTP and with the runtime's own part, it fills a block of 2,048 bytes.
    let connection = listener::connection_bytes::<Face>();
    assert!(connection <= 1_584, "an HTTP connection has {connection} bytes");
    // It fills a block of 448 bytes.
    let poll = future_bytes(|(face, request, peer)| Face::serve(face, request, peer));
    assert!(poll <= 448, "a request that waits has {poll} bytes");
    let publishing = size_of::<Publishing<'_>>();
    assert!(publishing <= 56, "a publication that waits for the disk has {publishing} bytes");
}
