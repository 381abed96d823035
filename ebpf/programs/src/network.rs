//! Reads IPv4 and IPv6 headers into one shape, and says where the transport header is.
use crate::bytes::Bytes;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, PROTOCOL_ICMPV6};
use crate::words::same;
use ebpf_abi::{Address, Reason, mapped};

/// The most IPv6 extension headers that are walked.
pub const EXTENSION_HEADERS: u32 = 6;

/// An IP header, whichever version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Network {
    pub source: Address,
    pub destination: Address,
    /// Frame offset of the transport header.
    pub transport: u32,
    /// Frame offset at which the packet ends.
    pub end: u32,
    /// IP length, header included.
    pub length: u32,
    pub identification: u32,
    /// Bytes into the datagram at which a later fragment starts.
    pub fragment_offset: u16,
    /// 4 or 6.
    pub family: u8,
    /// As on the wire: 58 for ICMPv6. Of a later IPv6 fragment: what the fragment header says.
    pub protocol: u8,
    pub part: Part,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    Whole = 0,
    /// Has the transport header.
    First = 1,
    Later = 2,
}

/// How far the length that a header claims is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The frame has all of it.
    Complete,
    /// Quoted inside an ICMP error, which may cut it short.
    Quoted,
}

/// The IP header at `at` under this ethertype.
///
/// # Errors
/// `Truncated`, `MalformedIp`, `ExtensionHeaders`, and `UnsupportedEthertype` for anything but IP.
#[inline(always)]
pub fn read<B: Bytes>(bytes: &B, at: u32, ethertype: u16, extent: Extent) -> Result<Network, Reason> {
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(bytes, at, extent),
        ETHERTYPE_IPV6 => ipv6(bytes, at, extent),
        _ => Err(Reason::UnsupportedEthertype),
    }
}

#[inline(always)]
fn ipv4<B: Bytes>(bytes: &B, at: u32, extent: Extent) -> Result<Network, Reason> {
    let header: Ipv4 = bytes.read(at).ok_or(Reason::Truncated)?;
    let own = u32::from(header.version_ihl & 0x0f) * 4;
    let length = u32::from(u16::from_be_bytes(header.total_length));
    if header.version_ihl >> 4 != 4 || own < Ipv4::LENGTH || length < own {
        return Err(Reason::MalformedIp);
    }
    let end = bounded(bytes, at + length, extent)?;
    if at + own > bytes.length() {
        return Err(Reason::Truncated);
    }
    let bits = u16::from_be_bytes(header.fragment);
    let (part, fragment_offset) =
        part_of((bits & Ipv4::FRAGMENT_OFFSET) << 3, bits & Ipv4::MORE_FRAGMENTS != 0, length - own)?;
    Ok(Network {
        source: mapped(header.source),
        destination: mapped(header.destination),
        transport: at + own,
        end,
        length,
        identification: u32::from(u16::from_be_bytes(header.identification)),
        fragment_offset,
        family: 4,
        protocol: header.protocol,
        part,
    })
}

#[inline(always)]
fn ipv6<B: Bytes>(bytes: &B, at: u32, extent: Extent) -> Result<Network, Reason> {
    let header: Ipv6 = bytes.read(at).ok_or(Reason::Truncated)?;
    if header.version_class_label[0] >> 4 != 6 {
        return Err(Reason::MalformedIp);
    }
    let length = Ipv6::LENGTH + u32::from(u16::from_be_bytes(header.payload_length));
    let end = bounded(bytes, at + length, extent)?;
    let mut network = Network {
        source: header.source,
        destination: header.destination,
        transport: at + Ipv6::LENGTH,
        end,
        length,
        identification: 0,
        fragment_offset: 0,
        family: 6,
        protocol: header.next,
        part: Part::Whole,
    };
    walk(bytes, &mut network)?;
    Ok(network)
}

