//! A workload's packet into its circuit.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use ebpf_abi::flow::Flow;
use std::net::IpAddr;

const CIRCUIT: u64 = 5;

fn host() -> Host {
    let host = Host::new().unwrap();
    host.open(CIRCUIT, HOP_IPV4).unwrap();
    host.rules(CIRCUIT, 1, &[any(9, true)]).unwrap();
    host
}

fn datagram(v6: bool) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    frame::ip(near, far, 17, &frame::udp(1000, 2000))
}

#[test]
fn both_families_are_wrapped_in_both_families() {
    for inner_v6 in [false, true] {
        for outer_v6 in [false, true] {
            let host = host();
            host.open(CIRCUIT, if outer_v6 { HOP_IPV6 } else { HOP_IPV4 }).unwrap();
            let packet = datagram(inner_v6);
            let out = host.sends(ENI, &frame::ip_frame(&packet)).frame;
            check_wrapped(&out, outer_v6, &packet);
            let stats = host.stats(CIRCUIT as u32).unwrap();
            assert_eq!((stats.sent_packets, stats.sent_bytes), (1, packet.len() as u64));
            assert_eq!(stats.received_packets, 0);
        }
    }
}

/// Field by field, as RFC 7348 and DESIGN want it.
fn check_wrapped(out: &[u8], outer_v6: bool, packet: &[u8]) {
    let (ours, theirs) = outer(outer_v6);
    assert_eq!(out[..6], NEIGHBOUR_MAC);
    assert_eq!(out[6..12], OUR_MAC);
    let udp = if outer_v6 { 54 } else { 34 };
    let length = (out.len() - udp) as u16;
    match (ours, theirs) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            assert_eq!(out[12..16], [8, 0, 0x45, 0]);
            assert_eq!(out[16..18], (length + 20).to_be_bytes());
            assert_eq!(out[20..24], [0x40, 0, 64, 17], "don't fragment, TTL 64, UDP");
            assert_eq!(frame::sum(&out[14..34]), 0xffff);
            assert_eq!((&out[26..30], &out[30..34]), (&from.octets()[..], &to.octets()[..]));
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            assert_eq!(out[12..18], [0x86, 0xdd, 0x60, 0, 0, 0]);
            assert_eq!(out[18..20], length.to_be_bytes());
            assert_eq!(out[20..22], [17, 64]);
            assert_eq!((&out[22..38], &out[38..54]), (&from.octets()[..], &to.octets()[..]));
        }
        _ => unreachable!("one family"),
    }
    assert!(u16::from_be_bytes([out[udp], out[udp + 1]]) >= 49_152);
    assert_eq!(out[udp + 2..udp + 4], 4789u16.to_be_bytes());
    assert_eq!(out[udp + 4..udp + 6], length.to_be_bytes());
    assert_eq!(out[udp + 6..udp + 8], [0, 0], "no UDP checksum");
    assert_eq!(out[udp + 8..udp + 16], [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    assert_eq!(out[udp + 16..udp + 22], WORKLOAD_MAC);
    assert_eq!(out[udp + 22..udp + 28], GATEWAY_MAC);
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    assert_eq!(out[udp + 28..udp + 30], ethertype);
    assert_eq!(&out[udp + 30..], packet);
}

#[test]
fn source_port_follows_the_flow_and_fragments_of_one_datagram_share_it() {
    let host = host();
    let (near, far) = inner(CIRCUIT, false);
    let port = |packet: &[u8]| {
        let out = host.sends(ENI, &frame::ip_frame(packet)).frame;
        u16::from_be_bytes([out[34], out[35]])
    };
    let of = |from| port(&frame::ip(near, far, 17, &frame::udp(from, 53)));
    assert_eq!(of(1), of(1));
    let distinct: std::collections::BTreeSet<u16> = (0..200).map(of).collect();
    assert!(distinct.len() > 150, "200 flows on {} ports", distinct.len());
    let first = port(&frame::fragment(near, far, 17, 7, 0, true, &frame::udp(1, 53)));
    let later = port(&frame::fragment(near, far, 17, 7, 1480, false, b"and so on"));
    assert_eq!(first, later);
}

#[test]
fn other_end_on_this_host_gets_the_packet_unwrapped() {
    for kind in [Flow::PEER, Flow::EGRESS] {
        for v6 in [false, true] {
            let host = host();
            let (key, flow) = Host::flow(CIRCUIT, v6, true);
            host.put("FLOWS", &key, &Flow { kind, target: LOOPBACK, ..flow }).unwrap();
            let packet = datagram(v6);
            let out = host.sends(ENI, &frame::ip_frame(&packet)).frame;
            assert_eq!((&out[..6], &out[6..12]), (&WORKLOAD_MAC[..], &GATEWAY_MAC[..]));
            assert_eq!(&out[14..], packet);
            assert_eq!(host.stats(CIRCUIT as u32).unwrap().sent_packets, 1);
        }
    }
}

#[test]
fn source_that_is_not_the_workloads_own_is_refused() {
    let host = host();
    for v6 in [false, true] {
        let (near, far) = inner(CIRCUIT, v6);
        let (other, _) = inner(CIRCUIT + 1, v6);
        let spoofed = frame::ip_frame(&frame::ip(other, far, 17, &frame::udp(1, 2)));
        host.refuses(ENI, &spoofed, CIRCUIT, Reason::SpoofedSource, 0);
        let turned = frame::ip_frame(&frame::ip(far, near, 17, &frame::udp(1, 2)));
        host.refuses(ENI, &turned, 0, Reason::NoCircuit, 0);
    }
}

#[test]
fn closed_gate_is_refused_as_no_circuit() {
    let host = host();
    for v6 in [false, true] {
        let (key, _) = Host::flow(CIRCUIT, v6, true);
        assert!(host.remove("FLOWS", &key).unwrap());
        host.refuses(ENI, &frame::ip_frame(&datagram(v6)), 0, Reason::NoCircuit, 0);
    }
}

#[test]
fn circuit_without_rules_passes_nothing() {
    let host = host();
    assert!(host.remove("RULESETS", &CIRCUIT).unwrap());
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::NoRuleSet, 0);
}

