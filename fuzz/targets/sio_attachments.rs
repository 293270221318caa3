//! Feeds `laws::sio_attachments`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = channelapi_fuzz::laws::sio_attachments(data);
});
