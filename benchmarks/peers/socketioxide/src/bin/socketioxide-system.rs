//! The peer with the platform's allocator: what its users get unless they choose another.

fn main() -> anyhow::Result<()> {
    socketioxide_peer::run()
}
