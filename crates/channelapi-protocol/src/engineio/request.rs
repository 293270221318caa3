//! What the query string of a request asks for.

use super::RequestError;

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Packets joined in HTTP bodies: GET receives, POST sends.
    Polling,
    /// One packet per WebSocket message.
    WebSocket,
}

/// The parameters of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The transport it uses.
    pub transport: Transport,
    /// The session it belongs to; `None` opens one, and so does an empty one, as in the reference server: some clients send it.
    pub sid: Option<&'a str>,
    /// Whether `EIO=4` was given. Only opening a session depends on it, as in the reference server.
    pub is_version_4: bool,
}

impl<'a> Request<'a> {
    /// Reads a query string, without its question mark. Unknown parameters (`t`, `b64`, an application's own) are passed over.
    pub fn parse(query: &'a str) -> Result<Self, RequestError> {
        let mut transport = None;
        let mut sid = None;
        let mut version = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match name {
                "transport" => &mut transport,
                "sid" => &mut sid,
                "EIO" => &mut version,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                // Two values would let two readers of one URL see two different requests.
                return Err(if name == "sid" {
                    RequestError::UnknownSession
                } else {
                    RequestError::BadRequest
                });
            }
        }
        let transport = match transport {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(RequestError::UnknownTransport),
        };
        let sid = sid.filter(|sid| !sid.is_empty());
        Ok(Self { transport, sid, is_version_4: version == Some("4") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<(Transport, Option<&str>, bool), RequestError>) {
        let expected =
            expected.map(|(transport, sid, is_version_4)| Request { transport, sid, is_version_4 });
        assert_eq!(Request::parse(query), expected, "{query}");
    }

    #[test]
    fn reads_what_clients_send() {
        check("EIO=4&transport=polling&t=abc", Ok((Transport::Polling, None, true)));
        check("transport=websocket&sid=x-_1&EIO=4", Ok((Transport::WebSocket, Some("x-_1"), true)));
        check("EIO=3&transport=polling", Ok((Transport::Polling, None, false)));
        check("transport=polling&sid=", Ok((Transport::Polling, None, false)));
    }

    #[test]
    fn refuses_what_is_unclear() {
        check("", Err(RequestError::UnknownTransport));
        check("EIO=4", Err(RequestError::UnknownTransport));
        check("EIO=4&transport=abc", Err(RequestError::UnknownTransport));
        check("transport=polling&sid=a&sid=b", Err(RequestError::UnknownSession));
        check("transport=polling&transport=websocket", Err(RequestError::BadRequest));
    }
}
