//! Takes in what hosts counted and measured, and notes how each circuit ran: what its ends sent, and what was measured of the path
//! that it was on.
use super::Fabric;
use crate::circuit::Circuit;
use crate::deadlines::Deadline;
use crate::protection::Protection;
use crate::record::Placed;
use crate::telemetry::{Counter, Resolution, RoundTrip, Sample};
use crate::topology::{FRESH, Link, Source, Topology};
use proto_model::circuit::Path;
use proto_model::desired::Side;
use proto_model::report::{Telemetry, Traffic};
use proto_model::{Bandwidth, CircuitId, Latency, Loss, NodeName, Timestamp};
use std::time::Duration;

/// How often circuits are noted, and how many each time; the others' turn comes next. So each is noted once in a bucket of seconds,
/// up to 10,000 circuits; of more, each less often.
const EVERY: Duration = Duration::from_secs(1);
const NOTED: usize = 5_000;

impl Fabric {
    pub(super) fn count(&mut self, name: &NodeName, telemetry: Telemetry, now: Timestamp) {
        for (id, traffic) in telemetry.traffic {
            if let Some(circuit) = self.circuits.get_mut(id) {
                let [at_source, at_destination] = is_end(circuit, name);
                if at_source {
                    circuit.at_source = traffic;
                    let before = circuit.rate.now();
                    circuit.rate.count(traffic, now);
                    if let Some(route) = circuit.phase.route() {
                        let (rates, reserved) = ([before, circuit.rate.now()], circuit.spec.bounds.bandwidth);
                        self.topology.carry_instead(&route.path, rates, reserved);
                    }
                }
                if at_destination {
                    circuit.at_destination = traffic;
                }
            }
        }
        // After what circuits sent of it.
        self.topology.count(name, &telemetry.interfaces, telemetry.counted);
        let mut better = false;
        for (link, measured) in telemetry.links {
            self.measured(name, &link, &measured, now);
            let news = self.topology.measure(name, &link, measured);
            better |= news.better;
            self.follow_silence(&link, news.turned, now);
        }
        self.look_ahead_soon(now);
        self.deadlines.set_if_none(Deadline::Note, now.plus(EVERY));
        if better {
            self.retry_suspended(now);
        } else if !self.circuits.suspended.is_empty() {
            self.deadlines.set_if_none(Deadline::RetryMeasured, now.plus(self.settings.timing.retry));
        }
        if let Some(node) = self.nodes.get_mut(name) {
            let is_there = |id| self.circuits.get(id).is_some();
            node.told = true;
            if telemetry.counted != Timestamp::default() {
                node.counted = Some(telemetry.counted);
            }
            node.count_drops(telemetry.drops, self.settings.limits.drop_counts, is_there);
        }
    }

    /// Circuits in turn.
    pub(super) fn note_circuits(&mut self, now: Timestamp) {
        for id in self.next_after(self.noted, NOTED) {
            self.noted = id;
            self.note_circuit(id, now);
        }
    }

    /// Once in each bucket. One that is not open runs nowhere: a gap.
    fn note_circuit(&mut self, id: CircuitId, now: Timestamp) {
        let number = |at| Resolution::Seconds.number(at);
        match self.ran.last(&id) {
            Some(last) if number(last) == number(now) => return,
            None if self.ran.keys().len() >= self.settings.limits.histories => return,
            Some(_) | None => {}
        }
        let Some(circuit) = self.circuits.get_mut(id).filter(|circuit| circuit.phase.opened()) else {
            return;
        };
        let Some(route) = circuit.phase.route() else { return };
        let ways = ways(route, [circuit.at_source, circuit.at_destination]);
        let load = std::array::from_fn(|way| {
            let (node, bytes) = ways[way]?;
            rate(&mut circuit.noted[way], self.nodes.get(node)?.counted?, bytes)
        });
        let (rtt, loss) = lately(&self.topology, in_use(route, &circuit.protection), now);
        let rtt = rtt.map(|rtt| RoundTrip { min: rtt, mean: rtt, max: rtt });
        self.ran.see(now, &id, &Sample { rtt, loss: [loss, None], load });
    }
}

/// Host and bytes of what is sent each way; an end without an agent sends what the other one receives. Within one host what both
/// ends send is one number.
fn ways(route: &Placed, [source, destination]: [Traffic; 2]) -> [Option<(&NodeName, u64)>; 2] {
    let ends = (route.path.nodes.first(), route.path.nodes.last());
    let (Some(first), Some(last)) = ends else { return [None; 2] };
    match route.external.as_ref().map(|external| external.side) {
        Some(Side::Source) => {
            [Some((last, destination.received_bytes)), Some((last, destination.sent_bytes))]
        }
        Some(Side::Destination) => [Some((first, source.sent_bytes)), Some((first, source.received_bytes))],
        None if first == last => [Some((first, source.sent_bytes)), None],
        None => [Some((first, source.sent_bytes)), Some((last, destination.sent_bytes))],
    }
}

/// Since it was noted last, by the clock of the host that counted; after a long silence what went meanwhile is of no bucket.
fn rate(counter: &mut Counter, counted: Timestamp, bytes: u64) -> Option<Bandwidth> {
    let recent = counter.last().is_some_and(|before| counted.since(before) <= FRESH);
    counter.read(counted, bytes).rate().filter(|_| recent)
}

/// Where its packets are: on the backup while an end sends there.
fn in_use<'a>(route: &'a Placed, protection: &Protection) -> &'a Path {
    let backup = route.second().filter(|_| !protection.on_backup.is_empty());
    backup.map_or(&route.path, |backup| &backup.path)
}

/// Round-trip time and loss, of all links together. None: something is not known of one of them. Through a link that fell silent all
/// is lost, and nothing takes any time.
fn lately(topology: &Topology, path: &Path, now: Timestamp) -> (Option<Latency>, Option<Loss>) {
    let nothing = path.links.is_empty();
    let links = || path.links.iter().map(|id| topology.link(id));
    let rtt = |sum: Latency, link: Option<&Link>| Some(sum.saturating_add(link?.last_rtt(now)?));
    let loss = |all: Loss, link: Option<&Link>| {
        let known = link.filter(|link| link.loss(now).source != Source::Unknown)?;
        Some(all.then(known.lately(now).1))
    };
    let rtt = links().try_fold(Latency::ZERO, rtt);
    let loss = links().try_fold(Loss::NONE, loss);
    (rtt.filter(|_| !nothing), loss.filter(|_| !nothing))
}

fn is_end(circuit: &Circuit, name: &NodeName) -> [bool; 2] {
    let nodes = circuit.phase.route().map(|route| &route.path.nodes);
    [nodes.and_then(|nodes| nodes.first()), nodes.and_then(|nodes| nodes.last())].map(|end| end == Some(name))
}
