//! How a request is refused: what was wrong, and what would be accepted.
use serde::{Deserialize, Serialize};
use std::fmt;

/// What sort of refusal; each maps to one gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The request cannot be right at any time.
    Invalid,
    NotFound,
    AlreadyExists,
    /// Right in itself, wrong in the present state.
    Precondition,
    /// A bound is reached: no bandwidth, label or address left.
    Exhausted,
    /// The caller's role does not allow it.
    Forbidden,
    /// Try again: the other side is not there at the moment.
    Unavailable,
    /// A bug of ours.
    Internal,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    pub kind: Kind,
    /// The field of the request that it is about, as in the API (`spec.bandwidth`); empty when none.
    pub field: String,
    /// What was wrong, with the numbers that explain it.
    pub what: String,
    /// What would be accepted, or the next step; empty when there is none.
    pub hint: String,
}

impl Refusal {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, field: String::new(), what: what.into(), hint: String::new() }
    }
    pub fn invalid(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), ..Self::new(Kind::Invalid, what) }
    }
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }
    pub fn precondition(what: impl Into<String>) -> Self {
        Self::new(Kind::Precondition, what)
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
