//! Packets of every wrong shape: cut anywhere, with lying lengths, with extension headers, or plain garbage.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use std::net::IpAddr;

const CIRCUIT: u64 = 4;
const LABEL: u32 = 0x33;

fn host() -> Host {
    let host = Host::new().unwrap();
    host.open(CIRCUIT, HOP_IPV4).unwrap();
    host.label(&Host::delivery(CIRCUIT, LABEL, false)).unwrap();
    host.rules(CIRCUIT, 1, &[any(1, true)]).unwrap();
    host
}

fn ends(v6: bool) -> (IpAddr, IpAddr) {
    inner(CIRCUIT, v6)
}

/// Test runs of tcx programs need a whole IP header (kernel 6.18); shorter frames are cut in the unit tests of `parse`.
const fn shortest(v6: bool) -> usize {
    if v6 { 14 + 40 } else { 14 + 20 }
}

#[test]
fn workload_frame_cut_at_any_byte_never_passes() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = ends(v6);
        for payload in
            [frame::tcp(1, 2, frame::SYN), frame::udp(1, 2), frame::icmp(if v6 { 128 } else { 8 }, 1)]
        {
            let protocol = match payload.len() {
                32 => 6,
                16 if payload[..4] == [0, 1, 0, 2] => 17,
                _ => frame::icmp_protocol(near),
            };
            let whole = frame::ip_frame(&frame::ip(near, far, protocol, &payload));
            host.sends(ENI, &whole);
            for length in shortest(v6)..whole.len() {
                let ran = host.run(ENI, &whole[..length]).unwrap();
                assert_eq!(
                    ran.verdict,
                    SHOT,
                    "{length} of {} bytes, IPv6 {v6}, protocol {protocol}",
                    whole.len()
                );
            }
        }
    }
    let reasons = host.reasons();
    assert!(reasons.iter().all(|(name, _)| *name == "truncated"), "{reasons:?}");
}

#[test]
fn tunnel_frame_cut_at_any_byte_is_never_delivered_nor_passed_on() {
    for v6_underlay in [false, true] {
        let host = host();
        host.label(&Host::delivery(CIRCUIT, LABEL, v6_underlay)).unwrap();
        let (near, far) = ends(true);
        let (ours, theirs) = outer(v6_underlay);
        let whole =
            frame::tunnelled(theirs, ours, LABEL, &frame::ip(far, near, 6, &frame::tcp(1, 2, frame::SYN)));
        host.sends(UNDERLAY, &whole);
        for length in shortest(v6_underlay)..whole.len() {
            for (program, sent) in [(UNDERLAY, REDIRECT), (XDP, XDP_REDIRECT)] {
                let ran = host.run(program, &whole[..length]).unwrap();
                assert_ne!(ran.verdict, sent, "{program}, {length} of {} bytes", whole.len());
            }
        }
    }
}

#[test]
fn contradicting_ip_headers_are_malformed() {
    let host = host();
    let (near, far) = ends(false);
    let good = frame::ip_frame(&frame::ip(near, far, 17, &frame::udp(1, 2)));
    for (at, value) in [(14, 0x55), (14, 0x44), (14, 0x65), (17, 19), (17, 0)] {
        let mut frame = good.clone();
        frame[at] = value;
        host.refuses(ENI, &frame, 0, Reason::MalformedIp, 0);
    }
    let mut long = good.clone();
    long[17] += 1;
    host.refuses(ENI, &long, 0, Reason::Truncated, 0);
    let (near, far) = ends(true);
    let mut version = frame::ip_frame(&frame::ip(near, far, 17, &frame::udp(1, 2)));
    version[14] = 0x40;
    host.refuses(ENI, &version, 0, Reason::MalformedIp, 0);
}

#[test]
fn contradicting_transport_headers_are_malformed() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = ends(v6);
        let refuses = |protocol, payload: &[u8]| {
            let frame = frame::ip_frame(&frame::ip(near, far, protocol, payload));
            host.refuses(ENI, &frame, CIRCUIT, Reason::MalformedTransport, 0);
        };
        for flags in [0, 1, 3, 5, 6, 7, 0x20, 0x28, 0x3f] {
            refuses(6, &frame::tcp(1, 2, flags));
        }
        for offset in [0x00, 0x40, 0x90, 0xf0] {
            let mut short = frame::tcp(1, 2, frame::SYN);
            short[12] = offset;
            refuses(6, &short);
        }
        for length in [0u16, 7, 17, 65_535] {
            let mut udp = frame::udp(1, 2);
            udp[4..6].copy_from_slice(&length.to_be_bytes());
            refuses(17, &udp);
        }
    }
    let (near, far) = ends(true);
    let icmp4_in_ipv6 = frame::ip_frame(&frame::ip(near, far, 1, &frame::icmp(8, 1)));
    host.refuses(ENI, &icmp4_in_ipv6, CIRCUIT, Reason::MalformedTransport, 0);
}

