//! The pure half of the data plane: what a packet is, whether it may pass, and how its headers change. The programs in
//! `main.rs` add the kernel; tests and fuzzers read byte slices instead.
#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]

pub mod bytes;
pub mod firewall;
pub mod headers;
pub mod network;
pub mod rules;
pub mod transport;
pub mod tunnel;
pub mod words;

use bytes::Bytes;
use ebpf_abi::Reason;
use headers::{ETHERTYPE_ARP, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet};
use network::{Extent, Network};

/// The Ethernet and IP header of a workload's frame, which starts at `at`.
///
/// # Errors
/// `Truncated`, `VlanTag`, `NotUnicast` for ARP, and those of [`network::read`].
#[inline(always)]
pub fn workload_frame<B: Bytes>(bytes: &B, at: u32) -> Result<Network, Reason> {
    let ethernet: Ethernet = bytes.read(at).ok_or(Reason::Truncated)?;
    match ethernet.ethertype() {
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::VlanTag),
        ETHERTYPE_ARP => Err(Reason::NotUnicast),
        ethertype => network::read(bytes, at + Ethernet::LENGTH, ethertype, Extent::Complete),
    }
}

/// A whole frame, as the endpoint programs read it: the entry for fuzzers.
///
/// # Errors
/// The reason for which the data plane would drop it before looking at any circuit or rule.
#[cfg(not(target_arch = "bpf"))]
pub fn parse(frame: &[u8]) -> Result<(Network, transport::Transport), Reason> {
    let network = workload_frame(&frame, 0)?;
    let transport = transport::read(&frame, &network)?;
    Ok((network, transport))
}
