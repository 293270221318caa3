//! What the lists of a file hold, item by item: each is read, completed and checked against the others of its list.

pub(super) mod auth_keys;
pub(super) mod jwt;
pub(super) mod policy;
