//! Work of a fixed size, to count the processor's instructions of what every message needs.
//!
//! ```text
//! cargo xtask instructions
//! ```

mod codec;
mod node;

/// The server's: another one would take a quarter of the instructions, and more or less of them whenever something changes its size.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let work = arguments.next().unwrap_or_default();
    let times: usize = arguments.next().and_then(|text| text.parse().ok()).expect("say how often");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("there is a runtime");
    match work.as_str() {
        "decode" => codec::decode(times),
        "encode" => codec::encode(times),
        "fanout" => runtime.block_on(node::fan_out(times)),
        "publish" => runtime.block_on(node::publish(times)),
        _ => panic!("there is no work {work:?}"),
    }
}
