//! The kernel's firewall and the reference model agree on random packets.
use crate::fixture::{ENI, Host, REDIRECT, SHOT, UNDERLAY, address, any, inner, outer};
use crate::frame;
use ebpf_abi::flow::Flow;
use ebpf_abi::rules::RuleRow;
use ebpf_abi::{Address, Direction, Reason};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tests_kernel::bench::dataplane::Dataplane;
use tests_kernel::model::{Body, Ends, Firewall, Packet, Piece, Rule, Verdict, What};

const PACKETS: usize = 100_000;
/// Packets before circuits start anew with other rules.
const ROUND: usize = 400;
const CIRCUITS: u64 = 3;

/// xorshift64*: the same packets for the same seed on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }
    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
    fn port(&mut self) -> u16 {
        self.pick(&[22, 80, 443])
    }
}

#[test]
fn kernel_and_model_agree_on_random_packets() {
    let seed = std::env::var("FOREWEAVE_SEED").map_or_else(|_| fresh_seed(), |seed| seed.parse().unwrap());
    let host = Host::new().unwrap();
    let dry = host.dry().unwrap();
    let mut chance = Chance(seed | 1);
    let mut tally = BTreeMap::new();
    for round in 0..PACKETS / ROUND {
        compare_round((&host, &dry), &mut chance, round, seed, &mut tally);
    }
    let judged: u64 = tally.values().sum();
    println!(
        "seed {seed}: {judged} packets, each by the model, by a dry run and by the live programs: {tally:?}"
    );
    assert!(judged >= PACKETS as u64, "only {judged} packets");
    // The packets must have reached every corner, or agreement says little.
    for verdict in ["Pass", "Denied", "NoConnection", "Unrelated", "NoFirst", "Impossible"] {
        assert!(tally.get(verdict).is_some_and(|n| *n > 100), "only {tally:?} (seed {seed})");
    }
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    now.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id())
}

