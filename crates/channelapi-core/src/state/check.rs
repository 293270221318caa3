//! Checking what a data directory holds besides its publications, whether a server runs on it or not.

use super::directory::{missing, read_secret};
use super::store::{StateError, file_in, open_from_outside};
use super::{consumers, revocations, schema, tokens};
use rusqlite::Connection;
use std::path::Path;

/// What is wrong with a data directory, but for the bytes of its log: a line for each thing, which begins with the file that it is
/// about; nothing if all is well. Nothing is changed.
pub fn check(data: &Path) -> Result<Vec<String>, StateError> {
    let path = file_in(data);
    let mut lines = if path.is_file() { wrong_in(&path)? } else { vec![gone("state.db")] };
    lines.extend(missing(data).into_iter().filter(|part| *part != "state.db").map(gone));
    lines.extend(read_secret(data).err().map(|error| format!("token_secret: {error}")));
    Ok(lines)
}

/// What it means that a part is missing. A server goes on without it, and nobody would notice.
fn gone(part: &str) -> String {
    let meaning = match part {
        "log" => "all publications are gone",
        "state.db" => "all tokens, revocations and positions are gone",
        _ => "no token that was given out works any more, because a server makes another one",
    };
    format!("{part}: missing; {meaning}")
}

/// What is wrong with the file of the state.
fn wrong_in(path: &Path) -> Result<Vec<String>, StateError> {
    let failed = |error| StateError::Open { path: path.to_owned(), error };
    let connection = open_from_outside(path).map_err(failed)?;
    let version = schema::version(&connection).map_err(failed)?;
    let version = version.map_err(|found| StateError::Newer {
        path: path.to_owned(),
        found,
        known: schema::VERSION,
    })?;
    let mut wrong = wrong_pages(&connection).map_err(failed)?;
    // Rows of a file that is damaged as a whole cannot be trusted. An older one lacks some, which the next start makes.
    if wrong.is_empty() && i64::try_from(version) == Ok(schema::VERSION) {
        wrong = wrong_rows(&connection).map_err(failed)?;
    }
    Ok(wrong.into_iter().map(|wrong| format!("state.db: {wrong}")).collect())
}

/// What SQLite finds, in its words.
fn wrong_pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let lines = statement.query_map([], |row| row.get(0))?;
    let mut lines = lines.collect::<rusqlite::Result<Vec<String>>>()?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

/// The rows that are sound for SQLite, and for nobody else.
fn wrong_rows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut rows = tokens::unreadable(connection)?;
    rows.extend(consumers::unreadable(connection)?.iter().map(ToString::to_string));
    rows.extend(revocations::unreadable(connection)?);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DataDirectory, StateStore};

    /// A directory as a server leaves it.
    fn used(folder: &Path) -> DataDirectory {
        let directory = DataDirectory::open(folder).unwrap();
        drop(StateStore::open(&directory).unwrap());
        directory.token_secret().unwrap();
        std::fs::create_dir(folder.join("log")).unwrap();
        std::fs::write(folder.join("log/0000000000000001.log"), b"").unwrap();
        directory
    }

    #[test]
    fn a_sound_file_passes_and_a_damaged_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let _directory = used(folder.path());
        assert_eq!(check(folder.path()).unwrap(), [""; 0]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.db"), b"no database").unwrap();
        assert!(check(folder.path()).is_err());
    }

    /// What kept a server from starting, or from what it had, was called sound.
    #[test]
    fn what_is_missing_or_no_secret_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let _directory = used(folder.path());
        std::fs::write(folder.path().join("token_secret"), b"x").unwrap();
        let lines = check(folder.path()).unwrap();
        assert!(lines[0].starts_with("token_secret: ") && lines[0].contains("32 bytes"), "{lines:?}");
        assert_eq!(lines.len(), 1);
        std::fs::remove_file(folder.path().join("token_secret")).unwrap();
        std::fs::remove_file(folder.path().join("log/0000000000000001.log")).unwrap();
        let lines = check(folder.path()).unwrap();
        assert!(lines[0].starts_with("log: missing"), "{lines:?}");
        assert!(
            lines[1].starts_with("token_secret: missing; no token that was given out works"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 2);
        std::fs::remove_file(folder.path().join("state.db")).unwrap();
        let all = check(folder.path()).unwrap();
        assert_eq!(
            all,
            ["state.db: missing; all tokens, revocations and positions are gone"],
            "of nothing at all"
        );
        std::fs::write(folder.path().join("token_secret"), [0; 32]).unwrap();
        let lines = check(folder.path()).unwrap();
        assert_eq!((&lines[0], lines[1].starts_with("log: missing"), lines.len()), (&all[0], true, 2));
    }

    #[test]
    fn a_file_of_a_newer_version_is_not_called_sound() {
        let folder = tempfile::tempdir().unwrap();
        let _directory = used(folder.path());
        let newer = Connection::open(file_in(folder.path())).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(check(folder.path()), Err(StateError::Newer { found: 99, .. })));
    }
}
