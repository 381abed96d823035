//! Builds and reads the outer headers of a circuit's packets (VXLAN, RFC 7348).
use crate::bytes::Bytes;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, PROTOCOL_UDP, Udp, Vxlan};
use crate::network::{Network, Part};
use crate::transport::Transport;
use crate::words::{halves, quarters};
use ebpf_abi::flow::{BACKUP, Flow, NextHop};
use ebpf_abi::{Address, Reason, mapped, probe};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// TTL and hop limit of a packet that enters a circuit; every transit host takes one away.
pub const TTL: u8 = 64;

/// Everything in front of the inner IP header, over IPv4: 64 bytes, of which 50 are new.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Outer4 {
    pub ethernet: Ethernet,
    pub ip: Ipv4,
    pub udp: Udp,
    pub vxlan: Vxlan,
    pub inner: Ethernet,
}

/// The same over IPv6: 84 bytes, of which 70 are new.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Outer6 {
    pub ethernet: Ethernet,
    pub ip: Ipv6,
    pub udp: Udp,
    pub vxlan: Vxlan,
    pub inner: Ethernet,
}

/// What is added to a packet over IPv4.
pub const OVERHEAD_IPV4: u32 = size_of::<Outer4>() as u32 - Ethernet::LENGTH;
/// What is added to a packet over IPv6.
pub const OVERHEAD_IPV6: u32 = size_of::<Outer6>() as u32 - Ethernet::LENGTH;

/// By which of its ways a flow's packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index into `NEXT_HOPS`.
    pub target: u32,
    /// Label that the next hop there allocated.
    pub label: u32,
}

impl Way {
    /// `turned`: what `GROUPS` has for the flow's group. Only a plain [`BACKUP`] leads away from the primary.
    #[inline(always)]
    pub fn of(flow: &Flow, turned: Option<u32>) -> Self {
        if turned == Some(BACKUP) {
            Self { target: flow.backup_target, label: flow.backup_label }
        } else {
            Self { target: flow.target, label: flow.label }
        }
    }
}

/// What the outer headers depend on besides flow, label and next hop.
#[derive(Clone, Copy, Debug)]
pub struct Wrap {
    /// Network order; see [`source_port`].
    pub source_port: [u8; 2],
    /// Network order; the fabric's port.
    pub port: [u8; 2],
    /// Of the inner packet.
    pub ethertype: u16,
    /// IP length of the inner packet.
    pub length: u32,
}

impl Outer4 {
    /// Don't Fragment is set and the identification zero (RFC 6864): an underlay that is narrower than promised
    /// answers with an ICMP error instead of fragments, which the other end would refuse anyway. The UDP checksum is zero
    /// (RFC 7348), the type of service zero: the compatibility mode of RFC 6040, as nothing copies a mark back.
    #[inline(always)]
    pub fn of(flow: &Flow, label: u32, hop: &NextHop, wrap: &Wrap) -> Self {
        let length = wrap.length + Ethernet::LENGTH + Vxlan::LENGTH + Udp::LENGTH;
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: short(length + Ipv4::LENGTH),
            identification: [0; 2],
            fragment: Ipv4::DONT_FRAGMENT,
            ttl: TTL,
            protocol: PROTOCOL_UDP,
            checksum: [0; 2],
            source: [hop.local[12], hop.local[13], hop.local[14], hop.local[15]],
            destination: [hop.remote[12], hop.remote[13], hop.remote[14], hop.remote[15]],
        };
        ip.checksum = checksum(&ip);
        Self {
            ethernet: link(hop, ETHERTYPE_IPV4),
            ip,
            udp: udp(wrap, length),
            vxlan: Vxlan::of(label),
            inner: inner(flow, wrap.ethertype),
        }
    }
}

impl Outer6 {
    /// The UDP checksum is zero, which RFC 6935 allows tunnels.
    #[inline(always)]
    pub fn of(flow: &Flow, label: u32, hop: &NextHop, wrap: &Wrap) -> Self {
        let length = wrap.length + Ethernet::LENGTH + Vxlan::LENGTH + Udp::LENGTH;
        Self {
            ethernet: link(hop, ETHERTYPE_IPV6),
            ip: Ipv6 {
                version_class_label: [0x60, 0, 0, 0],
                payload_length: short(length),
                next: PROTOCOL_UDP,
                hop_limit: TTL,
                source: hop.local,
                destination: hop.remote,
            },
            udp: udp(wrap, length),
            vxlan: Vxlan::of(label),
            inner: inner(flow, wrap.ethertype),
        }
    }
}

/// A superpacket may be longer than the field; its segments get their own lengths when they are cut.
#[inline(always)]
fn short(length: u32) -> [u8; 2] {
    if length > 65_535 { [0; 2] } else { (length as u16).to_be_bytes() }
}

#[inline(always)]
fn link(hop: &NextHop, ethertype: u16) -> Ethernet {
    Ethernet { destination: hop.neighbour_mac, source: hop.source_mac, ethertype: ethertype.to_be_bytes() }
}

