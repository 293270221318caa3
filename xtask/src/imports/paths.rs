//! The paths that one source file names, written out from the root of the crate they lead to.
//!
//! Seen are `use` trees and paths in code that begin with `crate`, `self`, `super`, one of our crates, or a module that the file declares.
//! Inline modules count for `super`.

use super::tokens::{Kind, Token, tokens};

/// A path from the root of one of our crates, such as `hub::Hub` in `channelapi-core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// The crate, as it is written in code; `None` for the file's own.
    pub(super) krate: Option<String>,
    pub(super) segments: Vec<String>,
    /// The name it has in this file, if it comes from a `pub use`; an asterisk for everything in it.
    pub(super) exported_as: Option<String>,
    /// Whether it is in the file's own tests.
    pub(super) is_of_tests: bool,
    pub(super) line: usize,
}

/// Where the paths of a file start from.
pub(super) struct Place<'a> {
    /// The module that the file is, from its crate's root; empty for the root file.
    pub(super) module: &'a [String],
    /// The names of our crates, as they are written in code.
    pub(super) crates: &'a [String],
}

pub(super) fn paths(source: &str, place: &Place) -> Vec<Path> {
    let tokens = tokens(source);
    let own_modules = modules_declared(&tokens);
    let mut scanner = Scanner {
        tokens: &tokens,
        at: 0,
        place,
        own_modules,
        inline: Vec::new(),
        depth: 0,
        found: Vec::new(),
    };
    scanner.scan();
    scanner.found
}

