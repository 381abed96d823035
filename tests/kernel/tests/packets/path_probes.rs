//! Path probes: the packet with the OAM bit is answered, told or refused, and is never the circuit's traffic.
use crate::fixture::*;
use crate::stamp::{self, FAR_MAC, NEAR_MAC};
use crate::{frame, stamp::EXTENSION};
use ebpf_abi::Reason;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::{self, LabelEntry};
use std::net::IpAddr;

const CIRCUIT: u64 = 21;
const LABEL: u32 = 0x0006_0077;
const BACK: u32 = 0x0065_4321;

fn hop(v6: bool) -> u32 {
    if v6 { HOP_IPV6 } else { HOP_IPV4 }
}

fn entry(v6: bool) -> LabelEntry {
    LabelEntry { out_label: BACK, back: hop(v6), ..Host::delivery(CIRCUIT, LABEL, v6) }
}

/// No flow, no rule: the gate is closed, and probes are answered all the same.
fn host(v6: bool) -> Host {
    let host = Host::new().unwrap();
    host.label(&entry(v6)).unwrap();
    host
}

fn ends(v6: bool) -> (IpAddr, IpAddr) {
    let (ours, theirs) = outer(v6);
    (theirs, ours)
}

/// Where the VXLAN header starts, the inner frame 8 bytes and the STAMP packet 50 bytes later.
fn vxlan(v6: bool) -> usize {
    if v6 { 62 } else { 42 }
}

fn stamp_at(v6: bool) -> usize {
    vxlan(v6) + 8 + 14 + 20 + 8
}

fn request(v6: bool) -> Vec<u8> {
    stamp::path_request(ends(v6), LABEL, &stamp::request(9, 0xbeef))
}

#[track_caller]
fn nothing_counted(host: &Host) {
    let stats = host.stats(label::index(LABEL)).unwrap();
    assert_eq!((stats.received_packets, stats.sent_packets), (0, 0));
    assert_eq!(host.all_drops().unwrap(), 0, "{:?}", host.reasons());
}

/// Everything before the STAMP packet, as the way back wants it.
fn headers(v6: bool, before: &[u8]) -> Vec<u8> {
    let mut head = before[..stamp_at(v6)].to_vec();
    head[..6].copy_from_slice(&NEIGHBOUR_MAC);
    head[6..12].copy_from_slice(&OUR_MAC);
    let long = if v6 { 16 } else { 4 };
    let (ttl, addresses) = if v6 { (21, 22) } else { (22, 26) };
    head[ttl] = 64;
    swap(&mut head, addresses, long);
    if !v6 {
        frame::fix_checksum(&mut head[14..34]);
    }
    let at = vxlan(v6);
    head[at + 4..at + 7].copy_from_slice(&BACK.to_be_bytes()[1..]);
    swap(&mut head, at + 8, 6);
    swap(&mut head, at + 8 + 14 + 12, 4);
    swap(&mut head, at + 8 + 14 + 20, 2);
    head
}

fn swap(bytes: &mut [u8], at: usize, long: usize) {
    let (one, other) = bytes[at..at + 2 * long].split_at_mut(long);
    one.swap_with_slice(other);
}

#[test]
fn request_becomes_its_answer_byte_by_byte_with_the_gate_closed() {
    for v6 in [false, true] {
        for kind in [LabelEntry::EGRESS, LabelEntry::PEER] {
            let host = host(v6);
            host.label(&LabelEntry { kind, ..entry(v6) }).unwrap();
            let mut frame = request(v6);
            frame[if v6 { 21 } else { 22 }] = 61;
            if !v6 {
                frame::fix_checksum(&mut frame[14..34]);
            }
            host.leaves_alone(XDP, &frame);
            let before = stamp::tai();
            let out = host.sends(UNDERLAY, &frame).frame;
            let during = before..=stamp::tai();
            let (head, packet) = out.split_at(stamp_at(v6));
            assert_eq!(head, headers(v6, &frame), "IPv6 {v6}");
            assert_eq!(out[vxlan(v6)], 9, "still marked");
            let inner = vxlan(v6) + 8;
            assert_eq!((&out[inner..inner + 6], &out[inner + 6..inner + 12]), (&FAR_MAC[..], &NEAR_MAC[..]));
            assert_eq!(frame::sum(&out[inner + 14..inner + 34]), 0xffff, "inner IPv4 checksum");
            stamp::check(packet, &frame[stamp_at(v6)..], 0, 61, &during);
            nothing_counted(&host);
        }
    }
}

