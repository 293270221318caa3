//! The tables of the state file, and how an older file becomes a newer one.

use rusqlite::Connection;

/// The format that this version writes. It is kept in SQLite's `user_version`; 0 is an empty file.
pub(super) const VERSION: i64 = 3;

/// What turns version `n` into `n + 1`, at place `n`.
const STEPS: [&str; 3] = [
    "
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
    ",
    "
        -- Milliseconds that a token lives after it was last used. Before there was a choice, it was seven days.
        ALTER TABLE token ADD COLUMN lifetime INTEGER NOT NULL DEFAULT 604800000;
        -- How far each consumer of a channel has come.
        CREATE TABLE consumer (
            channel  TEXT NOT NULL,
            consumer TEXT NOT NULL,
            -- The history of the channel that the offset is a place in: 16 hexadecimal digits, as in the API.
            epoch    TEXT NOT NULL,
            offset   INTEGER NOT NULL,
            -- When it got there, in milliseconds since 1970.
            acked_at INTEGER NOT NULL,
            PRIMARY KEY (channel, consumer)
        ) STRICT, WITHOUT ROWID;
    ",
    "
        -- JWTs that are not good any more although they are signed well.
        CREATE TABLE revocation (
            -- Never used again: whoever lists them goes on behind the last one.
            id         INTEGER PRIMARY KEY AUTOINCREMENT,
            -- What is revoked: `jti`, `subject`, `channel` or `issuer`.
            kind       TEXT NOT NULL,
            value      TEXT NOT NULL,
            -- Of this issuer only; empty for all.
            issuer     TEXT NOT NULL,
            -- What was issued earlier is revoked, in milliseconds since 1970. For a jti it means nothing.
            before     INTEGER NOT NULL,
            -- When it may be forgotten.
            until      INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            UNIQUE (kind, value, issuer)
        ) STRICT;
    ",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_format_keeps_its_tokens_and_their_seven_days() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.execute("INSERT INTO token VALUES ('a', x'01', x'02', 3, 4)", []).unwrap();
        assert_eq!(version(&connection).unwrap(), Ok(1));
        migrate(&mut connection, 1).unwrap();
        assert_eq!(version(&connection).unwrap(), Ok(STEPS.len()));
        let query = "SELECT expires_at, lifetime FROM token WHERE channel = 'a'";
        let token = connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(token, (4, 7 * 24 * 3600 * 1000));
        for table in ["consumer", "revocation"] {
            let query = format!("SELECT count(*) FROM {table}");
            assert_eq!(connection.query_row(&query, [], |row| row.get(0)), Ok(0));
        }
    }
}
