//! Link probes: plain STAMP to port 862, answered in place for known neighbours and left alone for everybody else.
use crate::fixture::*;
use crate::frame;
use crate::stamp::{self, EXTENSION, PORT};
use ebpf_abi::Reason;
use ebpf_abi::probe::{PER_SECOND, Peer, TOLD_PER_SECOND};
use std::net::IpAddr;

const SESSION: u16 = 0xbeef;

fn host() -> Host {
    let host = Host::new().unwrap();
    for v6 in [false, true] {
        host.peer(ends(v6).0, SESSION).unwrap();
        host.peer(ends(v6).0, 0).unwrap();
    }
    host
}

/// From the neighbour to us.
fn ends(v6: bool) -> (IpAddr, IpAddr) {
    let (ours, theirs) = outer(v6);
    (theirs, ours)
}

fn udp_at(v6: bool) -> usize {
    if v6 { 54 } else { 34 }
}

fn stamp_at(v6: bool) -> usize {
    udp_at(v6) + 8
}

fn request(v6: bool, packet: &[u8]) -> Vec<u8> {
    let mut frame = stamp::datagram(ends(v6), (20_862, PORT), packet);
    frame[6..12].copy_from_slice(&NEIGHBOUR_MAC);
    frame
}

/// Everything before the STAMP packet, sent back: the frame as RFC 8762 and 768 want it, built without the code under test.
fn headers(v6: bool, before: &[u8]) -> Vec<u8> {
    let (theirs, ours) = ends(v6);
    let packet = &before[stamp_at(v6)..];
    let mut head = NEIGHBOUR_MAC.to_vec();
    head.extend(&before[..6]);
    head.extend(&before[12..14]);
    head.extend(frame::ip(ours, theirs, 17, &frame::udp_with(PORT, 20_862, packet)));
    head[if v6 { 21 } else { 22 }] = 255;
    if !v6 {
        frame::fix_checksum(&mut head[14..34]);
    }
    head.truncate(stamp_at(v6));
    head
}

/// The frame is answered, byte by byte; `number` is the reflector's own.
#[track_caller]
fn answers(host: &Host, v6: bool, frame: &[u8], number: u32) {
    let before = stamp::tai();
    let mut out = host.sends(UNDERLAY, frame).frame;
    let during = before..=stamp::tai();
    stamp::check(&out[stamp_at(v6)..], &frame[stamp_at(v6)..], number, 64, &during);
    let checksum = udp_at(v6) + 6;
    if frame[checksum..checksum + 2] == [0, 0] {
        assert_eq!(out[checksum..checksum + 2], [0, 0], "none stays none");
    } else {
        assert_eq!(frame::udp_sum(v6, &out), 0xffff, "IPv6 {v6}");
        out[checksum..checksum + 2].fill(0);
    }
    assert_eq!(out[..stamp_at(v6)], headers(v6, frame), "IPv6 {v6}");
    assert_eq!(host.all_drops().unwrap(), 0);
}

#[test]
fn foreign_senders_packet_is_answered_byte_by_byte() {
    for v6 in [false, true] {
        // With and without RFC 8972's session identifier.
        for session in [SESSION, 0] {
            let host = host();
            for number in 0..3 {
                let frame = request(v6, &stamp::request(number * 1000, session));
                host.leaves_alone(XDP, &frame);
                answers(&host, v6, &frame, number);
            }
            if !v6 {
                let mut unsummed = request(v6, &stamp::request(5, session));
                unsummed[40..42].fill(0);
                answers(&host, v6, &unsummed, 3);
            }
        }
    }
}

#[test]
fn udp_checksum_of_the_answer_is_right_whatever_was_asked() {
    let host = host();
    for v6 in [false, true] {
        for round in 0..300u32 {
            let mut packet = stamp::request(round.wrapping_mul(0x9e37_79b9), SESSION);
            packet[4..14].copy_from_slice(&[round as u8; 10]);
            packet.extend(vec![round as u8; round as usize]);
            answers(&host, v6, &request(v6, &packet), round);
        }
    }
}

#[test]
fn damaged_checksum_stays_damaged() {
    let host = host();
    for v6 in [false, true] {
        let mut frame = request(v6, &stamp::request(1, SESSION));
        frame[udp_at(v6) + 6] ^= 0x55;
        assert_ne!(frame::udp_sum(v6, &host.sends(UNDERLAY, &frame).frame), 0xffff);
    }
    let mut frame = request(false, &stamp::request(1, SESSION));
    frame[24] ^= 0x55;
    assert_ne!(frame::sum(&host.sends(UNDERLAY, &frame).frame[14..34]), 0xffff);
}

