//! Packs messages into the UDP packets that carry them through a circuit, several of one length at once.
use super::virtio::{self, Header};
use super::{HEAD, LONGEST, TAG, checksum};
use ebpf_abi::seal::{PORT, RECEIVER, SENDER, Tag};
use zerocopy::{FromBytes, IntoBytes};

const IP: usize = 20;
const UDP: usize = 8;
const IPV4: u16 = 0x0800;
/// Type and header of a message that carries a packet, and what authenticates it (WireGuard, §5.4.6 of its paper).
const DATA: u8 = 4;
const DATA_HEADER: usize = 16;
const AUTHENTICATION: usize = 16;
/// Datagrams of one superpacket, at most (`UDP_MAX_SEGMENTS` of kernel 6.0; later ones take 128).
const MOST: usize = 64;

/// A frame with messages, all of one length but perhaps the last.
#[derive(Debug, Default)]
pub struct Packed {
    frame: Vec<u8>,
    tag: Option<Tag>,
    /// Bytes of the first message, and of the last.
    size: usize,
    last: usize,
    count: usize,
}

/// What to do with a message that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// Write the frame first, then push again.
    Full,
}

/// Something of a message's shape that carries a packet of this length, as the interface gives it but for the header of
/// virtio: for whoever asks where a message would go.
pub fn specimen(index: u32, circuit: u64, length: usize) -> Vec<u8> {
    let mut message = vec![0; DATA_HEADER + length + AUTHENTICATION];
    message[0] = DATA;
    let mut packed = Packed::default();
    packed.push(index, circuit, &message);
    packed.take().map(|frame| frame[virtio::LENGTH..].to_vec()).unwrap_or_default()
}

impl Packed {
    /// `index`: of a label under which this end of the circuit receives.
    pub fn push(&mut self, index: u32, circuit: u64, message: &[u8]) -> Pushed {
        let tag = Tag::packet(index, circuit, IPV4);
        if self.count == 0 {
            self.frame.clear();
            self.frame.resize(HEAD + IP + UDP, 0);
            (self.tag, self.size) = (Some(tag), message.len());
        } else if self.tag != Some(tag)
            || self.last != self.size
            || message.len() > self.size
            || self.count >= MOST
            || self.frame.len() + message.len() > LONGEST
        {
            return Pushed::Full;
        }
        self.frame.extend_from_slice(message);
        self.last = message.len();
        self.count += 1;
        Pushed::Taken
    }

    /// The frame, if there is one; the next push starts anew.
    pub fn take(&mut self) -> Option<&[u8]> {
        let (count, tag) = (std::mem::take(&mut self.count), self.tag.take()?);
        let length = self.frame.len() - HEAD;
        let many = count > 1;
        let header = Header {
            flags: if many { virtio::NEEDS_CHECKSUM } else { 0 },
            kind: if many { virtio::UDP } else { virtio::NONE },
            headers: if many { (TAG + IP + UDP) as u16 } else { 0 },
            segment: if many { self.size as u16 } else { 0 },
            start: if many { (TAG + IP) as u16 } else { 0 },
            offset: if many { 6 } else { 0 },
        };
        self.frame[..virtio::LENGTH].copy_from_slice(header.as_bytes());
        self.frame[virtio::LENGTH..HEAD].copy_from_slice(tag.as_bytes());
        let ip = ip(length);
        self.frame[HEAD..HEAD + IP].copy_from_slice(&ip);
        let mut udp = [0; UDP];
        udp[..2].copy_from_slice(&source_port(tag.circuit()).to_be_bytes());
        udp[2..4].copy_from_slice(&PORT.to_be_bytes());
        udp[4..6].copy_from_slice(&((length - IP) as u16).to_be_bytes());
        // A lone one has none (RFC 768): the message authenticates itself.
        if many {
            udp[6..].copy_from_slice(&checksum::fold(checksum::pseudo(&ip[12..20], 17, length - IP)));
        }
        self.frame[HEAD + IP..HEAD + IP + UDP].copy_from_slice(&udp);
        Some(&self.frame)
    }
}

/// Don't Fragment is set: a message that does not fit is dropped, with a reason.
fn ip(length: usize) -> [u8; IP] {
    let mut ip = [0; IP];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    ip[6] = 0x40;
    (ip[8], ip[9]) = (64, 17);
    ip[12..16].copy_from_slice(&SENDER);
    ip[16..20].copy_from_slice(&RECEIVER);
    let sum = checksum::complement(checksum::sum(&ip));
    ip[10..12].copy_from_slice(&sum);
    ip
}

