//! What is said to whoever may not do what they want.

use super::super::{IN_QUERY, SEVERAL, WEAK};
use super::problem::{Code, Problem};
use crate::auth::Denied;

/// Whoever has no key learns nothing; whoever has one learns what it lacks.
impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoKey | Denied::WrongKey => {
                Self::new(Code::Forbidden, "The request does not carry the API key.")
            }
            Denied::Expired => Self::new(Code::KeyExpired, "The API key of the request has expired."),
            Denied::WeakKey => Self::new(Code::WeakKey, WEAK),
            Denied::Scope(scope) => {
                Self::new(Code::MissingScope, format!("The API key does not have the scope `{scope}`."))
            }
            Denied::Channel => Self::new(Code::ChannelNotAllowed, "The API key is not for this channel."),
            Denied::Query => Self::new(Code::KeyInUrl, IN_QUERY),
            Denied::Several => Self::new(Code::SeveralKeys, SEVERAL),
        }
    }
}
