//! What to show of a client to explain a finding.

use crate::history::{Client, History};

/// The entries that led to this one: the connection's beginning, and the last few.
pub(super) fn context(
    history: &History,
    client: &Client,
    opening: Option<usize>,
    entry: usize,
) -> Vec<String> {
    const BEFORE: usize = 4;
    let first = entry.saturating_sub(BEFORE);
    let opening = opening.filter(|opening| *opening < first);
    let end = client.events.len().min(entry + 1);
    opening.into_iter().chain(first..end).map(|entry| history.client_line(client, entry)).collect()
}
