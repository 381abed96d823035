//! Names that people give and numbers that the controller gives.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A DNS label in lower case (RFC 1123 §2.1): 1–63 characters of `a`–`z`, `0`–`9` and `-`, no `-` at either end. Copies share
/// their text: names are the keys of most books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    pub const MAX: usize = 63;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is no name; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a name: {why} (allowed: 1 to 63 of a-z, 0-9 and -, not starting or ending with -)"
)]
pub struct NotAName {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for Name {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let why = match text {
            "" => "it is empty",
            _ if text.len() > Self::MAX => "it is longer than 63 characters",
            _ if !text.chars().all(allowed) => "it has a character that is not allowed",
            _ if text.starts_with('-') || text.ends_with('-') => "it starts or ends with -",
            _ => return Ok(Self(text.into())),
        };
        Err(NotAName { text: text.chars().take(80).collect(), why })
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A kind of name that cannot be taken for another kind.
macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Name);

        impl $name {
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }
        impl FromStr for $name {
            type Err = NotAName;
            fn from_str(text: &str) -> Result<Self, NotAName> {
                text.parse().map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

names! {
    /// A host with an agent.
    NodeName;
    /// A virtual machine, container, serverless instance or host that communicates.
    ResourceId;
    /// What a resource offers to others.
    ServiceName;
    /// What people call a circuit; unique in a region.
    CircuitName;
}

/// A circuit's number: unique in a region, never used twice, the same on every host it crosses. Text: `c42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CircuitId(pub u64);

/// Names the hosts and links that a path crosses, whichever end is asked: circuits between the same two hosts over the
/// same links have the same number, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u64);

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("p{:016x}", self.0))
    }
}

impl fmt::Display for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("c{}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels_are_names_and_nothing_else() {
        for good in ["a", "web-1", "0x0", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Web", "a.b", "a b", "é", &"a".repeat(64), "../etc"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
