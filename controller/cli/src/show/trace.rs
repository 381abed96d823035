//! Joins what several hosts told of one packet into one line.
use super::drops::{between, clock, message};
use proto_model::trace::{Act, Hook, Traced};
use proto_model::{NodeName, policy};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets whose records are still being joined; at the bound the oldest are shown as far as they are known.
const MOST: usize = 10_000;

/// What one run of a program tells of a packet is not further apart than this.
const AT_ONCE: Duration = Duration::from_millis(1);

/// One packet, as far as hosts have told of it.
#[derive(Clone, Debug)]
pub struct Journey {
    seen: Vec<(NodeName, Traced)>,
    last: Instant,
}

impl Journey {
    /// Programs tell of what they let pass before they send it, which may still fail: the drop that follows there is the
    /// truth. That it entered stays true.
    fn facts(&self) -> impl Iterator<Item = &(NodeName, Traced)> {
        self.seen.iter().filter(|(node, packet)| {
            let failed = |(at, other): &(NodeName, Traced)| {
                at == node && other.hook == packet.hook && matches!(other.act, Act::Dropped { .. })
            };
            !matches!(packet.act, Act::PassedOn | Act::Delivered) || !self.seen.iter().any(failed)
        })
    }
}

/// Packets under way.
#[derive(Debug)]
pub struct Joiner {
    /// In the order of the path, backup's other hosts last.
    nodes: Vec<String>,
    open: BTreeMap<u64, Vec<Journey>>,
    count: usize,
}

impl Joiner {
    pub fn new(nodes: Vec<String>) -> Self {
        Self { nodes, open: BTreeMap::new(), count: 0 }
    }

    /// A second record of one identity at one place is another packet, one that was sent again; unless it says within
    /// [`AT_ONCE`] that something else became of it.
    pub fn add(&mut self, node: NodeName, packet: Traced, now: Instant) {
        let journeys = self.open.entry(packet.identity).or_default();
        let same = |(at, known): &(NodeName, Traced)| {
            let at_once = u128::from(known.at.0.abs_diff(packet.at.0)) <= AT_ONCE.as_nanos();
            *at == node && known.hook == packet.hook && (known.act == packet.act || !at_once)
        };
        match journeys.iter_mut().find(|journey| !journey.seen.iter().any(same)) {
            Some(journey) => {
                journey.last = now;
                journey.seen.push((node, packet));
            }
            None => {
                journeys.push(Journey { seen: vec![(node, packet)], last: now });
                self.count += 1;
            }
        }
    }

    /// Those of which nothing was heard for so long, oldest first.
    pub fn ready(&mut self, now: Instant, late: Duration) -> Vec<Journey> {
        let crowded = self.count > MOST;
        self.take(|journey| crowded || now.duration_since(journey.last) >= late)
    }

    /// All that there are.
    pub fn rest(&mut self) -> Vec<Journey> {
        self.take(|_| true)
    }

    fn take(&mut self, done: impl Fn(&Journey) -> bool) -> Vec<Journey> {
        let mut ready = Vec::new();
        for journeys in self.open.values_mut() {
            ready.extend(journeys.extract_if(.., |journey| done(journey)));
        }
        self.open.retain(|_, journeys| !journeys.is_empty());
        self.count -= ready.len();
        for journey in &mut ready {
            journey.seen.sort_by_key(|(_, packet)| packet.at);
        }
        ready.sort_by_key(|journey| journey.seen.first().map(|(_, packet)| packet.at));
        ready
    }

    /// `12:34:56.789Z edge-a entered → transit +31 µs (tcx 7 → 9) → edge-b +62 µs delivered  tcp …, 74 bytes`.
    pub fn line(&self, journey: &Journey) -> String {
        let Some((_, first)) = journey.seen.first() else { return String::new() };
        let hops: Vec<String> = journey
            .facts()
            .map(|(node, packet)| {
                let after = packet.at.since(first.at);
                let after = if after.is_zero() { String::new() } else { format!(" +{}", short(after)) };
                format!("{node}{after} {}", act(packet))
            })
            .collect();
        let unseen = if self.ends(journey) { "" } else { " → not seen further" };
        let size = match first.segment {
            0 => format!("{} bytes", first.length),
            segment => format!("superpacket of {} bytes, segments of {segment}", first.length),
        };
        format!("{} {}{unseen}  {}, {size}", clock(first.at), hops.join(" → "), packet(first))
    }

