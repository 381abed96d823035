//! Judges whether a circuit should leave its path: because a bound is about to break, or because another one is better by
//! more than the forecasts are wrong.
use super::Judged;
use crate::choice::live;
use crate::topology::{Link, Topology};
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::Candidate;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss};
use std::fmt;

/// Part of its capacity up to which a link is filled by moving circuits that reserved nothing there.
const FILLED: f64 = 0.9;
/// What is expected of a path within the horizon.
#[derive(Clone, Copy, Debug)]
struct Prospect {
    /// As measured lately.
    lately: Values,
    /// The mean of what is expected.
    likely: Values,
    /// Not exceeded at the risk that decisions are taken at.
    perhaps: Values,
}

/// Why a circuit should move.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Its round-trip time may exceed the bound, or does; on the other path it may reach so much.
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
    /// It costs less by more than the margin, as this expert of [`crate::choice`] sees it.
    Cost {
        here: f64,
        there: f64,
        margin: f64,
        by: &'static str,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtt { here, bound, there } => {
                write!(f, "its round-trip time may reach {here}, {bound} is allowed; here {there} at most")
            }
            Self::Loss { here, bound, there } => {
                write!(f, "its loss may reach {here}, {bound} is allowed; here {there} at most")
            }
            Self::Cost { here, there, margin, by } => {
                let word = format!("by the {by} expert");
                write!(f, "it cost {here:.2}, this path {there:.2} {word}; a margin of {margin:.2} was asked")
            }
        }
    }
}

/// `judged`: other paths, those that serve first, each part by cost. `rate`: what the circuit sends. `cheaper` chooses by cost, of
/// paths that keep all bounds within the horizon.
pub fn judge<'a>(
    topology: &Topology,
    bounds: &Bounds,
    here: &Candidate,
    judged: &'a [Judged],
    rate: Bandwidth,
    cheaper: impl FnOnce(&[&'a Candidate]) -> Option<(&'a Candidate, Reason)>,
) -> Option<(&'a Candidate, Reason)> {
    let other = |other: &&Candidate| {
        other.path != here.path && is_heard(topology, other) && has_room(topology, here, other, rate)
    };
    let now = prospect(topology, &here.path);
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
    let keeps = |other: &&Candidate| first_broken(bounds, &prospect(topology, &other.path)).is_none();
    let keeping: Vec<&Candidate> = serving.filter(other).filter(keeps).take(live::MOST).collect();
    cheaper(&keeping)
}

/// The cheapest of those whose bounds are kept now, and are in the least danger later: less than where the circuit is.
fn least_endangered<'a>(
    topology: &Topology,
    bounds: &Bounds,
    others: impl Iterator<Item = &'a Candidate>,
    here: u8,
) -> Option<(&'a Candidate, Prospect)> {
    let known = others.map(|other| (other, prospect(topology, &other.path)));
    let keeping = known.filter(|(_, there)| !there.lately.breaks(bounds));
    let best = keeping.min_by_key(|(_, there)| danger(bounds, there))?;
    (danger(bounds, &best.1) < here).then_some(best)
}

/// Whether a bound may break within the horizon.
pub fn is_at_risk(topology: &Topology, bounds: &Bounds, here: &Path) -> bool {
    first_broken(bounds, &prospect(topology, here)).is_some()
}

/// Whether a bound is broken as measured lately.
pub fn is_broken(topology: &Topology, bounds: &Bounds, here: &Path) -> bool {
    prospect(topology, here).lately.breaks(bounds)
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
                here: here.most().0.unwrap_or_default(),
                bound: *bound,
                there: there.most().0.unwrap_or_default(),
            },
            Self::Loss(bound) => Reason::Loss { here: here.most().1, bound: *bound, there: there.most().1 },
        }
    }
}

/// A round-trip time and a loss that a path has or may have.
#[derive(Clone, Copy, Debug)]
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

impl Prospect {
    /// Now or within the horizon.
    fn most(&self) -> Values {
        Values(self.perhaps.0.max(self.lately.0), self.perhaps.1.max(self.lately.1))
    }
}

/// A bound is to hold all the time until the horizon, not only at its end.
fn first_broken(bounds: &Bounds, prospect: &Prospect) -> Option<Breaks> {
    prospect.perhaps.broken(bounds).or_else(|| prospect.lately.broken(bounds))
}

/// Where no path surely keeps the bounds, one that does so rather is better than one that does not: what is broken now counts
/// more than what may break.
fn danger(bounds: &Bounds, prospect: &Prospect) -> u8 {
    let breaks = |values: Values| u8::from(values.breaks(bounds));
    2 * breaks(prospect.lately) + breaks(prospect.likely) + breaks(prospect.perhaps)
}

/// Links err by themselves, so that the spread of a path is less than the sum of its links' spreads: squares add up.
fn prospect(topology: &Topology, path: &Path) -> Prospect {
    let now = topology.now();
    let links = || path.links.iter().filter_map(|id| topology.link(id));
    let squares = |spread: fn(&Link) -> f64| links().map(|link| spread(link).powi(2)).sum::<f64>().sqrt();
    let rtt = squares(|link| link.expected_rtt().map_or(0.0, |rtt| ms(rtt.high) - ms(rtt.mean)));
    let loss = squares(|link| {
        link.expected_loss().map_or(0.0, |loss| f64::from(loss.high.ppm()) - f64::from(loss.mean.ppm()))
    });
    let more = Latency::from_nanos((rtt.max(0.0) * 1e6) as u64);
    let likely = sum(links().map(|link| (link.rtt(now).value, link.loss(now).value)));
    let lost = f64::from(likely.1.ppm()) + loss.max(0.0);
    let perhaps =
        Values(likely.0.map(|mean| mean.saturating_add(more)), Loss::from_ppm(lost.min(1e6) as u32));
    Prospect { lately: sum(links().map(|link| link.lately(now))), likely, perhaps }
}

/// Over the links of a path.
fn sum(links: impl Iterator<Item = (Option<Latency>, Loss)>) -> Values {
    links.fold(Values(Some(Latency::ZERO), Loss::NONE), |Values(sum, lost), (rtt, loss)| {
        Values(sum.zip(rtt).map(|(sum, rtt)| sum.saturating_add(rtt)), lost.then(loss))
    })
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
