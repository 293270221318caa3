//! The peer with the allocator that channelapi uses: the fair comparison of memory.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    socketioxide_peer::run()
}
