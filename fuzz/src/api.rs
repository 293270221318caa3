//! How the server reads the query strings of its API, as in [`crate::server`].

#[path = "../../crates/channelapi/src/api/v1/query.rs"]
mod query;

/// Whether a query string is understood.
pub(crate) fn is_query(text: &str) -> bool {
    query::Query::parse(text).is_ok()
}

/// In the place of what is answered.
mod problem {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Code {
        InvalidQuery,
    }

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Problem {
        pub(super) code: Code,
        pub(super) detail: String,
    }

    impl Problem {
        pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
            Self { code, detail: detail.into() }
        }
    }
}
