//! Watches over what the server uses: memory, and what waits for clients that do not read. Whoever is slowest goes first.

use crate::admission::{Admission, Memory, Pressure};
use crate::waiting::{
    Readers, Slowest, put_out_slower_half, put_out_slowest, queued_bytes, queued_bytes_max,
    set_waiting_bytes_max,
};
use channelapi_core::hub::Hub;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

/// How often to look. It takes a few system calls; a container with little memory can be full within a second.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches over all `readers` until it is dropped. `answers` are those that are not taken: they have room of their own, so they go only when
/// memory is short.
pub(crate) async fn watch(
    admission: Arc<Admission>,
    readers: Vec<Arc<dyn Readers>>,
    answers: Arc<dyn Readers>,
    hub: Arc<Hub>,
) {
    let everybody: Vec<_> = readers.iter().cloned().chain([answers]).collect();
    let mut memory = Memory::find();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let limits = admission.limits();
        set_waiting_bytes_max(limits.slow_bytes);
        // Nothing more is queued above the limit, so it is never quite reached.
        let queued_max = queued_bytes_max();
        if queued_bytes() > queued_max / 20 * 19 {
            put_out_slowest(&readers, queued_max / 4 * 3, Slowest::Node);
        }
        hub.gate.set_channel_rate(limits.publish_per_channel);
        hub.gate.set_key_rate(limits.publish_per_key);
        if let Some(usage) = memory.look(limits.memory) {
            let (before, pressure) = (admission.pressure(), usage.pressure(admission.pressure()));
            if pressure != before {
                tell(pressure, usage.used, usage.limit);
            }
            admission.note_memory(usage.used, usage.limit, pressure);
            hub.gate.set_closed(pressure != Pressure::None);
            if pressure == Pressure::Critical {
                put_out_slower_half(&everybody, Slowest::Memory);
            }
        }
    }
}

fn tell(pressure: Pressure, used: u64, limit: u64) {
    match pressure {
        Pressure::None => info!(used, limit, "there is enough memory again"),
        Pressure::High => warn!(used, limit, "memory is short: no new clients, joins or messages are taken"),
        Pressure::Critical => error!(used, limit, "memory is very short: the slowest clients are closed"),
    }
}
