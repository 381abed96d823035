//! Joins consecutive segments of a TCP connection into one superpacket, as a network card would (GRO).
use super::virtio::{self, Header};
use super::{HEAD, Ip, LONGEST, TAG, checksum};
use ebpf_abi::seal::Tag;
use zerocopy::IntoBytes;

const TCP: u8 = 6;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// One frame that grows while what is pushed continues it. Its bytes are those of the frame to write.
#[derive(Debug, Default)]
pub struct Joined {
    frame: Vec<u8>,
    /// What it can still be continued with; none: it is empty, or complete.
    open: Option<Open>,
    packets: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    ip: Ip,
    /// Bytes of IP and TCP headers.
    headers: usize,
    segment: usize,
    next: u32,
}

/// What to do with a packet that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// Write the frame first, then push again.
    Full,
}

impl Joined {
    /// Starts with this packet, or continues with it.
    pub fn push(&mut self, tag: &Tag, packet: &[u8]) -> Pushed {
        if self.packets == 0 {
            self.start(tag, packet);
            return Pushed::Taken;
        }
        match self.open {
            Some(open) if self.continues(&open, tag, packet) => {
                self.append(open, packet);
                Pushed::Taken
            }
            Some(_) | None => Pushed::Full,
        }
    }

    fn start(&mut self, tag: &Tag, packet: &[u8]) {
        self.frame.clear();
        self.frame.resize(virtio::LENGTH, 0);
        self.frame.extend_from_slice(tag.as_bytes());
        self.frame.extend_from_slice(packet);
        self.packets = 1;
        // One that says "push" may end a superpacket, not begin one.
        let begins = |open: &Open| packet[open.ip.header + 13] & PSH == 0 && is_intact(packet);
        self.open = plain(packet).filter(begins);
    }

    fn continues(&self, open: &Open, tag: &Tag, packet: &[u8]) -> bool {
        if self.frame[virtio::LENGTH..HEAD] != *tag.as_bytes() || self.frame.len() + packet.len() > LONGEST {
            return false;
        }
        let Some(new) = plain(packet) else { return false };
        let first = &self.frame[HEAD..];
        let (t, first_sequence) = (new.ip.header, sequence(packet, new.ip.header));
        new.ip.v6 == open.ip.v6
            && new.headers == open.headers
            && new.segment <= open.segment
            && first_sequence == open.next
            && same_ip(first, packet, open.ip.v6)
            && first[t..t + 4] == packet[t..t + 4]
            && first[t + 8..t + 12] == packet[t + 8..t + 12]
            && first[t + 14..t + 16] == packet[t + 14..t + 16]
            && first[t + 18..new.headers] == packet[t + 18..new.headers]
            && is_intact(packet)
    }

    fn append(&mut self, open: Open, packet: &[u8]) {
        self.frame.extend_from_slice(&packet[open.headers..]);
        self.packets += 1;
        let flags = packet[open.ip.header + 13];
        self.frame[HEAD + open.ip.header + 13] |= flags & PSH;
        let length = packet.len() - open.headers;
        let ends = length < open.segment || flags & PSH != 0;
        let next = open.next.wrapping_add(length as u32);
        self.open = (!ends).then_some(Open { next, ..open });
        self.settle(&open);
    }

    /// Headers of what is joined so far.
    fn settle(&mut self, open: &Open) {
        let length = self.frame.len() - HEAD;
        let t = open.ip.header;
        let packet = &mut self.frame[HEAD..];
        if open.ip.v6 {
            packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        } else {
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[10..12].fill(0);
            let sum = checksum::complement(checksum::sum(&packet[..t]));
            packet[10..12].copy_from_slice(&sum);
        }
        let addresses = if open.ip.v6 { &packet[8..40] } else { &packet[12..20] };
        let sum = checksum::fold(checksum::pseudo(addresses, TCP, length - t));
        packet[t + 16..t + 18].copy_from_slice(&sum);
        let header = Header {
            flags: virtio::NEEDS_CHECKSUM,
            kind: if open.ip.v6 { virtio::TCP6 } else { virtio::TCP4 },
            headers: (TAG + open.headers) as u16,
            segment: open.segment as u16,
            start: (TAG + t) as u16,
            offset: 16,
        };
        self.frame[..virtio::LENGTH].copy_from_slice(header.as_bytes());
    }

    /// The frame, if there is one; the next push starts anew.
    pub fn take(&mut self) -> Option<&[u8]> {
        let there = std::mem::take(&mut self.packets) > 0;
        self.open = None;
        there.then_some(&self.frame)
    }
}

fn sequence(packet: &[u8], t: usize) -> u32 {
    u32::from_be_bytes([packet[t + 4], packet[t + 5], packet[t + 6], packet[t + 7]])
}

/// A data segment without anything special about it.
fn plain(packet: &[u8]) -> Option<Open> {
    let ip = Ip::of(packet).filter(|ip| ip.protocol == TCP && ip.length == packet.len())?;
    let t = ip.header;
    // IPv4: no options, no fragment.
    if !ip.v6 && (t != 20 || packet[6] & 0x3f != 0 || packet[7] != 0) {
        return None;
    }
    let own = usize::from(packet.get(t + 12)? >> 4) * 4;
    let headers = t + own;
    if own < 20 || packet.len() <= headers || packet[t + 13] & !PSH != ACK {
        return None;
    }
    let segment = packet.len() - headers;
    Some(Open { ip, headers, segment, next: sequence(packet, t).wrapping_add(segment as u32) })
}

