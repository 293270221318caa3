//! Feeds `laws::http_pipeline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::http_pipeline(data);
});