/// An IPv6 packet with these extension headers of 8 bytes each.
fn extended(kinds: &[u8]) -> Vec<u8> {
    let (near, far) = ends(true);
    let mut payload = Vec::new();
    for i in 0..kinds.len() {
        let next = kinds.get(i + 1).copied().unwrap_or(17);
        // Length 0 is 8 bytes in all of them: an authentication header counts words less two, the others 8 bytes less one.
        payload.extend([next, 0, 1, 0, 0, 0, 0, 0]);
    }
    payload.extend(frame::udp(1, 2));
    frame::ip_frame(&frame::ip(near, far, kinds.first().copied().unwrap_or(17), &payload))
}

#[test]
fn six_extension_headers_are_walked_and_seven_refused() {
    let host = host();
    host.sends(ENI, &extended(&[0]));
    host.sends(ENI, &extended(&[0, 43, 60]));
    host.sends(ENI, &extended(&[51, 51, 60]));
    host.sends(ENI, &extended(&[0, 60, 60, 60, 60, 60]));
    host.refuses(ENI, &extended(&[0, 60, 60, 60, 60, 60, 60]), 0, Reason::ExtensionHeaders, 0);
}

#[test]
fn firewall_sees_the_ports_behind_extension_headers() {
    let host = host();
    let row = ebpf_abi::rules::RuleRow { protocol: 17, port_from: 3, ..any(1, true) };
    host.rules(CIRCUIT, 2, &[row]).unwrap();
    host.refuses(ENI, &extended(&[0, 60]), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn routing_header_of_type_0_is_refused() {
    let host = host();
    let mut frame = extended(&[43]);
    frame[14 + 40 + 2] = 0;
    host.refuses(ENI, &frame, 0, Reason::ExtensionHeaders, 0);
}

#[test]
fn extension_header_that_points_past_the_packet_is_truncated() {
    let host = host();
    let mut frame = extended(&[60]);
    frame[14 + 40 + 1] = 200;
    host.refuses(ENI, &frame, 0, Reason::Truncated, 0);
}

#[test]
fn fragments_pass_after_their_first_and_not_before_in_both_families() {
    for v6 in [false, true] {
        let host = host();
        let (near, far) = ends(v6);
        let piece = |id, offset, more, payload: &[u8]| {
            frame::ip_frame(&frame::fragment(near, far, 17, id, offset, more, payload))
        };
        let rest = [7; 64];
        let (first, middle, last) =
            (piece(1, 0, true, &frame::udp(1, 2)), piece(1, 16, true, &rest), piece(1, 80, false, &rest));
        host.refuses(ENI, &last, CIRCUIT, Reason::FragmentWithoutFirst, 0);
        host.refuses(ENI, &middle, CIRCUIT, Reason::FragmentWithoutFirst, 0);
        host.sends(ENI, &first);
        for frame in [&middle, &last, &last, &middle, &first] {
            host.sends(ENI, frame);
        }
        host.refuses(ENI, &piece(2, 80, false, &rest), CIRCUIT, Reason::FragmentWithoutFirst, 0);
        host.rules(CIRCUIT, 2, &[]).unwrap();
        host.refuses(ENI, &first, CIRCUIT, Reason::DeniedByRule, 0);
        host.refuses(ENI, &last, CIRCUIT, Reason::FragmentWithoutFirst, 0);
    }
}

#[test]
fn fragment_that_would_overwrite_a_tcp_header_or_end_past_64_kib_is_malformed() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = ends(v6);
        let overlap = frame::ip_frame(&frame::fragment(near, far, 6, 1, 8, true, &[0; 24]));
        host.refuses(ENI, &overlap, CIRCUIT, Reason::MalformedIp, 0);
        let ping_of_death = frame::ip_frame(&frame::fragment(near, far, 17, 1, 65_528, false, &[0; 64]));
        host.refuses(ENI, &ping_of_death, 0, Reason::MalformedIp, 0);
    }
}

#[test]
fn garbage_never_passes_and_every_drop_is_counted() {
    let host = host();
    // Some of it is a proper SYN by chance.
    host.rules(CIRCUIT, 2, &[]).unwrap();
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let (near, far) = ends(false);
    let good = frame::ip_frame(&frame::ip(near, far, 6, &frame::tcp(1, 2, frame::ACK)));
    for round in 0..20_000 {
        let length = shortest(true) + usize::from(byte()) % 120;
        let mut frame: Vec<u8> = (0..length).map(|_| byte()).collect();
        if round % 2 == 0 {
            // Plausible beginnings reach deeper.
            let keep = usize::from(byte()) % good.len().min(length);
            frame[..keep].copy_from_slice(&good[..keep]);
        }
        frame[..6].fill(0);
        assert_eq!(host.run(ENI, &frame).unwrap().verdict, SHOT, "{frame:02x?}");
        assert_ne!(host.run(UNDERLAY, &frame).unwrap().verdict, REDIRECT, "{frame:02x?}");
        assert_ne!(host.run(XDP, &frame).unwrap().verdict, XDP_REDIRECT, "{frame:02x?}");
    }
    assert_eq!(host.all_drops().unwrap(), 20_000, "{:?}", host.reasons());
}
