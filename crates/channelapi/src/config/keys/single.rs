//! The key that may do everything: the configured one, or one that is made at the first start and kept in the data directory.
//!
//! Invariant: the generated key's file is complete or absent, never readable by anybody but its owner, and never overwritten.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    KeyError, KeyOrigin, Reach,
    rules::{generate, unusable, weakness},
};
use crate::config::secret::Secret;
use crate::small_file;
use channelapi_core::limits::AUTH_KEY_BYTES_MAX;

/// The key that may do everything.
#[derive(Debug)]
pub(super) struct ResolvedKey {
    pub(super) key: Secret,
    pub(super) origin: KeyOrigin,
    pub(super) warnings: Vec<String>,
}

/// Finds the single key: the configured one, else the stored one, else a new one, which is stored.
pub(super) fn resolve_auth_key(
    configured: Option<Secret>,
    data_dir: &Path,
    reach: Reach,
) -> Result<ResolvedKey, KeyError> {
    let path = key_file(data_dir);
    let (key, origin, mut warnings) = match configured {
        Some(key) => (key, KeyOrigin::Configured, Vec::new()),
        None => match read_stored(&path)? {
            Some((key, warnings)) => (key, KeyOrigin::Stored(path), warnings),
            None => create(&path)?,
        },
    };
    let file = match &origin {
        KeyOrigin::Stored(path) => Some(&**path),
        _ => None,
    };
    warnings.extend(judge(&key, file, reach)?);
    Ok(ResolvedKey { key, origin, warnings })
}

/// The single key and warnings about it; `None` when the first start will generate one.
pub(super) fn check_auth_key(
    configured: Option<&Secret>,
    data_dir: &Path,
    reach: Reach,
) -> Result<Option<(Secret, Vec<String>)>, KeyError> {
    if let Some(key) = configured {
        return Ok(Some((key.clone(), judge(key, None, reach)?)));
    }
    let path = key_file(data_dir);
    let Some((key, mut warnings)) = read_stored(&path)? else { return Ok(None) };
    warnings.extend(judge(&key, Some(&path), reach)?);
    Ok(Some((key, warnings)))
}

/// The key that an earlier start left in this directory, if there is one; for who wants to use it, not to run with it.
pub fn stored_key(data_dir: &Path) -> Result<Option<Secret>, KeyError> {
    Ok(read_stored(&key_file(data_dir))?.map(|(key, _)| key))
}

/// Where a generated key is kept.
pub fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("auth_key")
}

/// Warnings about a key that may be used, or why it may not. `file` is where it was found, if nobody configured it.
fn judge(key: &Secret, file: Option<&Path>, reach: Reach) -> Result<Vec<String>, KeyError> {
    let text = key.expose();
    let path = file.map(Path::to_owned);
    if let Some(why) = unusable(text) {
        return Err(match path {
            Some(path) => KeyError::BadFile { path, why },
            None => KeyError::Unusable { why, suggestion: generate()? },
        });
    }
    let mut warnings = Vec::new();
    if let Some(why) = weakness(text) {
        let Some(excuse) = reach.excuse() else {
            let suggestion = generate()?;
            return Err(match path {
                Some(path) => KeyError::WeakStored { path, why, suggestion },
                None => KeyError::Weak { why, suggestion },
            });
        };
        warnings.push(format!(
            "THE AUTH KEY {}; accepted because {excuse}, never use it in production",
            why.to_uppercase()
        ));
    }
    if !text.is_ascii() {
        warnings.push(
            "the auth key has characters outside ASCII, which some HTTP clients cannot send".to_owned(),
        );
    }
    Ok(warnings)
}

/// The stored key, or `None` if no file is there.
pub(super) fn read_stored(path: &Path) -> Result<Option<(Secret, Vec<String>)>, KeyError> {
    match read(path) {
        Ok(stored) => Ok(Some(stored)),
        Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(Unread::Io(error)) => match path.parent().filter(|parent| parent.is_file()) {
            Some(parent) => Err(KeyError::NoDirectory(parent.to_owned())),
            None => Err(KeyError::Io { action: "read", path: path.to_owned(), error }),
        },
        Err(Unread::Bad(why)) => Err(KeyError::BadFile { path: path.to_owned(), why: why.to_owned() }),
    }
}

/// Why there is no key to be had from a file.
pub(super) enum Unread {
    Io(io::Error),
    Bad(&'static str),
}

/// The key in a file, and what is to be said of the file.
pub(super) fn read(path: &Path) -> Result<(Secret, Vec<String>), Unread> {
    let (bytes, metadata) =
        small_file::read(path, AUTH_KEY_BYTES_MAX as u64 * 2).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Unread::Bad("is larger than any key may be"),
            _ => Unread::Io(error),
        })?;
    let mode = metadata.permissions().mode();
    let text = String::from_utf8(bytes).map_err(|_| Unread::Bad("is not text"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Unread::Bad("is empty"));
    }
    let mut warnings = Vec::new();
    if mode & 0o077 != 0 {
        let path = path.display();
        warnings.push(format!("other users of this machine may read {path}; run `chmod 600 {path}`"));
    }
    Ok((Secret::new(text), warnings))
}

