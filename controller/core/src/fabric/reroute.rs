//! Moves circuits to better paths, make before break: the other path is built as the backup, both ends learn it, then it
//! becomes the path.
use super::Fabric;
use super::choice::Asked;
use super::place::ends;
use crate::choice::live::Options;
use crate::circuit::{Moved, Moving, Phase};
use crate::deadlines::Deadline;
use crate::record::Placed;
use crate::route::backup::Second;
use crate::route::prospect::Promise;
use crate::route::reroute::{self, Reason};
use crate::route::{self, Judged};
use crate::settings::Mode;
use crate::topology::Topology;
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::insight::{Happened, Past};
use proto_model::plan::{Candidate, Plan};
use proto_model::{CircuitId, Generation, NodeName, Timestamp};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

/// How often it is looked ahead.
const EVERY: Duration = Duration::from_secs(1);
/// Circuits of which it is looked whether a bound is at risk, each time; the others' turn comes later.
const LOOKED_AT: usize = 4_000;
/// Circuits for which other paths are sought, each time: those at risk, those whose choice may be another one, and a few others in
/// turn.
const AT_RISK: usize = 32;
const EAGER: usize = 16;
const OTHERS: usize = 16;
/// A move that has not come about after so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Part of its rest after which a circuit whose bound is broken may move again, by forecasts.
const HASTE: u32 = 3;

/// What a circuit's move would be.
struct Better {
    to: Candidate,
    reason: Reason,
    plan: Plan,
}

impl Fabric {
    /// Something was measured or configured: it is looked ahead soon.
    pub(super) fn look_ahead_soon(&mut self, now: Timestamp) {
        if self.settings.reroute.mode != Mode::Off {
            self.deadlines.set_if_none(Deadline::LookAhead, now.plus(EVERY));
        }
    }

    /// Looks at circuits in turn; those that are at risk come first.
    pub(super) fn look_ahead(&mut self, now: Timestamp) {
        self.foresee(now);
        self.see_frames(now);
        let looked_at = self.next_after(self.looked_at, LOOKED_AT);
        self.looked_at = looked_at.last().copied().unwrap_or(self.looked_at);
        let mut at_risk = Vec::new();
        for id in looked_at {
            self.forget_quiet(id, now);
            if at_risk.len() < AT_RISK && self.is_at_risk(id) && self.may_move(id, now) {
                at_risk.push(id);
            }
        }
        let others = self.next_after(self.sought, OTHERS);
        self.sought = others.last().copied().unwrap_or(self.sought);
        let eager: Vec<CircuitId> = (0..EAGER).map_while(|_| self.next_eager()).collect();
        for id in at_risk.into_iter().chain(eager).chain(others) {
            if self.may_move(id, now) {
                self.move_if_better(id, now);
            }
        }
    }

    /// Round and round.
    pub(super) fn next_after(&self, last: CircuitId, most: usize) -> Vec<CircuitId> {
        let after = self.circuits.range((Bound::Excluded(last), Bound::Unbounded));
        after.chain(self.circuits.range((Bound::Unbounded, Bound::Included(last)))).take(most).collect()
    }

    /// Counters that do not move are not told.
    fn forget_quiet(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let before = circuit.rate.now();
        if circuit.rate.fall_quiet(now)
            && let Some(route) = circuit.phase.route()
        {
            let rates = [before, proto_model::Bandwidth::ZERO];
            self.topology.carry_instead(&route.path, rates, circuit.spec.bounds.bandwidth);
        }
    }

