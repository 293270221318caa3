//! What an API key may do.

use std::fmt;

use super::value::{Shape, Value, not};

/// One kind of thing that can be done over the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Publish.
    Publish,
    /// Read what was published, and what there is to know of channels and consumers.
    Read,
    /// Give out, replace and revoke the tokens that clients join with.
    Tokens,
    /// Everything, and what no other scope allows.
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Read, Self::Tokens, Self::Admin];

    /// Its name in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Tokens => "tokens",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(u8::MAX);

    /// Nothing: it stands in for scopes that are missing or wrong, which is a problem of its own.
    pub const NONE: Self = Self(0);

    /// Whether these allow what needs `scope`.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl Value for Scopes {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "SCOPES";
    const ACCEPTS: &'static str = "a list of `publish`, `read`, `tokens` and `admin`";

    fn parse(text: &str) -> Result<Self, String> {
        let fix = "write publish / read / tokens / admin";
        let mut scopes = Self::NONE;
        if text.trim().is_empty() {
            return Err(format!("the list is empty, so the key could do nothing; {fix}"));
        }
        for item in text.split(',').map(str::trim) {
            let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == item);
            scopes.0 |= scope.ok_or_else(|| not(item, "a scope", fix))?.bit();
        }
        Ok(scopes)
    }

    fn show(&self) -> String {
        let names: Vec<&str> =
            Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0).map(Scope::as_str).collect();
        names.join(", ")
    }

    fn from_default(_: Option<&str>) -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_itself_and_admin_allows_all() {
        for scope in Scope::ALL {
            let alone = Scopes::parse(scope.as_str()).unwrap();
            for other in Scope::ALL {
                assert_eq!(alone.allow(other), scope == other || scope == Scope::Admin, "{scope} {other}");
            }
            assert!(Scopes::ALL.allow(scope) && !Scopes::NONE.allow(scope));
        }
    }

    #[test]
    fn scopes_are_a_list_of_known_words() {
        for (text, shown) in [
            ("publish", "publish"),
            ("tokens, publish", "publish, tokens"),
            ("read,read", "read"),
            ("publish,read,tokens,admin", "publish, read, tokens, admin"),
        ] {
            assert_eq!(Scopes::parse(text).map(|scopes| scopes.show()).as_deref(), Ok(shown));
        }
        for (text, part) in [
            ("", "the list is empty"),
            ("write", "`write` is not a scope; write publish / read / tokens / admin"),
            ("Publish", "is not a scope"),
            ("publish,", "the value is empty"),
            ("*", "is not a scope"),
        ] {
            assert!(Scopes::parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