fn compare_round(
    (host, dry): (&Host, &Dataplane),
    chance: &mut Chance,
    round: usize,
    seed: u64,
    tally: &mut BTreeMap<String, u64>,
) {
    let mut model = Firewall::default();
    let circuits: Vec<u64> = (0..CIRCUITS).map(|i| 1 + round as u64 * CIRCUITS + i).collect();
    let mut versions = BTreeMap::new();
    for circuit in &circuits {
        open(host, &mut model, *circuit);
        change_rules(host, &mut model, chance, *circuit, &mut versions);
    }
    let mut expected = BTreeMap::new();
    for step in 0..ROUND {
        let circuit = chance.pick(&circuits);
        if chance.one_in(60) {
            change_rules(host, &mut model, chance, circuit, &mut versions);
        }
        let packet = draw(chance);
        let verdict = model.judge(circuit, &packet);
        let from_workload = chance.one_in(2);
        let place = format!("seed {seed}, round {round}, step {step}, circuit {circuit}: {packet:?}");
        compare((host, dry), circuit, &packet, verdict, from_workload, &mut expected, &place);
        let name = format!("{verdict:?}");
        *tally.entry(name.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
}

/// Gates for both directions on this host, and a label for both: the firewall is the same at either hook.
fn open(host: &Host, model: &mut Firewall, circuit: u64) {
    for v6 in [false, true] {
        for from_here in [true, false] {
            let (key, flow) = Host::flow(circuit, v6, from_here);
            host.put("FLOWS", &key, &Flow { slot: 1, ..flow }).unwrap();
        }
    }
    let reverse = Host::delivery(circuit, label(circuit, false), false);
    host.label(&reverse).unwrap();
    let forward = ebpf_abi::label::LabelEntry {
        label: label(circuit, true),
        direction: Direction::Forward as u8,
        remote_v4: reverse.local_v4,
        local_v4: reverse.remote_v4,
        remote_v6: reverse.local_v6,
        local_v6: reverse.remote_v6,
        ..reverse
    };
    host.label(&forward).unwrap();
    let ends = |v6| inner(circuit, v6);
    model.open_circuit(
        circuit,
        Ends { source: (ends(false).0, ends(true).0), destination: (ends(false).1, ends(true).1) },
    );
}

fn label(circuit: u64, forward: bool) -> u32 {
    2 * circuit as u32 + u32::from(forward)
}

fn change_rules(
    host: &Host,
    model: &mut Firewall,
    chance: &mut Chance,
    circuit: u64,
    versions: &mut BTreeMap<u64, u32>,
) {
    let version = versions.entry(circuit).or_default();
    *version += 1;
    let rules: Vec<Rule> = (0..chance.below(9)).map(|i| draw_rule(chance, circuit, i as u32 + 1)).collect();
    let rows: Vec<RuleRow> = rules.iter().map(row).collect();
    host.rules(circuit, *version, &rows).unwrap();
    model.replace_rules(circuit, *version, rules);
}

fn draw_rule(chance: &mut Chance, circuit: u64, id: u32) -> Rule {
    let from_source = !chance.one_in(3);
    let low = if chance.one_in(2) { 0 } else { chance.pick(&[0, 8, 13, 22, 80, 128]) };
    let high = if chance.one_in(2) { u16::MAX } else { chance.pick(&[low, 79, 100, 443, 200]) };
    Rule {
        id,
        allow: !chance.one_in(4),
        from_source,
        from_destination: !from_source || chance.one_in(2),
        protocol: chance.pick(&[None, None, Some(6), Some(17), Some(1), Some(47)]),
        ports: (low, high.max(low)),
        v6: chance.pick(&[None, None, Some(false), Some(true)]),
        opener: draw_prefix(chance, circuit),
        opened: draw_prefix(chance, circuit),
    }
}

fn draw_prefix(chance: &mut Chance, circuit: u64) -> Option<(IpAddr, u8)> {
    if !chance.one_in(4) {
        return None;
    }
    let (near, far) = inner(circuit + chance.below(2), chance.one_in(2));
    let address = chance.pick(&[near, far]);
    let length = chance.pick(&[0, 8, 22, 31, 32]);
    Some((address, if address.is_ipv6() { length * 4 } else { length }))
}

/// A rule as the agent would write it; a prefix of one family matches no address of the other.
fn row(rule: &Rule) -> RuleRow {
    let (source, source_mask) = masked(rule.opener);
    let (destination, destination_mask) = masked(rule.opened);
    RuleRow {
        source,
        source_mask,
        destination,
        destination_mask,
        port_from: rule.ports.0,
        port_to: rule.ports.1,
        protocol: rule.protocol.map_or(RuleRow::ANY_PROTOCOL, u16::from),
        directions: u8::from(rule.from_source) | u8::from(rule.from_destination) << 1,
        family: rule.v6.map_or(0, |v6| if v6 { 6 } else { 4 }),
        ..any(rule.id, rule.allow)
    }
}

fn masked(prefix: Option<(IpAddr, u8)>) -> (Address, Address) {
    let Some((ip, length)) = prefix else { return ([0; 16], [0; 16]) };
    let bits = if ip.is_ipv4() { 96 + u32::from(length) } else { u32::from(length) };
    // A zero-length IPv6 prefix would also match mapped IPv4; the agent tells them apart by the family field, which
    // this leaves alone, so it is drawn as "the first bit" instead.
    let mask = if bits == 0 { 1 << 127 } else { u128::MAX << (128 - bits) };
    ((u128::from_be_bytes(address(ip)) & mask).to_be_bytes(), mask.to_be_bytes())
}

fn draw(chance: &mut Chance) -> Packet {
    let body = draw_body(chance);
    let error = chance.one_in(8);
    let piece = match chance.below(10) {
        0 if !error => Piece::First { id: chance.below(4) as u16 },
        1 | 2 if !error => Piece::Later { id: chance.below(4) as u16 },
        _ => Piece::All,
    };
    Packet {
        forward: !chance.one_in(3),
        v6: chance.one_in(2),
        piece,
        what: if error { What::ErrorAbout(body) } else { What::Plain(body) },
    }
}

fn draw_body(chance: &mut Chance) -> Body {
    match chance.below(12) {
        0..=5 => {
            let flags = chance.pick(&[2, 2, 18, 16, 16, 16, 17, 20, 4, 1, 3, 6, 0, 31]);
            Body::Tcp {
                from: chance.port(),
                to: chance.port(),
                fin: flags & 1 != 0,
                syn: flags & 2 != 0,
                rst: flags & 4 != 0,
                ack: flags & 16 != 0,
            }
        }
        6 | 7 => Body::Udp { from: chance.port(), to: chance.port() },
        8 => Body::Ask { id: chance.below(3) as u16 },
        9 => Body::Answer { id: chance.below(3) as u16 },
        10 => Body::Message { kind: chance.pick(&[13, 5, 137, 200]) },
        _ => Body::Other { protocol: chance.pick(&[47, 132]) },
    }
}

fn compare(
    (host, dry): (&Host, &Dataplane),
    circuit: u64,
    packet: &Packet,
    verdict: Verdict,
    from_workload: bool,
    expected: &mut BTreeMap<(u64, u32, u32), u64>,
    place: &str,
) {
    let bytes = encode(circuit, packet);
    let (program, whole) = if from_workload {
        (ENI, frame::ip_frame(&bytes))
    } else {
        let (ours, theirs) = outer(false);
        (UNDERLAY, frame::tunnelled(theirs, ours, label(circuit, packet.forward), &bytes))
    };
    let foretold = crate::dry::verdict(dry, program, &whole);
    let ran = host.run(program, &whole).unwrap();
    assert_eq!((foretold.0.verdict, &foretold.0.frame), (ran.verdict, &ran.frame), "{place}: asked and live");
    let told = refusal(verdict).map_or((0, foretold.1.rule), |(reason, rule)| (reason as u32, rule));
    assert_eq!((foretold.1.reason, foretold.1.rule), told, "{place}: what is said when asked");
    assert_eq!(foretold.1.circuit, circuit, "{place}");
    let Some((reason, rule)) = refusal(verdict) else {
        assert_eq!(ran.verdict, REDIRECT, "{place}: the model passes it; {:?}", host.reasons());
        return;
    };
    assert_eq!(ran.verdict, SHOT, "{place}: the model says {verdict:?}");
    let count = expected.entry((circuit, reason as u32, rule)).or_default();
    *count += 1;
    let counted = host.dropped_by(circuit, reason, rule).unwrap();
    assert_eq!(
        counted, *count,
        "{place}: the model says {verdict:?}, the kernel dropped it for another reason"
    );
}

fn refusal(verdict: Verdict) -> Option<(Reason, u32)> {
    Some(match verdict {
        Verdict::Pass => return None,
        Verdict::Denied { rule } => (Reason::DeniedByRule, rule),
        Verdict::NoConnection => (Reason::NoConnection, 0),
        Verdict::Unrelated => (Reason::UnrelatedIcmpError, 0),
        Verdict::NoFirst => (Reason::FragmentWithoutFirst, 0),
        Verdict::NoRules => (Reason::NoRuleSet, 0),
        Verdict::Impossible => (Reason::MalformedTransport, 0),
    })
}

fn encode(circuit: u64, packet: &Packet) -> Vec<u8> {
    let (source, destination) = inner(circuit, packet.v6);
    let (from, to) = if packet.forward { (source, destination) } else { (destination, source) };
    let (protocol, payload) = match packet.what {
        What::Plain(body) => encode_body(packet.v6, body),
        What::ErrorAbout(body) => {
            let (protocol, payload) = encode_body(packet.v6, body);
            let quoted = frame::ip(to, from, protocol, &payload);
            (frame::icmp_protocol(from), frame::icmp_error(packet.v6, &quoted))
        }
    };
    match packet.piece {
        Piece::All => frame::ip(from, to, protocol, &payload),
        Piece::First { id } => frame::fragment(from, to, protocol, id, 0, true, &payload),
        Piece::Later { id } => frame::fragment(from, to, protocol, id, 1480, false, b"the rest of it all"),
    }
}

fn encode_body(v6: bool, body: Body) -> (u8, Vec<u8>) {
    let icmp = if v6 { 58 } else { 1 };
    match body {
        Body::Tcp { from, to, fin, syn, rst, ack } => {
            let flags = u8::from(fin) | u8::from(syn) << 1 | u8::from(rst) << 2 | u8::from(ack) << 4;
            (6, frame::tcp(from, to, flags))
        }
        Body::Udp { from, to } => (17, frame::udp(from, to)),
        Body::Ask { id } => (icmp, frame::icmp(if v6 { 128 } else { 8 }, id)),
        Body::Answer { id } => (icmp, frame::icmp(if v6 { 129 } else { 0 }, id)),
        Body::Message { kind } => (icmp, frame::icmp(kind, 1)),
        Body::Other { protocol } => (protocol, b"opaque payload here".to_vec()),
    }
}