#[test]
fn longer_request_gets_an_answer_of_its_length_with_its_extensions() {
    for v6 in [false, true] {
        let host = host();
        // 68 more are as long as the authenticated mode.
        for (number, more) in [1, 12, 67, 68, 69, 1300].into_iter().enumerate() {
            let mut packet = stamp::request(1, SESSION);
            packet.extend(EXTENSION.iter().cycle().take(more));
            answers(&host, v6, &request(v6, &packet), number as u32);
        }
    }
}

#[test]
fn strangers_sessions_and_destinations_that_are_not_known_are_left_to_the_kernel() {
    for v6 in [false, true] {
        let mut host = Host::new().unwrap();
        let (theirs, ours) = ends(v6);
        host.peer(theirs, SESSION).unwrap();
        let stranger: IpAddr = if v6 { "2001:db8::66" } else { "192.0.2.66" }.parse().unwrap();
        let mut unknown = Vec::new();
        for (ports, packet) in [
            ((20_862, PORT), stamp::request as fn(u32, u16) -> Vec<u8>),
            ((PORT, 20_862), |sequence, session| stamp::answer(0, sequence, session)),
        ] {
            unknown.push(stamp::datagram((stranger, ours), ports, &packet(1, SESSION)));
            unknown.push(stamp::datagram((theirs, stranger), ports, &packet(1, SESSION)));
            unknown.push(stamp::datagram((theirs, ours), ports, &packet(1, SESSION + 1)));
            unknown.push(stamp::datagram((theirs, ours), ports, &packet(1, 0)));
        }
        unknown.push(stamp::datagram((theirs, ours), (20_862, 863), &stamp::request(1, SESSION)));
        for frame in &unknown {
            for program in [XDP, UNDERLAY] {
                host.leaves_alone(program, frame);
            }
        }
        assert!(host.replies().unwrap().is_empty());
        let peer: Peer = host.get("PEERS", &peer_key(theirs, SESSION)).unwrap().unwrap();
        assert_eq!((peer.answered, peer.spent), (0, 0));
    }
}

#[test]
fn authenticated_mode_is_left_to_user_space() {
    let mut host = host();
    for v6 in [false, true] {
        // RFC 8762 §4.2.2, RFC 8972 §3: sequence, 12 zeros, time, error estimate, session, 68 zeros, HMAC.
        let mut packet = vec![0, 0, 0, 9];
        packet.extend([0; 12]);
        packet.extend(stamp::SENT);
        packet.extend([0x40, 1]);
        packet.extend(SESSION.to_be_bytes());
        packet.extend([0; 68]);
        packet.extend([0xa5; 16]);
        assert_eq!(packet.len(), 112);
        for more in [0, 12] {
            let mut packet = packet.clone();
            packet.extend(vec![0x80; more]);
            host.leaves_alone(UNDERLAY, &request(v6, &packet));
            host.leaves_alone(UNDERLAY, &stamp::datagram(ends(v6), (PORT, 20_862), &packet));
        }
    }
    assert!(host.replies().unwrap().is_empty());
}

#[test]
fn answers_beyond_a_seconds_budget_are_refused_by_name_and_the_next_second_has_a_new_one() {
    let host = host();
    for v6 in [false, true] {
        let (theirs, _) = ends(v6);
        let frame = request(v6, &stamp::request(1, SESSION));
        let spend = |second, spent| {
            let peer = Peer { second, spent, answered: 40, told: 0 };
            host.put("PEERS", &peer_key(theirs, SESSION), &peer).unwrap();
        };
        let second = in_one_second(|second| {
            spend(second, PER_SECOND - 1);
            host.sends(UNDERLAY, &frame);
            host.run(UNDERLAY, &frame).unwrap().verdict == SHOT
        });
        let peer: Peer = host.get("PEERS", &peer_key(theirs, SESSION)).unwrap().unwrap();
        assert_eq!((peer.second, peer.spent, peer.answered), (second, PER_SECOND, 41));
        in_one_second(|second| {
            spend(second, PER_SECOND);
            let before = host.dropped(Reason::ProbeBudget).unwrap().packets;
            let verdict = host.run(UNDERLAY, &frame).unwrap().verdict;
            let refused = host.dropped(Reason::ProbeBudget).unwrap().packets - before == 1;
            verdict == SHOT && refused && host.dropped_by(0, Reason::ProbeBudget, 0).unwrap() > before
        });
        // The other session has its own, and the second before is over.
        host.sends(UNDERLAY, &request(v6, &stamp::request(1, 0)));
        spend(stamp::monotonic() / 1_000_000_000 - 1, PER_SECOND);
        host.sends(UNDERLAY, &frame);
    }
}

