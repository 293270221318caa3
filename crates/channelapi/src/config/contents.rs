//! What a file says, read and not judged.

use std::path::PathBuf;

use super::source::{Given, GivenItem, Problem};

/// What a file said.
#[derive(Default)]
pub struct Contents {
    /// The file, unless none was found.
    pub path: Option<PathBuf>,
    /// Why a file that nobody has named may be the word of somebody else.
    pub distrusted: Option<String>,
    /// The values in it.
    pub given: Vec<Given>,
    /// The policies in it, in their order.
    pub policies: Vec<GivenItem>,
    /// The issuers of JWTs in it, in their order.
    pub issuers: Vec<GivenItem>,
    /// The API keys in it, in their order.
    pub auth_keys: Vec<GivenItem>,
    /// Why it cannot be used.
    pub problems: Vec<Problem>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}
