//! The policies: settings of the channels whose names match a pattern.
//!
//! The first that matches a channel decides. One that can never be the first is a mistake of its author, and refused
//! like any other, because it would only be noticed when a channel keeps too little.

use std::time::Duration;

use super::{
    pattern::NamePattern,
    source::Setting,
    units::ByteSize,
    value::{Durability, Shape, Value, not},
};

/// The settings of the channels that match a pattern, checked and complete.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The channels.
    pub pattern: NamePattern,
    /// How safely their publications are kept.
    pub durability: Durability,
    /// How many of them each keeps, the newest.
    pub max_messages: u64,
    /// For how long.
    pub max_age: Duration,
    /// And how much they may take.
    pub max_bytes: ByteSize,
    /// What a client gets that joins without saying where it stands.
    pub replay_on_join: Replay,
    /// All of it as text, and where it came from.
    pub settings: Vec<Setting>,
}

/// How much of what is kept a client gets that joins without saying where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Nothing,
    /// This many of the newest publications; never zero.
    Newest(u64),
    /// Everything.
    Everything,
}

impl Value for Replay {
    const SHAPE: Shape = Shape::Amount;
    const PLACEHOLDER: &'static str = "N";
    const ACCEPTS: &'static str = "`true`, `false` or a number of publications";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self::Everything),
            "false" => Ok(Self::Nothing),
            _ => match u64::parse(text) {
                Ok(0) => Ok(Self::Nothing),
                Ok(number) => Ok(Self::Newest(number)),
                Err(_) => {
                    Err(not(text, "a number of publications", "write true, false or a number, such as 20"))
                }
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Nothing => "false".to_owned(),
            Self::Newest(number) => number.to_string(),
            Self::Everything => "true".to_owned(),
        }
    }

    fn from_default(_: Option<&str>) -> Self {
        Self::Nothing
    }
}
