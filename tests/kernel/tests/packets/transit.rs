//! A transit host: label swapped, addressed to the next hop, one TTL less; in XDP and in tcx alike.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label;
use std::net::IpAddr;

const LABEL: u32 = 0x0002_0155;
const OUT: u32 = 0x00fe_dcba;
const CIRCUIT: u64 = 77;

fn hop(v6: bool) -> u32 {
    if v6 { HOP_IPV6 } else { HOP_IPV4 }
}

fn host(v6: bool) -> Host {
    let host = Host::new().unwrap();
    host.label(&Host::transit(CIRCUIT, LABEL, v6, hop(v6), OUT)).unwrap();
    host
}

fn arriving(v6: bool, label: u32) -> Vec<u8> {
    let (ours, theirs) = outer(v6);
    let (near, far) = inner(CIRCUIT, false);
    frame::tunnelled(theirs, ours, label, &frame::ip(near, far, 17, &frame::udp(1, 2)))
}

/// Where the VXLAN header starts.
fn vxlan(v6: bool) -> usize {
    if v6 { 14 + 40 + 8 } else { 14 + 20 + 8 }
}

/// What a label swap must make of a frame, built without the code under test.
fn swapped(v6: bool, before: &[u8]) -> Vec<u8> {
    let (ours, theirs) = outer(v6);
    let mut frame = before.to_vec();
    frame[..6].copy_from_slice(&NEIGHBOUR_MAC);
    frame[6..12].copy_from_slice(&OUR_MAC);
    let at = vxlan(v6) + 4;
    frame[at..at + 3].copy_from_slice(&OUT.to_be_bytes()[1..]);
    match (ours, theirs) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame[22] -= 1;
            frame[26..30].copy_from_slice(&from.octets());
            frame[30..34].copy_from_slice(&to.octets());
            frame::fix_checksum(&mut frame[14..34]);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame[21] -= 1;
            frame[22..38].copy_from_slice(&from.octets());
            frame[38..54].copy_from_slice(&to.octets());
        }
        _ => unreachable!("one family"),
    }
    frame
}

#[test]
fn transit_swaps_label_addresses_and_ttl_and_counts() {
    for v6 in [false, true] {
        for program in [XDP, UNDERLAY] {
            let host = host(v6);
            let frame = arriving(v6, LABEL);
            let out = host.sends(program, &frame).frame;
            assert_eq!(out, swapped(v6, &frame), "{program}, IPv6 {v6}");
            let stats = host.stats(label::index(LABEL)).unwrap();
            assert_eq!(
                (stats.received_packets, stats.received_bytes),
                (1, 20 + 8 + 8),
                "{program}, IPv6 {v6}"
            );
            assert_eq!((stats.sent_packets, stats.sent_bytes), (0, 0));
        }
    }
}

#[test]
fn transit_keeps_the_ipv4_checksum_right_for_every_ttl() {
    let host = host(false);
    for ttl in 2..=255 {
        let mut frame = arriving(false, LABEL);
        frame[22] = ttl;
        frame[18] = ttl.wrapping_mul(31);
        frame::fix_checksum(&mut frame[14..34]);
        for program in [XDP, UNDERLAY] {
            let out = host.sends(program, &frame).frame;
            assert_eq!(frame::sum(&out[14..34]), 0xffff, "{program}, TTL {ttl}");
        }
    }
}

#[test]
fn transit_does_not_mend_a_damaged_ipv4_checksum() {
    let host = host(false);
    let mut frame = arriving(false, LABEL);
    frame[24] ^= 0x55;
    for program in [XDP, UNDERLAY] {
        let out = host.sends(program, &frame).frame;
        assert_ne!(frame::sum(&out[14..34]), 0xffff, "{program}");
    }
}

#[test]
fn ttl_that_runs_out_is_refused() {
    for v6 in [false, true] {
        let host = host(v6);
        for ttl in [0, 1] {
            let mut frame = arriving(v6, LABEL);
            frame[if v6 { 21 } else { 22 }] = ttl;
            for program in [XDP, UNDERLAY] {
                host.refuses(program, &frame, CIRCUIT, Reason::TtlExceeded, 0);
            }
        }
    }
}

