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
    /// As they are now.
    pub rtt_lately: Option<Latency>,
    pub loss_lately: Loss,
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
    let other = |other: &&Candidate| {
        other.path != here.path && is_heard(topology, other) && has_room(topology, here, other, rate)
    };
    let now = prospect(topology, here);
    let danger = danger(bounds, &now);
    if let Some(what) = first_broken(bounds, &now) {
        // What may break a bound in the end may still be better than where one is broken now.
        let fit =
            judged.iter().filter(|judged| judged.broken.iter().all(|what| what.is_rtt() || what.is_loss()));
        let others = fit.map(|judged| &judged.candidate).filter(other);
        let (best, there) = least_endangered(topology, bounds, others, danger)?;
        return Some((best, what.instead(&now, &there)));
    }
    let serving = judged.iter().filter(|judged| judged.broken.is_empty()).map(|judged| &judged.candidate);
    let best =
        serving.filter(other).find(|other| first_broken(bounds, &prospect(topology, other)).is_none())?;
    let margin = margin(topology, weights, here, best);
    let reason = Reason::Cost { here: here.cost, there: best.cost, margin };
    (here.cost - best.cost > margin).then_some((best, reason))
}

/// The cheapest of those whose bounds are kept now, and are in the least danger later: less than where the circuit is.
fn least_endangered<'a>(
    topology: &Topology,
    bounds: &Bounds,
    others: impl Iterator<Item = &'a Candidate>,
    here: u8,
) -> Option<(&'a Candidate, Prospect)> {
    let known = others.map(|other| (other, prospect(topology, other)));
    let keeping = known.filter(|(_, there)| !lately(there).breaks(bounds));
    let best = keeping.min_by_key(|(_, there)| danger(bounds, there))?;
    (danger(bounds, &best.1) < here).then_some(best)
}

/// Whether a bound may break within the horizon.
pub fn is_at_risk(topology: &Topology, bounds: &Bounds, here: &Candidate) -> bool {
    first_broken(bounds, &prospect(topology, here)).is_some()
}

/// Whether a bound is broken as measured lately.
pub fn is_broken(topology: &Topology, bounds: &Bounds, here: &Candidate) -> bool {
    lately(&prospect(topology, here)).breaks(bounds)
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
                here: here.rtt.max(here.rtt_lately).unwrap_or_default(),
                bound: *bound,
                there: there.rtt.unwrap_or_default(),
            },
            Self::Loss(bound) => {
                Reason::Loss { here: here.loss.max(here.loss_lately), bound: *bound, there: there.loss }
            }
        }
    }
}

/// A round-trip time and a loss that a path has or may have.
struct Values(Option<Latency>, Loss);

impl Values {
    fn breaks(&self, bounds: &Bounds) -> bool {
        self.broken(bounds).is_some()
    }

    fn broken(&self, bounds: &Bounds) -> Option<Breaks> {
        let Self(rtt, loss) = *self;
        let over = bounds.max_rtt.filter(|max| rtt.is_some_and(|rtt| rtt > *max)).map(Breaks::Rtt);
        over.or_else(|| bounds.max_loss.filter(|max| loss > *max).map(Breaks::Loss))
    }
}

fn lately(prospect: &Prospect) -> Values {
    Values(prospect.rtt_lately, prospect.loss_lately)
}

fn likely(prospect: &Prospect) -> Values {
    Values(prospect.candidate.offer.rtt, prospect.candidate.offer.loss)
}

fn perhaps(prospect: &Prospect) -> Values {
    Values(prospect.rtt, prospect.loss)
}

/// A bound is to hold all the time until the horizon, not only at its end.
fn first_broken(bounds: &Bounds, prospect: &Prospect) -> Option<Breaks> {
    perhaps(prospect).broken(bounds).or_else(|| lately(prospect).broken(bounds))
}

/// Where no path surely keeps the bounds, one that does so rather is better than one that does not: what is broken now counts
/// more than what may break.
fn danger(bounds: &Bounds, prospect: &Prospect) -> u8 {
    let breaks = |values: Values| u8::from(values.breaks(bounds));
    2 * breaks(lately(prospect)) + breaks(likely(prospect)) + breaks(perhaps(prospect))
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
    let lately = || links().map(|link| link.lately(topology.now()));
    // As [`super::admission`] adds them up.
    let arrives = lately().map(|(_, loss)| 1.0 - f64::from(loss.ppm()) / 1e6).product::<f64>();
    Prospect {
        rtt_lately: lately().try_fold(Latency::ZERO, |sum, (rtt, _)| Some(sum.saturating_add(rtt?))),
        loss_lately: Loss::from_ppm(((1.0 - arrives) * 1e6) as u32),
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
