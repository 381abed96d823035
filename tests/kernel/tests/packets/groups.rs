//! A circuit with two ways: its group says by which one its packets leave.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::Reason;
use ebpf_abi::flow::{BACKUP, Flow, PRIMARY};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::maps;

const CIRCUIT: u64 = 11;
const GROUP: u32 = 7;
const FIRST: u32 = 0x0011_2233;
const SECOND: u32 = 0x0044_5566;

/// A circuit of a group, over one family first and the other second.
fn open(host: &Host, circuit: u64, group: u32, v6_first: bool) {
    let (first, second) = if v6_first { (HOP_IPV6, HOP_IPV4) } else { (HOP_IPV4, HOP_IPV6) };
    for v6 in [false, true] {
        let (key, flow) = Host::flow(circuit, v6, true);
        let flow = Flow {
            target: first,
            label: FIRST,
            group: group as u16,
            backup_target: second,
            backup_label: SECOND,
            ..flow
        };
        host.put("FLOWS", &key, &flow).unwrap();
    }
    host.rules(circuit, 1, &[any(1, true)]).unwrap();
}

fn host(group: u32, v6_first: bool) -> Host {
    let host = Host::new().unwrap();
    open(&host, CIRCUIT, group, v6_first);
    host
}

fn datagram(circuit: u64, v6: bool) -> Vec<u8> {
    let (near, far) = inner(circuit, v6);
    frame::ip(near, far, 17, &frame::udp(1000, 2000))
}

/// Which underlay family carried the packet, and under which label.
#[track_caller]
fn way(host: &Host, circuit: u64, v6: bool) -> (bool, u32) {
    let packet = datagram(circuit, v6);
    let out = host.sends(ENI, &frame::ip_frame(&packet)).frame;
    let v6_outer = out[12..14] == [0x86, 0xdd];
    let vxlan = if v6_outer { 62 } else { 42 };
    assert_eq!(out[vxlan + 22..], packet, "the packet inside is whole");
    let (ours, theirs) = outer(v6_outer);
    let addresses = if v6_outer { &out[22..54] } else { &out[26..34] };
    let octets = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    assert_eq!(addresses, [octets(ours), octets(theirs)].concat());
    (v6_outer, u32::from_be_bytes(out[vxlan + 3..vxlan + 7].try_into().unwrap()))
}

#[test]
fn group_turns_a_circuit_to_its_second_way_and_back_across_families() {
    for v6_first in [false, true] {
        let host = host(GROUP, v6_first);
        for v6 in [false, true] {
            for (turned, expected) in
                [(PRIMARY, (v6_first, FIRST)), (BACKUP, (!v6_first, SECOND)), (PRIMARY, (v6_first, FIRST))]
            {
                host.turn(GROUP, turned).unwrap();
                assert_eq!(way(&host, CIRCUIT, v6), expected, "inner IPv6 {v6}, turned {turned}");
            }
        }
    }
}

#[test]
fn one_write_turns_every_circuit_of_a_group_and_no_other() {
    let host = host(GROUP, false);
    open(&host, CIRCUIT + 1, GROUP, false);
    open(&host, CIRCUIT + 2, GROUP + 1, false);
    host.turn(GROUP, BACKUP).unwrap();
    assert_eq!(way(&host, CIRCUIT, false), (true, SECOND));
    assert_eq!(way(&host, CIRCUIT + 1, true), (true, SECOND));
    assert_eq!(way(&host, CIRCUIT + 2, false), (false, FIRST));
}

#[test]
fn circuit_without_a_group_stays_whatever_the_unused_slot_says() {
    let host = host(0, false);
    host.turn(0, BACKUP).unwrap();
    assert_eq!(way(&host, CIRCUIT, false), (false, FIRST));
}

