//! Rust source as the few kinds of tokens that paths and modules are made of.
//!
//! Comments, strings and character literals vanish, so that text never looks like code. This is far from a
//! whole lexer, and needs to be no more: the compiler has already accepted what we read.

use std::iter::Peekable;
use std::str::Chars;

/// What a path can consist of; everything else is `Other`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Word(String),
    /// `::`
    Separator,
    /// `{`
    Open,
    /// `}`
    Close,
    Comma,
    Semicolon,
    Star,
    Other(char),
}

/// A token and the line it stands on, counted from 1.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source.chars().peekable(), line: 1 };
    let mut found = Vec::new();
    while let Some(first) = reader.next() {
        let line = reader.line;
        if let Some(kind) = reader.token(first) {
            found.push(Token { kind, line });
        }
    }
    found
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.rest.peek() == Some(&wanted)
    }

    /// The token that begins with `first`, or nothing for space, comments and literals.
    fn token(&mut self, first: char) -> Option<Kind> {
        Some(match first {
            '/' if self.next_is('/') => return self.skip_line(),
            '/' if self.next_is('*') => return self.skip_block_comment(),
            '"' => return self.skip_string(),
            '\'' => return self.skip_character_or_lifetime(),
            '{' => Kind::Open,
            '}' => Kind::Close,
            ',' => Kind::Comma,
            ';' => Kind::Semicolon,
            '*' => Kind::Star,
            ':' if self.next_is(':') => {
                self.next();
                Kind::Separator
            }
            '0'..='9' => return self.skip_number(),
            first if is_word(first) => return self.word(first),
            first if first.is_whitespace() => return None,
            first => Kind::Other(first),
        })
    }

    fn word(&mut self, first: char) -> Option<Kind> {
        let mut word = String::from(first);
        while let Some(next) = self.rest.next_if(|next| is_word(*next)) {
            word.push(next);
        }
        let is_string_prefix = matches!(word.as_str(), "r" | "b" | "c" | "br" | "cr");
        if is_string_prefix && self.next_is('"') {
            self.next();
            return if word.contains('r') { self.skip_raw_string(0) } else { self.skip_string() };
        }
        if is_string_prefix && word.contains('r') && self.next_is('#') {
            return self.raw_string_or_word();
        }
        Some(Kind::Word(word))
    }

    /// After `r`, at `#`: either `r#"text"#` or the raw word `r#type`.
    fn raw_string_or_word(&mut self) -> Option<Kind> {
        let mut hashes = 0;
        while self.next_is('#') {
            self.next();
            hashes += 1;
        }
        match self.next()? {
            '"' => self.skip_raw_string(hashes),
            first => self.word(first),
        }
    }

    fn skip_line(&mut self) -> Option<Kind> {
        while self.next().is_some_and(|next| next != '\n') {}
        None
    }

    fn skip_block_comment(&mut self) -> Option<Kind> {
        self.next();
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                '*' if self.next_is('/') => {
                    self.next();
                    depth -= 1;
                }
                '/' if self.next_is('*') => {
                    self.next();
                    depth += 1;
                }
                _ => {}
            }
        }
        None
    }

    fn skip_string(&mut self) -> Option<Kind> {
        loop {
            match self.next()? {
                '"' => return None,
                '\\' => _ = self.next(),
                _ => {}
            }
        }
    }

    fn skip_raw_string(&mut self, hashes: usize) -> Option<Kind> {
        loop {
            if self.next()? != '"' {
                continue;
            }
            let mut closing = 0;
            while closing < hashes && self.next_is('#') {
                self.next();
                closing += 1;
            }
            if closing == hashes {
                return None;
            }
        }
    }

    /// `'a'` ends with a quote, `'a` is a lifetime and does not.
    fn skip_character_or_lifetime(&mut self) -> Option<Kind> {
        let first = self.next()?;
        if first == '\\' {
            self.next();
            while self.next()? != '\'' {}
        } else if self.next_is('\'') {
            self.next();
        } else {
            while self.rest.next_if(|next| is_word(*next)).is_some() {}
        }
        None
    }

    fn skip_number(&mut self) -> Option<Kind> {
        while self.rest.next_if(|next| is_word(*next)).is_some() {}
        None
    }
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        let words = tokens(source).into_iter().filter_map(|token| match token.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn text_is_never_code() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r#"a "b \" c" d"#), ["a", "d"]);
        assert_eq!(words(r##"a r#"b " c"# d br"e\" f"##), ["a", "d", "f"]);
        assert_eq!(words(r#"a b"x \" y" c"z" d"#), ["a", "d"]);
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        assert_eq!(words(r"a '\'' b '{' c '\u{1F}' d 'x' e"), ["a", "b", "c", "d", "e"]);
        assert_eq!(words("fn f<'long>(x: &'long T)"), ["fn", "f", "x", "T"]);
    }

    #[test]
    fn raw_words_lose_their_mark() {
        assert_eq!(words("r#type radius"), ["type", "radius"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let last = tokens("/* \n\n */ \"\n\" 'x' // \nword").pop().unwrap();
        assert_eq!((last.kind, last.line), (Kind::Word("word".into()), 5));
    }
}
