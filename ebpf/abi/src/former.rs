//! Map values as earlier builds laid them out; only the agent reads them, to carry them over (`agent_core::migrate`).
use crate::{Address, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `FLOWS` in layout 1 as first released: one way, 72 bytes. Builds between then and layout 2 had the 80 bytes
/// of today under the same name, with zeroes where `mtu` is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow1 {
    pub circuit: u64,
    pub local: Address,
    pub remote: Address,
    pub slot: u32,
    pub target: u32,
    pub label: u32,
    pub mac: Mac,
    pub gateway: Mac,
    pub direction: u8,
    pub kind: u8,
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<Flow1>() == 72);
