//! What a node says of itself at one moment, for its metrics.

use super::Server;
use crate::health::Ready;
use crate::metrics::Readings;
use crate::receiving::receiving_bytes;
use crate::waiting::waiting_bytes;

impl Server {
    /// All that is not counted where it happens.
    pub(super) fn readings(&self) -> Readings {
        let store = self.hub.broker.figures();
        let (memory_used, memory_limit) = self.admission.memory();
        Readings {
            connections: self.gateway.connections() as u64,
            tasks: self.cores.tasks() as u64,
            channels: self.hub.active_channels() as u64,
            is_ready: self.readiness() == Ready::Yes,
            event_streams: self.admission.streams() as u64,
            connections_max: self.admission.limits().connections as u64,
            websockets: self.admission.websockets() as u64,
            sockets: self.admission.sockets() as u64,
            handshakes: self.admission.waiting() as u64,
            waiting_bytes: waiting_bytes() as u64,
            publishing_bytes: self.hub.gate.bytes() as u64,
            receiving_bytes: receiving_bytes() as u64,
            memory_used,
            memory_limit,
            store_bytes: store.bytes,
            store_segments: store.segments,
            store_channels: store.channels,
            index_bytes: store.index_bytes,
            index_limit: store.index_bytes_max,
            certificate_end: self.certificates.as_ref().and_then(|certificates| certificates.end()),
        }
    }
}
