//! Circuits that are asked for together: placed so that as much as can be is admitted, with others moved if so wanted.
use super::Fabric;
use super::allocate::Chosen;
use super::circuits::within;
use crate::circuit::Phase;
use crate::route::joint::{self, Standing, Timed, Wanted};
use crate::route::{self, Judged};
use crate::rules;
use crate::topology::Window;
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::plan::{Candidate, Plan};
use proto_model::request::{CircuitRequest, Response};
use proto_model::together::{MOST, Move, Outcome, PlaceRequest, Placement};
use proto_model::{CircuitId, Kind, NodeName, Refusal, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Circuits that stand and are asked whether they could give way, at most: those of the least priority.
const MOST_STANDING: usize = 2_000;

/// A request in which nothing is wrong.
type Checked = (CircuitSpec, rules::Edited);

impl Fabric {
    pub(super) fn place_circuits(
        &mut self,
        request: PlaceRequest,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let key = request.idempotency_key.clone().filter(|_| !request.dry_run);
        if let Some(key) = &key
            && let Some(answer) = self.placed_before(key, &request)?
        {
            return Ok(Response::Placement(answer));
        }
        let checked = self.checked_together(&request.circuits, now)?;
        let timed = checked.iter().map(|(spec, _)| self.timed(spec, now)).collect::<Result<Vec<_>, _>>()?;
        let standing = self.may_give_way();
        // Decided on a copy: what becomes of it is not sure before labels are there.
        let mut scratch = self.topology.clone();
        let mut answer = joint::place_all(&mut scratch, &self.settings.weights, &timed);
        joint::seek_moves(&mut scratch, &self.settings.weights, &timed, &standing, &mut answer);
        let outcomes = match request.dry_run {
            true => self.foretell(&checked, &answer, scratch, now),
            false => self.carry_out(checked, &answer, request.moves, now),
        };
        let placement = Placement { classes: answer.classes, outcomes };
        if let Some(key) = key {
            self.remember_together(key, request, placement.clone(), now);
        }
        Ok(Response::Placement(placement))
    }

    fn checked_together(&self, circuits: &[CircuitRequest], now: Timestamp) -> Result<Vec<Checked>, Refusal> {
        let count = circuits.len();
        if count == 0 || count > MOST {
            let what = format!("{count} circuits are asked for together, 1 to {MOST} are allowed");
            return Err(Refusal::invalid("circuits", what).hint("ask for them in several requests"));
        }
        let limit = self.settings.limits.circuits;
        if self.circuits.len() + count > limit {
            let what = format!(
                "there are {} circuits, {count} more are asked for, and {limit} is the bound",
                self.circuits.len()
            );
            return Err(Refusal::new(Kind::Exhausted, what).hint("delete some, or raise limits.circuits"));
        }
        let at = |index: usize| format!("circuits[{index}]");
        let (mut names, mut pairs) = (BTreeMap::new(), BTreeMap::new());
        let mut checked = Vec::with_capacity(count);
        for (index, request) in circuits.iter().enumerate() {
            let (spec, rules) = self.checked(request, now).map_err(|refusal| within(&at(index), refusal))?;
            if let Some(other) = names.insert(spec.name.clone(), index) {
                let what = format!("{} has the name {} already", at(other), spec.name);
                return Err(Refusal::invalid(format!("{}.name", at(index)), what));
            }
            let (a, b) = (spec.source.clone(), spec.destination.clone());
            if let Some(other) = pairs.insert(if a <= b { (a, b) } else { (b, a) }, index) {
                let what = format!("{} joins {} and {} already", at(other), spec.source, spec.destination);
                return Err(Refusal::invalid(format!("{}.destination", at(index)), what));
            }
            checked.push((spec, rules));
        }
        Ok(checked)
    }

    fn timed(&self, spec: &CircuitSpec, now: Timestamp) -> Result<Timed, Refusal> {
        let window = Window { from: spec.starts.unwrap_or(now), to: spec.expires };
        Ok(Timed { wanted: self.wanted(spec)?, window })
    }

    fn wanted(&self, spec: &CircuitSpec) -> Result<Wanted, Refusal> {
        let none = BTreeSet::new();
        let ask = self.ask(spec, &none)?;
        Ok(Wanted {
            from: ask.from.clone(),
            to: ask.to.clone(),
            bounds: spec.bounds.clone(),
            priority: spec.priority,
            pinned: spec.pinned_path.clone(),
        })
    }

    /// Active circuits that rest on their paths and hold bandwidth.
    fn may_give_way(&self) -> Vec<Standing> {
        let mut standing: Vec<(u8, CircuitId)> = self
            .circuits
            .iter()
            .filter(|circuit| !circuit.spec.bounds.bandwidth.is_zero() && self.can_give_way(circuit.id))
            .map(|circuit| (circuit.spec.priority, circuit.id))
            .collect();
        standing.sort_unstable();
        let known = |(_, id): &(u8, CircuitId)| {
            let circuit = self.circuits.get(*id)?;
            let (wanted, path) = (self.wanted(&circuit.spec).ok()?, circuit.phase.route()?.path.clone());
            Some(Standing { circuit: *id, wanted, path })
        };
        standing.iter().take(MOST_STANDING).filter_map(known).collect()
    }

    fn can_give_way(&self, id: CircuitId) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let Phase::Active { route } = &circuit.phase else { return false };
        circuit.moving.is_none()
            && circuit.protection.retiring.is_none()
            && self.unprotectable(&circuit.spec, &route.path).is_none()
            && !self.may_be_on_backup(id)
            && !self.is_broken(&route.path)
            && self.check_ends(&circuit.spec).is_ok()
    }

    /// `scratch`: the topology with what was placed.
    fn foretell(
        &mut self,
        checked: &[Checked],
        answer: &joint::Answer,
        mut scratch: crate::topology::Topology,
        now: Timestamp,
    ) -> Vec<Outcome> {
        std::mem::swap(&mut self.topology, &mut scratch);
        let mut outcomes = Vec::with_capacity(checked.len());
        for (index, (spec, _)) in checked.iter().enumerate() {
            let path = answer.placed.get(&index).cloned();
            let mut outcome = Outcome { path, ..outcome(spec) };
            if outcome.path.is_none() {
                self.refuse(&mut outcome, spec, answer.refused.get(&index), now);
            }
            outcomes.push(outcome);
        }
        std::mem::swap(&mut self.topology, &mut scratch);
        outcomes
    }

    fn carry_out(
        &mut self,
        checked: Vec<Checked>,
        answer: &joint::Answer,
        moves: bool,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = checked.iter().map(|(spec, _)| outcome(spec)).collect();
        let mut left = Vec::new();
        for (index, checked) in checked.into_iter().enumerate() {
            match answer.placed.get(&index) {
                Some(path) => self.make(checked, path, &mut outcomes[index], now),
                None => left.push((index, checked)),
            }
        }
        // First all that are made, so that nobody who gives way goes where they are.
        for (index, (spec, rules)) in left {
            let (refused, outcome) = (answer.refused.get(&index), &mut outcomes[index]);
            let asked =
                refused.map(|refused| refused.moves.as_slice()).filter(|asked| moves && !asked.is_empty());
            match asked.and_then(|asked| self.wait_for_moves((&spec, &rules), asked, now)) {
                Some(id) => {
                    outcome.circuit = Some(id);
                    outcome.hint = format!("foreweave circuit watch {} follows it", spec.name);
                    outcome.moves = self.named(asked.unwrap_or_default());
                }
                None => self.refuse(outcome, &spec, refused, now),
            }
        }
        outcomes
    }

    fn refuse(
        &mut self,
        outcome: &mut Outcome,
        spec: &CircuitSpec,
        refused: Option<&joint::Refused>,
        now: Timestamp,
    ) {
        let Some(refused) = refused else { return };
        outcome.refused.clone_from(&refused.why);
        outcome.moves = self.named(&refused.moves);
        let from = spec.starts.unwrap_or(now);
        let feasible = self.in_its_time(spec, from, |fabric| {
            fabric.decide(spec, &BTreeSet::new(), |decision, ask| match decision.chosen() {
                Some(_) => String::new(),
                None => decision.refusal(ask).hint,
            })
        });
        let feasible = feasible.unwrap_or_default();
        let moves = (!outcome.moves.is_empty()).then(|| {
            let moves: Vec<String> = outcome.moves.iter().map(ToString::to_string).collect();
            format!("with --move it is made after moving {}", moves.join(" and "))
        });
        outcome.hint = moves
            .into_iter()
            .chain(Some(feasible).filter(|text| !text.is_empty()))
            .collect::<Vec<_>>()
            .join("; ");
    }

    fn named(&self, moves: &[joint::Move]) -> Vec<Move> {
        let named = moves.iter().filter_map(|joint::Move { circuit, from, to }| {
            let name = self.circuits.get(*circuit)?.spec.name.clone();
            Some(Move { circuit: *circuit, name, from: from.clone(), to: to.clone() })
        });
        named.collect()
    }

    /// As decided; its backup is sought when all are placed.
    fn make(&mut self, (spec, rules): Checked, path: &Path, outcome: &mut Outcome, now: Timestamp) {
        let chosen = self.follow(&spec, path, now).and_then(|(path, plan)| {
            let second = Err("a backup is sought when all that came together are placed".to_owned());
            let outside = self.outside(&spec);
            self.admit(spec, rules, Chosen { path, second, outside, plan }, now)
        });
        match chosen {
            Ok(id) => {
                outcome.circuit = Some(id);
                outcome.path = Some(path.clone());
                self.seek_soon(id, now);
            }
            Err(refusal) => (outcome.refused, outcome.hint) = (refusal.what, refusal.hint),
        }
    }

    /// The decision for a circuit with a path that is not its own choice.
    fn follow(
        &mut self,
        spec: &CircuitSpec,
        path: &Path,
        now: Timestamp,
    ) -> Result<(Candidate, Plan), Refusal> {
        let (weights, keep) = (self.weights(&spec.bounds), self.settings.limits.kept_candidates);
        let from = spec.starts.unwrap_or(now).max(now);
        self.in_its_time(spec, from, |fabric| {
            fabric.decide(spec, &BTreeSet::new(), |decision, ask| {
                let judged: Option<Judged> = route::judge_path(&fabric.topology, &weights, ask, path);
                match judged {
                    Some(judged) if judged.broken.is_empty() => {
                        let candidate = judged.candidate.clone();
                        decision.insist(judged);
                        Ok((candidate, decision.plan(ask, &weights, keep)))
                    }
                    Some(_) | None => Err(decision.refusal(ask)),
                }
            })?
        })
    }

    /// Begins all of the moves, and makes the circuit, which waits for them. None: not all of them can be made.
    fn wait_for_moves(
        &mut self,
        (spec, rules): (&CircuitSpec, &rules::Edited),
        moves: &[joint::Move],
        now: Timestamp,
    ) -> Option<CircuitId> {
        let plans: Vec<(CircuitId, Candidate, Plan)> =
            moves.iter().map(|asked| self.judge_move(asked, now)).collect::<Option<_>>()?;
        let (weights, keep) = (self.weights(&spec.bounds), self.settings.limits.kept_candidates);
        let decided = self.in_its_time(spec, now, |fabric| {
            fabric.decide(spec, &BTreeSet::new(), |decision, ask| decision.plan(ask, &weights, keep))
        });
        let id = self.next_id();
        self.add(id, spec.clone(), rules.clone(), decided.ok()?, now);
        let moving: Vec<String> = self.named(moves).iter().map(ToString::to_string).collect();
        let why = format!("it waits for the move of {}", moving.join(" and "));
        self.circuits.enter(id, Phase::Suspended { why }, now);
        self.watch_ends(id);
        self.step.persist(id);
        self.step.announce_circuit(id);
        for (other, to, plan) in plans {
            self.begin_move_to(
                other,
                to,
                format!("it makes room for {id} ({})", spec.name),
                plan,
                vec![id],
                now,
            );
        }
        Some(id)
    }

    /// Without what it holds itself; none: it cannot be moved there.
    fn judge_move(&mut self, asked: &joint::Move, now: Timestamp) -> Option<(CircuitId, Candidate, Plan)> {
        let id = asked.circuit;
        if !self.can_give_way(id) {
            return None;
        }
        let (route, spec) = (self.route_of(id)?, self.circuits.get(id)?.spec.clone());
        let now_spec = CircuitSpec { starts: None, ..spec.clone() };
        self.unbook(id, &route, &spec);
        let found = self.follow(&now_spec, &asked.to, now);
        self.book(id, &route, &spec);
        let (to, plan) = found.ok()?;
        Some((id, to, plan))
    }

    /// Circuits that waited for a move are tried at once.
    pub(super) fn place_waiting(&mut self, waiting: &[CircuitId], now: Timestamp) {
        let none: BTreeSet<NodeName> = BTreeSet::new();
        for id in waiting {
            if self.is_suspended(*id) {
                self.place_anew(*id, &none, now);
            }
        }
    }
}

fn outcome(spec: &CircuitSpec) -> Outcome {
    Outcome {
        name: spec.name.clone(),
        source: spec.source.clone(),
        destination: spec.destination.clone(),
        bandwidth: spec.bounds.bandwidth,
        priority: spec.priority,
        circuit: None,
        path: None,
        refused: String::new(),
        hint: String::new(),
        moves: Vec::new(),
    }
}
