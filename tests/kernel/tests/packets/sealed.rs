//! Encrypted circuits: what goes to the agent and what comes from it, and that nothing else passes.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::flow::Flow;
use ebpf_abi::label::{self, LabelEntry};
use ebpf_abi::seal::{CIPHER, PLAIN, PORT, RECEIVER, SENDER, Tag};
use ebpf_abi::{Reason, label::CAPACITY};
use std::net::IpAddr;
use zerocopy::{FromBytes, IntoBytes};

const FROM_AGENT_CIPHER: &str = "cipher_ingress";
const FROM_AGENT_PLAIN: &str = "plain_ingress";
const CIRCUIT: u64 = 6;
const LABEL: u32 = 0x0004_0042;
const INDEX: u32 = LABEL & (CAPACITY - 1);

/// With an agent that encrypts, and the gate open.
fn host(v6_underlay: bool) -> Host {
    let host = Host::new().unwrap();
    host.label(&entry(v6_underlay)).unwrap();
    host.rules(CIRCUIT, 1, &[any(9, true)]).unwrap();
    for v6 in [false, true] {
        let (key, flow) = Host::flow(CIRCUIT, v6, true);
        let target = if v6_underlay { HOP_IPV6 } else { HOP_IPV4 };
        host.put("FLOWS", &key, &Flow { kind: Flow::SEALED, slot: INDEX, target, ..flow }).unwrap();
    }
    sealer(&host, LOOPBACK);
    host
}

fn entry(v6_underlay: bool) -> LabelEntry {
    let back = if v6_underlay { HOP_IPV6 } else { HOP_IPV4 };
    LabelEntry { sealed: 1, back, out_label: 0x00ab_cdee, ..Host::delivery(CIRCUIT, LABEL, v6_underlay) }
}

fn sealer(host: &Host, interface: u32) {
    host.put("SEALERS", &PLAIN, &interface).unwrap();
    host.put("SEALERS", &CIPHER, &interface).unwrap();
}

fn datagram(v6: bool, from_here: bool) -> Vec<u8> {
    let (near, far) = inner(CIRCUIT, v6);
    let (from, to) = if from_here { (near, far) } else { (far, near) };
    frame::ip(from, to, 17, &frame::udp(1000, 2000))
}

fn message() -> Vec<u8> {
    let (from, to) = (IpAddr::from(SENDER), IpAddr::from(RECEIVER));
    frame::ip(from, to, 17, &frame::udp_with(50_000, PORT, &[4; 48]))
}

fn arriving(v6_underlay: bool, packet: &[u8]) -> Vec<u8> {
    let (ours, theirs) = outer(v6_underlay);
    frame::tunnelled(theirs, ours, LABEL, packet)
}

fn tagged(tag: Tag, packet: &[u8]) -> Vec<u8> {
    [tag.as_bytes(), packet].concat()
}

fn ethertype(v6: bool) -> u16 {
    if v6 { 0x86dd } else { 0x0800 }
}

#[test]
fn a_workloads_packet_goes_to_the_agent_with_its_circuits_number() {
    for v6 in [false, true] {
        let host = host(false);
        let packet = datagram(v6, true);
        let out = host.sends(ENI, &frame::ip_frame(&packet)).frame;
        let tag = Tag::read_from_bytes(&out[..14]).unwrap();
        assert_eq!(tag, Tag::packet(INDEX, CIRCUIT, ethertype(v6)));
        assert_eq!(out[14..], packet);
        assert_eq!(host.stats(INDEX).unwrap().sent_packets, 1);
    }
}

#[test]
fn the_firewall_is_asked_before_anything_is_encrypted() {
    let host = host(false);
    host.rules(CIRCUIT, 2, &[any(3, false)]).unwrap();
    host.refuses(ENI, &frame::ip_frame(&datagram(false, true)), CIRCUIT, Reason::DeniedByRule, 3);
}

#[test]
fn without_an_agent_nothing_is_sent_and_nothing_is_taken() {
    for v6 in [false, true] {
        let host = host(false);
        sealer(&host, 0);
        host.refuses(ENI, &frame::ip_frame(&datagram(v6, true)), CIRCUIT, Reason::NoSealer, 0);
        host.refuses(UNDERLAY, &arriving(false, &message()), CIRCUIT, Reason::NoSealer, 0);
    }
}

#[test]
fn a_message_goes_to_the_agent_with_its_circuits_number() {
    for v6_underlay in [false, true] {
        let host = host(v6_underlay);
        let frame = arriving(v6_underlay, &message());
        host.leaves_alone(XDP, &frame);
        let out = host.sends(UNDERLAY, &frame).frame;
        let tag = Tag::read_from_bytes(&out[..14]).unwrap();
        assert_eq!(tag, Tag::packet(INDEX, CIRCUIT, ethertype(v6_underlay)));
        assert_eq!(out[14..], frame[14..], "with all headers of the tunnel");
        assert_eq!(host.stats(INDEX).unwrap().received_packets, 0, "counted when it is decrypted");
    }
}

#[test]
fn what_comes_in_the_clear_under_an_encrypted_circuits_label_is_refused() {
    for v6 in [false, true] {
        let host = host(false);
        host.refuses(UNDERLAY, &arriving(false, &datagram(v6, false)), CIRCUIT, Reason::NotSealed, 0);
    }
    let host = host(false);
    let other = frame::ip(SENDER.into(), RECEIVER.into(), 17, &frame::udp(50_000, PORT + 1));
    host.refuses(UNDERLAY, &arriving(false, &other), CIRCUIT, Reason::NotSealed, 0);
    host.refuses(UNDERLAY, &arriving(false, &[0x45; 7]), CIRCUIT, Reason::NotSealed, 0);
}