/// The second in which `claim` held from beginning to end; a claim that falls between two seconds says nothing.
#[track_caller]
fn in_one_second(claim: impl Fn(u64) -> bool) -> u64 {
    let now = || stamp::monotonic() / 1_000_000_000;
    loop {
        let second = now();
        let held = claim(second);
        if now() == second {
            assert!(held);
            return second;
        }
    }
}

#[test]
fn answer_to_our_own_probe_is_told_and_goes_no_further() {
    for v6 in [false, true] {
        let mut host = host();
        let mut packet = stamp::answer(77, 78, SESSION);
        packet.extend(EXTENSION);
        let frame = stamp::datagram(ends(v6), (PORT, 20_862), &packet);
        host.leaves_alone(XDP, &frame);
        let before = stamp::monotonic();
        assert_eq!(host.run(UNDERLAY, &frame).unwrap().verdict, SHOT);
        let after = stamp::monotonic();
        let replies = host.replies().unwrap();
        let [reply] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((reply.label, reply.session, reply.from), (0, SESSION, address(ends(v6).0)));
        assert_eq!((reply.reflected, reply.sequence), (77, 78));
        assert_eq!((reply.received, reply.answered), (1_000_000_002, 3_000_000_004));
        assert!((before..=after).contains(&reply.arrived));
        assert_eq!(host.all_drops().unwrap(), 0);
    }
}

#[test]
fn answers_beyond_a_seconds_budget_are_not_told() {
    let mut host = host();
    for v6 in [false, true] {
        let (theirs, _) = ends(v6);
        let frame = stamp::datagram(ends(v6), (PORT, 20_862), &stamp::answer(1, 2, SESSION));
        let have = |host: &Host, second, told| {
            let peer = Peer { second, spent: PER_SECOND, answered: 40, told };
            host.put("PEERS", &peer_key(theirs, SESSION), &peer).unwrap();
        };
        in_one_second(|second| {
            have(&host, second, TOLD_PER_SECOND - 1);
            let before = host.dropped(Reason::ProbeBudget).unwrap().packets;
            let verdicts = [(); 2].map(|()| host.run(UNDERLAY, &frame).unwrap().verdict);
            let peer: Peer = host.get("PEERS", &peer_key(theirs, SESSION)).unwrap().unwrap();
            let refused = host.dropped(Reason::ProbeBudget).unwrap().packets - before;
            verdicts == [SHOT; 2] && refused == 1 && peer.told == TOLD_PER_SECOND
        });
        let told = host.replies().unwrap();
        assert!(!told.is_empty() && told.iter().all(|reply| reply.sequence == 2), "{told:?}");
        // The second before is over, and what was answered in it does not count.
        have(&host, stamp::monotonic() / 1_000_000_000 - 1, TOLD_PER_SECOND);
        host.run(UNDERLAY, &frame).unwrap();
        assert_eq!(host.replies().unwrap().len(), 1, "IPv6 {v6}");
    }
}

/// What two reflectors would do to each other if one of them were sent a request that seems to come from the other.
#[test]
fn what_comes_from_port_862_is_never_answered() {
    let mut host = host();
    for v6 in [false, true] {
        let (theirs, ours) = ends(v6);
        let answer = host.sends(UNDERLAY, &request(v6, &stamp::request(1, SESSION))).frame;
        let from_a_reflector = stamp::datagram((theirs, ours), (PORT, PORT), &answer[stamp_at(v6)..]);
        for packet in [stamp::request(1, SESSION), stamp::answer(1, 1, SESSION)] {
            let frame = stamp::datagram((theirs, ours), (PORT, PORT), &packet);
            assert_eq!(host.run(UNDERLAY, &frame).unwrap().verdict, SHOT, "IPv6 {v6}");
        }
        assert_eq!(host.run(UNDERLAY, &from_a_reflector).unwrap().verdict, SHOT, "IPv6 {v6}");
        assert_eq!(host.replies().unwrap().len(), 3, "they are taken for answers");
        let peer: Peer = host.get("PEERS", &peer_key(theirs, SESSION)).unwrap().unwrap();
        assert_eq!(peer.answered, 1);
    }
}

