//! Feeds `laws::eio_packet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::eio_packet(data);
});
