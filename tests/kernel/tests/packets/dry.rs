//! The programs as they are asked: what they say is what they would do, and nothing of it is done.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::conntrack::ConnKey;
use ebpf_abi::flow::{BACKUP, Flow};
use ebpf_abi::verdict::{self, Verdict};
use ebpf_abi::{Reason, label};
use tests_kernel::bench::bpf::Ran;
use tests_kernel::bench::dataplane::Dataplane;

const CIRCUIT: u64 = 5;
const LABEL: u32 = 0x2_0005;

/// What a dry program answers, and what it notes.
pub(crate) fn verdict(dry: &Dataplane, program: &str, frame: &[u8]) -> (Ran, Verdict) {
    dry.put(verdict::MAP, &0u32, &Verdict::default()).unwrap();
    let ran = dry.run(program, frame).unwrap();
    (ran, dry.get(verdict::MAP, &0u32).unwrap().unwrap())
}

/// web's host: an open gate, a label for what comes back, rule 3 for TCP port 80.
fn host() -> (Host, Dataplane) {
    let host = Host::new().unwrap();
    host.open(CIRCUIT, HOP_IPV4).unwrap();
    host.label(&Host::delivery(CIRCUIT, LABEL, false)).unwrap();
    let web = ebpf_abi::rules::RuleRow { port_from: 80, port_to: 80, protocol: 6, ..any(3, true) };
    host.rules(CIRCUIT, 1, &[web]).unwrap();
    let dry = host.dry().unwrap();
    (host, dry)
}

fn segment(v6: bool, port: u16, flags: u8) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    frame::ip_frame(&frame::ip(near, far, 6, &frame::tcp(40_000, port, flags)))
}

fn key(v6: bool) -> ConnKey {
    let (near, far) = inner(CIRCUIT, v6);
    ConnKey {
        circuit: CIRCUIT,
        source: address(near),
        destination: address(far),
        source_port: 40_000u16.to_be_bytes(),
        destination_port: 80u16.to_be_bytes(),
        protocol: 6,
        asker: 0,
        reserved: [0; 2],
    }
}

#[test]
fn what_is_asked_opens_no_connection_and_counts_nothing() {
    for v6 in [false, true] {
        let (host, dry) = host();
        let (ran, said) = verdict(&dry, ENI, &segment(v6, 80, frame::SYN));
        assert_eq!((ran.verdict, said.reason, said.rule), (REDIRECT, 0, 3));
        assert_eq!((said.circuit, said.connection), (CIRCUIT, Verdict::CONNECTION_WOULD_OPEN));
        assert_eq!((said.ifindex, said.way), (LOOPBACK, Verdict::WAY_PRIMARY));
        let (ran, said) = verdict(&dry, ENI, &segment(v6, 81, frame::SYN));
        assert_eq!((ran.verdict, said.reason, said.rule), (SHOT, Reason::DeniedByRule as u32, 0));
        let opened: Option<ebpf_abi::conntrack::Conn> = host.get("CONNTRACK", &key(v6)).unwrap();
        assert_eq!((opened, host.all_drops().unwrap()), (None, 0));
        assert_eq!(host.dropped_by(CIRCUIT, Reason::DeniedByRule, 0).unwrap(), 0);
        assert_eq!(host.stats(CIRCUIT as u32).unwrap().sent_packets, 0);
        host.sends(ENI, &segment(v6, 80, frame::SYN));
        let opened: Option<ebpf_abi::conntrack::Conn> = host.get("CONNTRACK", &key(v6)).unwrap();
        assert!(
            opened.is_some() && host.stats(CIRCUIT as u32).unwrap().sent_packets == 1,
            "the live one does"
        );
    }
}

