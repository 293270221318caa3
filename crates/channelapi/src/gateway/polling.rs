//! Engine.IO over plain HTTP: GET waits for packets, POST brings some.

use super::Gateway;
use super::connection::application::{Handled, Inbound};
use super::connection::{Connection, PollEnd};
use super::disconnect::Disconnect;
use super::random_id;
use crate::admission::SessionPass;
use crate::http::{self, BodyError, Receipt, Request, Response};
use crate::receiving::Sender;
use bytes::Bytes;
use channelapi_core::limits::{PACKETS_PER_POST_MAX, POLL_ROOM_PAUSE, PROBED_POLL_WAIT};
use channelapi_protocol::engineio::{Packet, PollStart, RequestError, Violation, payload};
use hyper::{Method, StatusCode};
use std::future::poll_fn;
use std::sync::{Arc, Weak};

/// Opens a session.
pub(super) fn open(gateway: &Arc<Gateway>, pass: SessionPass) -> Response {
    let sid = random_id();
    let opened = gateway.open(&sid, true, pass, Vec::new(), |id, gateway, pass| {
        Connection::polling(id, gateway, pass, sid.clone())
    });
    let Some(connection) = opened else {
        return http::try_later(StatusCode::SERVICE_UNAVAILABLE, "The server is stopping.", "1");
    };
    let PollEnd::Payload(open) = connection.end_brief_poll() else {
        return http::empty(StatusCode::SERVICE_UNAVAILABLE);
    };
    gateway.sessions.lock().insert(sid, connection.clone());
    // Whoever ended it before has found nothing to forget here.
    gateway.forget_if_over(&connection);
    payload_response(open)
}

/// A request of a session.
pub(super) async fn serve(session: Arc<Connection>, request: Request) -> Result<Response, RequestError> {
    session.check_alive();
    match *request.method() {
        Method::GET => {
            let name = name_of(request.uri().query().unwrap_or_default());
            // Nobody needs it while the client waits.
            drop(request);
            poll(session, name).await
        }
        // Boxed, because those who wait would hold room for it.
        Method::POST => Box::pin(post(session, request)).await,
        _ => Err(RequestError::BadRequest),
    }
}

/// What a client calls its poll, as a hash; 0 if it does not call it anything. Stock clients give each another `t`, so that no cache
/// answers it; one of theirs that comes a second time was sent a second time by the browser, or by a proxy.
fn name_of(query: &str) -> u32 {
    let name = query.split('&').find_map(|part| part.strip_prefix("t=")).filter(|name| !name.is_empty());
    name.map_or(0, |name| crc32fast::hash(name.as_bytes()).max(1))
}

/// Waits for packets. If the client goes away meanwhile, this future is dropped, and with it the session.
async fn poll(session: Arc<Connection>, name: u32) -> Result<Response, RequestError> {
    let begun = session.begin_poll(name).map_err(|violation| refuse(&session, violation))?;
    let Some((start, number)) = begun else {
        session.lose_answer();
        return Err(RequestError::BadRequest);
    };
    let mut waiting = WaitingPoll { session: &session, is_answered: false };
    let end = match start {
        PollStart::Last => session.end_brief_poll(),
        PollStart::Wait => packets(&session, false).await,
        PollStart::WaitBriefly => {
            // Held back, or a client that has just sent `5` on its WebSocket could be told here to go on polling. Boxed, because all who wait
            // would hold room for it.
            let in_time = Box::pin(tokio::time::timeout(PROBED_POLL_WAIT, packets(&session, true))).await;
            in_time.unwrap_or_else(|_| session.end_brief_poll())
        }
    };
    waiting.is_answered = true;
    session.gateway().forget_if_over(&session);
    match end {
        PollEnd::Payload(body) => {
            let whose: Weak<Connection> = Arc::downgrade(&session);
            let receipt = Receipt::new(whose, number);
            Ok(payload_response(body).map(|body| body.with_receipt(receipt)))
        }
        PollEnd::Moved => Err(RequestError::BadRequest),
        PollEnd::Ended => Ok(http::empty(StatusCode::SERVICE_UNAVAILABLE)),
    }
}

/// Waits until there are packets, and room for some of them on their way.
async fn packets(session: &Connection, is_brief: bool) -> PollEnd {
    loop {
        if let Some(end) = poll_fn(|cx| session.poll_payload(cx, is_brief)).await {
            return end;
        }
        // Boxed, because all who wait would hold room for it.
        Box::pin(tokio::time::sleep(POLL_ROOM_PAUSE)).await;
    }
}

/// A GET that waits. Dropped before it is answered, it takes the session with it: its packets could be lost otherwise.
struct WaitingPoll<'a> {
    session: &'a Connection,
    is_answered: bool,
}

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.abort_poll();
        }
    }
}