    /// Whether its end is known, or nobody looks there.
    fn ends(&self, journey: &Journey) -> bool {
        let told = |act: &Act| matches!(act, Act::Delivered | Act::Dropped { .. });
        // Of an encrypted circuit, what enters and is delivered is not what others pass on.
        journey.seen.iter().any(|(_, packet)| told(&packet.act) || packet.sealed) || self.nodes.len() < 2
    }
}

/// What the host did with it.
pub fn act(packet: &Traced) -> String {
    let label =
        |label: Option<proto_model::Label>| label.map_or_else(|| "–".into(), |label| label.to_string());
    match &packet.act {
        Act::Entered => match packet.out_label {
            Some(out) => format!("entered under label {out}"),
            None => "entered, for the same host".into(),
        },
        Act::PassedOn => {
            let hook = if packet.hook == Hook::Xdp { "xdp" } else { "tcx" };
            format!("passed on ({hook}, label {} → {})", label(packet.label), label(packet.out_label))
        }
        Act::Delivered => "delivered".into(),
        Act::Dropped { reason, rule: 0 } if reason == "denied_by_rule" => {
            "dropped: denied_by_rule, rule 0 (default deny)".into()
        }
        Act::Dropped { reason, rule: 0 } => format!("dropped: {reason}"),
        Act::Dropped { reason, rule } => match policy::rule_of_policy(*rule) {
            Some(rule) => format!("dropped: {reason}, rule {rule} of the host's policy"),
            None => format!("dropped: {reason}, rule {rule}"),
        },
    }
}

fn packet(seen: &Traced) -> String {
    if seen.sealed {
        return "encrypted".into();
    }
    let (Some(source), Some(destination)) = (seen.source, seen.destination) else {
        return "unreadable packet".into();
    };
    let ports =
        (SocketAddr::new(source, seen.source_port), SocketAddr::new(destination, seen.destination_port));
    match seen.protocol {
        6 => format!("tcp {} → {}", ports.0, ports.1),
        17 => format!("udp {} → {}", ports.0, ports.1),
        1 | 58 => {
            let message = message(seen.protocol, seen.destination_port);
            format!("icmp {} {message}", between(source, destination))
        }
        other => format!("protocol {other} {}", between(source, destination)),
    }
}

