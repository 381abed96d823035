//! Judges whether a circuit should leave its path: because a bound is about to break, or because another one is better by
//! more than the forecasts are wrong.
use super::Judged;
use crate::topology::{Link, Topology};
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::{Candidate, Weights};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Timestamp};
use std::fmt;

/// Part of its capacity up to which a link is filled by moving circuits that reserved nothing there.
const FILLED: f64 = 0.9;
/// A difference that forecasts cannot tell from none: so many times their mean absolute error. It is looked again and again, so that
/// less is found by chance sooner or later.
const ERRORS: f64 = 4.0;
/// And a part of the present cost, because moving is not free: packets may come out of order at a faster path.
const LEAST_GAIN: f64 = 0.02;

/// What is expected of a path within the horizon.
#[derive(Clone, Debug)]
pub struct Prospect {
    pub candidate: Candidate,
    /// Round-trip time and loss that are not exceeded at the risk that decisions are taken at.
    pub rtt: Option<Latency>,
    pub loss: Loss,
}

/// Why a circuit should move.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Its round-trip time may exceed the bound; on the other path it stays below.
    Rtt {
        here: Latency,
        bound: Latency,
        there: Latency,
    },
    Loss {
        here: Loss,
        bound: Loss,
        there: Loss,
    },
    /// It costs less by more than the margin.
    Cost {
        here: f64,
        there: f64,
        margin: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtt { here, bound, there } => {
                write!(
                    f,
                    "its round-trip time may reach {here}, {bound} is allowed; here it stays below {there}"
                )
            }
            Self::Loss { here, bound, there } => {
                write!(f, "its loss may reach {here}, {bound} is allowed; here it stays below {there}")
            }
            Self::Cost { here, there, margin } => {
                write!(f, "it cost {here:.2}, this path {there:.2}; a margin of {margin:.2} was asked")
            }
        }
    }
}

/// `judged`: other paths, those that serve first, each part by cost. `rate`: what the circuit sends.
pub fn judge<'a>(
    topology: &Topology,
    weights: &Weights,
    bounds: &Bounds,
    here: &Candidate,
    judged: &'a [Judged],
    rate: Bandwidth,
) -> Option<(&'a Candidate, Reason)> {
    let serving = judged.iter().filter(|judged| judged.broken.is_empty()).map(|judged| &judged.candidate);
    let other = |other: &&Candidate| {
        other.path != here.path && is_heard(topology, other) && has_room(topology, here, other, rate)
    };
    let mut others = serving.filter(other);
    let now = prospect(topology, here);
    let breaks = first_broken(bounds, &now);
    let keeps = |other: &&Candidate| first_broken(bounds, &prospect(topology, other)).is_none();
    match breaks {
        Some(what) => {
            let best = others.find(keeps)?;
            let there = prospect(topology, best);
            Some((best, what.instead(&now, &there)))
        }
        None => {
            let best = others.find(keeps)?;
            let margin = margin(topology, weights, here, best);
            let reason = Reason::Cost { here: here.cost, there: best.cost, margin };
            (here.cost - best.cost > margin).then_some((best, reason))
        }
    }
}

/// Whether a bound may break within the horizon.
pub fn is_at_risk(topology: &Topology, bounds: &Bounds, here: &Candidate) -> bool {
    first_broken(bounds, &prospect(topology, here)).is_some()
}

/// A bound that may break.
enum Breaks {
    Rtt(Latency),
    Loss(Loss),
}

impl Breaks {
    fn instead(&self, here: &Prospect, there: &Prospect) -> Reason {
        match self {
            Self::Rtt(bound) => Reason::Rtt {
                here: here.rtt.unwrap_or_default(),
                bound: *bound,
                there: there.rtt.unwrap_or_default(),
            },
            Self::Loss(bound) => Reason::Loss { here: here.loss, bound: *bound, there: there.loss },
        }
    }
}

fn first_broken(bounds: &Bounds, prospect: &Prospect) -> Option<Breaks> {
    let rtt = bounds.max_rtt.filter(|max| prospect.rtt.is_some_and(|rtt| rtt > *max)).map(Breaks::Rtt);
    rtt.or_else(|| bounds.max_loss.filter(|max| prospect.loss > *max).map(Breaks::Loss))
}

/// Links err by themselves, so that the spread of a path is less than the sum of its links' spreads: squares add up.
pub fn prospect(topology: &Topology, candidate: &Candidate) -> Prospect {
    let links = || candidate.path.links.iter().filter_map(|id| topology.link(id));
    let squares = |spread: fn(&Link) -> f64| links().map(|link| spread(link).powi(2)).sum::<f64>().sqrt();
    let rtt = squares(|link| link.expected_rtt().map_or(0.0, |rtt| ms(rtt.high) - ms(rtt.mean)));
    let loss = squares(|link| {
        link.expected_loss().map_or(0.0, |loss| f64::from(loss.high.ppm()) - f64::from(loss.mean.ppm()))
    });
    let more = Latency::from_nanos((rtt.max(0.0) * 1e6) as u64);
    let lost = f64::from(candidate.offer.loss.ppm()) + loss.max(0.0);
    Prospect {
        rtt: candidate.offer.rtt.map(|mean| mean.saturating_add(more)),
        loss: Loss::from_ppm(lost.min(1e6) as u32),
        candidate: candidate.clone(),
    }
}

/// By how much the other path has to be cheaper: what both have in common errs alike.
fn margin(topology: &Topology, weights: &Weights, here: &Candidate, there: &Candidate) -> f64 {
    let own = |one: &Path, other: &Path| -> f64 {
        let links = one.links.iter().filter(|link| !other.links.contains(link));
        let links = links.filter_map(|id| topology.link(id));
        links.map(|link| error(link, weights, topology.now()).powi(2)).sum()
    };
    let error = (own(&here.path, &there.path) + own(&there.path, &here.path)).sqrt();
    (ERRORS * error).max(LEAST_GAIN * here.cost)
}

/// Of what is expected of a link, as cost; without end where it is not known yet.
fn error(link: &Link, weights: &Weights, now: Timestamp) -> f64 {
    let rtt = link.rtt_error(now).map_or(f64::INFINITY, |error| weights.rtt * ms(error));
    let loss = link.expected_loss().map_or(0.0, |loss| weights.loss * f64::from(loss.error.ppm()) / 1e4);
    rtt.hypot(loss)
}

fn ms(latency: Latency) -> f64 {
    latency.as_millis_f64()
}

/// What works is not left for a path over a link whose probes are not answered, whatever is configured of it.
fn is_heard(topology: &Topology, candidate: &Candidate) -> bool {
    let links = candidate.path.links.iter().filter_map(|id| topology.link(id));
    !links.into_iter().any(|link| link.is_unanswered(topology.now()))
}

/// A thousand circuits that were offered a link that holds a hundred: each one that moved counts there at once.
fn has_room(topology: &Topology, here: &Candidate, there: &Candidate, rate: Bandwidth) -> bool {
    let new = |link: &&LinkId| !here.path.links.contains(link);
    there.path.links.iter().filter(new).filter_map(|id| topology.link(id)).all(|link| {
        let Some(capacity) = link.capacity() else { return true };
        let load = link.load.max(link.taken()).saturating_add(rate);
        load.bits_per_second() as f64 <= FILLED * capacity.bits_per_second() as f64
    })
}
