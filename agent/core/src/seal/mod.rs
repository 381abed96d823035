//! Encrypted circuits as bytes: superpackets into packets and back, and messages into the packets that carry them.
//!
//! Keys and ciphers are the daemon's; nothing here knows what a message says.
mod checksum;
pub mod cut;
pub mod join;
pub mod message;
pub mod virtio;

/// Bytes in front of the IP packet in a frame of the two TAP interfaces: [`virtio::Header`], then [`ebpf_abi::seal::Tag`].
pub const HEAD: usize = virtio::LENGTH + TAG;
/// Bytes of the tag.
pub const TAG: usize = size_of::<ebpf_abi::seal::Tag>();
/// Bytes of the longest superpacket that is written: room is left for the outer headers, so that lengths stay in 16 bits.
pub const LONGEST: usize = 65_000;

/// An IPv4 or IPv6 packet's headers, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Bytes of the IP header; only of packets without IPv6 extension headers is it where the transport begins.
    pub header: usize,
    /// Bytes of the whole packet, as it says.
    pub length: usize,
    pub v6: bool,
    pub protocol: u8,
}

impl Ip {
    /// None: it is not a packet, or contradicts itself.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let short =
            |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
        let ip = match packet.first()? >> 4 {
            4 => Self {
                header: usize::from(packet[0] & 0x0f) * 4,
                length: short(2)?,
                v6: false,
                protocol: *packet.get(9)?,
            },
            6 => Self { header: 40, length: short(4)? + 40, v6: true, protocol: *packet.get(6)? },
            _ => return None,
        };
        (ip.header >= 20 && ip.header <= ip.length && ip.length <= packet.len()).then_some(ip)
    }
}
