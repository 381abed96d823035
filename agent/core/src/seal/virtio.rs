//! The header of every frame of a TAP interface with offloads: what a superpacket is to be cut into.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct virtio_net_hdr` (virtio 1.2, 5.1.6), in this machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub flags: u8,
    /// One of [`NONE`] to [`UDP`], perhaps with [`ECN`].
    pub kind: u8,
    /// Bytes of all headers, the link layer's included.
    pub headers: u16,
    /// Bytes of payload per segment.
    pub segment: u16,
    /// With [`NEEDS_CHECKSUM`]: from where on the checksum is to be computed, the link layer's header included …
    pub start: u16,
    /// … and where it goes, from there.
    pub offset: u16,
}

pub const LENGTH: usize = size_of::<Header>();
const _: () = assert!(LENGTH == 10);

/// The checksum's place holds the sum over the pseudo header only.
pub const NEEDS_CHECKSUM: u8 = 1;

pub const NONE: u8 = 0;
pub const TCP4: u8 = 1;
pub const TCP6: u8 = 4;
/// Datagrams that are each whole (`VIRTIO_NET_HDR_GSO_UDP_L4`).
pub const UDP: u8 = 5;
/// Bit beside the kind: the first segment says "congestion window reduced".
pub const ECN: u8 = 0x80;
/// No interface gives it: what follows the tag is one message without any headers ([`super::message::bare`]).
pub const BARE: u8 = 0x7f;
