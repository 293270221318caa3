//! Who else on this machine can get at what is kept in the data directory, and whether this user can write there.
//!
//! Whoever may write there can put another key in place of the one that lets backends in, whatever the mode of that file is.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// What lets in whoever knows it.
const SECRETS: [&str; 2] = ["auth_key", "token_secret"];

/// What else is private. Of the key, whoever reads it tells.
const PRIVATE: [&str; 4] = ["token_secret", "state.db", "state.db-wal", "log"];

/// What the operator should hear of a directory that others can change, or own parts of.
pub(crate) fn warnings(data_dir: &Path) -> Vec<String> {
    let Ok(directory) = fs::metadata(data_dir) else { return Vec::new() };
    let (me, path) = (geteuid().as_raw(), data_dir.display());
    let is_known = |owner: u32| owner == me || owner == 0;
    let mut warnings = Vec::new();
    if directory.permissions().mode() & 0o002 != 0 {
        warnings.push(format!(
            "every user of this machine may put files into {path}, keys of the server among them; run `chmod o-w {path}`"
        ));
    }
    if !is_known(directory.uid()) {
        let owner = directory.uid();
        warnings.push(format!(
            "{path} belongs to another user of this machine ({owner}), who can replace the keys in it; run `chown {me} {path}` as root"
        ));
    }
    let may_enter = directory.permissions().mode() & 0o001 != 0;
    for name in PRIVATE.iter().filter(|_| may_enter) {
        let path = data_dir.join(name);
        if fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0) {
            let path = path.display();
            warnings.push(format!("every user of this machine may read {path}; run `chmod go-rwx {path}`"));
        }
    }
    for name in SECRETS {
        let path = data_dir.join(name);
        let Ok(file) = fs::metadata(&path) else { continue };
        if !is_known(file.uid()) && file.uid() != directory.uid() {
            let (owner, path) = (file.uid(), path.display());
            warnings.push(format!(
                "{path} belongs to another user of this machine ({owner}), who knows what is in it; if you did not put it there, \
                 delete it, and the next start makes another"
            ));
        }
    }
    warnings
}

/// Why this user could not keep anything there, if that is so. Nothing is made or changed.
pub(crate) fn obstacle(data_dir: &Path) -> Option<String> {
    let path = data_dir.display();
    match fs::metadata(data_dir) {
        Ok(found) if !found.is_dir() => Some(format!("{path} is no directory")),
        Ok(_) => {
            let error = may_write(data_dir).err()?;
            Some(format!("this user cannot write to {path}: {error}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = data_dir
                .ancestors()
                .skip(1)
                .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
            let parent = parent.into_iter().find(|parent| parent.exists())?;
            let error = may_write(parent).err()?;
            Some(format!("this user cannot make {path}: {}: {error}", parent.display()))
        }
        Err(error) => Some(format!("this user cannot reach {path}: {error}")),
    }
}

fn may_write(directory: &Path) -> io::Result<()> {
    if !directory.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_everybody_may_change_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, count) in [(0o700, 0), (0o770, 0), (0o755, 0), (0o777, 1), (0o1777, 1)] {
            set_mode(folder.path(), mode);
            let found = warnings(folder.path());
            assert_eq!(found.len(), count, "{mode:o}: {found:?}");
            assert!(found.iter().all(|warning| warning.contains("run `chmod o-w ")), "{found:?}");
        }
        assert_eq!(warnings(&folder.path().join("missing")), Vec::<String>::new());
    }

    #[test]
    fn what_everybody_may_read_is_told_if_they_get_there() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("token_secret");
        fs::write(&secret, "x").unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        set_mode(&folder.path().join("log"), 0o755);
        for (directory, file, count) in [(0o755, 0o644, 2), (0o755, 0o640, 1), (0o750, 0o644, 0)] {
            set_mode(folder.path(), directory);
            set_mode(&secret, file);
            let found = warnings(folder.path());
            assert_eq!(found.len(), count, "{directory:o} {file:o}: {found:?}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("auth_key");
        fs::write(&key, "x").unwrap();
        if chown(&key, Some(4_711), None).is_err() {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let found = warnings(folder.path());
        assert!(
            matches!(&found[..], [one] if one.contains("auth_key belongs to another user of this machine (4711)")),
            "{found:?}"
        );
        chown(folder.path(), Some(4_711), None).unwrap();
        let found = warnings(folder.path());
        assert!(matches!(&found[..], [one] if one.contains("who can replace the keys in it")), "{found:?}");
    }

    #[test]
    fn what_is_no_place_for_data_is_found_before_a_start() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(obstacle(folder.path()), None);
        assert_eq!(obstacle(&folder.path().join("new/and/deep")), None);
        assert_eq!(obstacle(Path::new("a-data-directory-that-is-not-there")), None);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(obstacle(&file), Some(format!("{} is no directory", file.display())));
        let below = obstacle(&file.join("data")).unwrap();
        assert!(below.starts_with("this user cannot "), "{below}");
        if !geteuid().is_root() {
            set_mode(folder.path(), 0o500);
            let closed = obstacle(folder.path()).unwrap();
            assert!(closed.contains("cannot write to") && closed.contains("Permission denied"), "{closed}");
            let inside = obstacle(&folder.path().join("data")).unwrap();
            assert!(inside.contains("cannot make"), "{inside}");
        }
    }
}
