//! Connections: how they begin, live, change their rules and end.
use crate::fixture::*;
use crate::frame::{self, ACK, FIN, RST, SYN};
use ebpf_abi::conntrack::{Conn, ConnKey};
use ebpf_abi::rules::RuleRow;
use ebpf_abi::{Direction, Reason};
use std::net::IpAddr;

const CIRCUIT: u64 = 3;
const LABEL: u32 = 0x21;
const TCP_80: RuleRow = RuleRow { protocol: 6, port_from: 80, port_to: 80, directions: 1, ..any(8, true) };

/// Gate and label of one circuit whose rules let the workload here open TCP to port 80, and nothing else.
struct Talk {
    host: Host,
    near: IpAddr,
    far: IpAddr,
}

impl Talk {
    fn new(v6: bool, rules: &[RuleRow]) -> Self {
        let host = Host::new().unwrap();
        host.open(CIRCUIT, HOP_IPV4).unwrap();
        host.label(&Host::delivery(CIRCUIT, LABEL, false)).unwrap();
        host.rules(CIRCUIT, 1, rules).unwrap();
        let (near, far) = inner(CIRCUIT, v6);
        Self { host, near, far }
    }

    fn out(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        frame::ip_frame(&frame::ip(self.near, self.far, protocol, payload))
    }

    fn back(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (ours, theirs) = outer(false);
        frame::tunnelled(theirs, ours, LABEL, &frame::ip(self.far, self.near, protocol, payload))
    }

    fn ask(&self, flags: u8) -> Vec<u8> {
        self.out(6, &frame::tcp(5000, 80, flags))
    }

    fn answer(&self, flags: u8) -> Vec<u8> {
        self.back(6, &frame::tcp(80, 5000, flags))
    }

    fn conn(&self) -> Option<Conn> {
        self.host.get("CONNTRACK", &self.key()).unwrap()
    }

    fn key(&self) -> ConnKey {
        ConnKey {
            circuit: CIRCUIT,
            source: address(self.near),
            destination: address(self.far),
            source_port: 5000u16.to_be_bytes(),
            destination_port: 80u16.to_be_bytes(),
            protocol: 6,
            asker: 0,
            reserved: [0; 2],
        }
    }

    fn handshake(&self) {
        self.host.sends(ENI, &self.ask(SYN));
        self.host.sends(UNDERLAY, &self.answer(SYN | ACK));
        self.host.sends(ENI, &self.ask(ACK));
    }
}

#[test]
fn tcp_lives_from_syn_to_the_second_fin() {
    for v6 in [false, true] {
        let talk = Talk::new(v6, &[TCP_80]);
        talk.host.refuses(UNDERLAY, &talk.answer(SYN | ACK), CIRCUIT, Reason::NoConnection, 0);
        talk.host.refuses(ENI, &talk.ask(ACK), CIRCUIT, Reason::NoConnection, 0);
        talk.host.sends(ENI, &talk.ask(SYN));
        let young = talk.conn().unwrap();
        assert_eq!((young.state, young.opener, young.rule), (Conn::STATE_NEW, Direction::Forward as u8, 8));
        talk.host.sends(UNDERLAY, &talk.answer(SYN | ACK));
        assert_eq!(talk.conn().unwrap().state, Conn::STATE_ESTABLISHED);
        talk.host.sends(ENI, &talk.ask(FIN | ACK));
        talk.host.sends(UNDERLAY, &talk.answer(ACK));
        assert_eq!((talk.conn().unwrap().state, talk.conn().unwrap().fins), (Conn::STATE_ESTABLISHED, 1));
        talk.host.sends(UNDERLAY, &talk.answer(FIN | ACK));
        assert_eq!(talk.conn().unwrap().state, Conn::STATE_CLOSING);
        talk.host.sends(ENI, &talk.ask(ACK));
        talk.host.sends(ENI, &talk.ask(SYN));
        assert_eq!(talk.conn().unwrap().state, Conn::STATE_NEW, "the port is used again");
    }
}

