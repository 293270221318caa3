//! Feeds `laws::handshake_auth`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::handshake_auth(data);
});
