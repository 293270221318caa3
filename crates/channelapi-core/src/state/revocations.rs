//! Revocations in the state file.

use super::store::{StateError, StateStore};
use crate::limits::REVOCATIONS_MAX;
use crate::model::{Revocation, RevocationRequest, RevokedKind};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Row, Transaction, params};

impl StateStore {
    /// All revocations that count at `now`; the others are removed. For the start of a server: it blocks the thread.
    pub fn load_revocations(&self, now: u64) -> Result<Vec<Revocation>, StateError> {
        self.write_at_start(move |transaction| {
            prune(transaction, now)?;
            page(transaction, 0, REVOCATIONS_MAX)
        })
    }

    /// Stores a revocation, and returns it. One that says the same already is kept, with the later times of both. `None` is one more
    /// than there may be.
    pub async fn revoke(&self, what: RevocationRequest, now: u64) -> Result<Option<Revocation>, StateError> {
        self.write(move |transaction| revoke(transaction, &what, now)).await
    }

    /// Removes a revocation, and returns it.
    pub async fn remove_revocation(&self, id: u64) -> Result<Option<Revocation>, StateError> {
        self.write(move |transaction| {
            transaction
                .prepare_cached(&format!("DELETE FROM revocation WHERE id = ?1 RETURNING {COLUMNS}"))?
                .query_row([id], revocation)
                .optional()
        })
        .await
    }

    /// So many revocations behind one, in the order they were made.
    pub async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<Revocation>, StateError> {
        self.read(move |connection| page(connection, after, limit)).await
    }

    /// Removes the revocations that do not count any more.
    pub async fn prune_revocations(&self, now: u64) -> Result<(), StateError> {
        self.write(move |transaction| prune(transaction, now)).await
    }
}

const COLUMNS: &str = "id, kind, value, issuer, before, until, created_at";

fn revoke(
    transaction: &Transaction<'_>,
    what: &RevocationRequest,
    now: u64,
) -> rusqlite::Result<Option<Revocation>> {
    let known: Option<u64> = transaction
        .prepare_cached("SELECT id FROM revocation WHERE kind = ?1 AND value = ?2 AND issuer = ?3")?
        .query_row(params![what.kind.as_str(), what.value, what.issuer], |row| row.get(0))
        .optional()?;
    if known.is_none() {
        let count: usize =
            transaction.prepare_cached("SELECT count(*) FROM revocation")?.query_row([], |row| row.get(0))?;
        if count >= REVOCATIONS_MAX {
            return Ok(None);
        }
    }
    transaction
        .prepare_cached(&format!(
            "INSERT INTO revocation (kind, value, issuer, before, until, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (kind, value, issuer) DO UPDATE SET before = max(before, excluded.before),
                 until = max(until, excluded.until)
             RETURNING {COLUMNS}"
        ))?
        .query_row(
            params![what.kind.as_str(), what.value, what.issuer, what.before, what.until, now],
            revocation,
        )
        .map(Some)
}

fn page(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Revocation>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM revocation WHERE id > ?1 ORDER BY id LIMIT ?2"))?
        .query_map(params![after, limit], revocation)?
        .collect()
}

fn prune(transaction: &Transaction<'_>, now: u64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM revocation WHERE until <= ?1", [now]).map(drop)
}

fn revocation(row: &Row<'_>) -> rusqlite::Result<Revocation> {
    let kind: String = row.get(1)?;
    let known = RevokedKind::ALL.into_iter().find(|known| known.as_str() == kind);
    let kind = known.ok_or_else(|| {
        Error::FromSqlConversionFailure(1, Type::Text, format!("`{kind}` is no kind of revocation").into())
    })?;
    let [value, issuer]: [String; 2] = [row.get(2)?, row.get(3)?];
    let (before, until) = (row.get(4)?, row.get(5)?);
    let what = RevocationRequest { kind, value: value.into(), issuer: issuer.into(), before, until };
    Ok(Revocation { id: row.get(0)?, what, created_at: row.get(6)? })
}
