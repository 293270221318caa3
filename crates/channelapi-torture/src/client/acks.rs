//! Confirming: what a client says it has taken care of, and where the server says that it stands.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{ANSWER_MAX, Actor};
use crate::broken::broken;
use crate::history::{ChannelId, Delivered, Event};
use crate::http::{Http, Request};
use crate::link::Link;
use crate::site::Situation;

/// Acks are asked for with higher numbers than joins.
pub(super) const FIRST_ID: u64 = 1_000;
/// A client may send twenty events a second, of which joining takes some.
const PAUSE: Duration = Duration::from_millis(100);
/// Once in how many acks a client says less than it knows.
const LOWER_RARITY: u64 = 4;

impl Actor {
    /// Says that it has taken care of what it got, or of less than that, which changes nothing.
    pub(super) async fn confirm(&mut self, link: &mut Link, delivered: &Delivered) -> Result<()> {
        let Delivered { channel, position: Some(position), .. } = *delivered else { return Ok(()) };
        if !self.plan.confirms.contains(&channel) || Instant::now() < self.confirms_at {
            return Ok(());
        }
        self.confirms_at = Instant::now() + PAUSE;
        let is_lower = self.choices.one_in(LOWER_RARITY);
        let offset = if is_lower { self.choices.number(1..=position.offset) } else { position.offset };
        let ticket = self.plan.channels.iter().find(|ticket| ticket.channel == channel);
        let name = ticket.map(|ticket| ticket.name.clone()).context("it confirms where it is not")?;
        let id = FIRST_ID + self.write(Event::Confirming { channel, offset }) as u64;
        let request = json!(["ack", { "channel": name, "offset": offset, "consumer": self.plan.name }]);
        link.send(&format!("2{id}{request}")).await
    }

    /// The acknowledgement of an ack.
    pub(super) fn confirmed(&mut self, id: u64, answer: &Value) -> Result<()> {
        let entry = usize::try_from(id - FIRST_ID)?;
        let asked = self.log.get(entry).map(|entry| &entry.event);
        if !matches!(asked, Some(Event::Confirming { .. })) {
            bail!("it got an acknowledgement {id} that it did not ask for");
        }
        if answer["error"]["code"] == "unavailable" {
            return Ok(()); // It may be kept, or not.
        }
        let offset = answer["offset"].as_u64().with_context(|| format!("an ack was answered {answer}"))?;
        self.write(Event::Confirmed { entry, offset });
        Ok(())
    }

    /// Asks over HTTP where its consumer stands.
    pub(super) async fn read_standing(&mut self, channel: ChannelId) -> Result<()> {
        let ticket = self.plan.channels.iter().find(|ticket| ticket.channel == channel);
        let name = &ticket.context("it confirms where it is not")?.name;
        let path = format!("/v1/channels/{name}/consumers/{}", self.plan.name);
        let situation = self.site.situation();
        let asking = async {
            let mut http = Http::connect(self.site.address).await?;
            if !self.site.is_still(situation) {
                bail!(broken("the server is another one by now"));
            }
            let headers = self.site.authorization();
            http.exchange(&Request { method: "GET", path: &path, headers: &headers, body: "" }).await
        };
        let answer = timeout(ANSWER_MAX, asking).await;
        let answer = answer.map_err(|_| broken("the server did not say where its consumer stands"))??;
        match answer.status {
            200 => {}
            503 => bail!(broken("the server does not know where its consumer stands")),
            status => bail!("{path} was answered {status}: {}", answer.body),
        }
        let answer: Value = serde_json::from_str(&answer.body)?;
        let offset = answer["offset"].as_u64().with_context(|| format!("{path} was answered {answer}"))?;
        let Situation { life, branch, .. } = situation;
        self.write(Event::Standing { life, branch, channel, offset });
        Ok(())
    }
}
