//! Feeds `laws::jwt_claims`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::jwt_claims(data);
});
