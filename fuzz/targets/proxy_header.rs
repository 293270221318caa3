//! Feeds `laws::proxy_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::proxy_header(data);
});
