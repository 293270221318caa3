//! Feeds `laws::eio_payload`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::eio_payload(data);
});
