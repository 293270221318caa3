//! What goes up and down, or is counted elsewhere: it is read when somebody asks.

use super::process::{self, max_files, resident_bytes};

/// One number that goes up and down, or is read elsewhere.
pub(super) struct Gauge {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: &'static str,
    pub(super) read: fn(&Readings) -> Option<f64>,
}

/// What the parts of the server say of themselves at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Readings {
    /// Connections of clients.
    pub(crate) connections: u64,
    /// Event streams.
    pub(crate) event_streams: u64,
    /// Connections of clients and event streams there can be.
    pub(crate) connections_max: u64,
    /// Connections that have left HTTP for WebSocket.
    pub(crate) websockets: u64,
    /// Connections that speak HTTP.
    pub(crate) sockets: u64,
    /// Those of them that have not sent a whole request yet.
    pub(crate) handshakes: u64,
    /// Bytes that wait for clients.
    pub(crate) waiting_bytes: u64,
    /// Bytes of publications that are being stored, or wait for it.
    pub(crate) publishing_bytes: u64,
    /// Bytes of requests and messages whose rest is still to come.
    pub(crate) receiving_bytes: u64,
    /// Memory in use, as far as it counts for `memory_limit`.
    pub(crate) memory_used: u64,
    /// Memory that may be used.
    pub(crate) memory_limit: u64,
    /// Channels that somebody is in.
    pub(crate) channels: u64,
    /// Tasks of the runtime.
    pub(crate) tasks: u64,
    /// Whether the node would answer `/readyz` with yes.
    pub(crate) is_ready: bool,
    /// Bytes of the log.
    pub(crate) store_bytes: u64,
    /// Segments of the log.
    pub(crate) store_segments: u64,
    /// Channels that the log knows.
    pub(crate) store_channels: u64,
    /// Bytes of memory that what the log knows of channels takes.
    pub(crate) index_bytes: u64,
    /// Bytes that it may take.
    pub(crate) index_limit: u64,
    /// When the certificate that is shown ends, in seconds since 1970. None without TLS, and while there is no certificate.
    pub(crate) certificate_end: Option<u64>,
}

gauges! {
    /// Connections of clients.
    "channelapi_connections" "gauge" |now| Some(float(now.connections));
    /// Event streams that are open.
    "channelapi_event_streams" "gauge" |now| Some(float(now.event_streams));
    /// Connections of clients and event streams there can be: `limits.connections`, or what the file descriptors allow.
    "channelapi_connections_max" "gauge" |now| Some(float(now.connections_max));
    /// Connections that have left HTTP for WebSocket: of the file descriptors, they take one each, like those below.
    "channelapi_websocket_connections" "gauge" |now| Some(float(now.websockets));
    /// Connections that speak HTTP, those of publishers and of polling clients.
    "channelapi_http_connections" "gauge" |now| Some(float(now.sockets));
    /// Connections that have not sent a whole request yet; `limits.handshakes` says how many of them can be silent, and how many can be in
    /// the middle of one, of strangers and again of others.
    "channelapi_handshakes" "gauge" |now| Some(float(now.handshakes));
    /// Bytes that wait for clients that do not read fast enough; `limits.slow_clients_memory` says how many there can be.
    "channelapi_waiting_bytes" "gauge" |now| Some(float(now.waiting_bytes));
    /// Bytes of publications that are being stored, or wait for it.
    "channelapi_publishing_bytes" "gauge" |now| Some(float(now.publishing_bytes));
    /// Bytes that are here of requests and messages whose rest is still to come.
    "channelapi_receiving_bytes" "gauge" |now| Some(float(now.receiving_bytes));
    /// Memory in use, as far as it counts for the limit: of the container, or of the process.
    "channelapi_memory_used_bytes" "gauge" |now| Some(float(now.memory_used));
    /// Memory that may be used: `limits.memory`, or the limit of the container or the machine.
    "channelapi_memory_limit_bytes" "gauge" |now| Some(float(now.memory_limit));
    /// Channels that somebody is in.
    "channelapi_channels" "gauge" |now| Some(float(now.channels));
    /// Tasks of the runtime: a few for the server, and one or more for each connection.
    "channelapi_tasks" "gauge" |now| Some(float(now.tasks));
    /// Whether `/readyz` says yes.
    "channelapi_ready" "gauge" |now| Some(f64::from(u8::from(now.is_ready)));
    /// Bytes of the log on disk.
    "channelapi_store_bytes" "gauge" |now| Some(float(now.store_bytes));
    /// Segments of the log.
    "channelapi_store_segments" "gauge" |now| Some(float(now.store_segments));
    /// Channels that the log knows, also those of which nothing is kept but where they stand.
    "channelapi_store_channels" "gauge" |now| Some(float(now.store_channels));
    /// Memory that is taken by what the log knows of channels and of the publications that it keeps of them, about.
    "channelapi_index_bytes" "gauge" |now| Some(float(now.index_bytes));
    /// Memory that it may take: above it, publications to new channels are refused.
    "channelapi_index_limit_bytes" "gauge" |now| Some(float(now.index_limit));
    /// When the certificate that new connections get ends, in seconds since 1970. Missing without TLS, and until there is one.
    "channelapi_certificate_end_time_seconds" "gauge" |now| now.certificate_end.map(float);
    /// Memory of the process.
    "process_resident_memory_bytes" "gauge" |_| resident_bytes().map(float);
    /// Open file descriptors.
    "process_open_fds" "gauge" |_| process::open_files().map(float);
    /// File descriptors there can be.
    "process_max_fds" "gauge" |_| max_files().map(float);
    /// Processor time of the process.
    "process_cpu_seconds_total" "counter" |_| process::cpu_seconds();
    /// When the process was started, in seconds since 1970.
    "process_start_time_seconds" "gauge" |_| process::start_seconds();
}

/// Metrics are floating-point numbers; above 2^53 they are rounded.
#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn float(number: u64) -> f64 {
    number as f64
}
