//! Watches over what the server uses: memory, and what waits for clients that do not read. Whoever is slowest goes
//! first, of the address for which most waits.

use crate::admission::{Admission, Memory, Pressure, Usage};
use crate::receiving;
use crate::waiting::{
    Readers, Slowest, put_out_slower_half, put_out_slowest, queued_bytes, queued_bytes_max,
    set_waiting_bytes_max,
};
use channelapi_core::hub::Hub;
use channelapi_core::limits::{WAITING_FRACTION, share};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{error, info, warn};

/// The longest time between two looks. Each takes a few system calls.
const INTERVAL_MAX: Duration = Duration::from_millis(100);

/// The shortest.
const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// Bytes by which what is used may grow in a millisecond: a gigabyte a second is more than comes in through loopback.
const GROWTH_PER_MILLISECOND: u64 = 1 << 20;

/// Watches over all `readers` until it is dropped. `answers` are those that are not taken: they have room of their own, so they go only when
/// memory is short. Whoever polls says something once in a `ping_interval`.
pub(crate) async fn watch(
    admission: Arc<Admission>,
    readers: Vec<Arc<dyn Readers>>,
    answers: Arc<dyn Readers>,
    hub: Arc<Hub>,
    ping_interval: Duration,
) {
    let everybody: Vec<_> = readers.iter().cloned().chain([answers]).collect();
    let mut memory = Memory::find();
    if memory.look(admission.limits().memory).is_none() {
        warn!(
            "the system does not tell how much memory is in use, so limits.memory holds nothing back; let this process see its own folder below /proc"
        );
    }
    loop {
        let limits = admission.limits();
        let limit = memory.limit(limits.memory).unwrap_or(u64::MAX);
        hub.set_memory(limit);
        receiving::set_memory(limit);
        let waiting_max = share(limits.slow_bytes, limit, WAITING_FRACTION);
        set_waiting_bytes_max(waiting_max);
        hub.set_clients_bytes_max(waiting_max);
        // Nothing more is queued above the limit, so it is never quite reached.
        let queued_max = queued_bytes_max();
        if queued_bytes() > queued_max / 20 * 19 {
            put_out_slowest(&readers, queued_max / 4 * 3, Slowest::Node);
        }
        hub.gate.set_channel_rate(limits.publish_per_channel);
        hub.gate.set_key_rate(limits.publish_per_key);
        let mut interval = INTERVAL_MAX;
        if let Some(usage) = memory.look(limits.memory) {
            let (before, pressure) = (admission.pressure(), usage.pressure(admission.pressure()));
            if pressure != before {
                tell(pressure, usage.used, usage.limit);
            }
            admission.note_memory(usage.used, usage.limit, pressure);
            hub.gate.set_closed(pressure != Pressure::None);
            admission.end_rests(pressure, ping_interval);
            if pressure == Pressure::Critical {
                put_out_slower_half(&everybody, Slowest::Memory);
            } else {
                interval = interval_at(usage, pressure);
            }
        }
        sleep(interval).await;
    }
}

/// How long it takes at least until memory is shorter than it is: a small container can be full within a tenth of a second.
fn interval_at(usage: Usage, pressure: Pressure) -> Duration {
    let left = usage.left_until_worse(pressure) / GROWTH_PER_MILLISECOND;
    Duration::from_millis(left).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

fn tell(pressure: Pressure, used: u64, limit: u64) {
    match pressure {
        Pressure::None => info!(used, limit, "there is enough memory again"),
        Pressure::High => warn!(
            used,
            limit,
            "memory is short: no new clients, joins or messages are taken, and connections that rest are closed"
        ),
        Pressure::Critical => error!(used, limit, "memory is very short: the slowest clients are closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_memory_is_left_the_sooner_it_is_looked_again() {
        let check = |used: u64, limit: u64, pressure, millis| {
            let interval = interval_at(Usage { used: used << 20, limit: limit << 20 }, pressure);
            assert_eq!(interval, Duration::from_millis(millis), "{used} of {limit} MiB");
        };
        check(16, 128, Pressure::None, 92);
        check(64, 128, Pressure::None, 44);
        check(107, 128, Pressure::None, 5);
        check(109, 128, Pressure::High, 12);
        check(121, 128, Pressure::High, 5);
        check(16, 1024, Pressure::None, 100);
        check(800, 1024, Pressure::None, 70);
    }
}
