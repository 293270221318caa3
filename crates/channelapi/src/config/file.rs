//! The TOML file: where it is looked for, and what its text and its permissions say.
//!
//! It says who may publish, where the keys are and where a command sends them. So one that others can change is told, and the one that lies
//! where somebody happens to stand is not where a command sends a key ([`Contents::distrusted`]).

use std::{
    env,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt},
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
            Ok(file) => {
                let distrusted = distrusted_find(path, &file);
                return Contents { distrusted, ..read(path, file) };
            }
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
    let kind = path.metadata()?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(io::Error::other("it is no file"));
    }
    open(path)
}

/// Why a file that lies where somebody happens to stand, and that nobody has named, may be the word of somebody else on this machine. It is
/// asked of the file that is read: at that place, another one may lie a moment later.
fn distrusted_find(path: &Path, file: &File) -> Option<String> {
    if !path.is_relative() {
        return None;
    }
    let shown = name_of(path);
    let why = match why_distrusted(path, file) {
        Ok(why) => why?,
        Err(error) => format!("nobody knows whose it is: {error}"),
    };
    Some(format!(
        "{shown}: {why}; read it, and name it with --config {shown} if what it says is as it should be"
    ))
}

fn why_distrusted(path: &Path, file: &File) -> io::Result<Option<String>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Who owns a link, or may put another file in its place, says what is read, whoever that belongs to.
    let (file, link, directory) = (file.metadata()?, path.symlink_metadata()?, directory.metadata()?);
    let is_common = directory.mode() & 0o002 != 0 && directory.mode() & 0o1000 == 0;
    Ok(if let Some(why) = distrusted(&file) {
        Some(why)
    } else if is_foreign(link.uid()) {
        Some(format!("it is there by the word of another user of this machine ({})", link.uid()))
    } else if is_foreign(directory.uid()) {
        Some(format!("its directory belongs to another user of this machine ({})", directory.uid()))
    } else if is_common {
        Some("every user of this machine can put another one in its place".to_owned())
    } else {
        None
    })
}

/// Why what a file says may be the word of somebody else on this machine.
fn distrusted(file: &Metadata) -> Option<String> {
    let owner = file.uid();
    if is_foreign(owner) {
        return Some(format!(
            "it belongs to another user of this machine ({owner}), who can change what it says"
        ));
    }
    // Devices are for everybody; `/dev/null` is how some say that there shall be no file.
    (file.is_file() && file.mode() & 0o002 != 0)
        .then(|| "every user of this machine can change what it says; `chmod o-w` ends that".to_owned())
}

/// Whether an owner is neither this user, nor root, nor who asked root to do this.
fn is_foreign(owner: u32) -> bool {
    let me = geteuid().as_raw();
    let asked_by = || env::var("SUDO_UID").or_else(|_| env::var("PKEXEC_UID")).ok()?.parse::<u32>().ok();
    owner != me && owner != 0 && !(me == 0 && asked_by() == Some(owner))
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
    let distrusted = distrusted(&metadata).map(|why| format!("{shown}: {why}"));
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
    use std::os::unix::fs::{chown, lchown};

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
    fn what_others_can_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let told = |mode, owner| {
            std::fs::write(&path, "port = 1").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let is_given = chown(&path, owner, None).is_ok();
            let contents = load(Some(&path), &[]);
            assert_eq!((contents.given.len(), contents.problems.len()), (1, 0));
            (contents.warnings.join(" "), is_given)
        };
        assert_eq!(told(0o664, None).0, "");
        assert!(told(0o646, None).0.contains("every user of this machine can change what it says"));
        if let (warning, true) = told(0o644, Some(4_711)) {
            assert!(warning.contains("it belongs to another user of this machine (4711)"), "{warning}");
        }
    }

    /// Once, whoever put a file where somebody stood got the keys that a command found; then a link to a file of root's was enough.
    #[test]
    fn what_lies_where_somebody_stands_is_theirs_or_named() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let here = dir.path().strip_prefix(env::current_dir().unwrap()).unwrap_or(dir.path());
        let path = here.join("c.toml");
        assert!(path.is_relative());
        let set_mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let distrusted_find = |path: &Path| load(None, &[path.to_owned()]).distrusted;
        assert_eq!(distrusted_find(&path), None, "there is none");
        std::fs::write(&path, "port = 1").unwrap();
        set_mode(here, 0o755);
        assert_eq!(distrusted_find(&path), None);
        let check = |part: &str| {
            let why = distrusted_find(&path).unwrap();
            assert!(why.contains(part) && why.contains("--config"), "{why}");
            assert_eq!(distrusted_find(&path.canonicalize().unwrap()), None, "as one in /etc");
            assert_eq!(load(Some(&path), &[]).distrusted, None, "it is named");
        };
        set_mode(&path, 0o646);
        check("every user of this machine can change");
        set_mode(&path, 0o644);
        set_mode(here, 0o777);
        check("every user of this machine can put another one in its place");
        set_mode(here, 0o1777);
        assert_eq!(distrusted_find(&path), None, "as /tmp is");
        if chown(&path, Some(4_711), None).is_err() {
            return;
        }
        check("it belongs to another user of this machine (4711)");
        std::fs::rename(&path, here.join("theirs.toml")).unwrap();
        chown(here.join("theirs.toml"), Some(0), None).unwrap();
        std::os::unix::fs::symlink("theirs.toml", &path).unwrap();
        assert_eq!(distrusted_find(&path), None, "a link of root's own");
        lchown(&path, Some(4_711), None).unwrap();
        check("it is there by the word of another user of this machine (4711)");
        lchown(&path, Some(0), None).unwrap();
        chown(here, Some(4_711), None).unwrap();
        check("its directory belongs to another user of this machine (4711)");
        chown(here, Some(0), None).unwrap();
        // Whoever listens for it being read can take it away before anybody asks.
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(super::distrusted_find(&path, &file).unwrap().contains("nobody knows whose it is"));
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
