//! STAMP packets, written and read by hand from RFC 8762 §4.2.1 and §4.3.1, RFC 8972 §3 and RFC 8186.
use crate::frame;
use nix::time::{ClockId, clock_gettime};
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub(crate) const PORT: u16 = 862;
/// What the test's senders say.
pub(crate) const SENT: [u8; 8] = [0, 0, 0x04, 0xd2, 0, 0, 0x16, 0x2e];

/// An unauthenticated request of 44 bytes.
pub(crate) fn request(sequence: u32, session: u16) -> Vec<u8> {
    let mut packet = sequence.to_be_bytes().to_vec();
    packet.extend(SENT);
    packet.extend([0x80, 0x11]);
    packet.extend(session.to_be_bytes());
    packet.extend([0; 28]);
    assert_eq!(packet.len(), 44);
    packet
}

/// What a reflector of another make answers.
pub(crate) fn answer(number: u32, sequence: u32, session: u16) -> Vec<u8> {
    let mut packet = number.to_be_bytes().to_vec();
    packet.extend([0, 0, 0, 3, 0, 0, 0, 4]);
    packet.extend([0x40, 1]);
    packet.extend(session.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    packet.extend(sequence.to_be_bytes());
    packet.extend(SENT);
    packet.extend([0x80, 0x11, 0, 0, 63, 0, 0, 0]);
    assert_eq!(packet.len(), 44);
    packet
}

/// A type-length-value extension (RFC 8972 §4): not recognised by the reflector, says its sender.
pub(crate) const EXTENSION: [u8; 12] = [0x80, 1, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

pub(crate) fn tai() -> u64 {
    nanos(ClockId::from_raw(libc::CLOCK_TAI))
}

pub(crate) fn monotonic() -> u64 {
    nanos(ClockId::CLOCK_MONOTONIC)
}

fn nanos(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The answer to a request, byte by byte: `number` is the reflector's own, `ttl` what the request came with.
#[track_caller]
pub(crate) fn check(answer: &[u8], request: &[u8], number: u32, ttl: u8, during: &RangeInclusive<u64>) {
    assert_eq!(answer.len(), request.len(), "as long as the request");
    assert_eq!(answer[..4], number.to_be_bytes(), "sequence number of the reflector");
    assert_eq!(answer[12..14], [0x40, 0x01], "error estimate: not synchronised, PTPv2 times, multiplier 1");
    assert_eq!(answer[14..16], request[14..16], "session identifier");
    assert_eq!(answer[24..28], request[..4], "sequence number of the sender");
    assert_eq!(answer[28..36], request[4..12], "time of the sender");
    assert_eq!(answer[36..38], request[12..14], "error estimate of the sender");
    assert_eq!(answer[38..44], [0, 0, ttl, 0, 0, 0], "TTL of the request between zeros");
    assert_eq!(answer[44..], request[44..], "extensions and padding");
    let (answered, received) = (ptp(&answer[4..12], during), ptp(&answer[16..24], during));
    assert!(during.contains(&received) && during.contains(&answered), "{received} {answered} {during:?}");
    assert!(received <= answered, "answered at {answered} before it came at {received}");
}

/// A PTPv2 time, whose seconds are cut to 32 bits, near this span.
fn ptp(bytes: &[u8], near: &RangeInclusive<u64>) -> u64 {
    let word = |at: usize| u64::from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()));
    assert!(word(4) < 1_000_000_000, "{} nanoseconds", word(4));
    let era = (near.start() / 1_000_000_000) >> 32;
    (era << 32 | word(0)) * 1_000_000_000 + word(4)
}

/// A plain link probe from or to port 862, with the right UDP checksum.
pub(crate) fn datagram(ends: (IpAddr, IpAddr), ports: (u16, u16), packet: &[u8]) -> Vec<u8> {
    let (from, to) = ends;
    let mut frame = frame::ip_frame(&frame::ip(from, to, 17, &frame::udp_with(ports.0, ports.1, packet)));
    frame::put_udp_checksum(from.is_ipv6(), &mut frame);
    frame
}

const SENDER: [u8; 4] = [169, 254, 86, 1];
const REFLECTOR: [u8; 4] = [169, 254, 86, 2];
pub(crate) const FAR_MAC: [u8; 6] = [6, 0, 0, 0, 0, 1];
pub(crate) const NEAR_MAC: [u8; 6] = [6, 0, 0, 0, 0, 2];

/// The inner frame of a path probe.
fn inside(macs: [[u8; 6]; 2], from: [u8; 4], to: [u8; 4], ports: (u16, u16), packet: &[u8]) -> Vec<u8> {
    let mut inner = macs.concat();
    inner.extend([8, 0]);
    inner.extend(frame::ip(from.into(), to.into(), 17, &frame::udp_with(ports.0, ports.1, packet)));
    inner
}

/// A path probe as it arrives under a label: VXLAN with the OAM bit around an inner frame.
fn marked(ends: (IpAddr, IpAddr), label: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![9, 0, 0, 0];
    payload.extend(&label.to_be_bytes()[1..]);
    payload.push(0);
    payload.extend(inner);
    let mut frame = frame::ip_frame(&frame::ip(ends.0, ends.1, 17, &frame::udp_with(50_000, 4789, &payload)));
    // Nothing may depend on them.
    frame[15] = if ends.0.is_ipv4() { 0xb8 } else { 0x01 };
    if ends.0.is_ipv4() {
        frame::fix_checksum(&mut frame[14..34]);
    }
    frame
}

pub(crate) fn path_request(ends: (IpAddr, IpAddr), label: u32, packet: &[u8]) -> Vec<u8> {
    marked(ends, label, &inside([NEAR_MAC, FAR_MAC], SENDER, REFLECTOR, (40_000, PORT), packet))
}

pub(crate) fn path_answer(ends: (IpAddr, IpAddr), label: u32, packet: &[u8]) -> Vec<u8> {
    marked(ends, label, &inside([FAR_MAC, NEAR_MAC], REFLECTOR, SENDER, (PORT, 40_000), packet))
}

/// A defect message: a request from UDP port 49153 with the number of a path where zeros must be.
pub(crate) fn path_defect(ends: (IpAddr, IpAddr), label: u32, dead: u64) -> Vec<u8> {
    let mut packet = request(u32::MAX, 0);
    packet[16..24].copy_from_slice(&dead.to_be_bytes());
    marked(ends, label, &inside([NEAR_MAC, FAR_MAC], SENDER, REFLECTOR, (49_153, PORT), &packet))
}
