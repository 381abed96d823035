//! A circuit's firewall rules as the data plane reads them.
use crate::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most rules one circuit can have. New connections cost one step per rule; established ones none.
pub const PER_CIRCUIT: u32 = 256;

/// Value of `RULESETS`, keyed by circuit: which rows of `RULES` are in force. A rule change writes new rows where no
/// packet looks and then replaces this value, so a packet sees the old set or the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RuleSetRef {
    /// Repeats the key (see `Flow::remote`).
    pub circuit: u64,
    /// First row in `RULES`.
    pub start: u32,
    /// Rows; at most [`PER_CIRCUIT`].
    pub count: u32,
    /// Version of the set; connections allowed by another version are judged anew.
    pub version: u32,
    pub reserved: u32,
}

/// Value of `RULES`: one row. Rows are tried in order; the first that matches decides; none means deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RuleRow {
    /// Prefix of the opener's address, already masked; all-zero mask matches everything.
    pub source: Address,
    pub source_mask: Address,
    /// Prefix of the address the connection is opened to.
    pub destination: Address,
    pub destination_mask: Address,
    /// Rule id within the circuit, shown with every drop; 0 is the default deny.
    pub id: u32,
    /// Inclusive range of destination ports, host order; for ICMP the type. 0–65535 matches all.
    pub port_from: u16,
    pub port_to: u16,
    /// IP protocol number, or [`RuleRow::ANY_PROTOCOL`]. ICMP is 1 in both families.
    pub protocol: u16,
    /// Bit 0: may open forward; bit 1: may open in reverse.
    pub directions: u8,
    /// 1 allows, 0 denies.
    pub allow: u8,
    /// 4, 6, or 0 for both families.
    pub family: u8,
    pub reserved: [u8; 3],
}

impl RuleRow {
    pub const ANY_PROTOCOL: u16 = 256;
}
