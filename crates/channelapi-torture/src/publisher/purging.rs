//! Purging: a publisher has everything forgotten that it has published to a channel.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Attempt, Prepared, Publisher, Target};
use crate::history::Purge;

impl Publisher {
    /// Asks once; without an answer, nobody knows whether it was done.
    pub(super) async fn purge(&mut self, target: &Target) -> Result<()> {
        let request = Prepared {
            method: "DELETE",
            path: format!("/v1/channels/{}/messages", target.name),
            headers: self.site.authorization(),
            body: String::new(),
        };
        self.connect().await;
        let (_, branch) = self.connection.as_ref().context("not connected")?;
        let (branch, mut invoked) = (*branch, None);
        let purged = match self.attempt(&request, &mut invoked).await? {
            Attempt::Broken => None,
            Attempt::Answered(response, _) => match response.status {
                200 => {
                    let answer: Value = serde_json::from_str(&response.body)?;
                    let purged = answer["purged"].as_u64();
                    Some(purged.with_context(|| format!("a purge was answered {}", response.body))?)
                }
                503 | 507 => return Ok(()),
                504 => None,
                status => bail!("a purge was answered {status}: {}", response.body),
            },
        };
        let (channel, ended) = (target.channel, self.site.now());
        let invoked = invoked.context("purged without an attempt")?;
        self.purges.push(Purge { channel, branch, invoked, ended, purged });
        Ok(())
    }
}
