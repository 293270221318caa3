//! The query string of an Engine.IO request.

use channelapi_protocol::engineio::{Request, Transport};

/// The input is a query string.
///
/// - What was read can be written in its simplest form and read again, the same.
/// - The order of the parameters and unknown ones among them change nothing.
/// - A known parameter given twice is refused, so that nobody in front of us can read another request.
pub fn eio_query(data: &[u8]) -> bool {
    let Ok(query) = std::str::from_utf8(data) else { return false };
    let read = Request::parse(query);

    let reversed: Vec<&str> = query.split('&').rev().collect();
    let reversed = reversed.join("&");
    assert_eq!(Request::parse(&reversed).ok(), read.ok(), "in reverse order");
    let longer = format!("t=N8hyd6w&{query}&b64");
    assert_eq!(Request::parse(&longer).ok(), read.ok(), "with unknown parameters");

    let Ok(request) = read else { return false };
    let simplest = write(&request);
    assert_eq!(Request::parse(&simplest), Ok(request), "written as {simplest}");
    let sid = request.sid.map(|sid| format!("sid={sid}"));
    for parameter in ["transport=polling"].into_iter().chain(sid.as_deref()) {
        let twice = format!("{query}&{parameter}");
        assert!(Request::parse(&twice).is_err(), "{parameter} twice");
    }
    true
}

fn write(request: &Request<'_>) -> String {
    let transport = match request.transport {
        Transport::Polling => "polling",
        Transport::WebSocket => "websocket",
    };
    let version = if request.is_version_4 { 4 } else { 3 };
    let sid = request.sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
    format!("EIO={version}&transport={transport}{sid}")
}
