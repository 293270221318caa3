//! Feeds `laws::ws_frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::ws_frames(data);
});
