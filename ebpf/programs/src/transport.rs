//! Reads TCP, UDP and ICMP headers, and what an ICMP error quotes, as far as the firewall needs them.
use crate::bytes::Bytes;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Tcp, Udp};
use crate::network::{self, Extent, Network, Part};
use crate::words::same;
use ebpf_abi::Reason;

/// What the transport header of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Transport {
    pub kind: Kind,
    /// IP protocol number; ICMP is 1 in both families.
    pub protocol: u8,
    /// TCP only.
    pub flags: u8,
    /// ICMP only.
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// Whether the packet quoted by an ICMP error was an echo reply.
    pub quoted_reply: u8,
    /// TCP and UDP; ICMP echo: the identifier, in both. ICMP errors: those of the quoted packet.
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    /// Bytes of the transport header that repeat in every segment of a superpacket.
    pub length: u16,
}

/// What the firewall tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Tcp = 1,
    Udp = 2,
    EchoRequest = 3,
    EchoReply = 4,
    /// `protocol` and the ports are those of the packet that it quotes.
    IcmpError = 5,
    IcmpOther = 6,
    Other = 7,
    /// A later fragment: nothing to see.
    Hidden = 8,
    /// As [`Kind::IcmpError`], about an ICMP echo.
    IcmpErrorEcho = 9,
}

impl Transport {
    #[inline(always)]
    const fn of(kind: Kind, protocol: u8) -> Self {
        Self {
            kind,
            protocol,
            flags: 0,
            icmp_type: 0,
            icmp_code: 0,
            quoted_reply: 0,
            source_port: [0; 2],
            destination_port: [0; 2],
            length: 0,
        }
    }
}

/// The transport header of a packet whose IP header has been read.
///
/// # Errors
/// `Truncated`, `MalformedTransport`; `MalformedIp` for a fragment that overlaps a TCP header (RFC 3128);
/// `UnrelatedIcmpError` for an ICMP error that quotes nothing of this conversation.
#[inline(always)]
pub fn read<B: Bytes>(bytes: &B, network: &Network) -> Result<Transport, Reason> {
    if matches!(network.part, Part::Later) {
        return later(network);
    }
    if network.is_icmp() {
        return icmp(bytes, network);
    }
    match network.protocol {
        PROTOCOL_TCP => tcp(bytes, network),
        PROTOCOL_UDP => udp(bytes, network),
        PROTOCOL_ICMP => Err(Reason::MalformedTransport),
        other => Ok(Transport::of(Kind::Other, other)),
    }
}

#[inline(always)]
fn later(network: &Network) -> Result<Transport, Reason> {
    if network.protocol == PROTOCOL_TCP && u32::from(network.fragment_offset) < Tcp::LENGTH {
        return Err(Reason::MalformedIp);
    }
    Ok(Transport::of(Kind::Hidden, network.protocol))
}

#[inline(always)]
fn tcp<B: Bytes>(bytes: &B, network: &Network) -> Result<Transport, Reason> {
    let header: Tcp = header(bytes, network, Tcp::LENGTH)?;
    let own = u32::from(header.offset >> 4) * 4;
    if own < Tcp::LENGTH || network.transport + own > network.end || !possible(header.flags) {
        return Err(Reason::MalformedTransport);
    }
    let mut tcp = Transport::of(Kind::Tcp, PROTOCOL_TCP);
    tcp.flags = header.flags;
    tcp.source_port = header.source;
    tcp.destination_port = header.destination;
    tcp.length = own as u16;
    Ok(tcp)
}

/// The combinations that a TCP can send: SYN, SYN+ACK, RST, RST+ACK, FIN+ACK, ACK (as Linux' nf_conntrack_proto_tcp).
#[inline(always)]
fn possible(flags: u8) -> bool {
    const FAR: u8 = Tcp::SYN | Tcp::FIN | Tcp::RST;
    match flags & FAR {
        0 | Tcp::FIN => flags & Tcp::ACK != 0,
        Tcp::SYN | Tcp::RST => true,
        _ => false,
    }
}

