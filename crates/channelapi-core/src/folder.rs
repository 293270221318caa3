//! Folders that survive a power cut.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a folder, for this user only, with those above it that are missing, and returns when all their names are on disk. One that is
/// there stays as it is.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|folder| !is_there(folder)).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if missing.is_empty() {
        // Whoever made it may have been ended before its name was on disk. Where that cannot be asked for, it is as it was.
        _ = sync_names(above(path));
    }
    for made in missing {
        sync_names(above(made))?;
    }
    Ok(())
}

fn is_there(folder: &Path) -> bool {
    // The one that a relative path begins in has no name here.
    folder.as_os_str().is_empty() || folder.exists()
}

fn above(folder: &Path) -> &Path {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

/// Waits until the names in a folder survive a power cut. Whoever may make a folder somewhere may still not look around there: then
/// nobody can.
fn sync_names(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_is_made_with_those_above_it_and_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/c");
        make(&path).unwrap();
        for made in path.ancestors().take(3) {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
        make(&path).unwrap();
        std::fs::write(parent.path().join("file"), b"").unwrap();
        assert!(make(&parent.path().join("file/a")).is_err());
    }

    #[test]
    fn the_folder_above_is_found_of_every_path() {
        for (path, expected) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("./a", "."), ("../a/b", "../a")] {
            assert_eq!(above(Path::new(path)), Path::new(expected), "{path}");
        }
        let missing = Path::new("is-not-there/b").ancestors().take_while(|folder| !is_there(folder)).count();
        assert_eq!(missing, 2);
    }
}
