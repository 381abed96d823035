//! The BPF object: on the host an empty program, so that `cargo build --workspace` works everywhere.
//!
//! The path of a packet:
//!
//! ```text
//! workload ─ENI─▶ eni_ingress (endpoint.rs)      parse → not unicast? → FLOWS → anti-spoof → firewall → STATS
//!                   │ TUNNEL: room for outer headers, write them, out of the next hop's interface
//!                   └ PEER, EGRESS: new MACs, straight to the other workload on this host
//! underlay ─────▶ underlay_xdp (transit.rs)      LABELS by index → right peers? → TTL → swap label → out; the rest
//!                   │                            goes on to:
//!                   ▼
//!                 underlay_ingress (underlay.rs) LABELS → TRANSIT: as in XDP, for every shape of packet
//!                   └ PEER, EGRESS: parse inside → circuit's addresses? → firewall → outer headers off → workload
//! ```
//!
//! Encrypted circuits (seal.rs) make a turn through the agent on both ends:
//!
//! ```text
//! workload ─ENI─▶ eni_ingress … firewall → TAP ⇒ agent encrypts ⇒ TAP ─▶ cipher_ingress → outer headers → next hop
//! underlay ─────▶ underlay_ingress … label → TAP ⇒ agent decrypts ⇒ TAP ─▶ plain_ingress → firewall → workload
//! ```
//!
//! Every program returns `Result<Forward, Reason>`; `door.rs` makes the verdict of it, counts each drop in `REASONS`
//! and `DROPS`, and tells some in `EVENTS`. What is not ours goes on untouched (`TCX_NEXT`, `XDP_PASS`).
//! The decisions themselves are in the library of this package, which the kernel's programs and host tests share.
//!
//! Stateless on the way, stateful at the ends: only endpoints look inside and keep connections. Superpackets stay
//! whole: nothing here depends on a packet being smaller than an MTU.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "bpf/packet.rs is the door"))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets only programs of GPL-compatible licence call the helpers used here.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
