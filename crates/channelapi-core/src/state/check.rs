//! Checking a state file, whether a server runs on it or not.

use super::StateError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// What is wrong with the state file of a data directory, in SQLite's words; nothing if it is empty.
pub fn check(data: &Path) -> Result<Vec<String>, StateError> {
    let path = data.join("state.db");
    let check = || {
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        lines.collect::<rusqlite::Result<Vec<_>>>()
    };
    let lines = check().map_err(|error| StateError::Open { path: path.clone(), error })?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DataDirectory, StateStore};

    #[test]
    fn a_sound_file_passes_and_a_damaged_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        drop(StateStore::open(&directory).unwrap());
        assert_eq!(check(folder.path()).unwrap(), [""; 0]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.db"), b"no database").unwrap();
        assert!(check(folder.path()).is_err());
    }
}
