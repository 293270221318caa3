//! How many event streams there are: they are clients like those with a session, and count with them. Their sockets speak HTTP until their
//! end, so they are among those already.

use super::{Admission, SessionPass};
use crate::metrics::HandshakeRefused;
use crate::waiting::Owner;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An event stream, counted until this is dropped.
pub(crate) struct StreamPass {
    session: SessionPass,
}

impl Admission {
    /// A client wants an event stream.
    pub(crate) fn admit_stream(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<StreamPass, HandshakeRefused> {
        let session = self.admit_session(address)?;
        self.streams.fetch_add(1, Ordering::Relaxed);
        Ok(StreamPass { session })
    }

    /// Event streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

impl StreamPass {
    /// Whose the room is that the stream takes.
    pub(crate) fn owner(&self) -> Owner {
        self.session.number.owner()
    }
}

impl Drop for StreamPass {
    fn drop(&mut self) {
        self.session.admission.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use crate::metrics::ConnectionRefused;
    use channelapi_core::clock::Clock;
    use std::net::Ipv4Addr;

    const A: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)));

    #[test]
    fn streams_are_clients_of_the_node_and_of_their_address() {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::NONE };
        let admission = Admission::new(limits, Clock::system());
        let stream = admission.admit_stream(A).unwrap();
        let session = admission.admit_session(A).unwrap();
        assert_eq!(admission.admit_stream(A).err(), Some(HandshakeRefused::Address));
        assert_eq!(admission.admit_session(A).err(), Some(HandshakeRefused::Address));
        let neighbour = admission.admit_stream(None).unwrap();
        assert_eq!(admission.admit_stream(None).err(), Some(HandshakeRefused::Node));
        drop((stream, neighbour));
        assert_eq!(admission.sessions(), 1);
        assert!(admission.admit_stream(A).is_ok());
        drop(session);
        assert_eq!((admission.sessions(), admission.addresses.lock().count()), (0, 0));
    }

    /// Once, streams were no clients, and took what is kept for publishers.
    #[test]
    fn streams_leave_the_reserve_to_others() {
        let limits = Limits { connections: 2, sockets: 3, ..Limits::NONE };
        let admission = Admission::new(limits, Clock::system());
        let connect = || admission.admit_socket(None);
        let streams: Vec<_> =
            (0..2).map(|_| (connect().unwrap(), admission.admit_stream(None).unwrap())).collect();
        let publisher = connect().unwrap();
        assert_eq!(admission.admit_stream(None).err(), Some(HandshakeRefused::Node));
        assert_eq!(connect().err(), Some(ConnectionRefused::Node));
        drop((streams, publisher));
        assert_eq!((admission.sockets(), admission.sessions()), (0, 0));
        assert_eq!((0..9).map_while(|_| connect().ok()).collect::<Vec<_>>().len(), 3);
    }
}
