//! Keeps what TCPs announce, and how long packets are, within what a circuit carries.
use crate::bytes::Bytes;
use crate::headers::{Ipv4, Ipv6, Tcp};
use crate::network::Network;
use crate::transport::{Kind, Transport};
use crate::tunnel::fold;

const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
/// A 16-bit number in one read.
type Number = [u8; 2];

/// A maximum segment size that is to be lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// Frame offset of the number.
    pub at: u32,
    /// Network order.
    pub to: [u8; 2],
    /// What it changes in the TCP checksum, in the machine's byte order.
    pub difference: u32,
}

/// Whether the packet announces a maximum segment size; SYN and SYN+ACK do.
#[inline(always)]
pub fn announces(transport: &Transport) -> bool {
    matches!(transport.kind, Kind::Tcp) && transport.flags & Tcp::SYN != 0
}

/// The options of a TCP header, looked at one by one until the MSS is found. A step at a time, because the verifier walks
/// each turn of a plain loop anew (kernel 6.18: over 1,000,000 instructions with one call site more); it looks once at what
/// `bpf_loop` calls.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Options {
    at: u32,
    end: u32,
    /// Frame offset of the number; 0: not found.
    found: u32,
}

impl Options {
    /// Each byte of them may be one.
    pub const MOST: u32 = 40;

    #[inline(always)]
    pub fn of(network: &Network, transport: &Transport) -> Self {
        let at = network.transport + Tcp::LENGTH;
        Self { at, end: network.transport + u32::from(transport.length), found: 0 }
    }

    /// Looks at one option; true when that was the last.
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B) -> bool {
        let Some(kind) = self.byte(bytes, self.at) else { return true };
        match kind {
            END => return true,
            NOTHING => self.at += 1,
            kind => {
                let Some(long) = self.byte(bytes, self.at + 1) else { return true };
                // Shorter than its own head: the rest cannot be told apart.
                if long < 2 || self.at + u32::from(long) > self.end {
                    return true;
                }
                if kind == MSS {
                    self.found = if long == 4 { self.at + 2 } else { 0 };
                    return true;
                }
                self.at += u32::from(long);
            }
        }
        false
    }

    #[inline(always)]
    fn byte<B: Bytes>(&self, bytes: &B, at: u32) -> Option<u8> {
        if at < self.end { bytes.read(at) } else { None }
    }

    /// All of them, outside of the kernel.
    #[cfg(not(target_arch = "bpf"))]
    pub fn walked<B: Bytes>(mut self, bytes: &B) -> Self {
        for _ in 0..Self::MOST {
            if self.step(bytes) {
                break;
            }
        }
        self
    }
}

/// The MSS option of a SYN, when it promises more than packets of `mtu` bytes hold (RFC 9293 §3.7.1, RFC 6691: headers
/// without options count). It is never raised, and never added.
#[inline(always)]
pub fn lowered<B: Bytes>(bytes: &B, network: &Network, options: &Options, mtu: u16) -> Option<Lowered> {
    let headers = Tcp::LENGTH + if network.family == 4 { Ipv4::LENGTH } else { Ipv6::LENGTH };
    let most = u32::from(mtu).checked_sub(headers)?;
    let at = options.found;
    if at == 0 {
        return None;
    }
    let old: Number = bytes.read(at)?;
    if u32::from(u16::from_be_bytes(old)) <= most {
        return None;
    }
    let to = (most as u16).to_be_bytes();
    let odd = at.wrapping_sub(network.transport) & 1 == 1;
    Some(Lowered { at, to, difference: difference(old, to, odd) })
}

/// An option may stand at an odd place: its bytes are then the low and the high half of two words of the sum.
#[inline(always)]
fn difference(old: Number, new: Number, odd: bool) -> u32 {
    let word = |[a, b]: Number| u16::from_ne_bytes(if odd { [b, a] } else { [a, b] });
    u32::from(fold(u64::from(!word(old)) + u64::from(word(new))))
}

/// IP length of the longest packet that this one becomes: a superpacket is cut into segments of `segment` bytes.
#[inline(always)]
pub fn longest(network: &Network, transport: &Transport, segment: u32) -> u32 {
    if segment == 0 {
        return network.length;
    }
    headers(network, transport) + segment
}

