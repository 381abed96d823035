//! Packets that a circuit cannot carry, and what TCPs are told before they send them.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use ebpf_abi::event::ERRORS_PER_SECOND;
use ebpf_abi::flow::{Flow, NextHop};
use ebpf_abi::label::LabelEntry;
use std::net::IpAddr;

const CIRCUIT: u64 = 5;
const LABEL: u32 = 0x0004_0042;
const MTU: u16 = 1_350;

/// A host with a circuit that carries [`MTU`] bytes, both ways.
fn host() -> Host {
    let host = Host::new().unwrap();
    for v6 in [false, true] {
        let (key, flow) = Host::flow(CIRCUIT, v6, true);
        host.put("FLOWS", &key, &Flow { mtu: MTU, ..flow }).unwrap();
    }
    host.label(&LabelEntry { mtu: MTU, ..Host::delivery(CIRCUIT, LABEL, false) }).unwrap();
    host.rules(CIRCUIT, 1, &[any(9, true)]).unwrap();
    host
}

/// A SYN with these options, its checksum right.
fn syn(from: IpAddr, to: IpAddr, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut tcp = frame::tcp(1_000, 80, flags)[..20].to_vec();
    tcp[12] += (options.len() as u8 / 4) << 4;
    tcp.extend(options);
    let mut packet = frame::ip(from, to, 6, &tcp);
    let at = if from.is_ipv4() { 20 } else { 40 };
    let checksum = !tcp_sum(&packet);
    packet[at + 16..at + 18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Sum over TCP and its pseudo header; 0xffff when the checksum in it is right.
fn tcp_sum(packet: &[u8]) -> u16 {
    let (addresses, tcp) =
        if packet[0] >> 4 == 6 { (&packet[8..40], &packet[40..]) } else { (&packet[12..20], &packet[20..]) };
    let mut all = addresses.to_vec();
    all.extend([0, 6]);
    all.extend((tcp.len() as u16).to_be_bytes());
    all.extend(tcp);
    frame::sum(&all)
}

fn mss(packet: &[u8], place: usize) -> u16 {
    let at = if packet[0] >> 4 == 6 { 60 } else { 40 } + place;
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[test]
fn syn_and_its_answer_announce_no_more_than_the_circuit_carries_both_ways() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = inner(CIRCUIT, v6);
        let most = MTU - if v6 { 60 } else { 40 };
        for (flags, options, place) in [
            (frame::SYN, &[2, 4, 5, 180, 4, 2, 1, 1][..], 2),
            (frame::SYN | frame::ACK, &[1, 2, 4, 255, 255, 1, 1, 1], 3),
        ] {
            let packet = syn(near, far, flags & !frame::ACK, options);
            let out = host.sends(ENI, &frame::ip_frame(&packet)).frame;
            let sent = &out[64..];
            assert_eq!((sent.len(), mss(sent, place), tcp_sum(sent)), (packet.len(), most, 0xffff), "{v6}");
            let answer = syn(far, near, flags | frame::ACK, options);
            let (ours, theirs) = outer(false);
            // The answer is to a connection from port 80's side.
            let mut turned = answer.clone();
            let at = if v6 { 40 } else { 20 };
            turned[at..at + 4].copy_from_slice(&[0, 80, 3, 232]);
            let arriving = frame::tunnelled(theirs, ours, LABEL, &turned);
            let out = host.sends(UNDERLAY, &arriving).frame;
            let got = &out[14..];
            assert_eq!((got.len(), mss(got, place), tcp_sum(got)), (turned.len(), most, 0xffff), "{v6}");
        }
    }
}

#[test]
fn what_fits_is_not_touched() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = inner(CIRCUIT, v6);
        let small = syn(near, far, frame::SYN, &[2, 4, 2, 24, 4, 2, 1, 1]);
        assert_eq!(host.sends(ENI, &frame::ip_frame(&small)).frame[64..], small);
        let none = syn(near, far, frame::SYN, &[]);
        assert_eq!(host.sends(ENI, &frame::ip_frame(&none)).frame[64..], none);
    }
}

#[test]
fn circuit_whose_mtu_is_not_known_changes_nothing() {
    let host = host();
    host.open(CIRCUIT, HOP_IPV4).unwrap();
    let (near, far) = inner(CIRCUIT, false);
    let packet = syn(near, far, frame::SYN, &[2, 4, 255, 255]);
    assert_eq!(host.sends(ENI, &frame::ip_frame(&packet)).frame[64..], packet);
    host.sends(ENI, &frame::ip_frame(&datagram(false, 3_000, true)));
}

