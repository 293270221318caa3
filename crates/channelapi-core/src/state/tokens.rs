//! Tokens in the state file: one per channel.

use super::row::shown;
use super::store::{StateError, StateStore};
use crate::model::{ChannelName, TokenHash};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

/// A token as it is stored: enough to recognise it, not enough to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The channel it opens.
    pub channel: ChannelName,
    /// What, together with the server's secret, it is derived from.
    pub generation: [u8; 16],
    /// What it is recognised by.
    pub hash: TokenHash,
    /// When it dies, in milliseconds since 1970.
    pub expires_at: u64,
    /// Milliseconds that it lives after it was last used.
    pub lifetime: u64,
}

impl StateStore {
    /// Stores a token for its channel, unless there is one that lives at `now`. Returns the one that holds: of many that ask at
    /// once, all get the same. One that lives already goes on for as long as the new one would have lived, at least, if
    /// `extends` says so.
    pub async fn issue(
        &self,
        token: StoredToken,
        now: u64,
        extends: bool,
    ) -> Result<StoredToken, StateError> {
        self.write(move |transaction| issue(transaction, token, now, extends)).await
    }

    /// Stores a token for its channel in place of any other, which is returned.
    pub async fn replace(&self, token: StoredToken, now: u64) -> Result<Option<StoredToken>, StateError> {
        self.write(move |transaction| {
            let replaced = by_channel(transaction, &token.channel)?;
            put(transaction, &token, now)?;
            Ok(replaced)
        })
        .await
    }

    /// Puts off the deaths of tokens to the given times. Unknown ones are passed over: they may have been removed meanwhile.
    pub async fn renew(&self, tokens: Vec<(TokenHash, u64)>) -> Result<(), StateError> {
        self.write(move |transaction| renew(transaction, &tokens)).await
    }

    /// Removes the token of a channel, and returns it.
    pub async fn remove_by_channel(&self, channel: ChannelName) -> Result<Option<StoredToken>, StateError> {
        self.write(move |transaction| {
            let removed = by_channel(transaction, &channel)?;
            transaction.execute("DELETE FROM token WHERE channel = ?1", [channel.as_str()])?;
            Ok(removed)
        })
        .await
    }

    /// Removes the token with this hash, and returns it.
    pub async fn remove_by_hash(&self, hash: TokenHash) -> Result<Option<StoredToken>, StateError> {
        self.write(move |transaction| {
            let removed = by_hash(transaction, hash)?;
            transaction.execute("DELETE FROM token WHERE hash = ?1", [hash.0])?;
            Ok(removed)
        })
        .await
    }

    /// Removes the tokens that died before a time.
    pub async fn prune_tokens(&self, before: u64) -> Result<(), StateError> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM token WHERE expires_at < ?1", [before]).map(drop)
        })
        .await
    }

    /// The token with this hash, dead or alive.
    pub async fn token_by_hash(&self, hash: TokenHash) -> Result<Option<StoredToken>, StateError> {
        self.read(move |connection| by_hash(connection, hash)).await
    }

    /// The token of a channel, dead or alive.
    pub async fn token_by_channel(&self, channel: ChannelName) -> Result<Option<StoredToken>, StateError> {
        self.read(move |connection| by_channel(connection, &channel)).await
    }
}

fn issue(
    transaction: &Transaction<'_>,
    token: StoredToken,
    now: u64,
    extends: bool,
) -> rusqlite::Result<StoredToken> {
    let Some(mut held) = by_channel(transaction, &token.channel)?.filter(|held| held.expires_at > now) else {
        put(transaction, &token, now)?;
        return Ok(token);
    };
    if extends {
        held.lifetime = held.lifetime.max(token.lifetime);
        held.expires_at = held.expires_at.max(token.expires_at);
        transaction
            .prepare_cached("UPDATE token SET expires_at = ?2, lifetime = ?3 WHERE hash = ?1")?
            .execute(params![held.hash.0, held.expires_at, held.lifetime])?;
    }
    Ok(held)
}

fn put(transaction: &Transaction<'_>, token: &StoredToken, now: u64) -> rusqlite::Result<()> {
    let StoredToken { channel, generation, hash, expires_at, lifetime } = token;
    transaction
        .prepare_cached(
            "INSERT INTO token (channel, generation, hash, created_at, expires_at, lifetime)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (channel) DO UPDATE SET generation = excluded.generation, hash = excluded.hash,
                 created_at = excluded.created_at, expires_at = excluded.expires_at, lifetime = excluded.lifetime",
        )?
        .execute(params![channel.as_str(), generation, hash.0, now, expires_at, lifetime])
        .map(drop)
}

fn renew(transaction: &Transaction<'_>, tokens: &[(TokenHash, u64)]) -> rusqlite::Result<()> {
    let mut update =
        transaction.prepare_cached("UPDATE token SET expires_at = max(expires_at, ?2) WHERE hash = ?1")?;
    for (hash, expires_at) in tokens {
        update.execute(params![hash.0, expires_at])?;
    }
    Ok(())
}

fn by_channel(connection: &Connection, channel: &ChannelName) -> rusqlite::Result<Option<StoredToken>> {
    connection
        .prepare_cached(
            "SELECT channel, generation, hash, expires_at, lifetime FROM token WHERE channel = ?1",
        )?
        .query_row([channel.as_str()], stored_token)
        .optional()
}

