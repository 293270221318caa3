//! Both cores against one: how fast a broadcast leaves the server when nobody takes a core from it.
//!
//! The receivers do not read: a burst waits in their sockets' buffers, and nobody is told that it is there; the kernel says how much
//! has arrived when it is asked. So the whole machine is the server's. In the end, each must have every byte.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::time::{sleep, timeout};

use crate::backend::DATA_BYTES;
use crate::client::Client;
use crate::comparison::{Setup, take_turns};
use crate::cores::Cores;
use crate::criteria::{Criterion, Wanted};
use crate::frame;
use crate::peer::Peer;
use crate::process::{Server, allow_connections};
use crate::receipts;
use crate::report::{Sample, Sheet};
use crate::statistics::{each, real};

const COLUMNS: [&str; 2] = ["one core", "all cores"];

const RATE: &str = "deliveries/s";

/// One connection of so many is looked at to see how far a broadcast has come.
const SAMPLED: usize = 50;

/// How often.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Longest wait for one broadcast.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fan-out with one core and with all.
#[derive(Args)]
pub(crate) struct ScalingOptions {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many connections share the channel.
    #[arg(short, long, default_value_t = 10_000)]
    connections: usize,
    /// How many publications, each after the one before has reached everybody. They have to fit into the sockets' buffers.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=300))]
    publications: u64,
}

pub(crate) async fn run(options: &ScalingOptions, cores: &Cores) -> Result<(Sheet, Vec<Criterion>)> {
    allow_connections(options.connections)?;
    let title = format!("Fan-out to {} paused connections on {} cores", options.connections, cores.count());
    // Nobody reads while it is measured, so nobody is to be woken.
    let sides = [cores.split().with_sleep(), cores.join()];
    let measure = async |column: usize| measure(options, &sides[column]).await;
    let mut sheet = take_turns(&options.setup, title, COLUMNS.to_vec(), measure).await?;
    sides[0].enter()?;
    if cores.count() < 2 {
        sheet.notes.push("This machine has one core.".to_owned());
        return Ok((sheet, Vec::new()));
    }
    let [one, all] = COLUMNS;
    let criterion = Criterion::new(&sheet, RATE, [all, one], Wanted::Above(1.7));
    Ok((sheet, criterion.into_iter().collect()))
}

async fn measure(options: &ScalingOptions, cores: &Cores) -> Result<Vec<Sample>> {
    let count = options.connections;
    let server = Server::start(Peer::Channelapi, cores).await?;
    let mut publisher = server.publisher().await?;
    let door = Peer::Channelapi.door(publisher.token("shared").await?);
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::join(server.address, &door).await?.pause()?);
    }
    let before = server.cpu()?;
    let (mut expected, mut took) = (0, Duration::ZERO);
    for number in 0..options.publications {
        let data = receipts::data(number, DATA_BYTES);
        expected += frame::server_bytes(&format!("42[\"message\",{data}]"));
        let started = Instant::now();
        publisher.publish("shared", &data).await?;
        let arrived = timeout(PATIENCE, async {
            for client in clients.iter().rev().step_by(SAMPLED).chain(clients.first()) {
                while client.arrived()? < expected {
                    sleep(LOOK_EVERY).await;
                }
            }
            anyhow::Ok(())
        });
        arrived.await.context("a broadcast does not arrive: too many for the sockets' buffers?")??;
        took += started.elapsed();
        // Whoever was not looked at.
        for client in &clients {
            while client.arrived()? < expected {
                sleep(LOOK_EVERY).await;
            }
        }
    }
    let used = server.cpu()?.since(&before).total;
    let deliveries = count * usize::try_from(options.publications)?;
    for client in &clients {
        ensure!(
            client.arrived()? == expected,
            "a connection has more than was published; a ping, if this took half a minute: try fewer"
        );
    }
    Ok(vec![
        Sample::rate(RATE, real(deliveries) / took.as_secs_f64()),
        Sample::cost("CPU per delivery, µs", each(used.as_secs_f64() * 1e6, deliveries)),
    ])
}