/// Both of one connection and one treatment: addresses, class, TTL, and whether fragments are forbidden.
fn same_ip(a: &[u8], b: &[u8], v6: bool) -> bool {
    if v6 {
        a[..4] == b[..4] && a[6..40] == b[6..40]
    } else {
        a[..2] == b[..2] && a[6] == b[6] && a[8..10] == b[8..10] && a[12..20] == b[12..20]
    }
}

/// Joining replaces the checksum, so a damaged segment must not be joined: it would be whole afterwards.
fn is_intact(packet: &[u8]) -> bool {
    let Some(ip) = Ip::of(packet) else { return false };
    let addresses = if ip.v6 { &packet[8..40] } else { &packet[12..20] };
    let pseudo = checksum::pseudo(addresses, TCP, ip.length - ip.header);
    checksum::fold(pseudo + checksum::sum(&packet[ip.header..ip.length])) == [0xff; 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::cut::cut;
    use proptest::prelude::*;
    use zerocopy::FromBytes;

    const TAG_OF_ONE: Tag = Tag::packet(7, 1, 0x0800);

    /// A superpacket as the kernel gives it: the checksum's place holds the pseudo header's sum.
    fn superpacket(v6: bool, options: usize, payload: &[u8], segment: u16, flags: u8) -> (Header, Vec<u8>) {
        let t = if v6 { 40 } else { 20 };
        let length = 20 + options + payload.len();
        let mut packet = vec![0; t];
        if v6 {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            (packet[6], packet[7]) = (TCP, 64);
            packet[8..40].copy_from_slice(&[0xfd; 32]);
        } else {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&((20 + length) as u16).to_be_bytes());
            packet[6] = 0x40;
            (packet[8], packet[9]) = (64, TCP);
            packet[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
        }
        packet.extend([0x30, 0x39, 0, 80, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1]);
        packet.extend([((20 + options) / 4 * 16) as u8, flags, 1, 2, 0, 0, 0, 0]);
        packet.extend(vec![1; options]);
        packet.extend(payload);
        let addresses = if v6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
        let sum = checksum::fold(checksum::pseudo(&addresses, TCP, length));
        packet[t + 16..t + 18].copy_from_slice(&sum);
        let kind = if v6 { virtio::TCP6 } else { virtio::TCP4 };
        let start = (TAG + t) as u16;
        let header = Header { flags: 1, kind, headers: 0, segment, start, offset: 16 };
        (header, packet)
    }

    fn cut_all(header: &Header, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        cut(header, &mut packet, |packet| packets.push(packet.to_vec())).expect("well formed");
        packets
    }

    proptest! {
        #[test]
        fn what_was_cut_and_joined_is_the_same_stream(
            v6 in any::<bool>(),
            options in 0..10_usize,
            payload in proptest::collection::vec(any::<u8>(), 1..20_000),
            segment in 500..1500_u16,
        ) {
            let (header, packet) = superpacket(v6, options * 4, &payload, segment, ACK | PSH);
            let headers = packet.len() - payload.len();
            let packets = cut_all(&header, packet);
            prop_assert_eq!(packets.len(), payload.len().div_ceil(usize::from(segment)));
            let mut joined = Joined::default();
            for packet in &packets {
                prop_assert!(is_intact(packet), "each has a checksum of its own");
                prop_assert_eq!(joined.push(&TAG_OF_ONE, packet), Pushed::Taken);
            }
            let frame = joined.take().expect("something").to_vec();
            prop_assert_eq!(&frame[HEAD + headers..], &payload[..]);
            let again = Header::read_from_bytes(&frame[..virtio::LENGTH]).expect("a header");
            if packets.len() > 1 {
                prop_assert_eq!(again.segment, segment);
                let cut_again = cut_all(&again, frame[HEAD..].to_vec());
                let payloads = |all: &[Vec<u8>]| all.iter().map(|p| p[headers..].to_vec()).collect::<Vec<_>>();
                prop_assert_eq!(payloads(&cut_again), payloads(&packets));
            } else {
                prop_assert_eq!(again, Header::default());
            }
        }

        #[test]
        fn no_frame_can_make_the_cutter_or_the_joiner_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            flags in any::<u8>(), kind in 0..7_u8, segment in any::<u16>(), start in 0..200_u16, offset in 0..40_u16,
        ) {
            let header = Header { flags, kind, headers: 0, segment, start, offset };
            let mut joined = Joined::default();
            let _ = cut(&header, &mut bytes.clone(), |packet| {
                let _ = joined.push(&TAG_OF_ONE, packet);
            });
            let _ = joined.push(&TAG_OF_ONE, &bytes);
            let _ = joined.push(&TAG_OF_ONE, &bytes);
        }
    }

    #[test]
    fn what_does_not_continue_is_not_joined() {
        let (header, packet) = superpacket(false, 0, &[5; 3_000], 1_000, ACK);
        let packets = cut_all(&header, packet);
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut joined = Joined::default();
            let mut second = packets[1].clone();
            change(&mut second);
            let _ = joined.push(&TAG_OF_ONE, &packets[0]);
            joined.push(&TAG_OF_ONE, &second) == Pushed::Full
        };
        assert!(!refused(|_| {}));
        assert!(refused(|p| p[60] ^= 1), "damaged");
        assert!(refused(|p| p[20] ^= 1), "another connection");
        assert!(refused(|p| p[8] ^= 1), "another TTL");
        assert!(refused(|p| p[33] |= 2), "a SYN");
        assert!(refused(|p| p[27] ^= 1), "a gap");
        let mut joined = Joined::default();
        let _ = joined.push(&TAG_OF_ONE, &packets[0]);
        assert_eq!(joined.push(&Tag::packet(7, 2, 0x0800), &packets[1]), Pushed::Full, "another circuit");
    }
}
