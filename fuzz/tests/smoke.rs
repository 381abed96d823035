//! The fuzz targets with a fixed number of pseudo-random inputs, for machines without a nightly compiler.
use foreweave_fuzz::{packet, record, text, topology, wire};

/// splitmix64 (Steele, Lea, Flood 2014): the same inputs every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
    /// A good input with a few bytes changed, taken out or put in.
    fn damaged(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, self.next() as u8),
            }
        }
        bytes
    }
}

/// Ethernet, IPv4, TCP SYN: 54 bytes.
fn syn() -> Vec<u8> {
    let mut frame = vec![2, 0xfb, 100, 64, 0, 2, 2, 0xfb, 100, 64, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2]);
    frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// Ethernet, IPv6 with a hop-by-hop and a fragment header, UDP.
fn fragment() -> Vec<u8> {
    let mut frame = vec![2, 0xfb, 100, 64, 0, 2, 2, 0xfb, 100, 64, 0, 1, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 32, 0, 64]);
    frame.extend([0xfd, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 64, 0, 1]);
    frame.extend([0xfd, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 64, 0, 2]);
    frame.extend([44, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([17, 0, 0, 1, 0, 0, 0, 9]);
    frame.extend([0x9c, 0x40, 0, 53, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    frame
}

/// An ICMP "host unreachable" that quotes a SYN of the other direction.
fn unreachable() -> Vec<u8> {
    let mut frame = vec![2, 0xfb, 100, 64, 0, 1, 2, 0xfb, 100, 64, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 100, 64, 0, 2, 100, 64, 0, 1]);
    frame.extend([3, 1, 0, 0, 0, 0, 0, 0]);
    frame.extend(&syn()[14..42]);
    frame
}

#[test]
fn the_seeds_are_packets_and_not_noise() {
    for frame in [syn(), fragment(), unreachable()] {
        ebpf_programs::parse(&frame).expect("a good frame");
    }
}

#[test]
fn damaged_frames_break_nothing() {
    let mut random = Random(1);
    let seeds = [syn(), fragment(), unreachable()];
    for _ in 0..100_000 {
        let mut script = Vec::new();
        for _ in 0..=random.below(3) {
            let good = &seeds[random.below(seeds.len())];
            let frame = random.damaged(good);
            script.extend([random.next() as u8, frame.len() as u8]);
            script.extend(frame);
        }
        packet::check(&script);
        packet::check(&random.bytes(200));
    }
}

#[test]
fn damaged_messages_break_nothing() {
    use prost::Message as _;
    use proto_wire::v1;
    let mut random = Random(2);
    let circuit = v1::CreateCircuitRequest {
        circuit: Some(v1::CircuitSpec {
            source: "web".into(),
            destination: "db".into(),
            bounds: Some(v1::Bounds {
                max_rtt: Some(20_000_000),
                bandwidth: 1_000_000,
                ..Default::default()
            }),
            rules: vec![v1::Rule {
                action: 1,
                protocol: 2,
                ports: Some(v1::rule::Ports { from: 80, to: 90 }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let receive = v1::Receive { label: 9, local: "192.0.2.1".into(), from: "192.0.2.2".into() };
    let send =
        v1::NextHop { node: "b".into(), local: "192.0.2.1".into(), remote: "192.0.2.3".into(), label: 5 };
    let hop =
        v1::Hop { circuit: 1, from_side: 1, receive: Some(receive), send: Some(send), reserved: 40_000_000 };
    let object = v1::Object { object: Some(v1::object::Object::Hop(hop)) };
    let whole = v1::tell::Whole { generation: 3, objects: vec![object.clone()] };
    let tell = v1::Tell { tell: Some(v1::tell::Tell::Whole(whole)) };
    let protected = v1::endpoint::Backup {
        path: 7,
        send: Some(v1::NextHop {
            node: "c".into(),
            local: "192.0.2.5".into(),
            remote: "192.0.2.6".into(),
            label: 4,
        }),
        receive: Some(v1::Receive { label: 8, local: "192.0.2.5".into(), from: "192.0.2.6".into() }),
        max_rtt: Some(20_000_000),
        max_loss: Some(1_000),
    };
    let seeds =
        [circuit.encode_to_vec(), object.encode_to_vec(), tell.encode_to_vec(), protected.encode_to_vec()];
    for turn in 0..100_000 {
        let good = &seeds[turn % seeds.len()];
        let mut bytes = vec![random.below(usize::from(wire::kinds())) as u8];
        bytes.extend(if turn % 4 == 0 { random.bytes(100) } else { random.damaged(good) });
        wire::check(&bytes);
    }
}

/// A small fabric as it is stored: three hosts, a link, two resources, a circuit in force with a second way.
fn stored() -> Vec<u8> {
    use controller_core::record::{
        Backup, CircuitRecord, Counters, Keys, Lane, Life, NodeRecord, Placed, Record,
    };
    use proto_model::circuit::{CircuitSpec, Path};
    use proto_model::resource::{Attachment, Form, Metadata, Resource, Status};
    use proto_model::topology::{LinkId, LinkValues, Underlay};
    use proto_model::{CircuitId, FabricPrefix, Label, NodeName, Timestamp};

    fn named<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect(text)
    }
    let node = |name: &str, address: &str| {
        let underlay = Underlay {
            interface: "eth0".into(),
            network: named("wan"),
            addresses: vec![named(address)],
            mtu: 1500,
            speed: None,
            shape: false,
        };
        Record::Node(NodeRecord {
            name: named(name),
            enrolled: Some(Timestamp(1)),
            keys: Keys::Unknown,
            underlays: vec![underlay],
            seal_keys: Vec::new(),
            policy: Default::default(),
        })
    };
    let resource = |id: &str, node: &str, host| {
        Record::Resource(Resource {
            id: named(id),
            metadata: Metadata {
                form: Form::Container,
                node: named(node),
                attachment: Attachment::Named(id.into()),
                interface: None,
                addresses: Vec::new(),
                labels: Default::default(),
                services: Vec::new(),
            },
            intents: Vec::new(),
            status: Status::Up,
            address: FabricPrefix::default().address(host).expect("address"),
            lease: None,
            registered: Timestamp(1),
            renewed: Timestamp(1),
        })
    };
    let nodes: Vec<NodeName> = vec![named("a"), named("b")];
    let link = LinkId::new(nodes[0].clone(), nodes[1].clone(), named("wan")).expect("two ends");
    let label = |number| vec![Label::new(number).expect("label")];
    let around = Path {
        nodes: vec![named("a"), named("c"), named("b")],
        links: ["a", "b"]
            .map(|end| LinkId::new(named(end), named("c"), named("wan")).expect("two ends"))
            .into(),
    };
    let two = |first, second| [label(first), label(second)].concat();
    let lane =
        Lane { path: around, mtu: 1450, forward: two(131_073, 131_075), reverse: two(131_076, 131_074) };
    let backup = Backup { lane, ready: true };
    let circuit = CircuitRecord {
        id: CircuitId(1),
        spec: CircuitSpec {
            name: named("web-db"),
            source: named("web"),
            destination: named("db"),
            bounds: Default::default(),
            priority: 0,
            pinned_path: None,
            expires: None,
            starts: None,
        },
        life: Life::Placed {
            route: Placed {
                path: Path { nodes, links: vec![link.clone()] },
                mtu: 1450,
                forward: label(131_073),
                reverse: label(131_074),
                local: None,
                external: None,
                backup: Some(backup),
                protection: String::new(),
            },
            opened: true,
        },
        rules: Vec::new(),
        rules_version: 1,
        next_rule: 1,
        revert: None,
        reverted: None,
        created: Timestamp(1),
        since: Timestamp(1),
        retiring: None,
        leaving: Vec::new(),
    };
    let records = [
        Record::Counters(Counters { next_circuit: 2 }),
        node("a", "192.0.2.1"),
        node("b", "192.0.2.2"),
        node("c", "192.0.2.3"),
        Record::Link(link, LinkValues::default()),
        resource("web", "a", 1),
        resource("db", "b", 2),
        Record::Circuit(circuit),
    ];
    assert!(record::restore(records.to_vec()), "a good state is refused");
    records
        .iter()
        .flat_map(|record| [serde_json::to_vec(record).expect("JSON"), vec![b'\n']].concat())
        .collect()
}

#[test]
fn damaged_records_break_nothing() {
    let mut random = Random(3);
    let seed = stored();
    for _ in 0..20_000 {
        record::check(&random.damaged(&seed));
    }
}

#[test]
fn records_that_are_missing_or_doubled_break_nothing() {
    let seed = stored();
    let lines: Vec<&[u8]> = seed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for chosen in 0..1u32 << lines.len() {
        let some = lines.iter().enumerate().filter(|(at, _)| chosen & 1 << at != 0).map(|(_, line)| *line);
        record::check(&some.clone().collect::<Vec<_>>().join(&b'\n'));
        record::check(&some.clone().chain(some.take(1)).collect::<Vec<_>>().join(&b'\n'));
    }
}

#[test]
fn damaged_topologies_break_nothing() {
    let mut random = Random(5);
    let seed = b"name = \"x\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n[[link]]\nends = [\"a\", \"b\"]\ndelay = \"2ms\"\n\
                 [[workload]]\nname = \"web\"\nnode = \"a\"\nprivate = \"192.168.1.10/24\"\nservices = [\"http tcp/80\"]\n";
    tests_sim::topology::Topology::parse(std::str::from_utf8(seed).expect("text")).expect("a good topology");
    for _ in 0..20_000 {
        topology::check(&random.damaged(seed));
    }
}

#[test]
fn damaged_text_breaks_nothing() {
    let mut random = Random(4);
    let seeds: [&[u8]; 6] = [
        b"allow tcp/443 from 10.0.0.0/8 to 10.1.0.0/16 both",
        b"fd00::/8",
        b"1.5gbit",
        b"20ms",
        b"0.5%",
        b"c42",
    ];
    for turn in 0..100_000 {
        let bytes = random.damaged(seeds[turn % seeds.len()]);
        text::check(&bytes);
    }
}