#[test]
fn labels_that_are_unknown_stale_or_from_others_are_refused() {
    for v6 in [false, true] {
        let host = host(v6);
        let (ours, _) = outer(v6);
        let stranger: IpAddr = if v6 { "2001:db8::66" } else { "192.0.2.66" }.parse().unwrap();
        let stolen = frame::tunnelled(stranger, ours, LABEL, &frame::ip(ours, ours, 17, &frame::udp(1, 2)));
        for program in [XDP, UNDERLAY] {
            host.refuses(program, &arriving(v6, LABEL + 1), 0, Reason::UnknownLabel, 0);
            host.refuses(program, &arriving(v6, 0), 0, Reason::UnknownLabel, 0);
            host.refuses(program, &arriving(v6, LABEL ^ 1 << 17), 0, Reason::StaleLabel, 0);
            host.refuses(program, &stolen, CIRCUIT, Reason::WrongPeer, 0);
        }
    }
}

#[test]
fn whatever_is_not_for_this_host_or_not_a_tunnel_is_left_alone() {
    for v6 in [false, true] {
        let host = host(v6);
        let (ours, theirs) = outer(v6);
        let elsewhere: IpAddr = if v6 { "2001:db8::99" } else { "192.0.2.99" }.parse().unwrap();
        let others = [
            frame::tunnelled(theirs, elsewhere, LABEL, &frame::ip(theirs, ours, 17, &frame::udp(1, 2))),
            frame::tunnelled(theirs, elsewhere, LABEL + 9, &frame::ip(theirs, ours, 17, &frame::udp(1, 2))),
            frame::ip_frame(&frame::ip(theirs, ours, 17, &frame::udp(4789, 53))),
            frame::ip_frame(&frame::ip(theirs, ours, 6, &frame::tcp(4789, 4789, frame::SYN))),
            frame::ip_frame(&frame::ip(theirs, ours, 47, b"generic routing")),
            frame::ethernet(0x0806, &[0; 28]),
            frame::ethernet(0x88cc, b"link layer discovery, which is nobody's business here"),
        ];
        for program in [XDP, UNDERLAY] {
            for frame in &others {
                host.leaves_alone(program, frame);
            }
        }
    }
}

#[test]
fn vxlan_header_without_a_valid_label_is_refused() {
    for v6 in [false, true] {
        let host = host(v6);
        let mut frame = arriving(v6, LABEL);
        frame[vxlan(v6)] = 0;
        for program in [XDP, UNDERLAY] {
            host.refuses(program, &frame, 0, Reason::MalformedVxlan, 0);
        }
    }
}

#[test]
fn outer_fragments_are_refused_by_name_and_xdp_leaves_them_to_tcx() {
    let host = host(false);
    let mut frame = arriving(false, LABEL);
    frame[20] = 0x20;
    frame::fix_checksum(&mut frame[14..34]);
    host.refuses(UNDERLAY, &frame, 0, Reason::OuterFragment, 0);
    host.leaves_alone(XDP, &frame);
    let (ours, theirs) = outer(true);
    let udp = frame::udp_with(50_000, 4789, &[8, 0, 0, 0, 0, 0, 1, 0]);
    let v6 = frame::ip_frame(&frame::fragment(theirs, ours, 17, 5, 0, true, &udp));
    host.refuses(UNDERLAY, &v6, 0, Reason::OuterFragment, 0);
    host.leaves_alone(XDP, &v6);
}