    /// An active circuit that rests on its path, and has another one to choose.
    pub(super) fn may_move(&self, id: CircuitId, now: Timestamp) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let Phase::Active { route } = &circuit.phase else { return false };
        let rest = self.settings.reroute.rest;
        // Who goes to and fro rests longer each time, but not where its bound is broken now; and less where it is known what comes.
        let haste = match self.settings.reroute.mode {
            Mode::Predictive => rest / HASTE,
            Mode::Reactive | Mode::Off => rest,
        };
        let rested = circuit.moved.as_ref().is_none_or(|moved| {
            let since = now.since(moved.at);
            since >= moved.rest(rest) || (since >= haste && self.judge_here(id, reroute::is_broken))
        });
        rested
            && circuit.moving.is_none()
            && circuit.protection.retiring.is_none()
            && self.unprotectable(&circuit.spec, &route.path).is_none()
            && !self.may_be_on_backup(id)
            && !self.is_broken(&route.path)
            && self.check_ends(&circuit.spec).is_ok()
    }

    fn is_at_risk(&self, id: CircuitId) -> bool {
        self.judge_here(id, reroute::is_at_risk)
    }

    /// Of a circuit with bounds on its path.
    fn judge_here(&self, id: CircuitId, judge: fn(&Topology, &Promise<'_>, &Path) -> bool) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let promise = Promise::of(&circuit.spec.bounds, &self.settings.reroute);
        let route = circuit.phase.route().filter(|_| promise.is_bound());
        route.is_some_and(|route| judge(&self.topology, &promise, &route.path))
    }

    fn move_if_better(&mut self, id: CircuitId, now: Timestamp) {
        if let Some(better) = self.better(id) {
            self.begin_move(id, better, now);
        }
    }

    /// Judged without what the circuit itself holds and sends.
    fn better(&mut self, id: CircuitId) -> Option<Better> {
        let circuit = self.circuits.get(id)?;
        let (spec, rate) = (circuit.spec.clone(), circuit.rate.now());
        let old = circuit.phase.route()?.clone();
        let shun = circuit.protection.shunned(self.topology.now());
        self.unbook(id, &old, &spec);
        let now = self.topology.now();
        let mut options = None;
        let found = self
            .in_its_time(&spec, now, |fabric| fabric.better_than(id, &spec, &old, rate, &shun, &mut options));
        self.book(id, &old, &spec);
        if let Some(options) = options {
            self.choice.keep(id, options);
        }
        found
    }

    fn better_than(
        &self,
        id: CircuitId,
        spec: &CircuitSpec,
        old: &Placed,
        rate: proto_model::Bandwidth,
        shun: &BTreeSet<NodeName>,
        options: &mut Option<Options>,
    ) -> Option<Better> {
        let (weights, bounds) = (self.weights(&spec.bounds), &spec.bounds);
        let promise = Promise::of(bounds, &self.settings.reroute);
        let here = route::examine(&self.topology, &weights, bounds, &old.path)?;
        let keep = self.settings.limits.kept_candidates;
        let found = self.decide(spec, shun, |decision, ask| {
            let judged: &[Judged] = &decision.judged;
            // A cheaper path is no gain when it costs the circuit its protection.
            let protected = old.second().is_some() && old.protection.is_empty();
            let may = |to: &Candidate| {
                !protected || route::backup::disjoint(&self.topology, &weights, ask, &to.path).is_some()
            };
            let asked = Asked { id, weights: &weights, here: &here };
            let cheaper = |serving: &[_]| self.choose_by_cost(&asked, serving, may, options);
            let (to, reason) = reroute::judge(&self.topology, &promise, &here, judged, rate, cheaper)?;
            Some(Better { to: to.clone(), reason, plan: decision.plan(ask, &weights, keep) })
        });
        found.ok().flatten()
    }

    fn begin_move(&mut self, id: CircuitId, better: Better, now: Timestamp) {
        let Better { to, reason, plan } = better;
        self.begin_move_to(id, to, reason.to_string(), plan, Vec::new(), now);
    }

    /// Circuits in `then` take what it leaves.
    pub(super) fn begin_move_to(
        &mut self,
        id: CircuitId,
        to: Candidate,
        why: String,
        plan: Plan,
        then: Vec<CircuitId>,
        now: Timestamp,
    ) {
        let Some(route) = self.route_of(id) else { return };
        let moving = Moving {
            to: to.path.clone(),
            why,
            plan: Box::new(plan),
            since: now,
            rate: self.circuits.get(id).map(|circuit| circuit.rate.now()).unwrap_or_default(),
            ends: None,
            then,
            expected: Box::new([self.expected_of(&route.path), self.expected_of(&to.path)]),
        };
        if route.second().is_none_or(|lane| lane.path != to.path) {
            self.drop_backup(id, "", now);
            let remark = "the circuit is about to move there".to_owned();
            self.protect(id, Ok(Second { candidate: to, remark }), now);
            if self.route_of(id).is_none_or(|route| route.backup.is_none()) {
                // No label was left for it.
                return self.seek_soon(id, now);
            }
        }
        if let Some(circuit) = self.circuits.get_mut(id) {
            self.topology.carry(&moving.to, moving.rate, circuit.spec.bounds.bandwidth);
            circuit.moving = Some(moving);
        }
        self.deadlines.set(Deadline::Moving(id), now.plus(PATIENCE));
        self.advance_move(id, now);
    }

    /// A node has reported: when all hops stand the ends are to know, and when they know it the path is changed.
    pub(super) fn advance_move(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let Some(moving) = &circuit.moving else { return };
        let backup = circuit.phase.route().and_then(|route| route.backup.as_ref());
        let Some(backup) = backup.filter(|backup| backup.lane.path == moving.to) else {
            return self.give_up_move(id, now);
        };
        if now.since(moving.since) >= PATIENCE {
            return self.give_up_move(id, now);
        }
        if !backup.ready {
            return;
        }
        let late =
            |node: &NodeName, need: &Generation| self.nodes.get(node).is_some_and(|at| at.reported < *need);
        match &moving.ends {
            None => {
                let hosts = circuit.phase.route().map(ends).unwrap_or_default();
                let waits = self.waits(id, hosts);
                if let Some(moving) = self.circuits.get_mut(id).and_then(|circuit| circuit.moving.as_mut()) {
                    moving.ends = Some(waits);
                }
                self.deadlines.set(Deadline::Moving(id), now);
            }
            Some(waits) if waits.iter().any(|(node, need)| late(node, need)) => {
                self.deadlines.set(Deadline::Moving(id), moving.since.plus(PATIENCE));
            }
            Some(_) => self.finish_move(id, now),
        }
    }

    fn finish_move(&mut self, id: CircuitId, now: Timestamp) {
        let fits = self.can_promote(id, &BTreeSet::new()) && !self.may_be_on_backup(id) && self.fits(id);
        if !fits {
            return self.give_up_move(id, now);
        }
        let Some(moving) = self.end_move(id) else { return };
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let Some(from) = circuit.phase.route().map(|route| route.path.clone()) else { return };
        let back = circuit.moved.as_ref().filter(|moved| moved.from == moving.to);
        let returns = back.map_or(0, |moved| moved.returns + 1);
        let ([of_from, of_to], what) = (*moving.expected, Happened::Moved);
        let (was, to, why) = (Some(from.clone()), Some(moving.to), moving.why.clone());
        circuit.past.add(Past { at: now, what, from: was, to, why, of_from, of_to });
        circuit.moved = Some(Moved { at: now, from, why: moving.why, returns });
        circuit.decision = Some(moving.plan);
        self.standings.counts.moves += 1;
        self.change_over(id, now);
        self.place_waiting(&moving.then, now);
    }

    /// Somebody may have taken what was free when the move began.
    fn fits(&mut self, id: CircuitId) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let (spec, Some(old)) = (circuit.spec.clone(), circuit.phase.route().cloned()) else { return false };
        let Some(lane) = old.second() else { return false };
        self.unbook(id, &old, &spec);
        let bounds = &spec.bounds;
        let now = self.topology.now();
        let fits = self.in_its_time(&spec, now, |fabric| fabric.topology.fits(&lane.path, bounds.bandwidth));
        self.book(id, &old, &spec);
        fits
    }

    /// The other path is a backup like any: it is looked whether there is a better one, and what is to be said of it.
    fn give_up_move(&mut self, id: CircuitId, now: Timestamp) {
        if self.abandon_move(id, "the other path did not come about", now) {
            self.seek_soon(id, now);
        }
    }

    /// False: it was not about to move.
    pub(super) fn abandon_move(&mut self, id: CircuitId, but: &str, now: Timestamp) -> bool {
        let Some(moving) = self.end_move(id) else { return false };
        let from = self.route_of(id).map(|route| route.path);
        let ([of_from, of_to], what) = (*moving.expected, Happened::GivenUp);
        let why = format!("{}; {but}", moving.why);
        self.keep(id, Past { at: now, what, from, to: Some(moving.to), why, of_from, of_to });
        true
    }

    /// What it was, if the circuit was about to move.
    pub(super) fn end_move(&mut self, id: CircuitId) -> Option<Moving> {
        let circuit = self.circuits.get_mut(id)?;
        let (moving, reserved) = (circuit.moving.take()?, circuit.spec.bounds.bandwidth);
        self.topology.carry_less(&moving.to, moving.rate, reserved);
        self.deadlines.clear(&Deadline::Moving(id));
        // If the move does not come about, they are told why they do not fit.
        let now = self.topology.now();
        moving.then.iter().for_each(|waiting| self.queue(*waiting, now));
        Some(moving)
    }
}