#[test]
fn reset_ends_a_connection_and_the_far_end_cannot_open_it_again() {
    let talk = Talk::new(false, &[TCP_80]);
    talk.handshake();
    talk.host.sends(UNDERLAY, &talk.answer(RST));
    assert_eq!(talk.conn().unwrap().state, Conn::STATE_CLOSING);
    talk.host.refuses(UNDERLAY, &talk.answer(SYN), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn far_end_cannot_open_what_only_this_end_may() {
    let talk = Talk::new(false, &[TCP_80]);
    let syn = talk.back(6, &frame::tcp(5000, 80, SYN));
    talk.host.refuses(UNDERLAY, &syn, CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn expired_connection_counts_as_gone() {
    let talk = Talk::new(false, &[TCP_80]);
    talk.handshake();
    talk.host.put("CONNTRACK", &talk.key(), &Conn { expires: 1, ..talk.conn().unwrap() }).unwrap();
    talk.host.refuses(ENI, &talk.ask(ACK), CIRCUIT, Reason::NoConnection, 0);
    talk.host.sends(ENI, &talk.ask(SYN));
}

#[test]
fn revoked_rule_cuts_a_live_connection_and_a_kept_one_does_not() {
    let talk = Talk::new(false, &[TCP_80]);
    talk.handshake();
    let kept = RuleRow { id: 21, ..TCP_80 };
    talk.host.rules(CIRCUIT, 2, &[kept]).unwrap();
    talk.host.sends(UNDERLAY, &talk.answer(ACK));
    let conn = talk.conn().unwrap();
    assert_eq!((conn.version, conn.rule, conn.state), (2, 21, Conn::STATE_ESTABLISHED));
    let deny = RuleRow { id: 30, allow: 0, ..TCP_80 };
    talk.host.rules(CIRCUIT, 3, &[deny]).unwrap();
    talk.host.refuses(UNDERLAY, &talk.answer(ACK), CIRCUIT, Reason::DeniedByRule, 30);
    assert_eq!(talk.conn(), None);
    talk.host.refuses(ENI, &talk.ask(ACK), CIRCUIT, Reason::NoConnection, 0);
}

#[test]
fn established_connection_does_not_look_at_its_rules_again() {
    let talk = Talk::new(false, &[TCP_80]);
    talk.handshake();
    // The rows change behind the version's back, which the agent never does: nobody must notice.
    let start = (CIRCUIT as u32 % 16) * 4096 + 256;
    talk.host.put("RULES", &start, &RuleRow { allow: 0, ..TCP_80 }).unwrap();
    talk.host.sends(ENI, &talk.ask(ACK));
    talk.host.refuses(ENI, &talk.out(6, &frame::tcp(5001, 80, SYN)), CIRCUIT, Reason::DeniedByRule, 8);
}

#[test]
fn udp_answers_pass_and_others_do_not() {
    let talk = Talk::new(true, &[RuleRow { protocol: 17, directions: 1, ..any(4, true) }]);
    talk.host.sends(ENI, &talk.out(17, &frame::udp(7000, 53)));
    talk.host.sends(UNDERLAY, &talk.back(17, &frame::udp(53, 7000)));
    talk.host.refuses(UNDERLAY, &talk.back(17, &frame::udp(53, 7001)), CIRCUIT, Reason::DeniedByRule, 0);
}

#[test]
fn echoes_of_both_ends_with_one_identifier_stay_apart() {
    for v6 in [false, true] {
        let icmp = RuleRow { protocol: 1, directions: 1, ..any(4, true) };
        let talk = Talk::new(v6, &[icmp]);
        let (ask, answer) = if v6 { (128, 129) } else { (8, 0) };
        let protocol = frame::icmp_protocol(talk.near);
        talk.host.refuses(
            UNDERLAY,
            &talk.back(protocol, &frame::icmp(answer, 9)),
            CIRCUIT,
            Reason::NoConnection,
            0,
        );
        talk.host.sends(ENI, &talk.out(protocol, &frame::icmp(ask, 9)));
        talk.host.sends(UNDERLAY, &talk.back(protocol, &frame::icmp(answer, 9)));
        talk.host.refuses(
            UNDERLAY,
            &talk.back(protocol, &frame::icmp(ask, 9)),
            CIRCUIT,
            Reason::DeniedByRule,
            0,
        );
        talk.host.refuses(
            ENI,
            &talk.out(protocol, &frame::icmp(answer, 9)),
            CIRCUIT,
            Reason::NoConnection,
            0,
        );
    }
}

#[test]
fn icmp_errors_pass_for_a_known_connection_only() {
    for v6 in [false, true] {
        let talk = Talk::new(v6, &[TCP_80]);
        let protocol = frame::icmp_protocol(talk.near);
        let error = |from: u16| {
            let quoted = frame::ip(talk.near, talk.far, 6, &frame::tcp(from, 80, SYN));
            talk.back(protocol, &frame::icmp_error(v6, &quoted))
        };
        talk.host.refuses(UNDERLAY, &error(5000), CIRCUIT, Reason::UnrelatedIcmpError, 0);
        talk.host.sends(ENI, &talk.ask(SYN));
        let before = talk.conn();
        talk.host.sends(UNDERLAY, &error(5000));
        assert_eq!(talk.conn(), before, "an error moves nothing");
        talk.host.refuses(UNDERLAY, &error(5001), CIRCUIT, Reason::UnrelatedIcmpError, 0);
        let turned = frame::ip(talk.far, talk.near, 6, &frame::tcp(80, 5000, ACK));
        let wrong_way = talk.back(protocol, &frame::icmp_error(v6, &turned));
        talk.host.refuses(UNDERLAY, &wrong_way, CIRCUIT, Reason::UnrelatedIcmpError, 0);
        let quoted = frame::ip(talk.near, talk.far, 6, &frame::tcp(5000, 80, SYN));
        let headers = if v6 { 40 } else { 20 };
        for cut in 0..headers + 8 {
            let short = talk.back(protocol, &frame::icmp_error(v6, &quoted[..cut]));
            talk.host.refuses(UNDERLAY, &short, CIRCUIT, Reason::UnrelatedIcmpError, 0);
        }
    }
}