/// Bytes that repeat in front of every segment of a superpacket, from the IP header on.
#[inline(always)]
pub fn headers(network: &Network, transport: &Transport) -> u32 {
    network.length - (network.end - network.transport) + u32::from(transport.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn syn(v6: bool, flags: u8, options: &[u8]) -> Vec<u8> {
        assert_eq!(options.len() % 4, 0);
        let mut tcp = vec![0, 9, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
        tcp[12] += (options.len() as u8 / 4) << 4;
        tcp.extend(options);
        let mut frame = vec![2; 12];
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, tcp.len() as u8, 6, 64]);
            frame.extend([0xfd; 16]);
            frame.extend([0xfc; 16]);
        } else {
            frame.extend([
                8,
                0,
                0x45,
                0,
                0,
                20 + tcp.len() as u8,
                0,
                7,
                0,
                0,
                64,
                6,
                0,
                0,
                10,
                0,
                0,
                1,
                10,
                0,
                0,
                2,
            ]);
        }
        frame.extend(tcp);
        frame
    }

    fn of(frame: &[u8], mtu: u16) -> Option<Lowered> {
        let (network, transport) = parse(frame).expect("well formed");
        let options = Options::of(&network, &transport).walked(&frame);
        announces(&transport).then(|| lowered(&frame, &network, &options, mtu)).flatten()
    }

    /// RFC 1071 over the TCP header, whose checksum field is zero.
    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]])));
        fold(words.sum())
    }

    #[test]
    fn a_larger_size_is_lowered_in_both_families_and_the_checksum_follows() {
        for (v6, most) in [(false, 1_360), (true, 1_340)] {
            for (options, place) in [
                (&[2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0][..], 2),
                (&[1, 2, 4, 5, 180, 1, 1, 1], 3),
                (&[4, 2, 1, 1, 1, 2, 4, 255, 255, 0, 0, 0], 7),
            ] {
                let mut frame = syn(v6, 2, options);
                let start = if v6 { 54 } else { 34 };
                let found = of(&frame, 1_400).expect("an option");
                assert_eq!((found.at, found.to), (start + 20 + place, u16::to_be_bytes(most)));
                let before = sum(&frame[start as usize..]);
                let at = found.at as usize;
                frame[at..at + 2].copy_from_slice(&found.to);
                let after = fold(u64::from(before) + u64::from(found.difference));
                assert_eq!(after % 0xffff, sum(&frame[start as usize..]) % 0xffff, "{options:?}");
                assert_eq!(of(&frame, 1_400), None, "what fits is left alone");
            }
        }
    }

    #[test]
    fn a_smaller_size_is_never_raised() {
        assert_eq!(of(&syn(false, 2, &[2, 4, 5, 80]), 1_400), None);
        assert_eq!(of(&syn(false, 2, &[2, 4, 5, 81]), 1_400).map(|l| l.to), Some([5, 80]));
        assert_eq!(of(&syn(false, 2, &[2, 4, 0, 0]), 1_400), None);
    }

    #[test]
    fn an_answer_announces_too_and_nothing_else_does() {
        let options = [2, 4, 5, 180];
        assert!(of(&syn(false, 0x12, &options), 1_400).is_some());
        for flags in [0x10, 0x11, 0x04, 0x14] {
            assert_eq!(of(&syn(false, flags, &options), 1_400), None, "flags {flags:#x}");
        }
    }

    #[test]
    fn broken_options_are_left_alone() {
        for options in [
            [2, 3, 5, 180],
            [2, 0, 5, 180],
            [2, 5, 5, 180],
            [0, 2, 4, 180],
            [8, 10, 2, 4],
            [1, 1, 1, 2],
            [1, 1, 2, 4],
        ] {
            assert_eq!(of(&syn(false, 2, &options), 1_400), None, "{options:?}");
        }
        assert_eq!(of(&syn(false, 2, &[1; 40]), 1_400), None, "forty options and none of them");
        assert_eq!(of(&syn(false, 2, &[]), 1_400), None);
        assert_eq!(of(&syn(false, 2, &[2, 4, 5, 180]), 30), None, "no such circuit");
    }

    #[test]
    fn a_superpacket_is_as_long_as_its_segments() {
        let (network, transport) = parse(&syn(false, 0x10, &[1; 12])).expect("well formed");
        assert_eq!(longest(&network, &transport, 0), 52);
        assert_eq!(longest(&network, &transport, 1_348), 1_400);
    }
}