#[test]
fn datagrams_of_other_shapes_are_left_to_the_kernel() {
    let host = host();
    for v6 in [false, true] {
        for length in 0..44 {
            host.leaves_alone(UNDERLAY, &request(v6, &stamp::request(1, SESSION)[..length]));
        }
        let good = request(v6, &stamp::request(1, SESSION));
        let udp = udp_at(v6);
        for length in [0u16, 7, 8, 51, 53, 1000, 65_535] {
            let mut lying = good.clone();
            lying[udp + 4..udp + 6].copy_from_slice(&length.to_be_bytes());
            host.leaves_alone(UNDERLAY, &lying);
        }
        for less in [1, 44, 52] {
            let at = if v6 { 18 } else { 16 };
            let mut lying = good.clone();
            let claims = u16::from_be_bytes([good[at], good[at + 1]]) - less;
            lying[at..at + 2].copy_from_slice(&claims.to_be_bytes());
            host.leaves_alone(UNDERLAY, &lying);
        }
        let mut to_many = good.clone();
        to_many[0] = 1;
        host.leaves_alone(UNDERLAY, &to_many);
        for length in (if v6 { 54 } else { 34 })..good.len() {
            host.leaves_alone(UNDERLAY, &good[..length]);
        }
        // The frame ends inside the extension.
        let mut cut = request(v6, &[&stamp::request(1, SESSION)[..], &EXTENSION].concat());
        cut.pop();
        host.leaves_alone(UNDERLAY, &cut);
        let (theirs, ours) = ends(v6);
        let whole = frame::udp_with(20_862, PORT, &stamp::request(1, SESSION));
        let first = frame::fragment(theirs, ours, 17, 3, 0, true, &whole);
        host.leaves_alone(UNDERLAY, &frame::ip_frame(&first));
        let later = frame::fragment(theirs, ours, 17, 3, 1480, false, &whole);
        host.leaves_alone(UNDERLAY, &frame::ip_frame(&later));
    }
    let mut unsummed = request(true, &stamp::request(1, SESSION));
    unsummed[60..62].fill(0);
    host.leaves_alone(UNDERLAY, &unsummed);
}

#[test]
fn ipv4_options_and_trailing_padding_do_not_disturb() {
    let host = host();
    let plain = request(false, &stamp::request(1, SESSION));
    let mut padded = plain.clone();
    padded.extend([0; 18]);
    let out = host.sends(UNDERLAY, &padded).frame;
    assert_eq!(frame::udp_sum(false, &out[..plain.len()]), 0xffff);
    assert_eq!(out[plain.len()..], [0; 18]);
    let mut options = plain[..34].to_vec();
    options[14] = 0x46;
    options[17] += 4;
    options.extend([1, 1, 1, 0]);
    frame::fix_checksum(&mut options[14..38]);
    options.extend(&plain[34..]);
    let out = host.sends(UNDERLAY, &options).frame;
    assert_eq!(frame::sum(&out[14..38]), 0xffff);
    assert_eq!(out[34..38], [1, 1, 1, 0]);
    assert_eq!(out[38..42], [3, 0x5e, 0x51, 0x7e]);
    assert_eq!(out[46 + 24..46 + 28], [0, 0, 0, 1], "sequence number of the sender");
}

#[test]
fn any_bytes_between_these_ports_are_answered_rightly_or_left_alone() {
    let host = host();
    let mut state = 0x0123_4567_89ab_cdefu64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let mut answered = 0;
    for round in 0..4_000 {
        let v6 = round % 2 == 0;
        let length = usize::from(byte()) % 130;
        let mut packet: Vec<u8> = (0..length).map(|_| byte()).collect();
        if length > 16 && byte() % 2 == 0 {
            packet[14..16].copy_from_slice(&SESSION.to_be_bytes());
        }
        let mut frame = request(v6, &packet);
        if byte() % 4 == 0 {
            let at = 14 + usize::from(byte()) % (frame.len() - 14);
            frame[at] = byte();
        }
        // Each second has answers again.
        host.peer(ends(v6).0, SESSION).unwrap();
        let ran = host.run(UNDERLAY, &frame).unwrap();
        match ran.verdict {
            REDIRECT => {
                answered += 1;
                assert_eq!(ran.frame.len(), frame.len());
                let (before, after) = (frame::udp_sum(v6, &frame), frame::udp_sum(v6, &ran.frame));
                assert_eq!(before == 0xffff, after == 0xffff, "{frame:02x?} became {:02x?}", ran.frame);
            }
            NEXT => assert_eq!(ran.frame, frame),
            SHOT => assert!(host.all_drops().unwrap() > 0, "{frame:02x?}"),
            other => panic!("verdict {other} on {frame:02x?}"),
        }
    }
    assert!(answered > 300, "{answered}");
}
