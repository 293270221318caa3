//! Feeds `laws::eio_query`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::eio_query(data);
});
