//! The configuration file.

use std::io::Write as _;

use crate::config::{self, env::Environment};

/// A key that nobody may find in what is said about a file.
const KEY: &str = "canary-0123456789abcdef";

/// The input is a file.
///
/// - It is used, or refused for at least one reason, each of which says something; and the same when it is read again.
/// - A key in front of it is in nothing that is said about it, and in no setting that is shown.
pub fn config_file(data: &[u8]) -> bool {
    let outcome = load(data);
    assert_eq!(load(data), outcome, "read again");
    let with_key = [format!("auth_key = \"{KEY}\"\n").as_bytes(), data].concat();
    let (_, said) = load(&with_key);
    assert!(!said.contains(KEY), "the key is shown: {said}");
    outcome.0
}

/// Whether a file can be used, and everything that is said about it.
fn load(data: &[u8]) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm")
        .or_else(|_| tempfile::NamedTempFile::new())
        .expect("there is room for a file");
    file.write_all(data).expect("there is room in it");
    // Its name is another one each time.
    let name = file.path().display().to_string();
    match config::load(Vec::new(), Some(file.path()), Environment::default(), &[]) {
        Ok(config) => {
            let said = format!("{:?} {:?}", config.settings, config.warnings);
            (true, said.replace(&name, "FILE"))
        }
        Err(rejected) => {
            assert!(!rejected.problems.is_empty(), "refused for no reason");
            let problems = rejected.problems.iter().map(ToString::to_string);
            let problems: Vec<String> = problems.inspect(|problem| assert!(!problem.is_empty())).collect();
            let said = format!("{problems:?} {:?}", rejected.warnings);
            (false, said.replace(&name, "FILE"))
        }
    }
}