#[test]
fn ipv4_options_and_unresolved_neighbours_are_left_to_tcx_which_handles_them() {
    let host = host(false);
    let plain = arriving(false, LABEL);
    let mut options = plain[..34].to_vec();
    options[14] = 0x46;
    let total = u16::from_be_bytes([plain[16], plain[17]]) + 4;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    options.extend([1, 1, 1, 0]);
    frame::fix_checksum(&mut options[14..38]);
    options.extend(&plain[34..]);
    host.leaves_alone(XDP, &options);
    let out = host.sends(UNDERLAY, &options).frame;
    assert_eq!(frame::sum(&out[14..38]), 0xffff);
    assert_eq!(&out[38 + 8 + 4..38 + 8 + 7], &OUT.to_be_bytes()[1..]);
    host.label(&Host::transit(CIRCUIT, LABEL, false, HOP_UNRESOLVED, OUT)).unwrap();
    host.leaves_alone(XDP, &plain);
    host.sends(UNDERLAY, &plain);
}

#[test]
fn what_an_interface_takes_no_xdp_frame_of_is_left_to_tcx_whole() {
    for v6 in [false, true] {
        let host = host(v6);
        let frame = arriving(v6, LABEL);
        let resolved = host.get::<_, NextHop>("NEXT_HOPS", &hop(v6)).unwrap().unwrap();
        let longest = |longest| host.put("NEXT_HOPS", &hop(v6), &NextHop { longest, ..resolved }).unwrap();
        let length = u16::try_from(frame.len()).unwrap();
        for less in [0, length - 1] {
            longest(less);
            host.leaves_alone(XDP, &frame);
            host.sends(UNDERLAY, &frame);
        }
        longest(length);
        host.sends(XDP, &frame);
    }
}

#[test]
fn frame_in_several_buffers_is_measured_whole() {
    for v6 in [false, true] {
        let host = host(v6);
        let (ours, theirs) = outer(v6);
        let (near, far) = inner(CIRCUIT, false);
        let payload = vec![7; 8000];
        let inner = frame::ip(near, far, 17, &frame::udp_with(1, 2, &payload));
        let frame = frame::tunnelled(theirs, ours, LABEL, &inner);
        let length = u16::try_from(frame.len()).unwrap();
        let resolved = host.get::<_, NextHop>("NEXT_HOPS", &hop(v6)).unwrap().unwrap();
        for (longest, verdict) in [(length - 1, XDP_PASS), (length, XDP_REDIRECT)] {
            host.put("NEXT_HOPS", &hop(v6), &NextHop { longest, ..resolved }).unwrap();
            assert_eq!(host.run(XDP, &frame).unwrap().verdict, verdict, "{longest} of {length} bytes");
        }
    }
}

#[test]
fn empty_or_foreign_next_hop_is_refused() {
    for (v6, slot) in
        [(false, HOP_EMPTY), (true, HOP_EMPTY), (false, HOP_IPV6), (true, HOP_IPV4), (false, 1 << 20)]
    {
        let host = host(v6);
        host.label(&Host::transit(CIRCUIT, LABEL, v6, slot, OUT)).unwrap();
        for program in [XDP, UNDERLAY] {
            host.refuses(program, &arriving(v6, LABEL), CIRCUIT, Reason::NoNextHop, 0);
        }
    }
}

#[test]
fn next_hop_onto_an_interface_that_is_gone_is_refused() {
    let host = host(false);
    let hop = NextHop { ifindex: 0x7fff_0000, ..host.get("NEXT_HOPS", &HOP_IPV4).unwrap().unwrap() };
    host.put("NEXT_HOPS", &HOP_IPV4, &hop).unwrap();
    host.refuses(UNDERLAY, &arriving(false, LABEL), CIRCUIT, Reason::NoInterface, 0);
}

#[test]
fn udp_checksum_of_a_foreign_sender_stays_right() {
    for v6 in [false, true] {
        let host = host(v6);
        let mut frame = arriving(v6, LABEL);
        if frame.len() % 2 == 1 {
            frame.push(0);
        }
        let checksum = frame::udp_sum(v6, &frame);
        let at = vxlan(v6) - 2;
        frame[at..at + 2].copy_from_slice(&(!checksum).to_be_bytes());
        assert_eq!(frame::udp_sum(v6, &frame), 0xffff);
        host.leaves_alone(XDP, &frame);
        let out = host.sends(UNDERLAY, &frame).frame;
        assert_eq!(frame::udp_sum(v6, &out), 0xffff, "IPv6 {v6}");
    }
}