/// A UDP packet of so many bytes that may not be cut, or may.
fn datagram(v6: bool, length: usize, whole: bool) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    let payload = vec![0x5a; length - 8 - if v6 { 40 } else { 20 }];
    let mut packet = frame::ip(near, far, 17, &frame::udp_with(1_000, 2_000, &payload));
    if !v6 && whole {
        packet[6] = 0x40;
        frame::fix_checksum(&mut packet);
    }
    packet
}

/// The frame is dropped as too big, and its sender is told the MTU. Gives the ICMP packet.
#[track_caller]
fn told(host: &Host, frame: &[u8], gso: u32, mtu: u16) -> Vec<u8> {
    let before = (host.dropped(Reason::TooBig).unwrap(), host.stats(CIRCUIT as u32).unwrap());
    let ran = host.run_segmented(ENI, frame, gso).unwrap();
    let after = host.dropped(Reason::TooBig).unwrap();
    assert_eq!(
        (ran.verdict, after.packets - before.0.packets, after.bytes - before.0.bytes),
        (REDIRECT, 1, frame.len() as u64),
        "{:?}",
        host.reasons()
    );
    assert_eq!(host.stats(CIRCUIT as u32).unwrap(), before.1, "what is not sent is not counted");
    check(frame, &ran.frame, mtu);
    ran.frame[14..].to_vec()
}

/// Field by field, as RFC 1191 and RFC 4443 §3.2 want it.
#[track_caller]
fn check(sent: &[u8], error: &[u8], mtu: u16) {
    let v6 = sent[12] == 0x86;
    assert_eq!((&error[..6], &error[6..12], &error[12..14]), (&sent[6..12], &sent[..6], &sent[12..14]));
    let packet = &error[14..];
    let (addresses, icmp) = if v6 { (8..40, 40) } else { (12..20, 20) };
    let half = addresses.len() / 2;
    let (from, to) = (&packet[addresses.clone()][..half], &packet[addresses.clone()][half..]);
    let original = &sent[14..][addresses.clone()];
    assert_eq!((from, to), (&original[half..], &original[..half]), "to the sender, from where it wrote to");
    let mtu = u32::from(mtu).to_be_bytes();
    if v6 {
        assert_eq!(packet.len(), 1_280);
        assert_eq!((packet[6], &packet[icmp..icmp + 2]), (58, &[2, 0][..]));
        let mut pseudo = packet[addresses].to_vec();
        pseudo.extend([0, 58]);
        pseudo.extend((packet.len() as u16 - 40).to_be_bytes());
        pseudo.extend(&packet[40..]);
        assert_eq!(frame::sum(&pseudo), 0xffff);
    } else {
        assert_eq!(packet.len(), 572);
        assert_eq!((packet[9], &packet[icmp..icmp + 2]), (1, &[3, 4][..]));
        assert_eq!((frame::sum(&packet[..20]), frame::sum(&packet[20..])), (0xffff, 0xffff));
    }
    assert_eq!(packet[icmp + 4..icmp + 8], mtu);
    assert_eq!(packet[icmp + 8..], sent[14..14 + packet.len() - icmp - 8], "the packet as it was sent");
}

#[test]
fn packet_longer_than_the_circuit_carries_is_answered_with_its_mtu() {
    let host = host();
    for v6 in [false, true] {
        host.sends(ENI, &frame::ip_frame(&datagram(v6, MTU.into(), true)));
        told(&host, &frame::ip_frame(&datagram(v6, usize::from(MTU) + 1, true)), 0, MTU);
        told(&host, &frame::ip_frame(&datagram(v6, 3_000, true)), 0, MTU);
    }
}

