//! The only place that sees unvalidated foreign data: every message becomes a well-formed value, or a [`Malformed`].
//!
//! `TryFrom<v1::X>` reads, `From<model::X>` writes; what is written can always be read back.
mod choices;
mod circuits;
mod desired;
mod explain;
mod fields;
mod insights;
mod nodes;
mod plans;
mod policies;
mod refusals;
mod reports;
pub mod requests;
mod resources;
mod rules;
mod shortages;
mod together;
mod traces;
mod units;

pub use circuits::circuit_ref;
pub use refusals::{FIELD_KEY, HINT_KEY, refusal_of, status_of};

/// Limits that the `.proto` files state.
pub mod limits {
    use std::time::Duration;

    pub const INTENTS: usize = 64;
    pub const SERVICES: usize = 64;
    pub const LABELS: usize = 64;
    pub const LABEL_VALUE_BYTES: usize = 256;
    pub const ADDRESSES: usize = 64;
    pub const UNDERLAYS: usize = 64;
    pub const TAGS: usize = 32;
    /// Hosts to cross or to avoid.
    pub const HOSTS: usize = 64;
    pub const HOPS: u8 = 16;
    pub const RULES: usize = proto_model::rule::MAX_RULES;
    pub const CANDIDATES: usize = 64;
    /// Paths that one circuit chooses from.
    pub const WAYS: usize = 16;
    pub const EXPERTS: usize = 16;
    /// Links of all candidates together, and forecasts of one of them.
    pub const OUTLOOKS: usize = 1024;
    pub const PAST: usize = 64;
    /// Paths that a series is asked of at once.
    pub const LINES: usize = 8;
    /// Points of a line.
    pub const POINTS: usize = 1024;
    pub const SERIES_LEAST: Duration = Duration::from_secs(10);
    pub const SERIES_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
    pub const IDEMPOTENCY_KEY_BYTES: usize = 128;
    pub const INTERFACE_BYTES: usize = 15;
    pub const NAMESPACE_PATH_BYTES: usize = 1024;
    /// `PID_MAX_LIMIT` of the kernel.
    pub const PROCESS: u32 = 4_194_304;
    pub const SENTENCE_BYTES: usize = 1024;
    pub const SENTENCES: usize = 256;
    /// Objects, failures or counters of one node in one message; the size of the message binds earlier.
    pub const OBJECTS: usize = 1 << 20;
    pub const DROP_EVENTS: usize = 4096;
    pub const SWITCHES: usize = 4096;
    /// Measured links of one node.
    pub const LINKS: usize = 4096;
    /// Traced packets in one word of an agent.
    pub const TRACED: usize = 4096;
    pub const TRACE_LEAST: Duration = Duration::from_secs(1);
    pub const UNDERLAY_MTU: u16 = 576;
    pub const ENI_MTU: u16 = 1280;
    /// Commands that set up a plain VXLAN device.
    pub const COMMANDS: usize = 32;
    pub const LEASE_LEAST: Duration = Duration::from_secs(1);
    pub const LEASE_MOST: Duration = Duration::from_secs(30 * 24 * 3600);
    pub const WAIT_MOST: Duration = Duration::from_secs(600);
    pub const CONFIRM_LEAST: Duration = Duration::from_secs(1);
    pub const CONFIRM_MOST: Duration = Duration::from_secs(24 * 3600);
    pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
    pub const SIGNING_REQUEST_BYTES: usize = 16 * 1024;
    pub const TOKEN_BYTES: usize = 8 * 1024;
}

/// A foreign message that cannot be understood: which field, and what is wrong with it and would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Malformed {
    /// Dotted path from the request's root, e.g. `circuit.rules[3].ports`.
    pub field: String,
    pub what: String,
}

impl Malformed {
    pub fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }

    /// The same fault, seen from the message that holds the faulty one in its field `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        Self { field: format!("{outer}{dot}{}", self.field), what: self.what }
    }
}

type Result<T> = std::result::Result<T, Malformed>;
