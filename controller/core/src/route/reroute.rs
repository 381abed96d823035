//! Judges whether a circuit should leave its path: because a bound is about to break, or because another one is better by
//! more than the forecasts are wrong.
use super::Judged;
use super::prospect::{Breaks, Promise, Prospect, Values};
use crate::choice::live;
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::plan::Candidate;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss};
use std::fmt;

/// Part of its capacity up to which a link is filled by moving circuits that reserved nothing there.
const FILLED: f64 = 0.9;
/// A difference of danger that is none.
const ALIKE: f32 = 0.01;

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
            Self::Rtt { here, bound, there } if there > bound => {
                write!(
                    f,
                    "its round-trip time may reach {here}, {bound} is allowed; here that is likelier to be kept"
                )
            }
            Self::Loss { here, bound, there } if there > bound => {
                write!(f, "its loss may reach {here}, {bound} is allowed; here that is likelier to be kept")
            }
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
    promise: &Promise<'_>,
    here: &Candidate,
    judged: &'a [Judged],
    rate: Bandwidth,
    cheaper: impl FnOnce(&[&'a Candidate]) -> Option<(&'a Candidate, Reason)>,
) -> Option<(&'a Candidate, Reason)> {
    let other = |other: &&Candidate| {
        other.path != here.path && is_heard(topology, other) && has_room(topology, here, other, rate)
    };
    let now = Prospect::of(topology, &here.path, promise.horizon);
    if let Some(what) = now.first_broken(promise) {
        // What may break a bound in the end may still be better than where one is broken now.
        let fit =
            judged.iter().filter(|judged| judged.broken.iter().all(|what| what.is_rtt() || what.is_loss()));
        let others = fit.map(|judged| &judged.candidate).filter(other);
        let (best, there) = least_endangered(topology, promise, others, &now)?;
        return Some((best, instead(what, &there, promise.risk)));
    }
    let serving = judged.iter().filter(|judged| judged.broken.is_empty()).map(|judged| &judged.candidate);
    let keeps = |other: &&Candidate| !is_at_risk(topology, promise, &other.path);
    let keeping: Vec<&Candidate> = serving.filter(other).filter(keeps).take(live::MOST).collect();
    cheaper(&keeping)
}

/// The one in the least danger, if that is less than where the circuit is: who flees from what is about to happen does not take
/// for a lower price what may happen next. Of those that are as good, the cheapest.
fn least_endangered<'a>(
    topology: &Topology,
    promise: &Promise<'_>,
    others: impl Iterator<Item = &'a Candidate>,
    here: &Prospect,
) -> Option<(&'a Candidate, Prospect)> {
    let mut best: Option<(&Candidate, Prospect, f32)> = None;
    for other in others {
        let there = Prospect::of(topology, &other.path, promise.horizon);
        let danger = there.danger(promise.bounds);
        if best.as_ref().is_none_or(|(_, _, least)| danger + ALIKE < *least) {
            best = Some((other, there, danger));
        }
    }
    let (best, there, _) = best?;
    there.is_in_less_danger(here, promise.bounds).then_some((best, there))
}

/// Whether a bound may break within the horizon.
pub fn is_at_risk(topology: &Topology, promise: &Promise<'_>, here: &Path) -> bool {
    Prospect::of(topology, here, promise.horizon).first_broken(promise).is_some()
}

/// Whether a bound is broken as measured lately.
pub fn is_broken(topology: &Topology, promise: &Promise<'_>, here: &Path) -> bool {
    Prospect::of(topology, here, promise.horizon).is_broken(promise.bounds)
}

fn instead(what: Breaks, there: &Prospect, risk: f32) -> Reason {
    let Values(rtt, loss) = there.most(risk);
    match what {
        Breaks::Rtt { most: here, bound } => Reason::Rtt { here, bound, there: rtt.unwrap_or_default() },
        Breaks::Loss { most: here, bound } => Reason::Loss { here, bound, there: loss },
    }
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