#[test]
fn an_encrypted_message_leaves_by_the_flows_way_or_while_the_gate_is_closed_by_the_way_back() {
    for v6_underlay in [false, true] {
        let host = host(v6_underlay);
        let frame = tagged(Tag::packet(INDEX, CIRCUIT, 0x0800), &message());
        let vni = |out: &[u8]| {
            let at = if v6_underlay { 66 } else { 46 };
            u32::from_be_bytes([0, out[at], out[at + 1], out[at + 2]])
        };
        let out = host.sends(FROM_AGENT_CIPHER, &frame).frame;
        assert_eq!((&out[..6], vni(&out)), (&NEIGHBOUR_MAC[..], 0x00ab_cdef));
        assert!(out.ends_with(&message()));
        let (key, _) = Host::flow(CIRCUIT, false, true);
        host.remove("FLOWS", &key).unwrap();
        let out = host.sends(FROM_AGENT_CIPHER, &frame).frame;
        assert_eq!(vni(&out), 0x00ab_cdee);
        assert_eq!(host.stats(INDEX).unwrap().sent_packets, 0, "counted before it was encrypted");
    }
}

#[test]
fn what_was_decrypted_passes_the_checks_of_delivery() {
    for v6 in [false, true] {
        let host = host(false);
        let packet = datagram(v6, false);
        let frame = tagged(Tag::packet(INDEX, CIRCUIT, ethertype(v6)), &packet);
        let out = host.sends(FROM_AGENT_PLAIN, &frame).frame;
        assert_eq!((&out[..6], &out[6..12], &out[14..]), (&WORKLOAD_MAC[..], &GATEWAY_MAC[..], &packet[..]));
        let stats = host.stats(label::index(LABEL)).unwrap();
        assert_eq!((stats.received_packets, stats.received_bytes), (1, packet.len() as u64));
        let (stranger, near) = (inner(CIRCUIT + 1, v6).1, inner(CIRCUIT, v6).0);
        let foreign = frame::ip(stranger, near, 17, &frame::udp(1, 2));
        let foreign = tagged(Tag::packet(INDEX, CIRCUIT, ethertype(v6)), &foreign);
        host.refuses(FROM_AGENT_PLAIN, &foreign, CIRCUIT, Reason::ForeignInner, 0);
        host.rules(CIRCUIT, 2, &[any(3, false)]).unwrap();
        let denied = tagged(
            Tag::packet(INDEX, CIRCUIT, ethertype(v6)),
            &frame::ip(inner(CIRCUIT, v6).1, near, 17, &frame::udp(7, 8)),
        );
        host.refuses(FROM_AGENT_PLAIN, &denied, CIRCUIT, Reason::DeniedByRule, 3);
    }
}

#[test]
fn what_the_agent_had_when_its_circuit_was_released_goes_nowhere() {
    let host = host(false);
    for program in [FROM_AGENT_PLAIN, FROM_AGENT_CIPHER] {
        let packet = if program == FROM_AGENT_PLAIN { datagram(false, false) } else { message() };
        let late = tagged(Tag::packet(INDEX, CIRCUIT + 1, 0x0800), &packet);
        host.refuses(program, &late, CIRCUIT + 1, Reason::StaleLabel, 0);
        let unknown = tagged(Tag::packet(INDEX + 1, CIRCUIT, 0x0800), &packet);
        host.refuses(program, &unknown, CIRCUIT, Reason::UnknownLabel, 0);
    }
    // A circuit in the clear is not the agent's business.
    host.label(&LabelEntry { sealed: 0, ..entry(false) }).unwrap();
    let frame = tagged(Tag::packet(INDEX, CIRCUIT, 0x0800), &datagram(false, false));
    host.refuses(FROM_AGENT_PLAIN, &frame, CIRCUIT, Reason::UnknownLabel, 0);
}

#[test]
fn what_the_agent_drops_is_counted_under_its_reason() {
    let host = host(false);
    for reason in [Reason::SealBroken, Reason::NoSealSession, Reason::MalformedIp] {
        let frame = tagged(Tag::refused(INDEX, CIRCUIT, reason as u16), &[0; 20]);
        host.refuses(FROM_AGENT_PLAIN, &frame, CIRCUIT, reason, 0);
        host.refuses(FROM_AGENT_CIPHER, &frame, CIRCUIT, reason, 0);
    }
}

#[test]
fn an_encrypted_circuits_programs_say_dry_what_they_do_and_do_none_of_it() {
    for v6 in [false, true] {
        let host = host(v6);
        let dry = host.dry().unwrap();
        let message_in = tagged(Tag::packet(INDEX, CIRCUIT, 0x0800), &message());
        let packet_in = tagged(Tag::packet(INDEX, CIRCUIT, ethertype(v6)), &datagram(v6, false));
        for (program, whole) in [
            (ENI, frame::ip_frame(&datagram(v6, true))),
            (FROM_AGENT_CIPHER, message_in),
            (UNDERLAY, arriving(v6, &message())),
            (FROM_AGENT_PLAIN, packet_in),
        ] {
            let before = host.stats(INDEX).unwrap();
            let (ran, said) = crate::dry::verdict(&dry, program, &whole);
            assert_eq!((ran.verdict, said.reason, said.circuit), (REDIRECT, 0, CIRCUIT), "{program}");
            assert_eq!((host.all_drops().unwrap(), host.stats(INDEX).unwrap()), (0, before));
            assert_eq!(ran.frame, host.sends(program, &whole).frame, "{program}: as the live one leaves it");
        }
    }
}