#[test]
fn empty_rule_set_denies_by_default_and_a_deny_rule_by_its_id() {
    let host = host();
    host.rules(CIRCUIT, 2, &[]).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::DeniedByRule, 0);
    host.rules(CIRCUIT, 3, &[any(31, false), any(32, true)]).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::DeniedByRule, 31);
}

#[test]
fn last_of_256_rules_decides() {
    let host = host();
    let rows: Vec<_> = (1..=256)
        .map(|id| ebpf_abi::rules::RuleRow { port_from: 9999 * u16::from(id < 256), ..any(id, id == 256) })
        .collect();
    host.rules(CIRCUIT, 4, &rows).unwrap();
    host.sends(ENI, &frame::ip_frame(&datagram(false)));
    host.rules(CIRCUIT, 5, &rows[..255]).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn noise_of_neighbour_discovery_multicast_and_arp_is_named_as_such() {
    let host = host();
    let (near, _) = inner(CIRCUIT, true);
    let (near4, _) = inner(CIRCUIT, false);
    let link: IpAddr = "fe80::1".parse().unwrap();
    let noise = [
        frame::ethernet(0x0806, &[0; 28]),
        frame::ip_frame(&frame::ip(link, "ff02::2".parse().unwrap(), 58, &frame::icmp(133, 0))),
        frame::ip_frame(&frame::ip(near, "ff02::16".parse().unwrap(), 58, &frame::icmp(143, 0))),
        frame::ip_frame(&frame::ip("::".parse().unwrap(), near, 58, &frame::icmp(135, 0))),
        frame::ip_frame(&frame::ip(near, link, 58, &frame::icmp(135, 0))),
        frame::ip_frame(&frame::ip(near4, "224.0.0.251".parse().unwrap(), 17, &frame::udp(5353, 5353))),
        frame::ip_frame(&frame::ip(near4, "255.255.255.255".parse().unwrap(), 17, &frame::udp(68, 67))),
    ];
    for frame in &noise {
        host.refuses(ENI, frame, 0, Reason::NotUnicast, 0);
    }
}

#[test]
fn vlan_tags_and_other_protocols_are_refused_by_name() {
    let host = host();
    let mut tagged = vec![0, 5, 8, 0];
    tagged.extend(datagram(false));
    // The kernel takes one tag out of the frame into its metadata; the program must see either.
    for ethertype in [0x8100, 0x88a8] {
        host.refuses(ENI, &frame::ethernet(ethertype, &tagged), 0, Reason::VlanTag, 0);
    }
    host.refuses(ENI, &frame::ethernet(0x88cc, &[0; 40]), 0, Reason::UnsupportedEthertype, 0);
}

#[test]
fn packet_that_the_next_link_cannot_take_is_named() {
    let host = host();
    let hop: ebpf_abi::flow::NextHop = host.get("NEXT_HOPS", &HOP_IPV4).unwrap().unwrap();
    host.put("NEXT_HOPS", &HOP_IPV4, &ebpf_abi::flow::NextHop { ifindex: 0x7fff_0000, ..hop }).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::NoInterface, 0);
    host.put("NEXT_HOPS", &HOP_IPV4, &ebpf_abi::flow::NextHop { ifindex: 0, ..hop }).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false)), CIRCUIT, Reason::NoNextHop, 0);
}
