//! Frames: nothing panics, what is read lies inside the frame, and nothing passes a firewall that was not opened.
use ebpf_abi::conntrack::{Conn, ConnKey, Fragment, FragmentKey};
use ebpf_abi::rules::{RuleRow, RuleSetRef};
use ebpf_abi::{Address, Direction};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::firewall::{self, Match, Subject, Tables};
use ebpf_programs::headers::Ethernet;
use ebpf_programs::network::{Network, Part};
use ebpf_programs::rules::Opening;
use ebpf_programs::segment::{self, Options};
use ebpf_programs::too_big::{self, Error4, Error6, Quote};
use ebpf_programs::transport::Transport;
use ebpf_programs::tunnel;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

const CIRCUIT: u64 = 7;
const PORT: [u8; 2] = 4789u16.to_be_bytes();

/// The bytes are frames, each behind two bytes: direction and time step, and its length.
pub fn check(bytes: &[u8]) {
    let closed = World::new(Vec::new());
    let forward_only = World::new(vec![allow_everything_forward()]);
    let mut opened = false;
    let mut rest = bytes;
    while let [how, length, after @ ..] = rest {
        let (frame, next) = after.split_at(usize::from(*length).min(after.len()));
        rest = next;
        let direction = if how & 1 == 0 { Direction::Forward } else { Direction::Reverse };
        tunnelled(frame);
        let Ok((network, transport)) = ebpf_programs::parse(frame) else { continue };
        inside(&network, &transport, frame.len());
        sized(frame, &network, &transport, u16::from(*how) << 4);
        assert!(closed.judge(direction, &network, &transport).is_err(), "no rule, and yet it passed");
        forward_only.sleep(u64::from(how >> 1));
        let passed = forward_only.judge(direction, &network, &transport).is_ok();
        let started = matches!(direction, Direction::Forward);
        assert!(
            !passed || started || opened,
            "the destination opened a connection that only the source may open"
        );
        opened |= passed && started;
    }
}

/// Offsets are in order and inside the frame.
fn inside(network: &Network, transport: &Transport, length: usize) {
    let (at, end) = (network.transport as usize, network.end as usize);
    assert!(at <= end && end <= length, "transport {at}, end {end}, frame {length}");
    assert!(matches!(network.family, 4 | 6));
    if matches!(network.part, Part::Whole) {
        assert_eq!(network.fragment_offset, 0);
    }
    assert!(at + usize::from(transport.length) <= end, "the transport header is longer than the packet");
}

/// What is changed lies inside the TCP header and gets smaller; what is quoted lies inside the packet.
fn sized(frame: &[u8], network: &Network, transport: &Transport, mtu: u16) {
    if segment::announces(transport) {
        let options = Options::of(network, transport).walked(&frame);
        if let Some(lowered) = segment::lowered(&frame, network, &options, mtu) {
            let (at, first) = (lowered.at as usize, network.transport as usize);
            assert!(at >= first + 22 && at + 2 <= first + usize::from(transport.length));
            assert!(lowered.to < [frame[at], frame[at + 1]], "it was raised");
        }
    }
    let quote = Quote::of(network).walked(&frame);
    assert!(quote.is_whole() && quote.length <= network.length);
    if too_big::is_answerable(&frame, network, transport) {
        let link: Ethernet = frame.read(0).expect("it was read before");
        let error = match network.family {
            4 => Error4::of(&link, network, mtu.into(), &quote).ip.total_length,
            _ => Error6::of(&link, network, mtu.into(), &quote).ip.payload_length,
        };
        assert!(u16::from_be_bytes(error) <= 1_240);
    }
}

/// As an underlay packet: the label is read inside the frame or not at all.
fn tunnelled(frame: &[u8]) {
    let Some(kind) = frame.get(12..14) else { return };
    let ethertype = u16::from_be_bytes([kind[0], kind[1]]);
    let Some(outer) = tunnel::read(&frame, ethertype, PORT) else { return };
    assert!(outer.udp as usize >= Ethernet::LENGTH as usize && outer.udp as usize + 8 <= frame.len());
    if let Ok(vxlan) = tunnel::vxlan(&frame, &outer) {
        assert!(vxlan.label() <= 0xff_ffff);
        assert!(outer.udp as usize + 16 <= frame.len());
    }
}

fn allow_everything_forward() -> RuleRow {
    let any: Address = [0; 16];
    RuleRow {
        source: any,
        source_mask: any,
        destination: any,
        destination_mask: any,
        id: 1,
        port_from: 0,
        port_to: u16::MAX,
        protocol: RuleRow::ANY_PROTOCOL,
        directions: Direction::Forward as u8,
        allow: 1,
        family: 0,
        reserved: [0; 3],
    }
}

/// The firewall's maps as trees.
#[derive(Debug)]
struct World {
    rows: Vec<RuleRow>,
    seconds: Cell<u64>,
    connections: RefCell<HashMap<ConnKey, Conn>>,
    fragments: RefCell<HashMap<FragmentKey, Fragment>>,
}

impl World {
    fn new(rows: Vec<RuleRow>) -> Self {
        Self { rows, seconds: Cell::new(1), connections: RefCell::default(), fragments: RefCell::default() }
    }
    fn sleep(&self, seconds: u64) {
        self.seconds.set(self.seconds.get() + seconds);
    }
    fn judge(
        &self,
        direction: Direction,
        network: &Network,
        transport: &Transport,
    ) -> Result<(), firewall::Denied> {
        firewall::judge(self, &Subject { circuit: CIRCUIT, direction, network, transport })
    }
}

impl Tables for World {
    type Slot = ConnKey;
    fn now(&self) -> u64 {
        self.seconds.get() * 1_000_000_000
    }
    fn rule_set(&self, circuit: u64) -> Option<RuleSetRef> {
        Some(RuleSetRef { circuit, start: 0, count: self.rows.len() as u32, version: 1, reserved: 0 })
    }
    fn first_match(&self, _: &RuleSetRef, opening: &Opening) -> Option<Match> {
        let row = self.rows.iter().find(|row| opening.matches(row))?;
        Some(Match { rule: row.id, allow: row.allow == 1 })
    }
    fn connection(&self, key: &ConnKey) -> Option<ConnKey> {
        self.connections.borrow().contains_key(key).then_some(*key)
    }
    fn load(&self, slot: &ConnKey) -> Conn {
        self.connections.borrow()[slot]
    }
    fn store(&self, slot: &ConnKey, conn: &Conn) {
        self.connections.borrow_mut().insert(*slot, *conn);
    }
    fn open(&self, key: &ConnKey, conn: &Conn) -> bool {
        self.connections.borrow_mut().insert(*key, *conn);
        true
    }
    fn close(&self, key: &ConnKey) {
        self.connections.borrow_mut().remove(key);
    }
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }
    fn remember(&self, key: &FragmentKey, fragment: &Fragment) -> bool {
        self.fragments.borrow_mut().insert(*key, *fragment);
        true
    }
    fn forget(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }
}
