//! The TOML file: where it is looked for, and what its text and its permissions say.
//!
//! It says who may publish, where the keys are and where a command sends them. So the one that lies where somebody happens to stand is
//! believed only if nobody else can have written it.

use std::{
    env,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt as _, PermissionsExt},
    path::{Path, PathBuf},
};

use channelapi_core::limits::CONFIG_FILE_BYTES_MAX;
use rustix::process::geteuid;

use super::{contents::Contents, document, source::Problem};

/// Looked at in this order when no file is named.
pub const SEARCH: [&str; 2] = ["./channelapi.toml", "/etc/channelapi/channelapi.toml"];

/// Reads the named file, or else the first that exists of `search`, or else nothing.
pub fn load(named: Option<&Path>, search: &[PathBuf]) -> Contents {
    if let Some(path) = named {
        return match open(path) {
            Ok(file) => read(path, file),
            Err(error) => unreadable(path, &error),
        };
    }
    for path in search {
        match open_found(path) {
            Ok(file) => return read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return unreadable(path, &error),
        }
    }
    Contents::default()
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a file"));
    }
    Ok(file)
}

/// Opens a file that nobody has named. A pipe in its place would never end.
fn open_found(path: &Path) -> io::Result<File> {
    let refuse = |why: String| Err(io::Error::other(why));
    let found = path.metadata()?;
    if !found.is_file() {
        return refuse("it is no file".to_owned());
    }
    let (file, shown) = (open(path)?, name_of(path));
    match distrusted(&shown, &file.metadata()?) {
        Some(why) if path.is_relative() => {
            refuse(format!("{why}, or name it with --config {shown} if you trust it nevertheless"))
        }
        _ => Ok(file),
    }
}

/// Why what a file says may be the word of somebody else on this machine.
fn distrusted(path: &str, file: &Metadata) -> Option<String> {
    let (me, owner) = (geteuid().as_raw(), file.uid());
    let asked_by = || env::var("SUDO_UID").ok()?.parse::<u32>().ok();
    if owner != me && owner != 0 && !(me == 0 && asked_by() == Some(owner)) {
        return Some(format!(
            "it belongs to another user of this machine ({owner}), who can change what it says; run `chown {me} {path}`"
        ));
    }
    (file.permissions().mode() & 0o002 != 0)
        .then(|| format!("every user of this machine can change what it says; run `chmod o-w {path}`"))
}

fn read(path: &Path, file: File) -> Contents {
    let metadata = file.metadata();
    let mut bytes = Vec::new();
    if let Err(error) = file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return unreadable(path, &error);
    }
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return unusable(path, "it is larger than 1 MiB; is it really a configuration file?");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return unusable(path, "it is not UTF-8 text; save it as UTF-8");
    };
    let mut contents = document::parse(&name_of(path), &text);
    contents.path = Some(path.to_owned());
    let of_issuers = contents.issuers.iter().flat_map(|issuer| &issuer.given);
    let Ok(metadata) = metadata else { return contents };
    let mode = metadata.permissions().mode();
    let shown = name_of(path);
    let distrusted = distrusted(&shown, &metadata).map(|why| format!("{shown}: {why}"));
    contents.warnings.extend(distrusted);
    let mut all = contents.given.iter().chain(of_issuers);
    let exposed = all.find(|given| given.spec.secret && mode & 0o004 != 0);
    if let Some(given) = exposed {
        contents.warnings.push(format!(
            "{shown} contains {} and every user of this machine can read it; run `chmod o-rwx {shown}`",
            given.spec.key
        ));
    }
    contents
}

fn unreadable(path: &Path, error: &io::Error) -> Contents {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => "; check the path, or write one with `channelapi config default`",
        io::ErrorKind::PermissionDenied => "; let the user that runs channelapi read it",
        _ => "",
    };
    unusable(path, &format!("{error}{fix}"))
}

fn unusable(path: &Path, why: &str) -> Contents {
    let problem = Problem::of(format!("cannot read the configuration file {}: {why}", path.display()));
    Contents { problems: vec![problem], ..Contents::default() }
}

/// `./channelapi.toml` is called `channelapi.toml` in messages.
fn name_of(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_and_named_ones_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, first, second) =
            (dir.path().join("0.toml"), dir.path().join("1.toml"), dir.path().join("2.toml"));
        std::fs::write(&first, "port = 1").unwrap();
        std::fs::write(&second, "port = 2").unwrap();

        let search = [missing.clone(), first.clone(), second.clone()];
        assert_eq!(load(None, &search).path, Some(first));
        assert_eq!(load(Some(&second), &search).given[0].text, "2");
        assert_eq!(load(None, std::slice::from_ref(&missing)).path, None);

        for (path, part) in [(missing.as_path(), "check the path"), (dir.path(), "it is a directory")] {
            let problems = load(Some(path), &search).problems;
            assert_eq!(problems.len(), 1);
            let printed = problems[0].to_string();
            assert!(printed.contains(part) && printed.contains(path.to_str().unwrap()), "{printed}");
        }
    }

    #[test]
    fn files_that_are_no_text_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        for (bytes, part) in
            [(vec![0xff, 0xfe], "not UTF-8"), (vec![b'#'; (1 << 20) + 1], "larger than 1 MiB")]
        {
            std::fs::write(&path, bytes).unwrap();
            assert!(load(Some(&path), &[]).problems[0].message.contains(part));
        }
    }

    #[test]
    fn what_others_can_change_is_told_and_not_believed_where_somebody_happens_to_stand() {
        let here = tempfile::tempdir_in(".").unwrap();
        let there = here.path().canonicalize().unwrap();
        let here = here.path().strip_prefix(env::current_dir().unwrap()).unwrap_or(here.path());
        assert!(here.is_relative() && there.is_absolute());
        let change = |mode, owner| {
            std::fs::write(there.join("c.toml"), "port = 1").unwrap();
            std::fs::set_permissions(there.join("c.toml"), std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(there.join("c.toml"), owner, None)
        };
        let check = |why: &str| {
            let (near, far) = (here.join("c.toml"), there.join("c.toml"));
            let found = load(None, std::slice::from_ref(&near));
            assert!(found.given.is_empty() && found.problems.len() == 1, "{why}");
            let problem = found.problems[0].to_string();
            assert!(problem.contains(why) && problem.contains("--config"), "{problem}");
            for told in [load(Some(&near), &[]), load(None, &[far])] {
                assert_eq!((told.given.len(), told.problems.len(), told.warnings.len()), (1, 0, 1));
                assert!(told.warnings[0].contains(why), "{:?}", told.warnings);
            }
        };
        change(0o664, None).unwrap();
        assert!(load(None, &[here.join("c.toml")]).warnings.is_empty());
        change(0o646, None).unwrap();
        check("every user of this machine can change what it says; run `chmod o-w ");
        if change(0o644, Some(4_711)).is_ok() {
            check("belongs to another user of this machine (4711)");
        }
    }

    #[test]
    fn a_pipe_where_a_file_is_looked_for_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(load(None, &[path]).problems[0].to_string().contains("it is no file"));
    }

    #[test]
    fn a_key_that_everybody_can_read_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let issuer = "[[jwt]]\nsecret = 'x'";
        for (text, mode, warned) in [
            ("auth_key = 'x'", 0o644, true),
            ("auth_key = 'x'", 0o640, false),
            (issuer, 0o644, true),
            (issuer, 0o640, false),
            ("port = 1", 0o644, false),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(!load(Some(&path), &[]).warnings.is_empty(), warned, "{text} {mode:o}");
        }
    }
}