/// Takes the packets of one body, in order.
async fn post(session: Arc<Connection>, request: Request) -> Result<Response, RequestError> {
    session.begin_post().map_err(|violation| refuse(&session, violation))?;
    let mut posting = Posting { session: &session, is_done: false };
    let limit = session.gateway().settings.max_payload;
    let body = tokio::select! {
        body = http::read_body(request.into_body(), limit, Sender::Stranger) => body,
        () = poll_fn(|cx| session.poll_ended_while_posting(cx)) => return Err(RequestError::BadRequest),
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            // What broke off was cut by the network, mostly; what is malformed is counted where it was found.
            session.close(match error {
                BodyError::Broken => Disconnect::Lost,
                BodyError::NoRoom => Disconnect::Memory,
                BodyError::TooLarge | BodyError::TooSlow => Disconnect::Protocol,
            });
            return match error {
                BodyError::TooLarge => Ok(http::empty(StatusCode::PAYLOAD_TOO_LARGE)),
                BodyError::NoRoom => Ok(http::empty(StatusCode::SERVICE_UNAVAILABLE)),
                BodyError::TooSlow => Ok(http::empty(StatusCode::REQUEST_TIMEOUT)),
                BodyError::Broken => Err(RequestError::BadRequest),
            };
        }
    };
    let broken = || {
        session.close(Disconnect::Protocol);
        RequestError::BadRequest
    };
    let text = std::str::from_utf8(&body).map_err(|_| broken())?;
    for packet in payload::decode(text, PACKETS_PER_POST_MAX) {
        let handled = match packet.map_err(|_| broken())? {
            Packet::Text(text) => session.message(Inbound::Text(text)),
            Packet::Binary(bytes) => session.message(Inbound::Binary(&bytes)),
            Packet::Pong(_) => {
                session.pong();
                Handled::Now
            }
            Packet::Close => {
                session.close(Disconnect::Client);
                Handled::Now
            }
            // They ask for nothing, and are read all the same.
            Packet::Upgrade | Packet::Noop => {
                session.may_send();
                Handled::Now
            }
            // In Engine.IO 4 only the server pings.
            Packet::Ping(_) => return Err(broken()),
        };
        if let Handled::Later(work) = handled {
            work.await;
        }
        match session.ended() {
            None => {}
            // What is left for it to hear comes with its poll.
            Some(Disconnect::Client | Disconnect::Limit) => break,
            Some(_) => return Err(RequestError::BadRequest),
        }
    }
    posting.is_done = true;
    Ok(http::fresh(StatusCode::OK, "text/html", "ok"))
}

/// A POST that is being read. Dropped before it is done, it takes the session with it: the client cannot know which of its
/// packets were taken.
struct Posting<'a> {
    session: &'a Connection,
    is_done: bool,
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        self.session.end_post();
        if !self.is_done {
            self.session.close(Disconnect::Lost);
        }
    }
}

fn refuse(session: &Connection, violation: Violation) -> RequestError {
    if violation.ends_session() {
        session.close(Disconnect::Protocol);
    }
    RequestError::BadRequest
}

fn payload_response(body: Bytes) -> Response {
    http::fresh(StatusCode::OK, "text/plain; charset=UTF-8", body)
}

#[cfg(test)]
mod tests {
    use super::super::{Application, Settings};
    use super::*;
    use crate::admission::Admission;
    use crate::config::origins::Origins;
    use crate::live::Live;
    use channelapi_core::clock::Clock;
    use channelapi_core::limits::CLOSED_SESSION_LINGER;

    /// Puts out whoever comes, as another core may do meanwhile, if it is told to.
    struct PutsOut(Option<Disconnect>);

    impl Application for PutsOut {
        fn opened(&self, connection: &Arc<Connection>) {
            if let Some(reason) = self.0 {
                connection.close(reason);
            }
        }

        fn message(&self, _: &Arc<Connection>, _: Inbound<'_>) -> Handled {
            Handled::Now
        }

        fn drained(&self, _: &Connection) {}

        fn revoked(&self, _: &Connection) {}

        fn closed(&self, _: &Connection) {}
    }

    /// A gateway on which one session has been opened.
    fn opened(clock: &Clock, application: PutsOut) -> (Arc<Gateway>, Arc<Admission>) {
        let settings = Settings::new(25_000, 20_000, 65_536, Live::new(Origins::Any));
        let admission = Admission::unlimited(clock.clone());
        let gateway = Gateway::new(settings, Box::new(application), clock.clone(), admission.clone());
        let pass = admission.admit_session(None).unwrap();
        assert_eq!(open(&gateway, pass).status(), StatusCode::OK);
        (gateway, admission)
    }

    fn look(gateway: &Gateway, now: u64) {
        while let Some((since, entries)) = gateway.due(now) {
            for entry in entries {
                gateway.look_at(entry, since);
            }
        }
    }

    /// Once, it was remembered for good.
    #[test]
    fn a_session_that_is_put_out_while_it_opens_is_forgotten() {
        let clock = Clock::manual(1_000_000);
        let (gateway, admission) = opened(&clock, PutsOut(Some(Disconnect::Memory)));
        assert!(gateway.sessions.lock().is_empty());
        assert_eq!((gateway.connections(), admission.sessions()), (0, 0));
    }

    /// Once, it was remembered for good if what its client was to do in time was done a moment after the end.
    #[test]
    fn a_session_that_is_put_out_while_its_client_does_what_was_awaited_is_forgotten() {
        let clock = Clock::manual(1_000_000);
        let (gateway, admission) = opened(&clock, PutsOut(None));
        let session = gateway.sessions.lock().values().next().cloned().unwrap();
        session.close(Disconnect::Revoked);
        session.clear_deadline();
        drop(session);
        look(&gateway, clock.monotonic_millis());
        assert_eq!(
            (gateway.connections(), gateway.sessions.lock().len()),
            (1, 1),
            "it may fetch its last packets"
        );
        for _ in 0..2 {
            clock.advance(CLOSED_SESSION_LINGER);
            look(&gateway, clock.monotonic_millis());
        }
        assert!(gateway.sessions.lock().is_empty());
        assert_eq!((gateway.connections(), admission.sessions()), (0, 0));
    }
}
