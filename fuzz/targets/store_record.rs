//! Feeds `laws::store_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::store_record(data);
});
