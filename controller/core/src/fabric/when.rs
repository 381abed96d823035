//! Says when a circuit would fit that does not fit in its time, because others start and end by themselves.
use super::Fabric;
use crate::circuit::Circuit;
use crate::topology::Ahead;
use proto_model::Timestamp;
use proto_model::circuit::{CircuitSpec, Path};

/// Ends that are looked at; of more, those of the oldest circuits. What is said is true then, but it may fit earlier.
const LOOKED_AT: usize = 1_000;
/// If more circuits are scheduled, nothing is said.
const MOST_SCHEDULED: usize = 1_000;

/// What changes by itself at a time.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// Of one that stands.
    Ends(&'a Circuit),
    Starts(&'a Circuit),
    /// Of one that is scheduled.
    Over(&'a Circuit),
}

impl<'a> Change<'a> {
    fn circuit(&self) -> &'a Circuit {
        match self {
            Self::Ends(circuit) | Self::Starts(circuit) | Self::Over(circuit) => circuit,
        }
    }

    /// True: there is more, or less, free somewhere.
    fn apply(&self, ahead: &mut Ahead) -> bool {
        let circuit = self.circuit();
        let need = circuit.spec.bounds.bandwidth;
        match self {
            Self::Ends(_) => circuit
                .phase
                .route()
                .is_some_and(|route| ahead.release(&route.path, route.second().map(|lane| &lane.path), need)),
            Self::Starts(_) => circuit.scheduled().is_some_and(|path| ahead.reserve(path, need)),
            Self::Over(_) => circuit.scheduled().is_some_and(|path| ahead.release(path, None, need)),
        }
    }
}

/// Since when a path has room without a gap, and what made it.
type Since<'a> = Option<(Timestamp, Option<&'a Circuit>)>;

impl Fabric {
    /// Sentences; `full`: paths that lack bandwidth and nothing else.
    pub(super) fn when(&self, spec: &CircuitSpec, full: &[&Path]) -> Vec<String> {
        let changes = self.changes();
        if full.is_empty() || changes.is_empty() || self.circuits.scheduled.len() > MOST_SCHEDULED {
            return Vec::new();
        }
        let now = self.topology.now();
        let start = spec.starts.unwrap_or(now).max(now);
        let need = spec.bounds.bandwidth;
        let (mut ahead, mut changes) = (self.topology.ahead(full), changes.into_iter().peekable());
        while let Some((_, change)) = changes.next_if(|(at, _)| *at <= start && start > now) {
            change.apply(&mut ahead);
        }
        let mut since: Vec<Since<'_>> =
            full.iter().map(|path| ahead.fits(path, need).then_some((start, None))).collect();
        let mut until: Option<(Timestamp, &Circuit)> = None;
        let found = loop {
            let next = changes.peek().map(|(at, _)| *at);
            if let Some(found) = lasting(spec, start, &since, next) {
                break found;
            }
            let Some(at) = next else { break None };
            let (mut freed, mut taken) = (None, None);
            while let Some((_, change)) = changes.next_if(|(time, _)| *time == at) {
                let changed = change.apply(&mut ahead).then_some(change.circuit());
                match change {
                    Change::Starts(_) => taken = changed.or(taken),
                    Change::Ends(_) | Change::Over(_) => freed = changed.or(freed),
                }
            }
            for (path, since) in full.iter().zip(&mut since) {
                match (ahead.fits(path, need), *since) {
                    (true, None) => *since = freed.map(|circuit| (at, Some(circuit))),
                    (true, Some(_)) => {}
                    (false, first) => {
                        let first = first.filter(|(from, _)| *from == start);
                        until = first.and(taken).map(|circuit| (at, circuit)).or(until);
                        *since = None;
                    }
                }
            }
        };
        let until =
            until.map(|(at, who)| format!("{need} until {}, when {} starts", self.moment(at), who.id));
        let found = found.map(|(at, who)| format!("{need} from {}, when {} ends", self.moment(at), who.id));
        until.into_iter().chain(found).collect()
    }

    /// Of circuits with a reservation, by their times; ends come first.
    fn changes(&self) -> Vec<(Timestamp, Change<'_>)> {
        let ending = self.deadlines.ends().take(LOOKED_AT).filter_map(|id| self.circuits.get(id));
        let ends = ending.filter_map(|circuit| {
            circuit.phase.route().and(circuit.spec.expires).map(|at| (at, Change::Ends(circuit)))
        });
        let scheduled = self.circuits.scheduled.iter().take(MOST_SCHEDULED + 1);
        let times = scheduled.filter_map(|id| self.circuits.get(*id)).flat_map(|circuit| {
            let starts = circuit.spec.starts.map(|at| (at, Change::Starts(circuit)));
            let over = circuit.spec.expires.map(|at| (at, Change::Over(circuit)));
            starts.into_iter().chain(over)
        });
        let reserving =
            |(_, change): &(Timestamp, Change<'_>)| !change.circuit().spec.bounds.bandwidth.is_zero();
        let mut all: Vec<_> = ends.chain(times).filter(reserving).collect();
        all.sort_by_key(|(at, change)| (*at, matches!(change, Change::Starts(_)), change.circuit().id));
        all
    }

    /// Without the date where that is today's.
    fn moment(&self, at: Timestamp) -> String {
        let (at, now) = (at.to_string(), self.topology.now().to_string());
        match (at.split_once(' '), now.split_once(' ')) {
            (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
            _ => at,
        }
    }
}

/// The earliest of them from which on there is room for the whole time: as long as was asked if that has a start, else until
/// the end that was asked. `next`: when something changes; none: never again.
fn lasting<'a>(
    spec: &CircuitSpec,
    start: Timestamp,
    since: &[Since<'a>],
    next: Option<Timestamp>,
) -> Option<Option<(Timestamp, &'a Circuit)>> {
    let end = |from: Timestamp| match (spec.starts.filter(|at| *at == start), spec.expires) {
        (Some(starts), Some(end)) => Some(from.plus(end.since(starts))),
        (_, end) => end,
    };
    let lasts = |(from, _): &(Timestamp, Option<&Circuit>)| {
        let end = end(*from);
        end.is_none_or(|end| *from < end)
            && next.is_none_or(|next| end.is_some_and(|end| end <= next))
            && *from > start
    };
    let found = since.iter().flatten().filter(|since| lasts(since)).min_by_key(|(from, _)| *from);
    let (from, who) = found?;
    Some(who.map(|who| (*from, who)))
}
