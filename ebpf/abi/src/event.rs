//! A sampled drop, as it travels through the ring buffer to whoever watches `foreweave drops`.
use crate::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Events per reason, CPU and second; more are counted but not told.
pub const PER_SECOND: u64 = 100;

/// ICMP errors ("too big") per circuit, CPU and second that workloads are told; beyond it their packets are only dropped.
pub const ERRORS_PER_SECOND: u64 = 100;

/// One record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DropEvent {
    /// `bpf_ktime_get_ns`.
    pub at: u64,
    /// 0 when unknown.
    pub circuit: u64,
    /// Inner addresses when the packet could be read that far, outer ones otherwise, zero when neither.
    pub source: Address,
    pub destination: Address,
    /// [`crate::Reason`] as a number.
    pub reason: u32,
    /// Rule that denied; 0 is the default deny.
    pub rule: u32,
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// VNI for packets from the underlay, else 0.
    pub label: u32,
    /// Network order; ICMP: type and code in `destination_port`.
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    pub protocol: u8,
    /// [`HOOK_ENI`], [`HOOK_UNDERLAY_TCX`], [`HOOK_UNDERLAY_XDP`] or [`HOOK_SEAL`].
    pub hook: u8,
    pub reserved: [u8; 6],
}

pub const HOOK_ENI: u8 = 1;
pub const HOOK_UNDERLAY_TCX: u8 = 2;
pub const HOOK_UNDERLAY_XDP: u8 = 3;
/// Between the agent and the programs, see [`crate::seal`].
pub const HOOK_SEAL: u8 = 4;

/// Value of `EVENT_BUDGET`, by reason and per CPU: what is left of [`PER_SECOND`] in the running second. And of
/// `ERROR_BUDGET`, by circuit: of [`ERRORS_PER_SECOND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Budget {
    pub second: u64,
    pub spent: u64,
}
