//! Matches what opens a connection against one row of a circuit's rules.
use crate::headers::PROTOCOL_ICMP;
use crate::words::quarters;
use core::mem::offset_of;
use ebpf_abi::conntrack::ConnKey;
use ebpf_abi::rules::RuleRow;
use ebpf_abi::{Address, Direction, is_mapped};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What a rule speaks of: who opens a connection to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Opening {
    pub source: Address,
    pub destination: Address,
    /// Destination port, host order; for ICMP the type.
    pub port: u16,
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// As [`Direction`], which is also its bit in a row.
    pub direction: u8,
}

impl Opening {
    /// How the connection with this key was opened.
    #[inline(always)]
    pub fn of(key: &ConnKey, opener: Direction) -> Self {
        let forward = matches!(opener, Direction::Forward);
        let (source, destination, port) = if forward {
            (&key.source, &key.destination, key.destination_port)
        } else {
            (&key.destination, &key.source, key.source_port)
        };
        let family = if is_mapped(&key.source) { 4 } else { 6 };
        let echo = if family == 4 { 8 } else { 128 };
        Self {
            source: *source,
            destination: *destination,
            port: if key.protocol == PROTOCOL_ICMP { echo } else { u16::from_be_bytes(port) },
            protocol: key.protocol,
            family,
            direction: opener as u8,
        }
    }

    /// Whether a row speaks of it. The cheap questions come first: most rows fail one of them.
    #[inline(always)]
    pub fn matches(&self, row: &RuleRow) -> bool {
        let row: &Row = zerocopy::transmute_ref!(row);
        row.directions & self.direction != 0
            && (row.protocol == RuleRow::ANY_PROTOCOL || row.protocol == u16::from(self.protocol))
            && (row.family == 0 || row.family == self.family)
            && row.port_from <= self.port
            && self.port <= row.port_to
            && within(&self.source, &row.source)
            && within(&self.destination, &row.destination)
    }
}

/// A [`RuleRow`] by words, over the same bytes.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Row {
    source: Prefix,
    destination: Prefix,
    id: u32,
    port_from: u16,
    port_to: u16,
    protocol: u16,
    directions: u8,
    allow: u8,
    family: u8,
    reserved: [u8; 3],
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Prefix {
    address: [u32; 4],
    mask: [u32; 4],
}

const _: () = assert!(
    offset_of!(Row, destination) == offset_of!(RuleRow, destination)
        && offset_of!(Row, port_from) == offset_of!(RuleRow, port_from)
        && offset_of!(Row, protocol) == offset_of!(RuleRow, protocol)
        && offset_of!(Row, directions) == offset_of!(RuleRow, directions)
        && offset_of!(Row, family) == offset_of!(RuleRow, family)
);

#[inline(always)]
fn within(address: &Address, prefix: &Prefix) -> bool {
    let (a, p, m) = (quarters(address), prefix.address, prefix.mask);
    (a[0] & m[0] ^ p[0]) | (a[1] & m[1] ^ p[1]) | (a[2] & m[2] ^ p[2]) | (a[3] & m[3] ^ p[3]) == 0
}
