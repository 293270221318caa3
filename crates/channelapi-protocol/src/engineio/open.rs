//! The first packet of a session.

/// What a server tells a client when a session opens.
#[derive(Debug, Clone, Copy)]
pub struct Open<'a> {
    /// The session's secret id: letters, digits, `-` and `_`.
    pub sid: &'a str,
    /// Whether the client may change to WebSocket later.
    pub may_upgrade: bool,
    /// Milliseconds between pings.
    pub ping_interval: u64,
    /// Milliseconds a ping may stay without an answer.
    pub ping_timeout: u64,
    /// Bytes a client may send at once.
    pub max_payload: usize,
}

impl Open<'_> {
    /// The packet as text. The order of the keys is the reference server's.
    pub fn encode(&self) -> String {
        let Self { sid, may_upgrade, ping_interval, ping_timeout, max_payload } = self;
        let upgrades = if *may_upgrade { r#""websocket""# } else { "" };
        format!(
            r#"0{{"sid":"{sid}","upgrades":[{upgrades}],"pingInterval":{ping_interval},"pingTimeout":{ping_timeout},"maxPayload":{max_payload}}}"#
        )
    }
}
