//! Feeds `laws::auth_event`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::auth_event(data);
});
