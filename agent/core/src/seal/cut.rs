//! Cuts a superpacket into the packets that it stands for, each with lengths and checksums of its own.
use super::virtio::{self, Header};
use super::{Ip, TAG, checksum};

const TCP: u8 = 6;
const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// What a frame contradicts itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a packet that can be cut")]
pub struct Malformed;

/// Gives every packet of the frame to `each`. `packet` is the frame from the IP header on; it is changed meanwhile.
///
/// # Errors
/// Nothing, or not all, was given.
pub fn cut(header: &Header, packet: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let ip = Ip::of(packet).or_else(|| long(header, packet)).ok_or(Malformed)?;
    let packet = &mut packet[..ip.length];
    match header.kind & !virtio::ECN {
        virtio::NONE => {
            if header.flags & virtio::NEEDS_CHECKSUM != 0 {
                complete(header, packet)?;
            }
            each(packet);
            Ok(())
        }
        virtio::TCP4 | virtio::TCP6 | virtio::UDP => segments(header, &ip, packet, each),
        _ => Err(Malformed),
    }
}

/// A superpacket may be longer than its length field says.
fn long(header: &Header, packet: &[u8]) -> Option<Ip> {
    let v6 = packet.first()? >> 4 == 6;
    let whole = header.kind != virtio::NONE && packet.len() > 40;
    let header = if v6 { 40 } else { usize::from(packet.first()? & 0x0f) * 4 };
    let protocol = *packet.get(if v6 { 6 } else { 9 })?;
    whole.then_some(Ip { header, length: packet.len(), v6, protocol })
}

/// The sender left its checksum to the network card, which there is none.
fn complete(header: &Header, packet: &mut [u8]) -> Result<(), Malformed> {
    let start = usize::from(header.start).checked_sub(TAG).ok_or(Malformed)?;
    let at = start + usize::from(header.offset);
    if packet.len() < at + 2 || start < 20 {
        return Err(Malformed);
    }
    // The place holds the pseudo header's sum, and is summed with the rest.
    let sum = checksum::complement(checksum::sum(&packet[start..]));
    // Of UDP, zero would mean that there is none (RFC 768).
    let sum = if header.offset == 6 && sum == [0; 2] { [0xff; 2] } else { sum };
    packet[at..at + 2].copy_from_slice(&sum);
    Ok(())
}

fn segments(
    header: &Header,
    ip: &Ip,
    packet: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    let transport = usize::from(header.start).checked_sub(TAG).ok_or(Malformed)?;
    let size = usize::from(header.segment);
    let udp = header.kind & !virtio::ECN == virtio::UDP;
    let own = if udp { 8 } else { usize::from(packet.get(transport + 12).ok_or(Malformed)? >> 4) * 4 };
    let headers = transport + own;
    if size == 0 || transport < ip.header || own < 8 || packet.len() <= headers || (!udp && own < 20) {
        return Err(Malformed);
    }
    let cut = Cut { ip: *ip, transport, headers, udp, first: packet[..headers].to_vec() };
    let payload = packet.len() - headers;
    let count = payload.div_ceil(size);
    for i in 0..count {
        let from = headers + i * size;
        let length = size.min(packet.len() - from);
        // The headers go where the payload before was, which has been given already.
        let segment = &mut packet[from - headers..from + length];
        cut.dress(segment, i, i * size, i + 1 == count);
        each(segment);
    }
    Ok(())
}

struct Cut {
    ip: Ip,
    transport: usize,
    headers: usize,
    udp: bool,
    /// Headers of the superpacket.
    first: Vec<u8>,
}

impl Cut {
    /// Writes the headers of the `i`-th segment, whose payload begins `at` bytes into the superpacket's.
    fn dress(&self, segment: &mut [u8], i: usize, at: usize, last: bool) {
        segment[..self.headers].copy_from_slice(&self.first);
        let length = segment.len();
        let short = |value: usize| (value as u16).to_be_bytes();
        if self.ip.v6 {
            segment[4..6].copy_from_slice(&short(length - 40));
        } else {
            segment[2..4].copy_from_slice(&short(length));
            let id = u16::from_be_bytes([segment[4], segment[5]]).wrapping_add(i as u16);
            segment[4..6].copy_from_slice(&id.to_be_bytes());
            segment[10..12].fill(0);
            let sum = checksum::complement(checksum::sum(&segment[..self.ip.header]));
            segment[10..12].copy_from_slice(&sum);
        }
        let t = self.transport;
        let place = if self.udp { t + 6 } else { t + 16 };
        if self.udp {
            segment[t + 4..t + 6].copy_from_slice(&short(length - t));
        } else {
            let sequence =
                u32::from_be_bytes([segment[t + 4], segment[t + 5], segment[t + 6], segment[t + 7]]);
            segment[t + 4..t + 8].copy_from_slice(&sequence.wrapping_add(at as u32).to_be_bytes());
            segment[t + 13] &= if last { 0xff } else { !FIN_PSH };
            segment[t + 13] &= if i == 0 { 0xff } else { !CWR };
        }
        segment[place..place + 2].fill(0);
        let addresses = if self.ip.v6 { &segment[8..40] } else { &segment[12..20] };
        let protocol = if self.udp { 17 } else { TCP };
        let pseudo = checksum::pseudo(addresses, protocol, length - t);
        let sum = checksum::complement(pseudo + checksum::sum(&segment[t..]));
        let sum = if self.udp && sum == [0; 2] { [0xff; 2] } else { sum };
        segment[place..place + 2].copy_from_slice(&sum);
    }
}