#[test]
fn superpacket_is_judged_by_its_segments() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = inner(CIRCUIT, v6);
        let headers = if v6 { 60 } else { 40 };
        host.sends(ENI, &frame::ip_frame(&syn(near, far, frame::SYN, &[])));
        let mut tcp = frame::tcp(1_000, 80, frame::ACK)[..20].to_vec();
        tcp.extend(vec![7; 3_000]);
        let mut packet = frame::ip(near, far, 6, &tcp);
        if !v6 {
            packet[6] = 0x40;
            frame::fix_checksum(&mut packet);
        }
        let frame = frame::ip_frame(&packet);
        // A test run does not say that its superpacket is TCP's, and so it cannot be wrapped; to the same host it goes whole.
        let (key, flow) = Host::flow(CIRCUIT, v6, true);
        let here = Flow { mtu: MTU, kind: Flow::EGRESS, target: LOOPBACK, ..flow };
        host.put("FLOWS", &key, &here).unwrap();
        let ran = host.run_segmented(ENI, &frame, u32::from(MTU) - headers).unwrap();
        assert_eq!((ran.verdict, &ran.frame[14..]), (REDIRECT, &packet[..]), "{:?}", host.reasons());
        told(&host, &frame, u32::from(MTU) - headers + 1, MTU);
    }
}

#[test]
fn who_may_not_be_told_is_dropped_by_name() {
    let host = host();
    let (near, far) = inner(CIRCUIT, false);
    let (near6, far6) = inner(CIRCUIT, true);
    let long = vec![0; 1_400];
    host.refuses(ENI, &frame::ip_frame(&datagram(false, 1_400, false)), CIRCUIT, Reason::TooBig, 0);
    // Later fragments, once their first ones have passed.
    for (from, to) in [(near, far), (near6, far6)] {
        let first = frame::fragment(from, to, 17, 7, 0, true, &frame::udp_with(1, 2, &[0; 512]));
        host.sends(ENI, &frame::ip_frame(&first));
        let later = frame::fragment(from, to, 17, 7, 520, false, &long);
        host.refuses(ENI, &frame::ip_frame(&later), CIRCUIT, Reason::TooBig, 0);
    }
    // Errors, about connections that are known.
    for v6 in [false, true] {
        let (near, far) = inner(CIRCUIT, v6);
        host.label(&LabelEntry { mtu: MTU, ..Host::delivery(CIRCUIT, LABEL, false) }).unwrap();
        let (ours, theirs) = outer(false);
        let asked = frame::ip(far, near, 17, &frame::udp_with(5, 6, &long[..600]));
        host.sends(UNDERLAY, &frame::tunnelled(theirs, ours, LABEL, &asked));
        let mut quoted = frame::icmp_error(v6, &asked);
        quoted.resize(1_400, 0);
        let error = frame::ip(near, far, frame::icmp_protocol(near), &quoted);
        host.refuses(ENI, &frame::ip_frame(&error), CIRCUIT, Reason::TooBig, 0);
    }
}

#[test]
fn what_no_rule_allows_is_denied_before_it_is_measured() {
    let host = host();
    host.rules(CIRCUIT, 2, &[]).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(true, 1_400, true)), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn underlay_that_became_narrower_is_told_by_what_it_holds_now() {
    // A test run's own interface is the loopback, whose MTU nothing here may change: the circuit claims more than it holds.
    let host = host();
    let hop: NextHop = host.get("NEXT_HOPS", &HOP_IPV4).unwrap().unwrap();
    let narrow = Narrow::new();
    host.put("NEXT_HOPS", &HOP_IPV4, &NextHop { ifindex: narrow.0, ..hop }).unwrap();
    for v6 in [false, true] {
        told(&host, &frame::ip_frame(&datagram(v6, 1_340, true)), 0, 1_300 - 50);
        host.sends(ENI, &frame::ip_frame(&datagram(v6, 1_250, true)));
    }
}

/// An interface of 1,300 bytes.
struct Narrow(u32);

impl Narrow {
    fn name() -> String {
        format!("nrw{}", std::process::id())
    }

    fn new() -> Self {
        let name = Self::name();
        ip(&format!("link add {name} mtu 1300 type ifb"));
        ip(&format!("link set {name} up"));
        let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
        Self(index.trim().parse().unwrap())
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        ip(&format!("link del {}", Self::name()));
    }
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn errors_have_a_bound_per_second_and_drops_have_none() {
    let host = host();
    let frame = frame::ip_frame(&datagram(true, 1_400, true));
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    let began = std::time::Instant::now();
    let runs = 1_000 * cpus;
    let told = (0..runs).filter(|_| host.run(ENI, &frame).unwrap().verdict == REDIRECT).count() as u64;
    let seconds = began.elapsed().as_secs() + 2;
    assert!(told >= ERRORS_PER_SECOND, "{told} of {runs}");
    assert!(told <= ERRORS_PER_SECOND * cpus * seconds, "{told} errors in {seconds} s");
    assert_eq!(host.dropped(Reason::TooBig).unwrap().packets, runs);
}
