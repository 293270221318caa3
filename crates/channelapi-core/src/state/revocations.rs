//! Revocations in the state file.

use super::store::{StateError, StateStore};
use crate::limits::REVOCATIONS_MAX;
use crate::model::{Revocation, RevocationRequest, RevokedKind};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Row, Transaction, params};

impl StateStore {
    /// All revocations, also those whose time is over: at the start nobody knows yet whether the machine's clock is right. It blocks the
    /// thread.
    ///
    /// One that cannot be read is an error, and the server does not start: what was revoked by it would be good again, and nobody can
    /// tell any more what that was.
    pub fn load_revocations(&self) -> Result<Vec<Revocation>, StateError> {
        let rows = self.write_at_start(|transaction| read_all(transaction))?;
        let named =
            |Unreadable { id, error }| StateError::Revocation { path: self.path().to_owned(), id, error };
        rows.into_iter().map(|row| row.map_err(named)).collect()
    }

    /// Stores a revocation, and returns it. One that says the same already is kept, with the later times of both. `None` is one more
    /// than there may be. `learn` is told of it before anybody is, and in the order of the disk.
    pub async fn revoke(
        &self,
        what: RevocationRequest,
        now: u64,
        learn: impl FnOnce(&Revocation) + Send + 'static,
    ) -> Result<Option<Revocation>, StateError> {
        let change = move |transaction: &Transaction<'_>| revoke(transaction, &what, now);
        self.write_then(change, |revoked| _ = revoked.as_ref().map(learn)).await
    }

    /// Removes a revocation, and returns it. `learn` is told as by [`StateStore::revoke`].
    pub async fn remove_revocation(
        &self,
        id: u64,
        learn: impl FnOnce(&Revocation) + Send + 'static,
    ) -> Result<Option<Revocation>, StateError> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        let change = move |transaction: &Transaction<'_>| {
            transaction
                .prepare_cached(&format!("DELETE FROM revocation WHERE id = ?1 RETURNING {COLUMNS}"))?
                .query_row([id], revocation)
                .optional()
        };
        self.write_then(change, |removed| _ = removed.as_ref().map(learn)).await
    }

    /// So many revocations behind one, in the order they were made.
    pub async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<Revocation>, StateError> {
        // SQLite has no larger numbers, so that nothing is behind them.
        let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
        self.read(move |connection| page(connection, after, limit)).await
    }

    /// Removes the revocations that nobody has needed since a time.
    pub async fn prune_revocations(&self, before: u64) -> Result<(), StateError> {
        self.write(move |transaction| {
            transaction.execute("DELETE FROM revocation WHERE until <= ?1", [before]).map(drop)
        })
        .await
    }
}

/// A line for each revocation that cannot be read.
pub(super) fn unreadable(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let wrong = read_all(connection)?.into_iter().filter_map(Result::err);
    Ok(wrong.map(|Unreadable { id, error }| format!("revocation {id}: {error}")).collect())
}

/// A revocation that is not as it was written.
struct Unreadable {
    id: i64,
    error: Error,
}

/// Every revocation, or what is wrong with it.
fn read_all(connection: &Connection) -> rusqlite::Result<Vec<Result<Revocation, Unreadable>>> {
    connection
        .prepare(&format!("SELECT {COLUMNS} FROM revocation ORDER BY id"))?
        .query_map([], |row| {
            let id = row.get(0)?;
            Ok(revocation(row).map_err(|error| Unreadable { id, error }))
        })?
        .collect()
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

fn page(connection: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<Revocation>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM revocation WHERE id > ?1 ORDER BY id LIMIT ?2"))?
        .query_map(params![after, limit], revocation)?
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DataDirectory, check};

    /// The text named neither the file nor the row, and the check called the file sound.
    #[tokio::test]
    async fn a_revocation_that_cannot_be_read_is_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        for value in ["ann", "bob"] {
            let (value, issuer) = (value.into(), "".into());
            let what = RevocationRequest { kind: RevokedKind::Subject, value, issuer, before: 5, until: 9 };
            store.revoke(what, 1, |_| {}).await.unwrap();
        }
        let all = store.load_revocations().unwrap();
        assert_eq!(all.len(), 2);
        let wrong = "UPDATE revocation SET kind = 'subjecu' WHERE value = 'bob'";
        store.write(move |transaction| transaction.execute(wrong, [])).await.unwrap();
        let refused = store.load_revocations().unwrap_err().to_string();
        let row = format!("revocation {}", all[1].id);
        for part in ["state.db: ", &row, "`subjecu` is no kind", "restore a backup", "DELETE FROM revocation"]
        {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        let lines = check(folder.path()).unwrap();
        assert!(lines[0].starts_with(&format!("state.db: {row}: ")), "{lines:?}");
    }
}