#[test]
fn reflector_counts_each_label_by_itself_from_what_the_agent_wrote() {
    let host = host(false);
    let other = LABEL + 1;
    host.label(&LabelEntry { label: other, ..entry(false) }).unwrap();
    let number = |label| {
        let out = host.sends(UNDERLAY, &stamp::path_request(ends(false), label, &stamp::request(5, 1))).frame;
        u32::from_be_bytes(out[stamp_at(false)..stamp_at(false) + 4].try_into().unwrap())
    };
    assert_eq!([number(LABEL), number(LABEL), number(other), number(LABEL)], [0, 1, 0, 2]);
    host.put("REFLECTED", &label::index(LABEL), &u32::MAX).unwrap();
    assert_eq!([number(LABEL), number(LABEL), number(other)], [u32::MAX, 0, 1]);
}

#[test]
fn answer_that_could_not_be_sent_has_no_number() {
    let host = host(false);
    host.label(&LabelEntry { back: HOP_EMPTY, ..entry(false) }).unwrap();
    host.refuses(UNDERLAY, &request(false), CIRCUIT, Reason::NoNextHop, 0);
    assert_eq!(host.get::<_, u32>("REFLECTED", &label::index(LABEL)).unwrap(), Some(0));
}

#[test]
fn udp_checksum_of_a_request_that_has_one_is_right_in_its_answer() {
    for v6 in [false, true] {
        let host = host(v6);
        for round in 0..200u32 {
            let mut packet = stamp::request(round.wrapping_mul(0x9e37_79b9), round as u16);
            packet.extend(&EXTENSION[..]);
            let mut frame = stamp::path_request(ends(v6), LABEL, &packet);
            frame::put_udp_checksum(v6, &mut frame);
            let out = host.sends(UNDERLAY, &frame).frame;
            assert_eq!(frame::udp_sum(v6, &out), 0xffff, "IPv6 {v6}, round {round}");
        }
        let out = host.sends(UNDERLAY, &request(v6)).frame;
        assert_eq!(out[vxlan(v6) - 2..vxlan(v6)], [0, 0], "none stays none");
    }
}

#[test]
fn longer_request_gets_an_answer_of_its_length_with_its_extensions() {
    for v6 in [false, true] {
        let host = host(v6);
        for more in [1, 12, 500, 1300] {
            let mut packet = stamp::request(1, 2);
            packet.extend(EXTENSION.iter().cycle().take(more));
            let frame = stamp::path_request(ends(v6), LABEL, &packet);
            let before = stamp::tai();
            let out = host.sends(UNDERLAY, &frame).frame;
            stamp::check(&out[stamp_at(v6)..], &packet, host_number(&host) - 1, 64, &(before..=stamp::tai()));
        }
    }
}

fn host_number(host: &Host) -> u32 {
    host.get("REFLECTED", &label::index(LABEL)).unwrap().unwrap()
}

#[test]
fn answer_is_told_and_goes_no_further() {
    for v6 in [false, true] {
        let mut host = host(v6);
        let before = stamp::monotonic();
        for (number, sequence) in [(7, 1000), (8, u32::MAX)] {
            let packet = stamp::answer(number, sequence, 0xbeef);
            let frame = stamp::path_answer(ends(v6), LABEL, &packet);
            host.leaves_alone(XDP, &frame);
            assert_eq!(host.run(UNDERLAY, &frame).unwrap().verdict, SHOT);
        }
        let after = stamp::monotonic();
        nothing_counted(&host);
        let replies = host.replies().unwrap();
        assert_eq!(replies.len(), 2);
        for (reply, (number, sequence)) in replies.iter().zip([(7, 1000), (8, u32::MAX)]) {
            assert_eq!((reply.label, reply.session), (LABEL, 0xbeef));
            assert_eq!((reply.reflected, reply.sequence), (number, sequence));
            assert_eq!(reply.from, address(ends(v6).0));
            assert_eq!((reply.received, reply.answered), (1_000_000_002, 3_000_000_004));
            assert!((before..=after).contains(&reply.arrived), "{} in {before}..{after}", reply.arrived);
        }
        assert!(host.replies().unwrap().is_empty());
    }
}

#[test]
fn answers_beyond_the_ring_are_lost_and_the_next_after_a_look_is_not() {
    let mut host = host(false);
    let frame = stamp::path_answer(ends(false), LABEL, &stamp::answer(1, 2, 3));
    let room = (ebpf_abi::maps::PROBES / (size_of::<ebpf_abi::probe::Reply>() as u32 + 8)) as usize;
    for _ in 0..room + 100 {
        assert_eq!(host.run(UNDERLAY, &frame).unwrap().verdict, SHOT);
    }
    let told = host.replies().unwrap().len();
    assert!((room - 1..=room).contains(&told), "{told} of {room}");
    assert_eq!(host.run(UNDERLAY, &frame).unwrap().verdict, SHOT);
    assert_eq!(host.replies().unwrap().len(), 1);
    nothing_counted(&host);
}

