//! A probe's whole round over three hosts, each with its own tables: to the far end, back, and told.
use crate::fixture::*;
use crate::stamp;
use ebpf_abi::label::LabelEntry;
use std::net::IpAddr;

/// Labels that the hosts allocated: transit and far end outward, transit and near end on the way back.
const OUT: [u32; 2] = [0x1_0001, 0x2_0002];
const HOME: [u32; 2] = [0x3_0003, 0x4_0004];

fn addresses(v6: bool) -> [IpAddr; 3] {
    let of = |n: u8| -> IpAddr {
        if v6 { format!("2001:db8:5::{n}").parse().unwrap() } else { IpAddr::from([198, 51, 100, n]) }
    };
    [of(1), of(2), of(3)]
}

/// A host at `own` whose next hops 1 and 2 are these.
fn host(own: IpAddr, next: [IpAddr; 2]) -> Host {
    let host = Host::new().unwrap();
    host.put("LOCALS", &address(own), &1u32).unwrap();
    let resolved: ebpf_abi::flow::NextHop = host.get("NEXT_HOPS", &HOP_IPV4).unwrap().unwrap();
    for (slot, remote) in [1u32, 2].into_iter().zip(next) {
        let hop = ebpf_abi::flow::NextHop { local: address(own), remote: address(remote), ..resolved };
        host.put("NEXT_HOPS", &slot, &hop).unwrap();
    }
    host
}

fn entry(entry: LabelEntry, from: IpAddr, to: IpAddr) -> LabelEntry {
    LabelEntry { from: address(from), to: address(to), ..entry }
}

/// As the next host's network card would give it to that host.
fn arriving(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].fill(0);
    frame
}

#[test]
fn probe_goes_to_the_far_end_and_back_under_four_labels_and_tells_its_times() {
    for (v6, program) in [(false, XDP), (false, UNDERLAY), (true, XDP), (true, UNDERLAY)] {
        let [near, transit, far] = addresses(v6);
        let (mut at_near, at_transit, at_far) =
            (host(near, [transit; 2]), host(transit, [far, near]), host(far, [transit; 2]));
        at_transit.label(&entry(Host::transit(1, OUT[0], v6, 1, OUT[1]), near, transit)).unwrap();
        at_transit.label(&entry(Host::transit(1, HOME[0], v6, 2, HOME[1]), far, transit)).unwrap();
        let far_end = LabelEntry { out_label: HOME[0], back: 1, ..Host::delivery(1, OUT[1], v6) };
        at_far.label(&entry(far_end, transit, far)).unwrap();
        let near_end = LabelEntry { out_label: OUT[0], back: 1, ..Host::delivery(1, HOME[1], v6) };
        at_near.label(&entry(near_end, transit, near)).unwrap();

        for sequence in 0..3 {
            let (sent, left) = (stamp::tai(), stamp::monotonic());
            let mut packet = stamp::request(sequence, 5);
            packet[4..8].copy_from_slice(&((sent / 1_000_000_000) as u32).to_be_bytes());
            packet[8..12].copy_from_slice(&((sent % 1_000_000_000) as u32).to_be_bytes());
            let mut frame = stamp::path_request((near, transit), OUT[0], &packet);
            for (host, program) in [(&at_transit, program), (&at_far, UNDERLAY), (&at_transit, program)] {
                frame = arriving(host.sends(program, &frame).frame);
            }
            assert_eq!(at_near.run(UNDERLAY, &frame).unwrap().verdict, SHOT);
            let replies = at_near.replies().unwrap();
            let [reply] = replies.as_slice() else { panic!("{replies:?}") };
            assert_eq!((reply.label, reply.session, reply.from), (HOME[1], 5, address(transit)));
            assert_eq!((reply.sequence, reply.reflected), (sequence, sequence));
            let era = (1u64 << 32) * 1_000_000_000;
            let far = [sent % era, reply.received, reply.answered, stamp::tai() % era];
            let near = [left, reply.arrived, stamp::monotonic()];
            assert!(far.is_sorted() && near.is_sorted(), "{far:?} {near:?}");
        }
        for host in [&at_near, &at_transit, &at_far] {
            assert_eq!(host.all_drops().unwrap(), 0, "{:?}", host.reasons());
        }
    }
}
