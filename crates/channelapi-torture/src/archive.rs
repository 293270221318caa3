//! What the server's channels hold, read over HTTP: to be compared with what they held before, or with what was accepted.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::{Http, Request};
use crate::site::Site;

const PAGE: usize = 1000;

/// A message as history shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// What history says to somebody who stands somewhere.
pub(crate) struct Archive {
    pub(crate) messages: Vec<Message>,
    /// The server says that nothing is missing.
    pub(crate) recovered: bool,
    /// Where a reader of all that stands.
    pub(crate) cursor: String,
}

/// Everything in a channel behind `since`, page by page.
pub(crate) async fn read(site: &Site, channel: &str, since: &str) -> Result<Archive> {
    let mut http = Http::connect(site.address).await?;
    let mut archive = Archive { messages: Vec::new(), recovered: true, cursor: since.to_owned() };
    loop {
        let path = format!("/v1/channels/{channel}/messages?since={}&limit={PAGE}", archive.cursor);
        let headers = site.authorization();
        let request = Request { method: "GET", path: &path, headers: &headers, body: "" };
        let response = http.exchange(&request).await?;
        ensure!(response.status == 200, "{path} was answered {}: {}", response.status, response.body);
        let page: Value = serde_json::from_str(&response.body)?;
        let recovered = page["recovered"].as_bool();
        archive.recovered &= recovered.with_context(|| format!("{path} says nothing of `recovered`"))?;
        for message in page["messages"].as_array().context("no messages in a page of history")? {
            let id = message["id"].as_str().with_context(|| format!("no id in {message}"))?.to_owned();
            archive.messages.push(Message { id, data: message["data"].clone() });
        }
        page["cursor"].as_str().context("no cursor in a page of history")?.clone_into(&mut archive.cursor);
        if page["has_more"] != true {
            return Ok(archive);
        }
    }
}

/// How far each consumer of a channel has come.
pub(crate) async fn consumers(site: &Site, channel: &str) -> Result<HashMap<String, u64>> {
    let (path, headers) = (format!("/v1/channels/{channel}/consumers"), site.authorization());
    let request = Request { method: "GET", path: &path, headers: &headers, body: "" };
    let response = Http::connect(site.address).await?.exchange(&request).await?;
    ensure!(response.status == 200, "{path} was answered {}: {}", response.status, response.body);
    let listed: Value = serde_json::from_str(&response.body)?;
    let listed =
        listed["consumers"].as_array().with_context(|| format!("no consumers in {}", response.body))?;
    let stands = |consumer: &Value| {
        let name = consumer["consumer"].as_str().map(str::to_owned);
        name.zip(consumer["offset"].as_u64()).with_context(|| format!("unusable consumer {consumer}"))
    };
    listed.iter().map(stands).collect()
}