/// Generates a key and stores it, unless somebody else stores one first: then theirs counts.
pub(super) fn create(path: &Path) -> Result<(Secret, KeyOrigin, Vec<String>), KeyError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let key = generate()?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| KeyError::Io {
        action: "create the directory",
        path: dir.to_owned(),
        error,
    })?;
    match write_new(dir, path, &key) {
        Ok(()) => Ok((Secret::new(key), KeyOrigin::Generated(path.to_owned()), Vec::new())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Still nothing to read means a symbolic link that leads nowhere.
            let why = "is a link to a file that does not exist";
            let dangling = || KeyError::BadFile { path: path.to_owned(), why: why.to_owned() };
            let (key, warnings) = read_stored(path)?.ok_or_else(dangling)?;
            Ok((key, KeyOrigin::Stored(path.to_owned()), warnings))
        }
        Err(error) => {
            Err(KeyError::Io { action: "write the generated key to", path: path.to_owned(), error })
        }
    }
}

/// Writes the whole file under a name nobody looks at and links it into place: unlike a rename, a link fails if the
/// name is taken, so two servers that start together end up with one key.
pub(super) fn write_new(dir: &Path, path: &Path, key: &str) -> io::Result<()> {
    let draft = dir.join(format!(".auth_key.{}.{}", std::process::id(), &key[..8]));
    let outcome = write_private(&draft, key).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no links. Then a crash may leave an empty file, which the next start reports.
        Err(_) => write_private(path, key),
        Ok(()) => Ok(()),
    });
    // After a failure too; that it may not exist is fine.
    let _ = fs::remove_file(&draft);
    outcome?;
    // The name itself is durable only once its directory is.
    File::open(dir)?.sync_all()
}

