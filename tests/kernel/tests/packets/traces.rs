//! Circuits whose packets are told: which records, and what stands in them.
use crate::fixture::*;
use crate::frame;
use ebpf_abi::event::{HOOK_ENI, HOOK_UNDERLAY_TCX, HOOK_UNDERLAY_XDP};
use ebpf_abi::maps::Settings;
use ebpf_abi::trace::{BYTES, Traced, Wanted};
use ebpf_abi::{Reason, label};

const FOLLOWED: u64 = 5;
const OTHER: u64 = 6;
const LABEL: u32 = 0x2_0005;

fn follow(host: &Host, on: bool) {
    let settings = Settings { port: 4789u16.to_be_bytes(), tracing: u8::from(on), reserved: [0; 5] };
    host.put("SETTINGS", &0u32, &settings).unwrap();
    let wanted =
        Wanted { until: u64::MAX, until_wall: 0, protocol: 256, port: 0, snaplen: 0, reserved: [0; 2] };
    host.put("TRACED", &FOLLOWED, &wanted).unwrap();
}

fn host() -> Host {
    let host = Host::new().unwrap();
    for circuit in [FOLLOWED, OTHER] {
        host.open(circuit, HOP_IPV4).unwrap();
        host.rules(circuit, 1, &[ebpf_abi::rules::RuleRow { protocol: 17, ..any(1, true) }]).unwrap();
    }
    host
}

fn datagram(circuit: u64, back: bool, protocol: u8) -> Vec<u8> {
    let (near, far) = inner(circuit, false);
    let (from, to) = if back { (far, near) } else { (near, far) };
    let payload = if protocol == 17 { frame::udp(1000, 2000) } else { frame::tcp(1000, 2000, frame::SYN) };
    frame::ip(from, to, protocol, &payload)
}

#[track_caller]
fn one(host: &mut Host) -> Traced {
    let records = host.traces().unwrap();
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    *record
}

fn taken(record: &Traced) -> &[u8] {
    &record.bytes[..usize::from(u16::from_ne_bytes(record.taken))]
}

#[test]
fn only_packets_of_a_followed_circuit_are_told_and_only_while_it_is() {
    let mut host = host();
    let whole = frame::ip_frame(&datagram(FOLLOWED, false, 17));
    host.sends(ENI, &whole);
    assert_eq!(host.traces().unwrap().len(), 0);
    follow(&host, true);
    host.sends(ENI, &frame::ip_frame(&datagram(OTHER, false, 17)));
    assert_eq!(host.traces().unwrap().len(), 0, "of a circuit that nobody follows");
    host.sends(ENI, &whole);
    let record = one(&mut host);
    assert_eq!((record.circuit, record.hook, record.act), (FOLLOWED, HOOK_ENI, Traced::ENTERED));
    assert_eq!((record.label, record.out_label, record.reason), (0, 0x00ab_cdef, 0));
    assert_eq!((taken(&record), record.length as usize), (whole.as_slice(), whole.len()));
    let past = Wanted { until: 1, until_wall: 0, protocol: 256, port: 0, snaplen: 0, reserved: [0; 2] };
    host.put("TRACED", &FOLLOWED, &past).unwrap();
    host.sends(ENI, &whole);
    assert_eq!(host.traces().unwrap().len(), 0, "its time is over, though nobody took it away");
}

#[test]
fn a_drop_is_told_with_its_reason_and_rule() {
    let mut host = host();
    follow(&host, true);
    let whole = frame::ip_frame(&datagram(FOLLOWED, false, 6));
    host.refuses(ENI, &whole, FOLLOWED, Reason::DeniedByRule, 0);
    let record = one(&mut host);
    assert_eq!((record.act, record.reason, record.rule), (Traced::DROPPED, Reason::DeniedByRule as u32, 0));
    assert_eq!(taken(&record), whole);
}

#[test]
fn transit_and_delivery_are_told_with_the_frame_as_it_came() {
    let (ours, theirs) = outer(false);
    for (program, hook) in [(XDP, HOOK_UNDERLAY_XDP), (UNDERLAY, HOOK_UNDERLAY_TCX)] {
        let mut host = host();
        follow(&host, true);
        host.label(&Host::transit(FOLLOWED, LABEL, false, HOP_IPV4, 77)).unwrap();
        let whole = frame::tunnelled(theirs, ours, LABEL, &datagram(FOLLOWED, false, 17));
        host.sends(program, &whole);
        let record = one(&mut host);
        assert_eq!((record.hook, record.act), (hook, Traced::PASSED_ON), "{program}");
        assert_eq!((record.label, record.out_label), (LABEL, 77), "{program}");
        assert_eq!(taken(&record), whole, "{program}: before its headers change");
        assert_eq!(host.stats(label::index(LABEL)).unwrap().received_packets, 1);
    }
    let mut host = host();
    follow(&host, true);
    host.label(&Host::delivery(FOLLOWED, LABEL, false)).unwrap();
    let whole = frame::tunnelled(theirs, ours, LABEL, &datagram(FOLLOWED, true, 17));
    host.sends(UNDERLAY, &whole);
    let record = one(&mut host);
    assert_eq!((record.act, record.label, record.out_label), (Traced::DELIVERED, LABEL, 0));
    assert_eq!(taken(&record), whole);
}

#[test]
fn of_a_long_frame_the_first_bytes_are_told_and_its_length() {
    let mut host = host();
    follow(&host, true);
    let (near, far) = inner(FOLLOWED, false);
    let mut datagram = frame::udp(1000, 2000);
    let payload = vec![0x5a; 600];
    datagram[4..6].copy_from_slice(&(608u16).to_be_bytes());
    datagram.truncate(8);
    datagram.extend(payload);
    let whole = frame::ip_frame(&frame::ip(near, far, 17, &datagram));
    host.sends(ENI, &whole);
    let record = one(&mut host);
    assert_eq!((taken(&record), record.length as usize), (&whole[..BYTES], whole.len()));
}

#[test]
fn asking_tells_no_packet() {
    let mut host = host();
    follow(&host, true);
    let dry = host.dry().unwrap();
    crate::dry::verdict(&dry, ENI, &frame::ip_frame(&datagram(FOLLOWED, false, 17)));
    assert_eq!(host.traces().unwrap().len(), 0);
}
