//! The tables of the state file, and how an older file becomes a newer one.

use rusqlite::Connection;

/// The format that this version writes. It is kept in SQLite's `user_version`; 0 is an empty file.
pub(super) const VERSION: i64 = 1;

/// What turns version `n` into `n + 1`, at place `n`.
const STEPS: [&str; 1] = ["
    CREATE TABLE token (
        channel    TEXT NOT NULL PRIMARY KEY,
        -- Random; the token itself is derived from it with a secret that is not in this file.
        generation BLOB NOT NULL,
        -- SHA-256 of the token, by which a joining client's token is looked up.
        hash       BLOB NOT NULL UNIQUE,
        -- Milliseconds since 1970.
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX token_by_expiry ON token (expires_at);
"];

/// The version of a file; `Err` with it if the file is newer than this program.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Result<usize, i64>> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).ok().filter(|version| *version <= STEPS.len()).ok_or(version))
}

/// Brings a file to [`VERSION`], all steps or none.
pub(super) fn migrate(connection: &mut Connection, from: usize) -> rusqlite::Result<()> {
    if from == STEPS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in &STEPS[from..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
