//! The fuzz targets with a fixed number of pseudo-random inputs, for machines without a nightly compiler.
use foreweave_fuzz::{packet, record, text, wire};

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
    let hop = v1::Hop { circuit: 1, from_side: 1, receive: Some(receive), send: Some(send) };
    let object = v1::Object { object: Some(v1::object::Object::Hop(hop)) };
    let whole = v1::tell::Whole { generation: 3, objects: vec![object.clone()] };
    let tell = v1::Tell { tell: Some(v1::tell::Tell::Whole(whole)) };
    let seeds = [circuit.encode_to_vec(), object.encode_to_vec(), tell.encode_to_vec()];
    for turn in 0..100_000 {
        let good = &seeds[turn % seeds.len()];
        let mut bytes = vec![random.below(usize::from(wire::kinds())) as u8];
        bytes.extend(if turn % 4 == 0 { random.bytes(100) } else { random.damaged(good) });
        wire::check(&bytes);
    }
}

#[test]
fn damaged_records_break_nothing() {
    let mut random = Random(3);
    let seeds: [&[u8]; 3] = [
        br#"{"Counters":{"next_circuit":42}}"#,
        br#"{"Node":{"name":"edge-a","enrolled":1,"underlays":[]}}"#,
        br#"{"Link":[{"a":"x","b":"y","network":"z"},{"rtt":1,"capacity":null,"loss":0,"price":0,"encrypted":false,"tags":[],"disabled":false}]}"#,
    ];
    for seed in seeds {
        serde_json::from_slice::<controller_core::record::Record>(seed).expect("a good record");
    }
    for turn in 0..50_000 {
        let bytes = random.damaged(seeds[turn % seeds.len()]);
        record::check(&bytes);
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