#[inline(always)]
fn inner(flow: &Flow, ethertype: u16) -> Ethernet {
    Ethernet { destination: flow.mac, source: flow.gateway, ethertype: ethertype.to_be_bytes() }
}

#[inline(always)]
fn udp(wrap: &Wrap, length: u32) -> Udp {
    Udp { source: wrap.source_port, destination: wrap.port, length: short(length), checksum: [0; 2] }
}

/// One port per flow, in the dynamic range, so that the underlay can spread flows and keep each in order (RFC 7348
/// §5). All fragments of a datagram share one.
#[inline(always)]
pub fn source_port(network: &Network, transport: &Transport) -> [u8; 2] {
    let mut hash = u64::from(transport.protocol);
    for half in [halves(&network.source), halves(&network.destination)].as_flattened() {
        hash = mix(hash, *half);
    }
    if matches!(network.part, Part::Whole) {
        let [a, b] = transport.source_port;
        let [c, d] = transport.destination_port;
        hash = mix(hash, u64::from(u32::from_be_bytes([a, b, c, d])));
    }
    (0xc000 | (hash >> 48) as u16).to_be_bytes()
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The IPv4 header checksum (RFC 1071), the checksum field itself left out.
#[inline(always)]
pub fn checksum(ip: &Ipv4) -> [u8; 2] {
    let pair = |high: u8, low: u8| u32::from(u16::from_be_bytes([high, low]));
    let sum = pair(ip.version_ihl, ip.tos)
        + pair(ip.total_length[0], ip.total_length[1])
        + pair(ip.identification[0], ip.identification[1])
        + pair(ip.fragment[0], ip.fragment[1])
        + pair(ip.ttl, ip.protocol)
        + pair(ip.source[0], ip.source[1])
        + pair(ip.source[2], ip.source[3])
        + pair(ip.destination[0], ip.destination[1])
        + pair(ip.destination[2], ip.destination[3]);
    (!fold(u64::from(sum))).to_be_bytes()
}

/// A checksum after 32-bit words of what it covers were replaced (RFC 1624, equation 3). Words and checksum in the
/// same byte order, whichever that is.
#[inline(always)]
pub fn replaced(checksum: u16, changes: &[(u32, u32)]) -> u16 {
    let mut sum = u64::from(!checksum);
    for (old, new) in changes {
        sum += u64::from(!*old) + u64::from(*new);
    }
    !fold(sum)
}

/// The difference that another address makes to a checksum in the machine's byte order.
#[inline(always)]
pub fn difference(old: &Address, new: &Address) -> u32 {
    let mut sum = 0u64;
    for (old, new) in quarters(old).iter().zip(quarters(new)) {
        sum += u64::from(!*old) + u64::from(new);
    }
    u32::from(fold(sum))
}

/// The same for another label. The byte beside it does not change.
#[inline(always)]
pub fn label_difference(old: [u8; 3], new: [u8; 3]) -> u32 {
    let of = |vni: [u8; 3]| u32::from_ne_bytes([vni[0], vni[1], vni[2], 0]);
    u32::from(fold(u64::from(!of(old)) + u64::from(of(new))))
}

/// Link and IP header of a packet in transit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Link4 {
    pub ethernet: Ethernet,
    pub ip: Ipv4,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Link6 {
    pub ethernet: Ethernet,
    pub ip: Ipv6,
}

/// To the next hop. The checksum is changed, not computed anew, so that damage stays visible.
#[inline(always)]
pub fn readdress4(head: &mut Link4, hop: &NextHop, ttl: u8) {
    let ip = &mut head.ip;
    let before = [
        u32::from_be_bytes([ip.ttl, ip.protocol, 0, 0]),
        u32::from_be_bytes(ip.source),
        u32::from_be_bytes(ip.destination),
    ];
    ip.ttl = ttl;
    ip.source = [hop.local[12], hop.local[13], hop.local[14], hop.local[15]];
    ip.destination = [hop.remote[12], hop.remote[13], hop.remote[14], hop.remote[15]];
    let changes = [
        (before[0], u32::from_be_bytes([ip.ttl, ip.protocol, 0, 0])),
        (before[1], u32::from_be_bytes(ip.source)),
        (before[2], u32::from_be_bytes(ip.destination)),
    ];
    ip.checksum = replaced(u16::from_be_bytes(ip.checksum), &changes).to_be_bytes();
    head.ethernet = link(hop, ETHERTYPE_IPV4);
}

#[inline(always)]
pub fn readdress6(head: &mut Link6, hop: &NextHop, ttl: u8) {
    head.ip.hop_limit = ttl;
    head.ip.source = hop.local;
    head.ip.destination = hop.remote;
    head.ethernet = link(hop, ETHERTYPE_IPV6);
}

#[inline(always)]
pub(crate) fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    for _ in 0..4 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What a packet of the underlay is to the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Carries {
    /// A circuit's packet, or a path probe.
    Tunnel = 1,
    /// A link probe to somebody's reflector (RFC 8762 §4.1) …
    Request = 2,
    /// … and what one sent back.
    Answer = 3,
}

impl Carries {
    #[inline(always)]
    fn of(udp: &Udp, port: [u8; 2]) -> Option<Self> {
        const STAMP: [u8; 2] = probe::PORT.to_be_bytes();
        if udp.destination == port {
            Some(Self::Tunnel)
        } else if udp.source == STAMP {
            // From a reflector, and never a request: two reflectors would answer each other for ever.
            Some(Self::Answer)
        } else {
            (udp.destination == STAMP).then_some(Self::Request)
        }
    }
}

/// The outer headers of a packet that may be a circuit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Outer {
    pub source: Address,
    pub destination: Address,
    /// Frame offset of the UDP header.
    pub udp: u32,
    pub ttl: u8,
    /// Which family carries it: 4 or 6.
    pub family: u8,
    /// Whether it is the first fragment of something larger.
    pub fragment: bool,
    /// Whether the UDP header carries a checksum, which a label swap must keep right.
    pub checksum: bool,
    pub carries: Carries,
    /// Whether the VXLAN header marks a path probe; known once the label is.
    pub probe: bool,
}