#[test]
fn request_without_a_way_back_is_refused_by_name() {
    for v6 in [false, true] {
        let host = host(v6);
        let frame = request(v6);
        for (entry, reason) in [
            (LabelEntry { out_label: 0, ..entry(v6) }, Reason::NoWayBack),
            (LabelEntry { back: HOP_EMPTY, ..entry(v6) }, Reason::NoNextHop),
            (LabelEntry { back: u32::MAX, ..entry(v6) }, Reason::NoNextHop),
            (LabelEntry { back: hop(!v6), ..entry(v6) }, Reason::NoNextHop),
        ] {
            host.label(&entry).unwrap();
            host.refuses(UNDERLAY, &frame, CIRCUIT, reason, 0);
        }
        host.label(&entry(v6)).unwrap();
        let gone = NextHop { ifindex: 0x7fff_0000, ..host.get("NEXT_HOPS", &hop(v6)).unwrap().unwrap() };
        host.put("NEXT_HOPS", &hop(v6), &gone).unwrap();
        host.refuses(UNDERLAY, &frame, CIRCUIT, Reason::NoInterface, 0);
    }
}

#[test]
fn way_back_to_an_unresolved_neighbour_is_the_kernels_to_resolve() {
    let host = host(false);
    host.label(&LabelEntry { back: HOP_UNRESOLVED, ..entry(false) }).unwrap();
    host.sends(UNDERLAY, &request(false));
}

#[test]
fn marked_packet_of_another_shape_is_a_malformed_probe() {
    for v6 in [false, true] {
        let mut host = host(v6);
        let ip = vxlan(v6) + 8 + 14;
        let udp = ip + 20;
        let wrong: &[(usize, &[u8])] = &[
            (ip - 2, &[0x86, 0xdd]),
            (ip - 2, &[0x08, 0x06]),
            (ip - 2, &[0x81, 0x00]),
            (ip, &[0x46]),
            (ip, &[0x65]),
            (ip + 2, &[0, 73]),
            (ip + 2, &[0xff, 0xff]),
            (ip + 6, &[0x20, 0]),
            (ip + 6, &[0, 1]),
            (ip + 9, &[6]),
            (ip + 12, &[169, 254, 86, 2]),
            (ip + 12, &[10, 0, 0, 1]),
            (ip + 16, &[169, 254, 86, 1]),
            (ip + 16, &[169, 254, 86, 3]),
            (udp + 2, &[0x03, 0x5f]),
            (udp + 4, &[0, 51]),
            (udp + 4, &[0, 0]),
            (udp + 4, &[0xff, 0xff]),
            (udp + 6, &[0, 1]),
        ];
        for (at, bytes) in wrong {
            let mut frame = request(v6);
            frame[*at..at + bytes.len()].copy_from_slice(bytes);
            host.refuses(UNDERLAY, &frame, CIRCUIT, Reason::MalformedProbe, 0);
        }
        // Lengths that agree with each other and are too short for STAMP.
        let short = stamp::path_request(ends(v6), LABEL, &stamp::request(1, 2)[..43]);
        host.refuses(UNDERLAY, &short, CIRCUIT, Reason::MalformedProbe, 0);
        // Bytes behind the datagram that belong to the packet.
        let mut longer = request(v6);
        longer.extend([0; 4]);
        longer[ip + 3] += 4;
        host.refuses(UNDERLAY, &longer, CIRCUIT, Reason::MalformedProbe, 0);
        // A whole STAMP packet, and less of its extension than the headers claim.
        let mut long = stamp::request(1, 2);
        long.extend(EXTENSION);
        let mut cut = stamp::path_request(ends(v6), LABEL, &long);
        cut.truncate(cut.len() - 1);
        host.refuses(UNDERLAY, &cut, CIRCUIT, Reason::MalformedProbe, 0);
        let mut answer = stamp::path_answer(ends(v6), LABEL, &stamp::answer(1, 2, 3));
        answer[udp..udp + 2].copy_from_slice(&863u16.to_be_bytes());
        host.refuses(UNDERLAY, &answer, CIRCUIT, Reason::MalformedProbe, 0);
        assert!(host.replies().unwrap().is_empty());
    }
}

