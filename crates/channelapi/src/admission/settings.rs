//! The options under `[limits]` as the numbers that are compared.

use super::rate::Rate;
use crate::config::options;
use crate::config::value::Value as _;
use channelapi_core::limits::{FILES_RESERVE_FRACTION, FILES_RESERVE_MIN};

/// With room for fewer clients, the process was most likely given its file descriptors by nobody.
const CONNECTIONS_FEW: usize = 1_000;

/// Everything that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Sessions of clients, and event streams.
    pub(crate) connections: usize,
    /// Connections that speak HTTP or WebSocket.
    pub(crate) sockets: usize,
    /// With so many of these, there is no room for another one of a stranger.
    pub(crate) sockets_of_strangers: usize,
    pub(crate) connections_per_address: u32,
    /// Connections that are held for one user.
    pub(crate) connections_per_user: u32,
    /// New connections of one address.
    pub(crate) connecting: Rate,
    pub(crate) handshakes: usize,
    /// Events of one client.
    pub(crate) events: Rate,
    /// Joins of one client.
    pub(crate) joins: Rate,
    pub(crate) failed_tokens: Rate,
    pub(crate) unknown_sessions: Rate,
    /// Publications a second by one key; 0 for any number.
    pub(crate) publish_per_key: u64,
    /// Publications a second to one channel; 0 for any number.
    pub(crate) publish_per_channel: u64,
    /// Bytes that wait for all clients together.
    pub(crate) slow_bytes: usize,
    /// Bytes of memory; 0 is what there is.
    pub(crate) memory: u64,
}

impl Limits {
    /// Nothing is limited.
    pub(crate) const NONE: Self = Self {
        connections: usize::MAX,
        sockets: usize::MAX,
        sockets_of_strangers: usize::MAX,
        connections_per_address: u32::MAX,
        connections_per_user: u32::MAX,
        connecting: Rate::UNLIMITED,
        handshakes: usize::MAX,
        events: Rate::UNLIMITED,
        joins: Rate::UNLIMITED,
        failed_tokens: Rate::UNLIMITED,
        unknown_sessions: Rate::UNLIMITED,
        publish_per_key: 0,
        publish_per_channel: 0,
        slow_bytes: usize::MAX,
        memory: 0,
    };

    /// The limits that were set, for a process that may have so many file descriptors, of which the log may come to need so many.
    pub(crate) fn of(set: &options::Limits, files: u64, log_files: u64) -> Self {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        // A log that had none left could not go on. But it may never become so large, so clients have half of them in any case.
        let files = count(files - log_files.min(files / 2));
        let reserve = (files / FILES_RESERVE_FRACTION).max(FILES_RESERVE_MIN);
        let room = files.saturating_sub(reserve).max(1);
        let connections = match set.connections {
            0 => room,
            connections => count(connections).min(room),
        };
        let per = |number: u64| match number {
            0 => u32::MAX,
            number => u32::try_from(number).unwrap_or(u32::MAX),
        };
        Self {
            connections,
            sockets: files.saturating_sub(reserve / 2).max(2),
            sockets_of_strangers: files.saturating_sub(reserve * 3 / 4).max(1),
            connections_per_address: per(set.connections_per_address),
            connections_per_user: per(set.connections_per_user),
            connecting: Rate::per_second(set.connection_rate, set.connection_burst),
            handshakes: count(set.handshakes),
            events: Rate::per_second(set.event_rate, set.event_burst),
            joins: Rate::per_second(set.join_rate, set.join_burst),
            failed_tokens: Rate::per_minute(set.failed_tokens),
            unknown_sessions: Rate::per_minute(set.unknown_sessions),
            publish_per_key: set.publish_rate_per_key,
            publish_per_channel: set.publish_rate_per_channel,
            slow_bytes: set.slow_clients_memory.bytes(),
            memory: set.memory.bytes() as u64,
        }
    }