/// Where the packet ends in the frame.
#[inline(always)]
fn bounded<B: Bytes>(bytes: &B, end: u32, extent: Extent) -> Result<u32, Reason> {
    match extent {
        Extent::Complete if end > bytes.length() => Err(Reason::Truncated),
        Extent::Complete => Ok(end),
        Extent::Quoted => Ok(if end > bytes.length() { bytes.length() } else { end }),
    }
}

/// A datagram that would end past 65,535 bytes cannot be put together by anybody (the "ping of death").
#[inline(always)]
fn part_of(offset: u16, more: bool, payload: u32) -> Result<(Part, u16), Reason> {
    if u32::from(offset) + payload > 65_535 {
        return Err(Reason::MalformedIp);
    }
    Ok(match (offset, more) {
        (0, false) => (Part::Whole, 0),
        (0, true) => (Part::First, 0),
        (_, _) => (Part::Later, offset),
    })
}

/// Steps over IPv6 extension headers to the transport header, or to the data of a later fragment.
#[inline(always)]
fn walk<B: Bytes>(bytes: &B, network: &mut Network) -> Result<(), Reason> {
    for step in 0..=EXTENSION_HEADERS {
        let Some(kind) = Extension::of(network.protocol) else { return Ok(()) };
        if step == EXTENSION_HEADERS {
            return Err(Reason::ExtensionHeaders);
        }
        let head: [u8; 8] = bytes.read(network.transport).ok_or(Reason::Truncated)?;
        let long = match kind {
            Extension::Options => (u32::from(head[1]) + 1) * 8,
            Extension::Routing if head[2] == 0 => return Err(Reason::ExtensionHeaders),
            Extension::Routing => (u32::from(head[1]) + 1) * 8,
            Extension::Authentication => (u32::from(head[1]) + 2) * 4,
            Extension::Fragment => 8,
        };
        network.protocol = head[0];
        network.transport += long;
        if network.transport > network.end {
            return Err(Reason::Truncated);
        }
        if matches!(kind, Extension::Fragment) {
            fragment(network, head)?;
        }
        if matches!(network.part, Part::Later) {
            return Ok(());
        }
    }
    Ok(())
}

/// An IPv6 fragment header (RFC 8200 §4.5). One that says "all of it" (RFC 6946) changes nothing.
#[inline(always)]
fn fragment(network: &mut Network, head: [u8; 8]) -> Result<(), Reason> {
    let bits = u16::from_be_bytes([head[2], head[3]]);
    if !matches!(network.part, Part::Whole) {
        return Err(Reason::ExtensionHeaders);
    }
    let (part, offset) = part_of(bits & 0xfff8, bits & 1 != 0, network.end - network.transport)?;
    network.part = part;
    network.fragment_offset = offset;
    network.identification = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    Ok(())
}

enum Extension {
    /// Hop-by-hop or destination options.
    Options,
    Routing,
    Fragment,
    Authentication,
}

impl Extension {
    #[inline(always)]
    fn of(next: u8) -> Option<Self> {
        match next {
            0 | 60 => Some(Self::Options),
            43 => Some(Self::Routing),
            44 => Some(Self::Fragment),
            51 => Some(Self::Authentication),
            _ => None,
        }
    }
}

impl Network {
    /// ICMP in the family it belongs to.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        if self.family == 4 {
            self.protocol == crate::headers::PROTOCOL_ICMP
        } else {
            self.protocol == PROTOCOL_ICMPV6
        }
    }

    /// Whether circuits could carry it at all: neighbour discovery, multicast listener reports, broadcasts and
    /// packets without a routable source are no business of theirs.
    #[inline(always)]
    pub fn is_unicast(&self) -> bool {
        if self.family == 4 {
            let to = self.destination[12];
            to < 224 && to != 0 && self.source[12] != 0 && self.source[12] < 224
        } else {
            !link_local(&self.source)
                && !link_local(&self.destination)
                && self.destination[0] != 0xff
                && self.source[0] != 0xff
                && !same(&self.source, &[0; 16])
        }
    }
}

#[inline(always)]
fn link_local(address: &Address) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}
