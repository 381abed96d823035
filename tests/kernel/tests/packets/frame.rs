//! Builds frames, byte by byte and by hand, so that tests share no code with what they test.
use std::net::IpAddr;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Ethernet towards the loopback's address, which is the interface of a test run.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn ip_frame(packet: &[u8]) -> Vec<u8> {
    ethernet(if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
}

pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
            header.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            fix_checksum(&mut header);
            header.extend(payload);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            header.extend(payload);
            header
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// A fragment: IPv4 in the header's own fields, IPv6 by a fragment header. `offset` in bytes.
pub(crate) fn fragment(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    id: u16,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> Vec<u8> {
    if from.is_ipv4() {
        let mut packet = ip(from, to, protocol, payload);
        let bits = (offset / 8) | if more { 0x2000 } else { 0 };
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6..8].copy_from_slice(&bits.to_be_bytes());
        fix_checksum(&mut packet);
        packet
    } else {
        let mut whole = vec![protocol, 0];
        whole.extend((offset | u16::from(more)).to_be_bytes());
        whole.extend(u32::from(id).to_be_bytes());
        whole.extend(payload);
        ip(from, to, 44, &whole)
    }
}

pub(crate) fn fix_checksum(header: &mut [u8]) {
    let long = usize::from(header[0] & 15) * 4;
    header[10..12].fill(0);
    let sum = sum(&header[..long]);
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

/// RFC 1071, over an even number of bytes.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(crate) fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    header.extend(b"hello fabric");
    header
}

pub(crate) fn udp(from: u16, to: u16) -> Vec<u8> {
    udp_with(from, to, b"datagram")
}

pub(crate) fn udp_with(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    header.extend([0, 0]);
    header.extend(payload);
    header
}

/// An ICMP message of any type; for echoes `id` is the identifier.
pub(crate) fn icmp(kind: u8, id: u16) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 7]);
    message.extend(b"abcdefgh");
    message
}

/// An ICMP error that quotes a packet.
pub(crate) fn icmp_error(v6: bool, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![if v6 { 1 } else { 3 }, 0, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    message
}

/// The ICMP of a family.
pub(crate) fn icmp_protocol(address: IpAddr) -> u8 {
    if address.is_ipv4() { 1 } else { 58 }
}

/// An outer packet: UDP to the tunnel port with a VXLAN header and an inner Ethernet header around `inner`.
pub(crate) fn tunnelled(from: IpAddr, to: IpAddr, label: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend(&label.to_be_bytes()[1..]);
    payload.push(0);
    payload.extend(ip_frame(inner));
    ip_frame(&ip(from, to, 17, &udp_with(50_000, 4789, &payload)))
}

/// Sum over UDP and its pseudo header; 0xffff when the checksum in it is right.
pub(crate) fn udp_sum(v6: bool, frame: &[u8]) -> u16 {
    let (addresses, udp) = if v6 { (&frame[22..54], &frame[54..]) } else { (&frame[26..34], &frame[34..]) };
    let mut all = addresses.to_vec();
    all.extend([0, 17]);
    all.extend(u16::try_from(udp.len()).unwrap().to_be_bytes());
    all.extend(udp);
    sum(&all)
}

/// Writes the right UDP checksum into a frame without IP options.
pub(crate) fn put_udp_checksum(v6: bool, frame: &mut [u8]) {
    let at = if v6 { 60 } else { 40 };
    frame[at..at + 2].fill(0);
    let checksum = match !udp_sum(v6, frame) {
        0 => 0xffff,
        other => other,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