/// One per circuit, in the dynamic range: the outer headers' port follows from it, so that the underlay can spread
/// circuits and keeps the order in each.
fn source_port(circuit: u64) -> u16 {
    0xc000 | (circuit.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as u16
}

/// A frame that came out of a TAP interface: header, tag, and the packet.
///
/// None: it is too short.
pub fn split(frame: &mut [u8]) -> Option<(Header, Tag, &mut [u8])> {
    let (header, rest) = frame.split_at_mut_checked(virtio::LENGTH)?;
    let (tag, packet) = rest.split_at_mut_checked(TAG)?;
    Some((Header::read_from_bytes(header).ok()?, Tag::read_from_bytes(tag).ok()?, packet))
}

/// Outer UDP, VXLAN, and the inner Ethernet header.
const TUNNEL: usize = 8 + 8 + 14;

/// A message alone, for another sealer on the same host: as a frame that no interface gives.
pub fn bare(tag: &Tag, message: &[u8]) -> Vec<u8> {
    let header = Header { kind: virtio::BARE, ..Header::default() };
    [header.as_bytes(), tag.as_bytes(), message].concat()
}

/// Where the messages lie in a tunnel's packet that carries some, and how long each is but the last.
///
/// None: it carries none.
pub fn messages(header: &Header, packet: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    if header.kind == virtio::BARE {
        return (!packet.is_empty()).then_some((0..packet.len(), packet.len()));
    }
    let inner = super::Ip::of(packet)?.header + TUNNEL;
    let ip = super::Ip::of(packet.get(inner..)?)?;
    let (from, end) = (inner + ip.header + UDP, inner + ip.length);
    if ip.v6 || ip.protocol != 17 || end <= from {
        return None;
    }
    let size = match header.kind & !virtio::ECN {
        virtio::NONE => end - from,
        virtio::UDP if header.segment > 0 => usize::from(header.segment),
        _ => return None,
    };
    Some((from..end, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it arrives at the other end.
    fn tunnelled(packet: &[u8]) -> Vec<u8> {
        let mut outer = vec![0; IP + TUNNEL];
        outer[0] = 0x45;
        let length = (outer.len() + packet.len()) as u16;
        outer[2..4].copy_from_slice(&length.to_be_bytes());
        [outer, packet.to_vec()].concat()
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let all = [vec![1; 100], vec![2; 100], vec![3; 60]];
        let mut packed = Packed::default();
        for message in &all {
            assert_eq!(packed.push(9, 1 << 40, message), Pushed::Taken);
        }
        assert_eq!(packed.push(9, 1 << 40, &[4; 60]), Pushed::Full, "a shorter one was the last");
        let mut frame = packed.take().expect("a frame").to_vec();
        assert_eq!(packed.take(), None);
        let (header, tag, packet) = split(&mut frame).expect("long enough");
        assert_eq!((tag.index(), tag.circuit(), tag.kind()), (9, 1 << 40, IPV4));
        assert_eq!((header.kind, header.segment), (virtio::UDP, 100));
        let packet = tunnelled(packet);
        let (range, size) = messages(&header, &packet).expect("messages");
        let out: Vec<_> = packet[range].chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(out, all);
    }

    #[test]
    fn a_message_that_another_sealer_gets_comes_out_as_it_went_in() {
        let tag = Tag::packet(9, 1 << 40, IPV4);
        let mut frame = bare(&tag, &[7; 33]);
        let (header, read, packet) = split(&mut frame).expect("long enough");
        assert_eq!((read, &*packet), (tag, &[7; 33][..]));
        assert_eq!(messages(&header, packet), Some((0..33, 33)));
        assert_eq!(messages(&header, &[]), None);
    }

    #[test]
    fn a_lone_message_is_a_plain_packet() {
        let mut packed = Packed::default();
        let _ = packed.push(9, 1, &[1; 100]);
        assert_eq!(packed.push(9, 1, &[1; 101]), Pushed::Full, "a longer one");
        assert_eq!(packed.push(9, 2, &[1; 100]), Pushed::Full, "another circuit's");
        let mut frame = packed.take().expect("a frame").to_vec();
        let (header, _, packet) = split(&mut frame).expect("long enough");
        assert_eq!(header, Header::default());
        assert_eq!(checksum::fold(checksum::sum(&packet[..IP])), [0xff; 2]);
        assert_eq!(messages(&header, &tunnelled(packet)), Some((20 + 30 + 28..178, 100)));
        assert_eq!(messages(&header, packet), None, "not in a tunnel");
    }
}