/// The outer headers when this is UDP to the fabric's port or a link probe, none when the packet is not ours to judge.
#[inline(always)]
pub fn read<B: Bytes>(bytes: &B, ethertype: u16, port: [u8; 2]) -> Option<Outer> {
    let mut outer = match ethertype {
        ETHERTYPE_IPV4 => outer4(bytes)?,
        ETHERTYPE_IPV6 => outer6(bytes)?,
        _ => return None,
    };
    let udp: Udp = bytes.read(outer.udp)?;
    outer.checksum = udp.checksum != [0; 2];
    outer.carries = Carries::of(&udp, port)?;
    Some(outer)
}

/// Later fragments have no port to know them by; without their first, which is dropped, the kernel forgets them.
#[inline(always)]
fn outer4<B: Bytes>(bytes: &B) -> Option<Outer> {
    let ip: Ipv4 = bytes.read(Ethernet::LENGTH)?;
    let own = u32::from(ip.version_ihl & 0x0f) * 4;
    let bits = u16::from_be_bytes(ip.fragment);
    if ip.protocol != PROTOCOL_UDP
        || ip.version_ihl >> 4 != 4
        || own < Ipv4::LENGTH
        || bits & Ipv4::FRAGMENT_OFFSET != 0
    {
        return None;
    }
    Some(Outer {
        source: mapped(ip.source),
        destination: mapped(ip.destination),
        udp: Ethernet::LENGTH + own,
        ttl: ip.ttl,
        family: 4,
        fragment: bits & Ipv4::MORE_FRAGMENTS != 0,
        checksum: false,
        carries: Carries::Tunnel,
        probe: false,
    })
}

/// Extension headers have no business in an underlay: such packets are not ours, except a fragment header, which is
/// looked through so that the drop gets its name.
#[inline(always)]
fn outer6<B: Bytes>(bytes: &B) -> Option<Outer> {
    let ip: Ipv6 = bytes.read(Ethernet::LENGTH)?;
    if ip.version_class_label[0] >> 4 != 6 {
        return None;
    }
    let plain = Outer {
        source: ip.source,
        destination: ip.destination,
        udp: Ethernet::LENGTH + Ipv6::LENGTH,
        ttl: ip.hop_limit,
        family: 6,
        fragment: false,
        checksum: false,
        carries: Carries::Tunnel,
        probe: false,
    };
    match ip.next {
        PROTOCOL_UDP => Some(plain),
        44 => {
            let head: [u8; 8] = bytes.read(plain.udp)?;
            let first = u16::from_be_bytes([head[2], head[3]]) & 0xfff8 == 0;
            (first && head[0] == PROTOCOL_UDP).then_some(Outer {
                udp: plain.udp + 8,
                fragment: true,
                ..plain
            })
        }
        _ => None,
    }
}

/// The VXLAN header of a packet that [`read`] knows, checked as RFC 7348 wants it.
///
/// # Errors
/// `OuterFragment`, `Truncated`, `MalformedVxlan`.
#[inline(always)]
pub fn vxlan<B: Bytes>(bytes: &B, outer: &Outer) -> Result<Vxlan, Reason> {
    if outer.fragment {
        return Err(Reason::OuterFragment);
    }
    let vxlan: Vxlan = bytes.read(outer.udp + Udp::LENGTH).ok_or(Reason::Truncated)?;
    if vxlan.flags & Vxlan::VALID == 0 {
        return Err(Reason::MalformedVxlan);
    }
    Ok(vxlan)
}

/// Whether both next hop addresses are of this family.
#[inline(always)]
pub fn same_family(hop: &NextHop, family: u8) -> bool {
    let [a, b, c, _] = quarters(&hop.remote);
    let mapped = a | b == 0 && c == u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    mapped == (family == 4)
}
