//! Defect messages: told to the agent with the group and the way that the circuit's own flow has for them, never answered.
use crate::fixture::*;
use crate::frame;
use crate::stamp;
use ebpf_abi::Reason;
use ebpf_abi::flow::{BACKUP, Flow, PRIMARY};
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::probe::Reply;
use std::net::IpAddr;

const CIRCUIT: u64 = 31;
const GROUP: u16 = 9;
/// Labels here, and those under which their ways lead back.
const LABELS: [u32; 2] = [0x0006_0078, 0x0006_0079];
const BACK: [u32; 2] = [0x0065_0001, 0x0065_0002];
const DEAD: u64 = 0x0123_4567_89ab_cdef;

fn ends(v6: bool) -> (IpAddr, IpAddr) {
    let (ours, theirs) = outer(v6);
    (theirs, ours)
}

fn flow() -> Flow {
    Flow {
        target: HOP_IPV4,
        label: BACK[0],
        group: GROUP,
        backup_target: HOP_IPV6,
        backup_label: BACK[1],
        ..Host::flow(CIRCUIT, false, true).1
    }
}

fn entry(way: usize) -> LabelEntry {
    let back = [HOP_IPV4, HOP_IPV6][way];
    LabelEntry { out_label: BACK[way], back, ..Host::delivery(CIRCUIT, LABELS[way], way == 1) }
}

/// The first way over IPv4, the second one over IPv6.
fn host() -> Host {
    let host = Host::new().unwrap();
    for way in [0, 1] {
        host.label(&entry(way)).unwrap();
    }
    put(&host, &flow());
    host
}

fn put(host: &Host, flow: &Flow) {
    let (key, _) = Host::flow(CIRCUIT, false, true);
    host.put("FLOWS", &key, flow).unwrap();
}

fn defect(way: usize) -> Vec<u8> {
    stamp::path_defect(ends(way == 1), LABELS[way], DEAD)
}

/// What the agent is told when this comes, which goes no further and is counted nowhere.
#[track_caller]
fn told(host: &mut Host, frame: &[u8]) -> Vec<Reply> {
    let ran = host.run(UNDERLAY, frame).unwrap();
    assert_eq!((ran.verdict, &ran.frame[..]), (SHOT, frame));
    assert_eq!(host.all_drops().unwrap(), 0, "{:?}", host.reasons());
    for label in LABELS {
        let stats = host.stats(label::index(label)).unwrap();
        assert_eq!((stats.received_packets, stats.sent_packets), (0, 0));
        assert_eq!(host.get::<_, u32>("REFLECTED", &label::index(label)).unwrap(), Some(0));
    }
    host.replies().unwrap()
}

#[test]
fn a_defect_is_told_with_the_group_and_the_way_by_which_it_came_and_is_not_answered() {
    let mut host = host();
    for way in [0, 1] {
        host.leaves_alone(XDP, &defect(way));
        let before = stamp::monotonic();
        let replies = told(&mut host, &defect(way));
        let after = stamp::monotonic();
        let [reply] = replies[..] else { panic!("{replies:?}") };
        let expected = Reply {
            label: 0,
            sequence: GROUP.into(),
            reflected: [PRIMARY, BACKUP][way],
            session: 0,
            kind: Reply::DEFECT,
            reserved: 0,
            from: address(ends(way == 1).0),
            received: DEAD,
            answered: 0,
            arrived: reply.arrived,
        };
        assert_eq!(reply, expected);
        assert!((before..=after).contains(&reply.arrived), "{} in {before}..{after}", reply.arrived);
    }
}

#[test]
fn a_defect_says_nothing_of_a_circuit_that_has_no_two_ways_or_others() {
    let mut host = host();
    let whole = flow();
    for other in [
        Flow { group: 0, ..whole },
        Flow { circuit: CIRCUIT + 1, ..whole },
        Flow { label: BACK[0] + 8, backup_label: BACK[1] + 8, ..whole },
        Flow { target: HOP_EMPTY, backup_target: HOP_EMPTY, ..whole },
        Flow { kind: Flow::PEER, ..whole },
    ] {
        put(&host, &other);
        for way in [0, 1] {
            assert_eq!(told(&mut host, &defect(way)), [], "{other:?}");
        }
    }
    put(&host, &whole);
    host.label(&LabelEntry { out_label: 0, ..entry(0) }).unwrap();
    assert_eq!(told(&mut host, &defect(0)), [], "no way back");
    let (key, _) = Host::flow(CIRCUIT, false, true);
    host.label(&LabelEntry { target: key.eni + 1, ..entry(1) }).unwrap();
    assert_eq!(told(&mut host, &defect(1)), [], "the gate is closed");
}

#[test]
fn a_defect_of_a_sealed_circuit_is_told_too() {
    let mut host = host();
    put(&host, &Flow { kind: Flow::SEALED, ..flow() });
    host.label(&LabelEntry { sealed: 1, ..entry(1) }).unwrap();
    assert_eq!(told(&mut host, &defect(1)).len(), 1);
}

#[test]
fn a_defect_that_may_not_come_in_or_is_cut_is_refused_by_name() {
    let mut host = host();
    let stranger: IpAddr = "192.0.2.66".parse().unwrap();
    let foreign = stamp::path_defect((stranger, ends(false).1), LABELS[0], DEAD);
    host.refuses(UNDERLAY, &foreign, CIRCUIT, Reason::WrongPeer, 0);
    let unknown = stamp::path_defect(ends(false), LABELS[0] ^ 1 << 17, DEAD);
    host.refuses(UNDERLAY, &unknown, 0, Reason::StaleLabel, 0);
    let whole = defect(0);
    let stamp = whole.len() - 44;
    for length in stamp..whole.len() {
        host.refuses(UNDERLAY, &whole[..length], CIRCUIT, Reason::MalformedProbe, 0);
    }
    assert_eq!(host.replies().unwrap(), []);
}

#[test]
fn transit_passes_a_defect_on_as_every_probe() {
    for program in [XDP, UNDERLAY] {
        let mut host = Host::new().unwrap();
        host.label(&Host::transit(CIRCUIT, LABELS[0], false, HOP_IPV4, BACK[0])).unwrap();
        let before = defect(0);
        let out = host.sends(program, &before).frame;
        assert_eq!(out[42..50], [9, 0, 0, 0, 0x65, 0, 1, 0], "{program}");
        assert_eq!(out[50..], before[50..], "{program}");
        assert_eq!(frame::sum(&out[14..34]), 0xffff);
        assert_eq!(host.replies().unwrap(), []);
    }
}
