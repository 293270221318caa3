//! Feeds `laws::publish_body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::publish_body(data);
});