#[test]
fn what_belongs_to_a_connection_is_said_to_and_does_not_move_it_on() {
    let (host, dry) = host();
    let back = |flags| {
        let (near, far) = inner(CIRCUIT, false);
        let (ours, theirs) = outer(false);
        let packet = frame::ip(far, near, 6, &frame::tcp(80, 40_000, flags));
        frame::tunnelled(theirs, ours, LABEL, &packet)
    };
    let answer = back(frame::SYN | frame::ACK);
    let (_, said) = verdict(&dry, UNDERLAY, &answer);
    assert_eq!((said.reason, said.label), (Reason::NoConnection as u32, LABEL));
    host.sends(ENI, &segment(false, 80, frame::SYN));
    for _ in 0..2 {
        let (ran, said) = verdict(&dry, UNDERLAY, &answer);
        assert_eq!((ran.verdict, said.rule), (REDIRECT, 3));
        assert_eq!(
            said.connection,
            Verdict::CONNECTION_OPENING,
            "an answer that is only asked about is none"
        );
    }
    host.sends(UNDERLAY, &answer);
    let (_, said) = verdict(&dry, UNDERLAY, &answer);
    assert_eq!(said.connection, Verdict::CONNECTION_ESTABLISHED);
    let (_, said) = verdict(&dry, UNDERLAY, &back(frame::RST));
    assert_eq!((said.reason, said.connection), (0, Verdict::CONNECTION_ESTABLISHED));
    let (_, said) = verdict(&dry, UNDERLAY, &answer);
    assert_eq!(said.connection, Verdict::CONNECTION_ESTABLISHED, "the reset was only asked about");
    assert_eq!(host.stats(label::index(LABEL)).unwrap().received_packets, 1);
}

#[test]
fn transit_says_where_it_would_send_by_either_program() {
    for (v6, program, sent) in [
        (false, UNDERLAY, REDIRECT),
        (true, UNDERLAY, REDIRECT),
        (false, XDP, XDP_REDIRECT),
        (true, XDP, XDP_REDIRECT),
    ] {
        let host = Host::new().unwrap();
        let hop = if v6 { HOP_IPV6 } else { HOP_IPV4 };
        host.label(&Host::transit(CIRCUIT, LABEL, v6, hop, 77)).unwrap();
        let dry = host.dry().unwrap();
        let (ours, theirs) = outer(v6);
        let (near, far) = inner(CIRCUIT, false);
        let packet = frame::ip(near, far, 17, &frame::udp(1, 2));
        let whole = frame::tunnelled(theirs, ours, LABEL, &packet);
        let (ran, said) = verdict(&dry, program, &whole);
        assert_eq!((ran.verdict, said.reason, said.ifindex), (sent, 0, LOOPBACK), "{program}");
        assert_eq!((said.circuit, said.label, said.way), (CIRCUIT, LABEL, Verdict::WAY_NONE), "{program}");
        assert_eq!(ran.frame, host.sends(program, &whole).frame, "{program}: as the live one writes it");
        assert_eq!(host.stats(label::index(LABEL)).unwrap().received_packets, 1, "the live one alone counts");
        let stranger = frame::tunnelled(theirs, ours, 0x3_0009, &packet);
        let (_, said) = verdict(&dry, program, &stranger);
        assert_eq!(said.reason, Reason::UnknownLabel as u32, "{program}");
        assert_eq!(host.all_drops().unwrap(), 0, "{program}");
    }
}

#[test]
fn the_way_in_use_is_named() {
    let (host, dry) = host();
    let (key, flow) = Host::flow(CIRCUIT, false, true);
    let flow = Flow { target: HOP_IPV4, group: 9, backup_target: HOP_IPV6, backup_label: 88, ..flow };
    host.put("FLOWS", &key, &flow).unwrap();
    let asked = || verdict(&dry, ENI, &segment(false, 80, frame::SYN)).1.way;
    assert_eq!(asked(), Verdict::WAY_PRIMARY);
    host.turn(9, BACKUP).unwrap();
    assert_eq!(asked(), Verdict::WAY_BACKUP);
}

#[test]
fn of_what_is_too_big_it_is_said_how_much_would_pass_and_nobody_is_told() {
    for v6 in [false, true] {
        let (host, dry) = host();
        let (key, flow) = Host::flow(CIRCUIT, v6, true);
        host.put("FLOWS", &key, &Flow { mtu: 1_300, ..flow }).unwrap();
        host.rules(CIRCUIT, 2, &[any(4, true)]).unwrap();
        let (near, far) = inner(CIRCUIT, v6);
        for (payload, reason, room) in [(1_200, 0, 0), (1_290, Reason::TooBig as u32, 1_300)] {
            let packet = frame::ip(near, far, 17, &frame::udp_with(1, 2, &vec![7; payload]));
            let (ran, said) = verdict(&dry, ENI, &frame::ip_frame(&packet));
            assert_eq!((said.reason, said.room), (reason, room), "{payload} bytes");
            let dropped = reason != 0;
            assert_eq!(
                ran.verdict,
                if dropped { SHOT } else { REDIRECT },
                "the live one sends an answer back"
            );
        }
        assert_eq!(host.all_drops().unwrap(), 0);
    }
}
