//! Feeds `laws::tls_session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::tls_session(data);
});
