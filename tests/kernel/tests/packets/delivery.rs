//! A circuit's packet to the workload it is for.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::{Direction, Reason};

const CIRCUIT: u64 = 6;
const LABEL: u32 = 0x0004_0042;

fn host(v6_underlay: bool) -> Host {
    let host = Host::new().unwrap();
    host.label(&Host::delivery(CIRCUIT, LABEL, v6_underlay)).unwrap();
    host.rules(CIRCUIT, 1, &[any(9, true)]).unwrap();
    host
}

fn arriving(v6_underlay: bool, packet: &[u8]) -> Vec<u8> {
    let (ours, theirs) = outer(v6_underlay);
    frame::tunnelled(theirs, ours, LABEL, packet)
}

fn datagram(v6: bool) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    frame::ip(far, near, 17, &frame::udp(1000, 2000))
}

#[test]
fn both_families_are_unwrapped_from_both_families() {
    for v6_underlay in [false, true] {
        for v6 in [false, true] {
            for kind in [LabelEntry::EGRESS, LabelEntry::PEER] {
                let host = host(v6_underlay);
                host.label(&LabelEntry { kind, ..Host::delivery(CIRCUIT, LABEL, v6_underlay) }).unwrap();
                let packet = datagram(v6);
                let frame = arriving(v6_underlay, &packet);
                host.leaves_alone(XDP, &frame);
                let out = host.sends(UNDERLAY, &frame).frame;
                let ethertype: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
                assert_eq!((&out[..6], &out[6..12]), (&WORKLOAD_MAC[..], &GATEWAY_MAC[..]));
                assert_eq!((&out[12..14], &out[14..]), (&ethertype[..], &packet[..]));
                let stats = host.stats(label::index(LABEL)).unwrap();
                assert_eq!((stats.received_packets, stats.received_bytes), (1, packet.len() as u64));
                assert_eq!(stats.sent_packets, 0);
            }
        }
    }
}

#[test]
fn inner_addresses_of_others_are_refused() {
    for v6 in [false, true] {
        let host = host(false);
        let (near, far) = inner(CIRCUIT, v6);
        let (stranger, other) = inner(CIRCUIT + 1, v6);
        for (from, to) in [(stranger, near), (far, other), (near, far)] {
            let packet = frame::ip(from, to, 17, &frame::udp(1, 2));
            host.refuses(UNDERLAY, &arriving(false, &packet), CIRCUIT, Reason::ForeignInner, 0);
        }
    }
}

#[test]
fn firewall_stands_at_this_end_too() {
    let host = host(false);
    let row = ebpf_abi::rules::RuleRow { directions: Direction::Forward as u8, ..any(3, true) };
    host.rules(CIRCUIT, 2, &[row]).unwrap();
    host.refuses(UNDERLAY, &arriving(false, &datagram(false)), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn inner_frames_that_are_not_ip_are_refused() {
    let host = host(false);
    let whole = arriving(false, &datagram(false));
    for (ethertype, reason) in [
        (0x0806u16, Reason::NotUnicast),
        (0x8100, Reason::VlanTag),
        (0x88cc, Reason::UnsupportedEthertype),
        (0x86dd, Reason::MalformedIp),
    ] {
        let mut frame = whole.clone();
        frame[62..64].copy_from_slice(&ethertype.to_be_bytes());
        let named = if ethertype == 0x86dd { short_or(&frame, reason) } else { reason };
        host.refuses(UNDERLAY, &frame, CIRCUIT, named, 0);
    }
}

/// A 36-byte IPv4 packet is too short to be read as IPv6 at all.
fn short_or(frame: &[u8], reason: Reason) -> Reason {
    if frame.len() - 64 < 40 { Reason::Truncated } else { reason }
}

#[test]
fn delivery_onto_an_interface_that_is_gone_is_named() {
    let host = host(false);
    let gone = LabelEntry { target: 0x7fff_0000, ..Host::delivery(CIRCUIT, LABEL, false) };
    host.label(&gone).unwrap();
    host.refuses(UNDERLAY, &arriving(false, &datagram(false)), CIRCUIT, Reason::NoInterface, 0);
}

#[test]
fn label_of_one_underlay_family_is_not_accepted_from_the_other() {
    let host = host(false);
    host.refuses(UNDERLAY, &arriving(true, &datagram(false)), CIRCUIT, Reason::WrongPeer, 0);
}