pub(super) fn write_private(path: &Path, key: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{key}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, thread};

    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

    use super::*;

    const ANYBODY: Reach = Reach { loopback: false, debug: false };
    const THIS_MACHINE: Reach = Reach { loopback: true, debug: false };
    const GOOD: &str = "correct-horse-battery-staple";

    fn judged(key: &str, loopback: bool, debug: bool) -> Result<Vec<String>, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let resolved = resolve_auth_key(Some(Secret::new(key)), dir.path(), Reach { loopback, debug })?;
        assert_eq!(resolved.origin, KeyOrigin::Configured);
        assert!(resolved.key.matches(key.as_bytes()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a configured key is not stored");
        Ok(resolved.warnings)
    }

    fn generated(dir: &Path) -> Secret {
        let resolved = resolve_auth_key(None, dir, ANYBODY).unwrap();
        assert_eq!(resolved.origin, KeyOrigin::Generated(dir.join("auth_key")));
        resolved.key
    }

    #[test]
    fn weak_keys_are_refused_where_strangers_can_reach_the_server() {
        let weak = [
            "s3cur3_t0k3n",
            "changeme",
            "ChangeMe",
            "secret",
            "password",
            "channelapi",
            "x",
            "fifteen-bytes-x",
        ];
        for key in weak {
            let error = judged(key, false, false).unwrap_err();
            assert_eq!(error.exit_code(), 78, "{key}");
            let printed = error.to_string();
            assert!(
                printed.contains("CHANNELAPI_AUTH_KEY=") && printed.contains("--address 127.0.0.1"),
                "{printed}"
            );
            for (loopback, debug, excuse) in [
                (true, false, "on this machine only"),
                (false, true, "debug is on"),
                (true, true, "debug is on"),
            ] {
                let warnings = judged(key, loopback, debug).unwrap();
                assert_eq!(warnings.len(), 1, "{key}");
                assert_eq!(warnings[0].contains("other machines can reach this server"), !loopback);
                assert!(
                    warnings[0].starts_with("THE AUTH KEY IS ") && warnings[0].contains(excuse),
                    "{warnings:?}"
                );
            }
        }
        assert_eq!(judged("exactly-16-bytes", false, false).unwrap(), Vec::<String>::new());
        assert_eq!(judged(GOOD, false, false).unwrap(), Vec::<String>::new());
    }

    /// Once, the advice was to set none and have one generated, which is what had been done.
    #[test]
    fn a_bad_key_that_was_found_is_said_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = key_file(dir.path());
        for (text, part) in [
            ("short", "is only 5 bytes long, 16 is the minimum, so anybody"),
            ("sixteen-bytes-and\tmore", "contains a control character"),
        ] {
            fs::write(&path, text).unwrap();
            let place = format!("{} {part}", path.display());
            for error in [
                resolve_auth_key(None, dir.path(), ANYBODY).unwrap_err(),
                check_auth_key(None, dir.path(), ANYBODY).unwrap_err(),
            ] {
                let printed = error.to_string();
                assert!(printed.contains(&place) && printed.contains("delete"), "{printed}");
                assert!(!printed.contains("or set none") && error.exit_code() == 78, "{printed}");
            }
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_data_directory_is_said_to_be_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = check_auth_key(None, file.path(), ANYBODY).unwrap_err();
        assert!(error.to_string().contains("is a file, and no directory"), "{error}");
    }

    #[test]
    fn a_refusal_suggests_a_key_that_would_be_accepted() {
        let KeyError::Weak { suggestion, .. } = judged("changeme", false, false).unwrap_err() else {
            panic!()
        };
        assert_eq!(judged(&suggestion, false, false).unwrap(), Vec::<String>::new());
        assert_eq!(suggestion.len(), 43);
        let KeyError::Weak { suggestion: next, .. } = judged("changeme", false, false).unwrap_err() else {
            panic!()
        };
        assert_ne!(suggestion, next);
    }

    #[test]
    fn keys_that_no_header_can_carry_are_refused_everywhere() {
        let long = "x".repeat(AUTH_KEY_BYTES_MAX + 1);
        for (key, part) in [
            ("", "is empty"),
            ("sixteen-bytes-and\nmore", "control character"),
            ("sixteen-bytes-and\tmore", "control character"),
            ("sixteen-bytes-and\u{85}more", "control character"),
            (" sixteen-bytes-and-more", "starts or ends with a space"),
            ("sixteen-bytes-and-more ", "starts or ends with a space"),
            (&long, "the limit is 4096"),
        ] {
            for (loopback, debug) in [(false, false), (true, true)] {
                let error = judged(key, loopback, debug).unwrap_err();
                assert!(error.to_string().contains(part) && error.exit_code() == 78, "{key:?}: {error}");
            }
        }
        assert!(judged("clé-clé-clé-clé-clé", false, false).unwrap()[0].contains("outside ASCII"));
        assert_eq!(judged("with a space inside it", false, false).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn errors_and_warnings_do_not_quote_the_key() {
        let error = judged("hunter2", false, false).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!judged("hunter2", true, false).unwrap()[0].to_lowercase().contains("hunter2"));
    }

    #[test]
    fn a_generated_key_is_private_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("deep/data");
        let key = generated(&data_dir);
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(key.expose()).unwrap().len(), 32);

        let path = data_dir.join("auth_key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", key.expose()));
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "no draft is left behind");

        let again = resolve_auth_key(None, &data_dir, ANYBODY).unwrap();
        assert_eq!(again.origin, KeyOrigin::Stored(path));
        assert!(again.key.matches(key.expose().as_bytes()));
        assert_eq!(again.warnings, Vec::<String>::new());
    }

    #[test]
    fn every_generated_key_is_different() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        assert!(!generated(dirs[0].path()).matches(generated(dirs[1].path()).expose().as_bytes()));
    }

    #[test]
    fn servers_that_start_together_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<ResolvedKey> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| resolve_auth_key(None, dir.path(), ANYBODY).unwrap()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|other| other.key.matches(keys[0].key.expose().as_bytes())));
        let generated = keys.iter().filter(|key| matches!(key.origin, KeyOrigin::Generated(_))).count();
        assert_eq!(generated, 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_system_without_links_still_gets_a_private_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth_key");
        write_private(&path, GOOD).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_private(&path, "other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{GOOD}\n"));
    }

    #[test]
    fn a_stored_key_is_held_to_the_same_rules_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth_key");
        for (content, part) in [
            ("changeme\n", "publicly known"),
            ("", "is empty"),
            ("\n\n", "is empty"),
            ("sixteen-bytes-and-more \n", "starts or ends with a space"),
        ] {
            fs::write(&path, content).unwrap();
            let error = resolve_auth_key(None, dir.path(), ANYBODY).unwrap_err();
            assert!(error.to_string().contains(part) && error.exit_code() == 78, "{content:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_stored_key_that_others_can_read_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth_key");
        fs::write(&path, GOOD).unwrap();
        for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let resolved = resolve_auth_key(None, dir.path(), ANYBODY).unwrap();
            assert_eq!(!resolved.warnings.is_empty(), warned, "{mode:o}");
        }
    }

    #[test]
    fn a_key_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth_key");
        fs::create_dir(&path).unwrap();
        let error = resolve_auth_key(None, dir.path(), ANYBODY).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())), "{error}");
        assert_eq!(error.exit_code(), 2);

        fs::remove_dir(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        let error = resolve_auth_key(None, dir.path(), ANYBODY).unwrap_err();
        assert!(error.to_string().contains("a link to a file that does not exist"), "{error}");

        let error = resolve_auth_key(None, Path::new("/dev/null/data"), ANYBODY).unwrap_err();
        assert!(error.to_string().contains("/dev/null/data") && error.exit_code() == 2, "{error}");
    }

    #[test]
    fn checking_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_auth_key(None, dir.path(), ANYBODY).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let weak = Secret::new("changeme");
        assert!(check_auth_key(Some(&weak), dir.path(), ANYBODY).is_err());
        assert_eq!(check_auth_key(Some(&weak), dir.path(), THIS_MACHINE).unwrap().unwrap().1.len(), 1);
        fs::write(dir.path().join("auth_key"), "changeme").unwrap();
        assert!(check_auth_key(None, dir.path(), ANYBODY).is_err());
    }
}