fn short(span: Duration) -> String {
    let nanos = span.as_nanos();
    if nanos < 10_000_000 { format!("{} µs", nanos / 1_000) } else { format!("{} ms", nanos / 1_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::{CircuitId, Label, Timestamp};

    fn seen(at: u64, hook: Hook, act: Act) -> Traced {
        Traced {
            at: Timestamp(at),
            circuit: CircuitId(7),
            hook,
            act,
            interface: "eth0".into(),
            label: Label::new(3),
            out_label: Label::new(9),
            identity: 42,
            source: "100.64.0.1".parse().ok(),
            destination: "100.64.0.2".parse().ok(),
            protocol: 6,
            source_port: 40_000,
            destination_port: 5432,
            sealed: false,
            length: 74,
            segment: 0,
            missed: 0,
            bytes: Vec::new(),
        }
    }

    fn node(name: &str) -> NodeName {
        name.parse().expect("name")
    }

    #[test]
    fn records_that_come_in_any_order_become_one_line_in_the_order_of_time() {
        let mut joiner = Joiner::new(vec!["a".into(), "t".into(), "b".into()]);
        let now = Instant::now();
        joiner.add(node("b"), seen(2_062_000, Hook::Tcx, Act::Delivered), now);
        joiner.add(node("a"), seen(2_000_000, Hook::Eni, Act::Entered), now);
        joiner.add(node("t"), seen(2_031_000, Hook::Xdp, Act::PassedOn), now);
        assert!(joiner.ready(now, Duration::from_millis(1)).is_empty(), "more may come");
        let ready = joiner.ready(now + Duration::from_millis(1), Duration::from_millis(1));
        let [journey] = ready.as_slice() else { panic!("{ready:?}") };
        assert_eq!(
            joiner.line(journey),
            "00:00:00.002Z a entered under label 9 → t +31 µs passed on (xdp, label 3 → 9) → b +62 µs delivered  \
             tcp 100.64.0.1:40000 → 100.64.0.2:5432, 74 bytes"
        );
        assert!(joiner.rest().is_empty());
    }

    #[test]
    fn what_failed_on_its_way_out_was_not_delivered() {
        let dropped = |rule| Act::Dropped { reason: "no_next_hop".into(), rule };
        for act in [Act::Delivered, Act::PassedOn] {
            let mut joiner = Joiner::new(vec!["a".into(), "b".into()]);
            let now = Instant::now();
            joiner.add(node("a"), seen(0, Hook::Eni, Act::Entered), now);
            joiner.add(node("b"), seen(31_000, Hook::Tcx, act), now);
            joiner.add(node("b"), seen(32_000, Hook::Tcx, dropped(0)), now);
            let rest = joiner.rest();
            let [journey] = rest.as_slice() else { panic!("{rest:?}") };
            let line = joiner.line(journey);
            assert!(line.contains("a entered under label 9 → b +32 µs dropped: no_next_hop  tcp"), "{line}");
        }
        let mut joiner = Joiner::new(vec!["b".into()]);
        joiner.add(node("b"), seen(0, Hook::Tcx, Act::Delivered), Instant::now());
        joiner.add(node("b"), seen(5_000_000, Hook::Tcx, dropped(0)), Instant::now());
        assert_eq!(joiner.rest().len(), 2, "it was sent again");
        let mut joiner = Joiner::new(vec!["a".into(), "b".into()]);
        joiner.add(node("a"), seen(0, Hook::Eni, Act::Entered), Instant::now());
        joiner.add(node("a"), seen(1_000, Hook::Eni, dropped(0)), Instant::now());
        let rest = joiner.rest();
        let line = joiner.line(&rest[0]);
        assert!(line.contains("a entered under label 9 → a +1 µs dropped: no_next_hop"), "{line}");
    }

    #[test]
    fn echoes_are_called_by_their_names_in_both_families() {
        for (protocol, kind, called) in [
            (1, 8, "echo request"),
            (1, 0, "echo reply"),
            (58, 128, "echo request"),
            (58, 129, "echo reply"),
            (58, 8, "type 8 code 0"),
            (1, 3, "type 3 code 0"),
        ] {
            let told = Traced {
                protocol,
                destination_port: u16::from_be_bytes([kind, 0]),
                ..seen(0, Hook::Eni, Act::Entered)
            };
            assert_eq!(packet(&told), format!("icmp 100.64.0.1 → 100.64.0.2 {called}"));
        }
    }

    #[test]
    fn a_packet_that_is_sent_again_is_another_one_and_a_lost_one_is_said_to_be() {
        let mut joiner = Joiner::new(vec!["a".into(), "b".into()]);
        let now = Instant::now();
        joiner.add(node("a"), seen(1, Hook::Eni, Act::Entered), now);
        joiner.add(node("a"), seen(5_000_000, Hook::Eni, Act::Entered), now);
        joiner.add(node("b"), seen(9_000_000, Hook::Tcx, Act::Delivered), now);
        let rest = joiner.rest();
        assert_eq!(rest.len(), 2);
        let lines: Vec<String> = rest.iter().map(|journey| joiner.line(journey)).collect();
        assert_eq!(lines.iter().filter(|line| line.contains("not seen further")).count(), 1, "{lines:?}");
    }
}
