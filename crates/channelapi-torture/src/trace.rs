//! Reads what strace saw of a server: which message was written to the log, synced and answered, and in which order.
//!
//! strace stops a thread when it enters a system call and again when it leaves it, and writes both down in the order of
//! the stops. A line without `<unfinished ...>` is a call during which nothing else was seen, so the order of the lines is
//! the order of what happened.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};

/// How to trace; the server stays the child of whoever starts it.
pub(crate) const OPTIONS: [&str; 8] = [
    "strace",
    "--daemonize=grandchild",
    "--follow-forks",
    "--decode-fds=path",
    "--string-limit=65536",
    "--quiet=attach,personality",
    "--trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,sync_file_range",
    "--seccomp-bpf",
];

/// A message that was accepted: what its record carries, and what its answer does.
pub(crate) struct Accepted {
    pub(crate) mark: String,
    pub(crate) id: String,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
enum Stage {
    /// It is in the log, and a power cut may take it.
    Written,
    /// A sync that began after it was written has returned with success.
    Synced,
}

/// Proves that each of the messages was synced before the answer to it was begun to be written.
pub(crate) fn prove_order(trace: &str, accepted: &[Accepted]) -> Result<()> {
    let marks: HashSet<_> = accepted.iter().map(|message| message.mark.as_str()).collect();
    let by_id: HashMap<_, _> =
        accepted.iter().map(|message| (message.id.as_str(), message.mark.as_str())).collect();
    let mut stages = HashMap::new();
    let mut answered = HashSet::new();
    // What each thread is doing: the beginning of its line.
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    // What each thread's sync covers.
    let mut covered: HashMap<&str, Vec<&str>> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is_resumed = call.starts_with("<... ");
        let begins = call.strip_suffix("<unfinished ...>");
        let text = if is_resumed { unfinished.remove(thread).unwrap_or_default() } else { call };
        if let Some(begun) = begins {
            unfinished.insert(thread, begun);
        }
        let (is_entry, is_exit) = (!is_resumed, begins.is_none());
        let is_of_log = text
            .split_once('<')
            .is_some_and(|(_, path)| path.split_once('>').is_some_and(|(path, _)| path.contains("/log/")));
        let is_sync = text.starts_with("fdatasync(") || text.starts_with("fsync(");
        if is_sync && is_of_log {
            if is_entry {
                let written = stages.iter().filter(|(_, stage)| **stage == Stage::Written);
                covered.insert(thread, written.map(|(mark, _)| *mark).collect());
            }
            if is_exit && call.trim_end().ends_with("= 0") {
                for mark in covered.remove(thread).unwrap_or_default() {
                    stages.insert(mark, Stage::Synced);
                }
            }
        } else if is_of_log {
            if is_exit {
                for mark in words(text).filter_map(|word| marks.get(word)) {
                    stages.entry(*mark).or_insert(Stage::Written);
                }
            }
        } else if is_entry {
            for (id, mark) in words(text).filter_map(|word| by_id.get_key_value(word)) {
                let stage = stages.get(mark);
                ensure!(
                    stage == Some(&Stage::Synced),
                    "line {} of the trace answers {mark} with {id}, and it was {stage:?} and not synced",
                    number + 1
                );
                answered.insert(*id);
            }
        }
    }
    let missing = accepted.iter().find(|message| !answered.contains(message.id.as_str()));
    ensure!(missing.is_none(), "the trace does not show the answer {}", missing.map_or("", |one| &one.id));
    Ok(())
}

/// Runs of the characters that ids and marks are made of.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = r#"7 write(9</d/log/1.log>, "\1\0{\"is\":\"mark-1\"}", 40) = 40"#;
    const SYNC: &str = "7 fdatasync(9</d/log/1.log>) = 0";
    const ANSWER: &str = r#"8 writev(12<socket:[5]>, [{iov_base="HTTP/1.1 201 Created\r\n{\"id\":\"00ab-1-ff\"}", iov_len=9}], 1) = 9"#;

    fn check(lines: &[&str], is_proof: bool) {
        let accepted = [Accepted { mark: "mark-1".to_owned(), id: "00ab-1-ff".to_owned() }];
        let proven = prove_order(&lines.join("\n"), &accepted);
        assert_eq!(proven.is_ok(), is_proof, "{lines:#?}: {proven:?}");
    }

    #[test]
    fn an_answer_after_its_sync_is_proof() {
        check(&[WRITE, SYNC, ANSWER], true);
        let (begun, ended) =
            ("7 fdatasync(9</d/log/1.log> <unfinished ...>", "7 <... fdatasync resumed>) = 0");
        check(&[WRITE, begun, "8 write(3<pipe:[1]>, \"x\", 1) = 1", ended, ANSWER], true);
    }

    #[test]
    fn every_other_order_is_none() {
        let (begun, ended) =
            ("7 fdatasync(9</d/log/1.log> <unfinished ...>", "7 <... fdatasync resumed>) = 0");
        check(&[WRITE, ANSWER, SYNC], false);
        check(&[WRITE, begun, ANSWER, ended], false);
        check(&[begun, WRITE, ended, ANSWER], false);
        check(&[SYNC, WRITE, ANSWER], false);
        check(&[WRITE, "7 fdatasync(9</d/log/1.log>) = -1 EIO (Input/output error)", ANSWER], false);
        check(&[WRITE, "7 fdatasync(9</d/other/1.log>) = 0", ANSWER], false);
        check(&[WRITE, SYNC], false);
    }
}
