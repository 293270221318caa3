//! Feeds `laws::sio_packet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::sio_packet(data);
});