fn by_hash(connection: &Connection, hash: TokenHash) -> rusqlite::Result<Option<StoredToken>> {
    connection
        .prepare_cached("SELECT channel, generation, hash, expires_at, lifetime FROM token WHERE hash = ?1")?
        .query_row([hash.0], stored_token)
        .optional()
}

/// A line for each token that cannot be read.
pub(super) fn unreadable(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT channel, generation, hash, expires_at, lifetime, CAST(channel AS BLOB) FROM token")?
        .query_map([], |row| {
            let wrong = stored_token(row).err();
            Ok(wrong.map(|error| format!("the token of channel {}: {error}", shown(row, 5))))
        })?
        .filter_map(Result::transpose)
        .collect()
}

fn stored_token(row: &Row<'_>) -> rusqlite::Result<StoredToken> {
    let channel: String = row.get(0)?;
    let channel = ChannelName::stored(&channel).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(StoredToken {
        channel,
        generation: row.get(1)?,
        hash: TokenHash(row.get(2)?),
        expires_at: row.get(3)?,
        lifetime: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DataDirectory;

    fn token(channel: &str, seed: u8, expires_at: u64) -> StoredToken {
        StoredToken {
            channel: ChannelName::parse(channel).unwrap(),
            generation: [seed; 16],
            hash: TokenHash([seed; 32]),
            expires_at,
            lifetime: 100,
        }
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_all_get_the_same_token() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let asking = (0..50).map(|seed| {
            let store = store.clone();
            tokio::spawn(async move { store.issue(token("a", seed, 100), 1, false).await.unwrap() })
        });
        let mut issued = Vec::new();
        for task in asking.collect::<Vec<_>>() {
            issued.push(task.await.unwrap());
        }
        assert!(issued.iter().all(|token| token == &issued[0]));
        assert_eq!(store.token_by_hash(issued[0].hash).await.unwrap().as_ref(), Some(&issued[0]));
    }

    /// An older version took names that hide something: their tokens still open their channels.
    #[tokio::test]
    async fn the_token_of_a_name_that_is_none_any_more_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let channel = ChannelName::stored("a\u{AD}").unwrap();
        let hiding = StoredToken { channel, ..token("a", 1, 100) };
        store.issue(hiding.clone(), 1, false).await.unwrap();
        assert_eq!(store.token_by_hash(hiding.hash).await.unwrap().as_ref(), Some(&hiding));
        assert_eq!(store.token_by_channel(hiding.channel.clone()).await.unwrap().as_ref(), Some(&hiding));
        let wrong = crate::state::check(folder.path()).unwrap();
        assert!(!wrong.iter().any(|line| line.starts_with("state.db")), "{wrong:?}");
    }

    #[tokio::test]
    async fn tokens_die_are_renewed_replaced_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let first = token("a", 1, 100);
        store.issue(first.clone(), 1, false).await.unwrap();
        assert_eq!(store.issue(token("a", 2, 200), 99, false).await.unwrap(), first, "alive");
        store.renew(vec![(first.hash, 150), (TokenHash([9; 32]), 1)]).await.unwrap();
        assert_eq!(store.token_by_channel(first.channel.clone()).await.unwrap().unwrap().expires_at, 150);
        let second = token("a", 2, 300);
        let issued = store.issue(second.clone(), 150, false).await.unwrap();
        assert_eq!(issued, second, "dead at its very time");
        assert_eq!(store.token_by_hash(first.hash).await.unwrap(), None);
        store.prune_tokens(300).await.unwrap();
        assert_eq!(store.token_by_hash(second.hash).await.unwrap(), Some(second.clone()));
        store.prune_tokens(301).await.unwrap();
        assert_eq!(store.token_by_hash(second.hash).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_read_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        store.issue(token("a", 1, 100), 1, false).await.unwrap();
        store.issue(token("b", 2, 100), 1, false).await.unwrap();
        let wrong = "UPDATE token SET generation = x'01' WHERE channel = 'b'";
        store.write(move |transaction| transaction.execute(wrong, [])).await.unwrap();
        let lines = crate::state::check(folder.path()).unwrap();
        assert!(lines[0].starts_with(r#"state.db: the token of channel "b": "#), "{lines:?}");
    }

    #[tokio::test]
    async fn a_renewal_that_comes_too_late_brings_nothing_back() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let [first, second] = [token("a", 1, 100), token("a", 2, 100)];
        store.issue(first.clone(), 1, false).await.unwrap();
        assert_eq!(store.replace(second.clone(), 2).await.unwrap(), Some(first.clone()));
        store.renew(vec![(first.hash, 500)]).await.unwrap();
        assert_eq!(store.token_by_hash(first.hash).await.unwrap(), None);
        assert_eq!(store.token_by_channel(first.channel.clone()).await.unwrap(), Some(second.clone()));
        assert_eq!(store.remove_by_hash(first.hash).await.unwrap(), None);
        assert_eq!(store.remove_by_channel(first.channel.clone()).await.unwrap(), Some(second.clone()));
        store.renew(vec![(second.hash, 500)]).await.unwrap();
        assert_eq!(store.token_by_channel(first.channel).await.unwrap(), None);
    }
}