    /// What the operator should hear, where a process with so many file descriptors, and so much memory for it, cannot be what was set.
    pub(crate) fn shortfalls(&self, set: &options::Limits, files: u64, memory: Option<u64>) -> Vec<String> {
        let mut warnings = Vec::new();
        let files = format!(
            "this process may open {files} files; raise LimitNOFILE of its systemd unit, or `ulimit -n`, or what its container may open"
        );
        let (connections, wanted) = (self.connections, set.connections);
        if wanted > connections as u64 {
            warnings.push(format!(
                "limits.connections is {wanted}, but there is room for {connections} only: {files}"
            ));
        } else if wanted == 0 && connections < CONNECTIONS_FEW {
            warnings.push(format!("there is room for {connections} connections of clients only: {files}"));
        }
        if let Some(memory) = memory.filter(|memory| *memory < self.memory) {
            let mebibytes = memory >> 20;
            warnings.push(format!(
                "limits.memory is {}, but there are {mebibytes}MiB here, which count instead",
                set.memory.show()
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::ByteSize;
    use crate::config::{self, env};

    #[test]
    fn file_descriptors_leave_a_reserve() {
        let mut set = config::load(vec![], None, env::load([]), &[]).unwrap().limits;
        let check = |set: &_, files, connections, strangers, sockets| {
            let limits = Limits::of(set, files, 0);
            let found = (limits.connections, limits.sockets_of_strangers, limits.sockets);
            assert_eq!(found, (connections, strangers, sockets), "{files}");
        };
        check(&set, 1_000_000, 980_000, 985_000, 990_000);
        check(&set, 1_024, 960, 976, 992);
        check(&set, 256, 192, 208, 224);
        check(&set, 10, 1, 1, 2);
        set.connections = 100;
        check(&set, 256, 100, 208, 224);
        set.connections = 1_000;
        check(&set, 256, 192, 208, 224);
    }

    /// Clients could take the descriptors that the log needed for its next segment.
    #[test]
    fn the_log_has_its_file_descriptors_and_clients_have_half_of_them_in_any_case() {
        let config = config::load(vec![], None, env::load([]), &[]).unwrap();
        let check = |files, log_files, connections, strangers, sockets| {
            let limits = Limits::of(&config.limits, files, log_files);
            let found = (limits.connections, limits.sockets_of_strangers, limits.sockets);
            assert_eq!(found, (connections, strangers, sockets), "{files}");
        };
        let usual = config.store_settings().files_max();
        assert_eq!(usual, 151, "10 GB in segments of 64 MiB, and one that is rewritten");
        check(1_000_000, usual, 979_853, 984_852, 989_851);
        check(1_024, usual, 809, 825, 841);
        check(1_024, 100_000, 448, 464, 480);
        check(0, usual, 1, 1, 2);
    }

    #[test]
    fn what_cannot_be_as_it_was_set_is_told() {
        let mut set = config::load(vec![], None, env::load([]), &[]).unwrap().limits;
        let told = |set: &_, files, memory| Limits::of(set, files, 0).shortfalls(set, files, memory);
        let nothing = Vec::<String>::new();
        assert_eq!(told(&set, 1_064, Some(1)), nothing);
        let few = told(&set, 1_063, None);
        assert!(
            few[0].starts_with(
                "there is room for 999 connections of clients only: this process may open 1063 files"
            ),
            "{few:?}"
        );

        set.connections = 5_000;
        assert_eq!(told(&set, 5_200, None), nothing);
        let fewer = told(&set, 1_024, None);
        assert!(
            fewer[0].starts_with("limits.connections is 5000, but there is room for 960 only: "),
            "{fewer:?}"
        );

        set.connections = 100;
        set.memory = ByteSize(4 << 30);
        assert_eq!(told(&set, 1_024, Some(4 << 30)), nothing);
        assert_eq!(told(&set, 1_024, None), nothing);
        let less = told(&set, 1_024, Some((3 << 20) + 5));
        assert_eq!(less, ["limits.memory is 4GiB, but there are 3MiB here, which count instead"]);
    }
}
