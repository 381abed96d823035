//! The bytes in the data plane's maps, shared by the BPF programs and the agent so that neither can misread the other.
//!
//! Every value is `repr(C)`, has every byte named and is checked for padding at compile time. Header fields are
//! network-order byte arrays; everything else is host order, because only this host reads it. IPv4 addresses ride
//! as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2), so one map serves both families.
//!
//! Which map holds what, how many entries it takes, and who writes it, stands in [`maps`].
#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]

pub mod conntrack;
pub mod event;
pub mod flow;
#[cfg(not(target_arch = "bpf"))]
pub mod former;
pub mod label;
pub mod maps;
pub mod probe;
pub mod reason;
pub mod rules;
pub mod seal;
pub mod share;
pub mod stats;
pub mod trace;
pub mod verdict;

pub use reason::Reason;

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`, in network order.
pub type Address = [u8; 16];

/// A MAC address in network order.
pub type Mac = [u8; 6];

/// `::ffff:0:0/96` carries IPv4.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// Whether an address of these maps stands for an IPv4 one.
#[inline(always)]
pub fn is_mapped(address: &Address) -> bool {
    address[..10] == [0; 10] && address[10] == 0xff && address[11] == 0xff
}

/// The direction of a packet on a circuit, seen from the circuit's source resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the circuit's source to its destination.
    Forward = 1,
    /// From the circuit's destination to its source.
    Reverse = 2,
}

impl Direction {
    /// As stored in map values; anything but 2 counts as forward, because a stored byte has only these two writers.
    #[inline(always)]
    pub const fn of(byte: u8) -> Self {
        if byte == 2 { Self::Reverse } else { Self::Forward }
    }

    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }
}