#[test]
fn group_or_way_that_does_not_exist_means_the_first() {
    for group in [maps::GROUPS, u32::MAX] {
        assert_eq!(way(&host(group, false), CIRCUIT, false), (false, FIRST));
    }
    let last = host(maps::GROUPS - 1, false);
    for nonsense in [2, 256, u32::MAX] {
        last.turn(maps::GROUPS - 1, nonsense).unwrap();
        assert_eq!(way(&last, CIRCUIT, false), (false, FIRST), "{nonsense}");
    }
    last.turn(maps::GROUPS - 1, BACKUP).unwrap();
    assert_eq!(way(&last, CIRCUIT, false), (true, SECOND));
}

#[test]
fn second_way_without_a_next_hop_is_refused_by_name() {
    let host = host(GROUP, false);
    let (key, flow) = Host::flow(CIRCUIT, false, true);
    let flow = Flow { group: GROUP as u16, backup_target: HOP_EMPTY, backup_label: SECOND, ..flow };
    host.put("FLOWS", &key, &flow).unwrap();
    let frame = frame::ip_frame(&datagram(CIRCUIT, false));
    host.sends(ENI, &frame);
    host.turn(GROUP, BACKUP).unwrap();
    host.refuses(ENI, &frame, CIRCUIT, Reason::NoNextHop, 0);
}

#[test]
fn connection_survives_turns_at_either_end() {
    let host = host(GROUP, false);
    for (label, v6_underlay) in [(0x51, false), (0x52, true)] {
        host.label(&Host::delivery(CIRCUIT, label, v6_underlay)).unwrap();
    }
    let (near, far) = inner(CIRCUIT, false);
    let out = |flags| {
        host.sends(ENI, &frame::ip_frame(&frame::ip(near, far, 6, &frame::tcp(5000, 80, flags)))).frame
    };
    let in_by = |label, v6_underlay, flags| {
        let (ours, theirs) = outer(v6_underlay);
        let packet = frame::ip(far, near, 6, &frame::tcp(80, 5000, flags));
        host.sends(UNDERLAY, &frame::tunnelled(theirs, ours, label, &packet));
    };
    assert_eq!(out(frame::SYN)[12..14], [8, 0]);
    // The far end has turned, this one has not.
    in_by(0x52, true, frame::SYN | frame::ACK);
    assert_eq!(out(frame::ACK)[12..14], [8, 0]);
    host.turn(GROUP, BACKUP).unwrap();
    assert_eq!(out(frame::ACK)[12..14], [0x86, 0xdd]);
    in_by(0x51, false, frame::ACK);
    in_by(0x52, true, frame::ACK);
}

#[test]
fn group_means_nothing_where_the_other_end_is_on_this_host() {
    let host = host(GROUP, false);
    host.turn(GROUP, BACKUP).unwrap();
    let (key, flow) = Host::flow(CIRCUIT, false, true);
    let local = Flow { kind: Flow::EGRESS, target: LOOPBACK, group: GROUP as u16, ..flow };
    host.put("FLOWS", &key, &local).unwrap();
    let packet = datagram(CIRCUIT, false);
    assert_eq!(host.sends(ENI, &frame::ip_frame(&packet)).frame[14..], packet);
}

#[test]
fn labels_of_both_ways_deliver_whatever_the_group_says() {
    let host = host(GROUP, false);
    let (near, far) = inner(CIRCUIT, true);
    let packet = frame::ip(far, near, 17, &frame::udp(7, 8));
    for (label, v6_underlay) in [(0x61, false), (0x62, true)] {
        let entry = LabelEntry { kind: LabelEntry::PEER, ..Host::delivery(CIRCUIT, label, v6_underlay) };
        host.label(&entry).unwrap();
        let (ours, theirs) = outer(v6_underlay);
        for turned in [PRIMARY, BACKUP] {
            host.turn(GROUP, turned).unwrap();
            let out = host.sends(UNDERLAY, &frame::tunnelled(theirs, ours, label, &packet)).frame;
            assert_eq!(out[14..], packet);
        }
    }
}