fn modules_declared(tokens: &[Token]) -> Vec<String> {
    let pairs = tokens.windows(2).filter(|pair| pair[0].kind == Kind::Word("mod".into()));
    pairs
        .filter_map(|pair| match &pair[1].kind {
            Kind::Word(name) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

struct Scanner<'a> {
    tokens: &'a [Token],
    at: usize,
    place: &'a Place<'a>,
    own_modules: Vec<String>,
    /// The inline modules we are inside of, each with the brace depth of its body.
    inline: Vec<(String, usize)>,
    depth: usize,
    found: Vec<Path>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                Kind::Open => self.depth += 1,
                Kind::Close => self.close(),
                Kind::Word(word) if word == "mod" => self.enter_module(),
                // `use<'a>` in a return type captures lifetimes and imports nothing.
                Kind::Word(word) if word == "use" && self.kind(1) != Some(&Kind::Other('<')) => {
                    let exported = self.is_public();
                    self.at += 1;
                    self.use_tree(&[], exported);
                    continue;
                }
                Kind::Word(_) if !self.continues_a_path() => {
                    self.path_in_code();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn kind(&self, ahead: usize) -> Option<&Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        match self.kind(ahead) {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn before(&self) -> Option<&Kind> {
        self.at.checked_sub(1).map(|before| &self.tokens[before].kind)
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.inline.last().is_some_and(|(_, depth)| *depth > self.depth) {
            self.inline.pop();
        }
    }

    fn enter_module(&mut self) {
        if let Some(name) = self.word(1)
            && self.kind(2) == Some(&Kind::Open)
        {
            self.inline.push((name.to_owned(), self.depth + 1));
        }
    }

    /// `pub use`, `pub(crate) use`.
    fn is_public(&self) -> bool {
        matches!(self.before(), Some(Kind::Word(word)) if word == "pub")
            || matches!(self.before(), Some(Kind::Other(')')))
    }

    fn continues_a_path(&self) -> bool {
        self.before() == Some(&Kind::Separator)
    }

    /// One branch of a `use` tree; stops at the comma, brace or semicolon behind it.
    fn use_tree(&mut self, prefix: &[String], exported: bool) {
        let mut path = prefix.to_vec();
        let mut name = None;
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while let Some(kind) = self.kind(0) {
            match kind {
                Kind::Comma | Kind::Close | Kind::Semicolon => break,
                Kind::Open => return self.use_branches(&path, exported),
                Kind::Star => name = Some("*".to_owned()),
                Kind::Word(word) if word == "as" => {
                    name = self.word(1).map(str::to_owned);
                    self.at += 1;
                }
                Kind::Word(word) => path.push(word.clone()),
                Kind::Separator | Kind::Other(_) => {}
            }
            self.at += 1;
        }
        // `c::{self}` is `c` itself.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = name.or_else(|| path.last().cloned());
        self.add(&path, name.filter(|_| exported), line);
    }

    fn use_branches(&mut self, prefix: &[String], exported: bool) {
        self.at += 1;
        loop {
            match self.kind(0) {
                Some(Kind::Comma) => self.at += 1,
                Some(Kind::Close) => {
                    self.at += 1;
                    return;
                }
                None | Some(Kind::Semicolon) => return,
                Some(_) => self.use_tree(prefix, exported),
            }
        }
    }

    fn path_in_code(&mut self) {
        let line = self.tokens[self.at].line;
        let mut path = Vec::new();
        while let Some(word) = self.word(0) {
            path.push(word.to_owned());
            self.at += 1;
            if self.kind(0) != Some(&Kind::Separator) || self.word(1).is_none() {
                break;
            }
            self.at += 1;
        }
        if path.len() > 1 {
            self.add(&path, None, line);
        }
    }

    fn add(&mut self, path: &[String], exported_as: Option<String>, line: usize) {
        if let Some((krate, segments)) = self.resolve(path) {
            let is_of_tests = self.inline.iter().any(|(name, _)| name == "tests");
            self.found.push(Path { krate, segments, exported_as, is_of_tests, line });
        }
    }

    /// The path from a crate's root, or nothing if it leads to none of ours.
    fn resolve(&self, path: &[String]) -> Option<(Option<String>, Vec<String>)> {
        let (first, rest) = path.split_first()?;
        if self.place.crates.contains(first) {
            return Some((Some(first.clone()), rest.to_vec()));
        }
        let inline = self.inline.iter().map(|(name, _)| name.clone());
        let mut here: Vec<String> = self.place.module.iter().cloned().chain(inline).collect();
        let rest = match first.as_str() {
            "crate" => {
                here.clear();
                rest
            }
            "self" | "super" => {
                let ups = path.iter().skip(usize::from(first == "self"));
                let ups = ups.take_while(|segment| *segment == "super").count();
                here.truncate(here.len().checked_sub(ups)?);
                &path[ups + usize::from(first == "self")..]
            }
            _ if self.inline.is_empty() && self.own_modules.contains(first) => path,
            _ => return None,
        };
        here.extend(rest.iter().cloned());
        Some((None, here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(module: &str, source: &str, expected: &[&str]) {
        let module: Vec<String> =
            module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let crates = ["channelapi_core".to_owned()];
        let found = paths(source, &Place { module: &module, crates: &crates });
        let shown: Vec<String> = found
            .into_iter()
            .map(|path| {
                let mut all = vec![path.krate.unwrap_or_else(|| "crate".into())];
                all.extend(path.segments);
                all.join("::")
            })
            .collect();
        assert_eq!(shown, expected, "in {source}");
    }

    #[test]
    fn use_trees_are_written_out() {
        check("hub", "use crate::model::Channel;", &["crate::model::Channel"]);
        check(
            "hub",
            "use crate::{a::B, c::{self, D as E}, f::*};",
            &["crate::a::B", "crate::c", "crate::c::D", "crate::f"],
        );
        check("hub", "use ::channelapi_core::hub; use std::io;", &["channelapi_core::hub"]);
        check("hub", "pub(crate) use crate::a::B; use crate::c;", &["crate::a::B", "crate::c"]);
        check("hub", "use crate::r#type::X; use std::{fmt}; use crate::z;", &["crate::type::X", "crate::z"]);
    }

    #[test]
    fn paths_in_code_are_seen() {
        check(
            "hub",
            "fn f() -> crate::model::Data { crate::clock::now::<u8>() }",
            &["crate::model::Data", "crate::clock::now"],
        );
        check(
            "hub",
            "let x: Vec<channelapi_core::model::Offset> = self.x;",
            &["channelapi_core::model::Offset"],
        );
        check("hub", "macro_rules! m { () => { $crate::a::b!() } }", &["crate::a::b"]);
    }

    #[test]
    fn super_leads_up_also_out_of_inline_modules() {
        check(
            "hub::join",
            "use super::token::Token; use super::super::model::X;",
            &["crate::hub::token::Token", "crate::model::X"],
        );
        check(
            "hub",
            "mod tests { use super::*; use super::super::api::A; } use super::api::B;",
            &["crate::hub", "crate::api::A", "crate::api::B"],
        );
        check(
            "hub",
            "mod a { fn f() { { } } mod b { use super::super::x; } } use self::y::Z;",
            &["crate::hub::x", "crate::hub::y::Z"],
        );
    }

    #[test]
    fn files_may_start_with_their_modules() {
        check(
            "",
            "mod server; use server::Server; fn main() { cli::run() } mod cli;",
            &["crate::server::Server", "crate::cli::run"],
        );
        check("hub", "mod server; use server::Server; use other::X;", &["crate::hub::server::Server"]);
    }

    #[test]
    fn what_is_no_import_is_not_taken_for_one() {
        check("hub", "fn f<'a>() -> impl Sized + use<'a> { } // crate::x::y\n", &[]);
        check("hub", "pub(crate) struct A; pub(super) fn f(self) { self.g() }", &[]);
        check("hub", "//! See [`crate::api::A`].\nconst S: &str = \"crate::api::A\";", &[]);
    }
}
