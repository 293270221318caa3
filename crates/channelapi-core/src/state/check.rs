//! Checking what a data directory holds besides its publications, whether a server runs on it or not.

use super::directory::{missing, read_secret};
use super::store::{StateError, file_in, open_from_outside};
use super::{consumers, revocations, schema, tokens};
use rusqlite::{Connection, Row};
use std::path::Path;

/// What is wrong with a data directory, but for the bytes of its log: a line for each thing, which begins with the file that it is
/// about; nothing if it is empty. Nothing is changed.
pub fn check(data: &Path) -> Result<Vec<String>, StateError> {
    let path = file_in(data);
    let failed = |error| StateError::Open { path: path.clone(), error };
    let connection = open_from_outside(&path).map_err(failed)?;
    let version = schema::version(&connection).map_err(failed)?;
    let version =
        version.map_err(|found| StateError::Newer { path: path.clone(), found, known: schema::VERSION })?;
    let mut wrong = wrong_pages(&connection).map_err(failed)?;
    // Rows of a file that is damaged as a whole cannot be trusted. An older one lacks some, which the next start makes.
    if wrong.is_empty() && i64::try_from(version) == Ok(schema::VERSION) {
        wrong = wrong_rows(&connection).map_err(failed)?;
    }
    let mut lines: Vec<_> = wrong.into_iter().map(|wrong| format!("state.db: {wrong}")).collect();
    let missing = missing(data).into_iter();
    lines.extend(missing.map(|part| format!("{part}: missing; a server makes a new one that is empty")));
    lines.extend(read_secret(data).err().map(|error| format!("token_secret: {error}")));
    Ok(lines)
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

/// The bytes in a column, which may be no text any more, as they can be shown.
pub(super) fn shown(row: &Row<'_>, column: usize) -> String {
    let bytes = row.get::<_, Vec<u8>>(column).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(&bytes))
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
        assert!(lines[1].starts_with("token_secret: missing"), "{lines:?}");
        assert_eq!(lines.len(), 2);
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