#[inline(always)]
fn udp<B: Bytes>(bytes: &B, network: &Network) -> Result<Transport, Reason> {
    let header: Udp = header(bytes, network, Udp::LENGTH)?;
    let claimed = u32::from(u16::from_be_bytes(header.length));
    let whole = matches!(network.part, Part::Whole);
    if claimed < Udp::LENGTH || whole && network.transport + claimed > network.end {
        return Err(Reason::MalformedTransport);
    }
    let mut udp = Transport::of(Kind::Udp, PROTOCOL_UDP);
    udp.source_port = header.source;
    udp.destination_port = header.destination;
    udp.length = Udp::LENGTH as u16;
    Ok(udp)
}

#[inline(always)]
fn icmp<B: Bytes>(bytes: &B, network: &Network) -> Result<Transport, Reason> {
    let head: [u8; 8] = header(bytes, network, 8)?;
    let kind = icmp_kind(network.family, head[0]);
    let mut icmp = match kind {
        Kind::IcmpError => quoted(bytes, network)?,
        _ => Transport::of(kind, PROTOCOL_ICMP),
    };
    if matches!(kind, Kind::EchoRequest | Kind::EchoReply) {
        icmp.source_port = [head[4], head[5]];
        icmp.destination_port = icmp.source_port;
    }
    icmp.icmp_type = head[0];
    icmp.icmp_code = head[1];
    Ok(icmp)
}

/// Redirects count as other messages, not as errors: nothing about a connection may let one in.
#[inline(always)]
fn icmp_kind(family: u8, icmp_type: u8) -> Kind {
    match (family, icmp_type) {
        (4, 8) | (6, 128) => Kind::EchoRequest,
        (4, 0) | (6, 129) => Kind::EchoReply,
        (4, 3 | 4 | 11 | 12) | (6, 1..=4) => Kind::IcmpError,
        _ => Kind::IcmpOther,
    }
}

/// The packet that an ICMP error quotes: it must have gone from the error's receiver to its sender.
#[inline(always)]
fn quoted<B: Bytes>(bytes: &B, error: &Network) -> Result<Transport, Reason> {
    let ethertype = if error.family == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let Ok(inner) = network::read(bytes, error.transport + 8, ethertype, Extent::Quoted) else {
        return Err(Reason::UnrelatedIcmpError);
    };
    let turned = same(&inner.source, &error.destination) && same(&inner.destination, &error.source);
    if !turned || matches!(inner.part, Part::Later) || inner.transport + 8 > error.end {
        return Err(Reason::UnrelatedIcmpError);
    }
    let head: [u8; 8] = bytes.read(inner.transport).ok_or(Reason::UnrelatedIcmpError)?;
    if inner.is_icmp() {
        return quoted_echo(inner.family, head);
    }
    let mut transport = Transport::of(Kind::IcmpError, inner.protocol);
    if matches!(inner.protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        transport.source_port = [head[0], head[1]];
        transport.destination_port = [head[2], head[3]];
    }
    if inner.protocol == PROTOCOL_ICMP {
        return Err(Reason::UnrelatedIcmpError);
    }
    Ok(transport)
}

#[inline(always)]
fn quoted_echo(family: u8, head: [u8; 8]) -> Result<Transport, Reason> {
    let mut transport = Transport::of(Kind::IcmpErrorEcho, PROTOCOL_ICMP);
    transport.source_port = [head[4], head[5]];
    transport.destination_port = transport.source_port;
    match icmp_kind(family, head[0]) {
        Kind::EchoRequest => Ok(transport),
        Kind::EchoReply => {
            transport.quoted_reply = 1;
            Ok(transport)
        }
        _ => Err(Reason::UnrelatedIcmpError),
    }
}

/// A header of `long` bytes that must lie within the packet, not only within the frame's padding.
#[inline(always)]
fn header<B: Bytes, T: zerocopy::FromBytes>(bytes: &B, network: &Network, long: u32) -> Result<T, Reason> {
    if network.transport + long > network.end {
        return Err(Reason::Truncated);
    }
    bytes.read(network.transport).ok_or(Reason::Truncated)
}
