//! Probes over a real wire: an ordinary socket asks, and its kernel takes the answers, with checksums offloaded or not.
use crate::fixture::*;
use crate::stamp;
use ebpf_abi::flow::NextHop;
use ebpf_abi::label::LabelEntry;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;
use tests_kernel::bench::wires::{HOP, SOURCE, Wires};

const SESSION: u16 = 0xbeef;
const LABEL: u32 = 0x123;
const BACK: u32 = 0x456;

/// The asker's address and the host's.
fn ends(v6: bool) -> (IpAddr, IpAddr) {
    let of = |v4: &str, v6_text: &str| if v6 { v6_text } else { v4 }.parse().unwrap();
    (of("10.201.1.1", "2001:db8:7::1"), of("10.201.1.2", "2001:db8:7::2"))
}

fn wires() -> Wires {
    let wires = Wires::new().unwrap();
    for (part, device, address) in [(SOURCE, "s0", ends(true).0), (HOP, "h0", ends(true).1)] {
        wires.ip_in(part, &["addr", "add", &format!("{address}/64"), "dev", device, "nodad"]).unwrap();
    }
    wires
}

/// A host at the other end that knows the asker as a neighbour and as the sender under a label.
fn host(wires: &Wires) -> Host {
    let mut host = Host::new().unwrap();
    let (asker, own) = (wires.end(SOURCE, "s0").unwrap(), wires.end(HOP, "h0").unwrap());
    for (v6, slot) in [(false, HOP_IPV4), (true, HOP_IPV6)] {
        let (theirs, ours) = ends(v6);
        host.put("LOCALS", &address(ours), &1u32).unwrap();
        host.peer(theirs, SESSION).unwrap();
        let hop = NextHop {
            local: address(ours),
            remote: address(theirs),
            ifindex: own.ifindex,
            source_mac: own.mac,
            neighbour_mac: asker.mac,
            flags: NextHop::RESOLVED,
            longest: 1514,
        };
        host.put("NEXT_HOPS", &slot, &hop).unwrap();
        let entry = LabelEntry {
            from: address(theirs),
            to: address(ours),
            out_label: BACK,
            back: slot,
            ..Host::delivery(1, LABEL + u32::from(v6), v6)
        };
        host.label(&entry).unwrap();
    }
    wires.enter(HOP).unwrap();
    host.attach(UNDERLAY, "h0").unwrap();
    host
}

fn offload(wires: &Wires, state: &str) {
    for (part, device) in [(SOURCE, "s0"), (HOP, "h0")] {
        wires.enter(part).unwrap();
        let set = Command::new("ethtool").args(["-K", device, "tx", state, "rx", state]).output().unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    }
}

fn socket(own: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((own, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 2000];
    let length = socket.recv(&mut answer).expect("an answer that the kernel takes");
    answer.truncate(length);
    answer
}

#[test]
fn ordinary_socket_is_answered_and_its_kernel_finds_every_checksum_right() {
    let wires = wires();
    let host = host(&wires);
    for (round, state) in ["on", "off"].into_iter().enumerate() {
        offload(&wires, state);
        wires.enter(SOURCE).unwrap();
        for v6 in [false, true] {
            let number = 2 * round as u32;
            ask_link(v6, number);
            ask_path(v6, round as u32);
        }
    }
    assert_eq!(host.all_drops().unwrap(), 0, "{:?}", host.reasons());
}

/// Two requests, the second with an extension.
fn ask_link(v6: bool, number: u32) {
    let (own, theirs) = ends(v6);
    let asker = socket(own, 0);
    asker.connect((theirs, stamp::PORT)).unwrap();
    for (more, extension) in [&[][..], &stamp::EXTENSION].into_iter().enumerate() {
        let request = [&stamp::request(70, SESSION), extension].concat();
        let before = stamp::tai();
        asker.send(&request).unwrap();
        let answer = received(&asker);
        stamp::check(&answer, &request, number + more as u32, 64, &(before..=stamp::tai()));
    }
}

/// As an agent asks: a datagram of an ordinary socket to the tunnel port, the answer to its own tunnel port.
fn ask_path(v6: bool, number: u32) {
    let (own, theirs) = ends(v6);
    let (asker, tunnel) = (socket(own, 0), socket(own, 4789));
    let packet = stamp::request(71, SESSION);
    let frame = stamp::path_request((own, theirs), LABEL + u32::from(v6), &packet);
    let before = stamp::tai();
    asker.send_to(&frame[if v6 { 62 } else { 42 }..], (theirs, 4789)).unwrap();
    let answer = received(&tunnel);
    assert_eq!(answer[..8], [9, 0, 0, 0, 0, 4, 0x56, 0]);
    stamp::check(&answer[8 + 14 + 20 + 8..], &packet, number, 64, &(before..=stamp::tai()));
}
