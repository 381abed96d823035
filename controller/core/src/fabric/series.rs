//! Shows how the paths of a circuit, a link, or any paths were lately and are expected to be: what charts are drawn from.
use super::Fabric;
use super::insight::together;
use crate::circuit::Circuit;
use crate::telemetry::{Bucket, Resolution};
use crate::topology::Link;
use proto_model::circuit::Path;
use proto_model::insight::{Line, Origin, Point, Role, Series, Subject};
use proto_model::request::Response;
use proto_model::topology::{Forecast, LinkId, Quantity};
use proto_model::{Bandwidth, Kind, Refusal, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Paths of one answer.
const LINES: usize = 8;
/// Forecasts of one line.
const AHEAD: u32 = 8;
/// Nothing is forecast beyond.
const FARTHEST: Duration = Duration::from_secs(86_400);

/// What was measured of a link in one step: least, mean, most.
type Values = [u64; 3];

impl Fabric {
    pub(super) fn series(
        &self,
        of: &Subject,
        quantity: Quantity,
        past: Duration,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let resolution = resolution(past);
        let line = |(role, path)| self.line(role, path, quantity, resolution, past, now);
        let (lines, bound) = match of {
            Subject::Circuit(circuit) => {
                let circuit = self.find(circuit)?;
                let own = self.own_lines(circuit, quantity, past, now)?.into_iter();
                let ways = if quantity == Quantity::Load { Vec::new() } else { self.ways(circuit) };
                (own.chain(ways.into_iter().map(line)).take(LINES).collect(), bound(circuit, quantity))
            }
            Subject::Link(link) => {
                let capacity = self.topology.link(link).and_then(Link::capacity);
                let bound = capacity.filter(|_| quantity == Quantity::Load).map(Bandwidth::bits_per_second);
                (vec![line((Role::Link, self.as_path(link)?))], bound)
            }
            Subject::Paths(paths) => (self.asked(paths)?.into_iter().map(line).collect(), None),
        };
        Ok(Response::Series(Series { quantity, at: now, step: resolution.step(), bound, lines }))
    }

    /// What was noted of the circuit itself: how it ran, on whichever path; or what was sent each way.
    fn own_lines(
        &self,
        circuit: &Circuit,
        quantity: Quantity,
        past: Duration,
        now: Timestamp,
    ) -> Result<Vec<Line>, Refusal> {
        let known = self.ran.last(&circuit.id).is_some();
        let most = self.settings.limits.histories;
        if !known && quantity == Quantity::Load && self.ran.keys().len() >= most {
            let what =
                format!("it is kept how they ran of {most} circuits, and {} is not one of them", circuit.id);
            let refusal = Refusal { field: "circuit".into(), ..Refusal::new(Kind::Exhausted, what) };
            return Err(refusal.hint("`histories` in the controller's limits says of how many it is kept"));
        }
        let Some(path) = last_path(circuit).filter(|_| known) else { return Ok(Vec::new()) };
        let line = |role, path, of: fn(&Bucket) -> Option<Values>| {
            let resolution = resolution(past);
            let first =
                Timestamp(now.0.saturating_sub(past.as_nanos() as u64 + resolution.step().as_nanos() as u64));
            let series = self.ran.series(&circuit.id, resolution).filter(|(at, _)| *at > first);
            let point = |(at, bucket): (Timestamp, Bucket)| {
                let [least, mean, most] = of(&bucket)?;
                Some(Point { at, least, mean, most })
            };
            let points: Vec<Point> = series.filter_map(point).collect();
            let from = if points.is_empty() { Origin::Unknown } else { Origin::Measured };
            let forecasts =
                if role == Role::Circuit { self.ahead(&path, quantity, past) } else { Vec::new() };
            Line { role, path, from, points, forecasts }
        };
        Ok(match quantity {
            Quantity::Rtt => vec![line(Role::Circuit, path, |bucket| values(bucket, Quantity::Rtt))],
            Quantity::Loss => vec![line(Role::Circuit, path, |bucket| values(bucket, Quantity::Loss))],
            Quantity::Load if path.links.is_empty() => vec![line(Role::Both, path, |bucket| sent(bucket, 0))],
            Quantity::Load => {
                let back = Path {
                    nodes: path.nodes.iter().rev().cloned().collect(),
                    links: path.links.iter().rev().cloned().collect(),
                };
                let forth = line(Role::Forth, path, |bucket| sent(bucket, 0));
                vec![forth, line(Role::Back, back, |bucket| sent(bucket, 1))]
            }
        })
    }

    fn as_path(&self, link: &LinkId) -> Result<Path, Refusal> {
        self.known(link, || "link".into())?;
        let (a, b) = link.ends();
        Ok(Path { nodes: vec![a.clone(), b.clone()], links: vec![link.clone()] })
    }

    /// It is there, or something of it is remembered.
    fn known(&self, link: &LinkId, field: impl FnOnce() -> String) -> Result<(), Refusal> {
        if self.topology.link(link).is_some() || self.forecasts.history().last(link).is_some() {
            return Ok(());
        }
        let what = format!("there is no link {link}");
        Err(Refusal { field: field(), ..Refusal::new(Kind::NotFound, what) }
            .hint("see `foreweave link list`"))
    }

    fn asked(&self, paths: &[Path]) -> Result<Vec<(Role, Path)>, Refusal> {
        for (path, asked) in paths.iter().enumerate() {
            for (number, link) in asked.links.iter().enumerate() {
                self.known(link, || format!("paths.paths[{path}].links[{number}]"))?;
            }
        }
        Ok(paths.iter().map(|path| (Role::Candidate, path.clone())).collect())
    }

    /// Its path and backup, then the other candidates of its decision, by cost.
    fn ways(&self, circuit: &Circuit) -> Vec<(Role, Path)> {
        let route = circuit.phase.route();
        let path = route.map(|route| (Role::Path, route.path.clone()));
        let backup = route.and_then(|route| route.second()).map(|lane| (Role::Backup, lane.path.clone()));
        let decision = circuit.decision.iter().flat_map(|plan| &plan.candidates);
        let candidates = decision.map(|candidate| (Role::Candidate, candidate.path.clone()));
        let mut ways: Vec<(Role, Path)> = Vec::new();
        for (role, path) in path.into_iter().chain(backup).chain(candidates) {
            // Both ends on one host: there is nothing to see.
            if ways.len() < LINES && !path.links.is_empty() && ways.iter().all(|(_, known)| *known != path) {
                ways.push((role, path));
            }
        }
        ways
    }

    fn line(
        &self,
        role: Role,
        path: Path,
        quantity: Quantity,
        resolution: Resolution,
        past: Duration,
        now: Timestamp,
    ) -> Line {
        let first = resolution.number(Timestamp(now.0.saturating_sub(past.as_nanos() as u64)));
        let steps = first..=resolution.number(now);
        let links: Vec<_> =
            path.links.iter().map(|link| self.measured_in(link, quantity, resolution)).collect();
        let point = |number: u64| {
            let at = resolution.start(number);
            let values: Vec<Values> = links.iter().map(|link| link.at(at)).collect::<Option<_>>()?;
            let part = |index: usize| together(values.iter().map(|values| values[index]), quantity);
            Some(Point { at, least: part(0), mean: part(1), most: part(2) })
        };
        let points = steps.filter_map(point).collect();
        let (from, forecasts) = (self.least_known(&path, quantity), self.ahead(&path, quantity, past));
        Line { role, path, from, points, forecasts }
    }

    fn measured_in(&self, link: &LinkId, quantity: Quantity, resolution: Resolution) -> Known {
        let configured = self.topology.link(link).and_then(|known| self.present(known, quantity));
        if let Some((value, Origin::Configured)) = configured {
            return Known::Configured(value);
        }
        let series = self.forecasts.history().series(link, resolution);
        Known::Measured(series.filter_map(|(at, bucket)| Some((at, values(&bucket, quantity)?))).collect())
    }

    /// Half as far as it is looked back.
    fn ahead(&self, path: &Path, quantity: Quantity, past: Duration) -> Vec<Forecast> {
        let farthest = (past / 2).min(FARTHEST);
        let horizons = (1..=AHEAD).map(|step| farthest * step / AHEAD);
        horizons.filter_map(|horizon| self.forecast_of_path(path, quantity, horizon)).collect()
    }

    fn least_known(&self, path: &Path, quantity: Quantity) -> Origin {
        let of = |id| self.topology.link(id).and_then(|link| self.present(link, quantity));
        let rank = |origin: &Origin| match origin {
            Origin::Configured => 0,
            Origin::Forecast => 1,
            Origin::Measured => 2,
            Origin::Unknown => 3,
        };
        let origins = path.links.iter().map(|id| of(id).map_or(Origin::Unknown, |(_, origin)| origin));
        origins.max_by_key(rank).unwrap_or(Origin::Unknown)
    }
}

/// What is known of a link over time.
enum Known {
    /// The same at all times.
    Configured(u64),
    Measured(BTreeMap<Timestamp, Values>),
}

impl Known {
    fn at(&self, at: Timestamp) -> Option<Values> {
        match self {
            Self::Configured(value) => Some([*value; 3]),
            Self::Measured(values) => values.get(&at).copied(),
        }
    }
}

/// The finest one that reaches so far back.
fn resolution(past: Duration) -> Resolution {
    let reaches = |resolution: &Resolution| past <= resolution.step() * resolution.kept() as u32;
    Resolution::ALL.into_iter().find(reaches).unwrap_or(Resolution::Hours)
}

/// What the circuit must keep; of its load, what is reserved for it each way.
fn bound(circuit: &Circuit, quantity: Quantity) -> Option<u64> {
    let bounds = &circuit.spec.bounds;
    match quantity {
        Quantity::Rtt => bounds.max_rtt.map(|rtt| rtt.nanos()),
        Quantity::Loss => bounds.max_loss.map(|loss| loss.ppm().into()),
        Quantity::Load => {
            Some(bounds.bandwidth).filter(|reserved| !reserved.is_zero()).map(Bandwidth::bits_per_second)
        }
    }
}

/// That it is on; of one that is on none, the last one that it was on.
fn last_path(circuit: &Circuit) -> Option<Path> {
    let left = || circuit.past.list().into_iter().rev().find_map(|past| past.from);
    let decided = || {
        let plan = circuit.decision.as_ref()?;
        plan.candidates.get(plan.chosen?).map(|candidate| candidate.path.clone())
    };
    circuit.phase.route().map(|route| route.path.clone()).or_else(left).or_else(decided)
}

fn sent(bucket: &Bucket, way: usize) -> Option<Values> {
    bucket.load[way].map(|load| [load.mean, load.mean, load.max].map(scaled))
}

fn scaled(value: f32) -> u64 {
    (f64::from(value.max(0.0)) * 1e6).round() as u64
}

/// In the quantity's unit, of the worse direction.
fn values(bucket: &Bucket, quantity: Quantity) -> Option<Values> {
    match quantity {
        Quantity::Rtt => bucket.rtt.map(|rtt| [rtt.min, rtt.mean, rtt.max].map(scaled)),
        Quantity::Loss => bucket.loss.into_iter().flatten().reduce(f32::max).map(|loss| [scaled(loss); 3]),
        Quantity::Load => {
            let loads = || bucket.load.into_iter().flatten();
            let mean = loads().map(|load| load.mean).reduce(f32::max)?;
            let most = loads().map(|load| load.max).reduce(f32::max)?;
            Some([mean, mean, most].map(scaled))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_resolution_that_reaches_far_enough_is_taken() {
        let of = |seconds| resolution(Duration::from_secs(seconds));
        assert_eq!([of(10), of(240)], [Resolution::Seconds; 2]);
        assert_eq!([of(241), of(3 * 3_600)], [Resolution::Minutes; 2]);
        assert_eq!([of(3 * 3_600 + 1), of(7 * 86_400)], [Resolution::Hours; 2]);
    }
}