#[test]
fn probe_cut_at_any_byte_is_neither_answered_nor_told() {
    for v6 in [false, true] {
        let mut host = host(v6);
        let packet = stamp::answer(1, 2, 3);
        for whole in [request(v6), stamp::path_answer(ends(v6), LABEL, &packet)] {
            for length in (if v6 { 54 } else { 34 })..whole.len() {
                let ran = host.run(UNDERLAY, &whole[..length]).unwrap();
                let expected = if length < vxlan(v6) { NEXT } else { SHOT };
                assert_eq!(ran.verdict, expected, "{length} of {} bytes", whole.len());
            }
        }
        assert!(host.replies().unwrap().is_empty());
        let reasons = host.reasons();
        assert!(
            reasons.iter().all(|(name, _)| ["truncated", "malformed_probe"].contains(name)),
            "{reasons:?}"
        );
    }
}

#[test]
fn any_bytes_behind_the_mark_are_dropped_with_a_reason_or_proper() {
    let mut host = host(false);
    let mut state = 0x5851_f42d_4c95_7f2du64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let good = request(false);
    let mut drops = 0;
    for _ in 0..20_000 {
        let mut frame = good.clone();
        frame.truncate(vxlan(false) + 8 + usize::from(byte()) % 110);
        for _ in 0..byte() % 4 {
            let at = vxlan(false) + 8 + usize::from(byte()) % 100;
            if let Some(place) = frame.get_mut(at) {
                *place = byte();
            }
        }
        let ran = host.run(UNDERLAY, &frame).unwrap();
        match ran.verdict {
            SHOT => drops += 1,
            REDIRECT => assert_eq!(ran.frame.len(), frame.len()),
            other => panic!("verdict {other} on {frame:02x?}"),
        }
    }
    assert!(drops > 1000 && drops < 20_000, "{drops}");
    assert_eq!(host.all_drops().unwrap(), drops, "{:?}", host.reasons());
    assert!(host.replies().unwrap().is_empty(), "requests, whatever became of them, are no answers");
}

#[test]
fn probes_under_labels_that_do_not_let_them_in_are_refused_like_all_packets() {
    for v6 in [false, true] {
        let host = host(v6);
        let of = |ends, label| stamp::path_request(ends, label, &stamp::request(1, 2));
        let stranger: IpAddr = if v6 { "2001:db8::66" } else { "192.0.2.66" }.parse().unwrap();
        host.refuses(UNDERLAY, &of((stranger, ends(v6).1), LABEL), CIRCUIT, Reason::WrongPeer, 0);
        host.refuses(UNDERLAY, &of(ends(v6), LABEL + 1), 0, Reason::UnknownLabel, 0);
        host.refuses(UNDERLAY, &of(ends(v6), LABEL ^ 1 << 17), 0, Reason::StaleLabel, 0);
        let mut unmarked = of(ends(v6), LABEL);
        unmarked[vxlan(v6)] = 8;
        host.refuses(UNDERLAY, &unmarked, CIRCUIT, Reason::ForeignInner, 0);
        let mut invalid = of(ends(v6), LABEL);
        invalid[vxlan(v6)] = 1;
        host.refuses(UNDERLAY, &invalid, 0, Reason::MalformedVxlan, 0);
    }
}

#[test]
fn transit_swaps_the_label_of_a_probe_keeps_its_mark_and_does_not_count_it() {
    for v6 in [false, true] {
        for program in [XDP, UNDERLAY] {
            let host = Host::new().unwrap();
            host.label(&Host::transit(CIRCUIT, LABEL, v6, hop(v6), BACK)).unwrap();
            let probe = request(v6);
            let out = host.sends(program, &probe).frame;
            let at = vxlan(v6);
            assert_eq!(out[at..at + 8], [9, 0, 0, 0, 0x65, 0x43, 0x21, 0], "{program}");
            assert_eq!(out[at + 8..], probe[at + 8..], "{program}: nothing inside is touched");
            assert_eq!(out[if v6 { 21 } else { 22 }], 63);
            nothing_counted(&host);
            let mut traffic = probe.clone();
            traffic[at] = 8;
            host.sends(program, &traffic);
            let stats = host.stats(label::index(LABEL)).unwrap();
            assert_eq!((stats.received_packets, stats.received_bytes), (1, 20 + 8 + 44), "{program}");
        }
    }
}

#[test]
fn transit_keeps_the_udp_checksum_of_a_probe_right() {
    for v6 in [false, true] {
        let host = Host::new().unwrap();
        host.label(&Host::transit(CIRCUIT, LABEL, v6, hop(v6), BACK)).unwrap();
        let mut probe = request(v6);
        frame::put_udp_checksum(v6, &mut probe);
        host.leaves_alone(XDP, &probe);
        assert_eq!(frame::udp_sum(v6, &host.sends(UNDERLAY, &probe).frame), 0xffff);
    }
}
