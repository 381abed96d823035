//! Circuits that start later: their bandwidth is promised for their time, and they are built when it comes.
use super::Fabric;
use crate::circuit::{Circuit, Phase};
use crate::deadlines::Deadline;
use crate::topology::{Window, spots};
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::{CircuitId, Refusal, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// So long before its start a circuit is built, if what it needs is free already.
const LEAD: Duration = Duration::from_secs(5);

/// Of one that is not placed yet.
fn window(spec: &CircuitSpec, from: Timestamp) -> Window {
    Window { from, to: spec.expires }
}

impl Fabric {
    /// Looks at what is free from then to the circuit's end, however little is free at other times.
    pub(super) fn in_its_time<T>(
        &mut self,
        spec: &CircuitSpec,
        from: Timestamp,
        with: impl FnOnce(&Self) -> T,
    ) -> T {
        self.topology.look(Some(window(spec, from)));
        let found = with(self);
        self.topology.look(None);
        found
    }

    /// Backups were sought for the circuit's own time: where others are promised what they take later, some give way.
    pub(super) fn give_way_to_plans(&mut self, id: CircuitId, now: Timestamp) {
        if !self.topology.has_plans() {
            return;
        }
        let Some(lane) = self.route_of(id).and_then(|route| route.backup).map(|backup| backup.lane) else {
            return;
        };
        let crossed: Vec<_> = spots(&lane.path).into_keys().collect();
        self.relieve(&crossed, now);
    }

    /// Promises a path to a circuit that was just added.
    pub(super) fn schedule(&mut self, id: CircuitId, path: Path, now: Timestamp) {
        let Some(spec) = self.circuits.get(id).map(|circuit| circuit.spec.clone()) else { return };
        self.promise(&spec, &path);
        let crossed: Vec<_> = spots(&path).into_keys().collect();
        self.circuits.enter(id, Phase::Scheduled { path }, now);
        self.watch_start(id);
        self.relieve(&crossed, now);
        self.step.persist(id);
        self.step.announce_circuit(id);
    }

    pub(super) fn promise(&mut self, spec: &CircuitSpec, path: &Path) {
        if let Some(starts) = spec.starts {
            self.topology.plan(path, spec.bounds.bandwidth, window(spec, starts));
        }
    }

    fn promise_no_more(&mut self, spec: &CircuitSpec, path: &Path) {
        if let Some(starts) = spec.starts {
            self.topology.unplan(path, spec.bounds.bandwidth, window(spec, starts));
        }
    }

    pub(super) fn watch_start(&mut self, id: CircuitId) {
        if let Some(starts) = self.circuits.get(id).and_then(|circuit| circuit.spec.starts) {
            self.deadlines.set(Deadline::Starts(id), early(starts));
        }
    }

    /// What it was promised is free again.
    pub(super) fn unschedule(&mut self, id: CircuitId, now: Timestamp) -> Option<Path> {
        let circuit = self.circuits.get(id)?;
        let (path, spec) = (circuit.scheduled()?.clone(), circuit.spec.clone());
        self.promise_no_more(&spec, &path);
        self.deadlines.clear(&Deadline::Starts(id));
        if !spec.bounds.bandwidth.is_zero() {
            self.retry_suspended(now);
        }
        Some(path)
    }

    /// Builds it on the best path there is by now. Before its time it may fail, because others have not ended; then it is
    /// tried at its time.
    pub(super) fn start(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        if circuit.scheduled().is_some() && circuit.spec.expires.is_some_and(|end| end <= now) {
            // The controller was away for all of its time.
            return self.close(id, now);
        }
        let since = self.circuits.get(id).map(|circuit| circuit.since);
        let Some((path, since)) = self.unschedule(id, now).zip(since) else { return };
        self.circuits.enter(id, Phase::Suspended { why: "its time has come".into() }, now);
        self.step.persist(id);
        self.step.announce_circuit(id);
        self.place_anew(id, &BTreeSet::new(), now);
        let spec = self.circuits.get(id).map(|circuit| circuit.spec.clone());
        let Some((spec, starts)) = spec.and_then(|spec| spec.starts.map(|starts| (spec, starts))) else {
            return;
        };
        if now < starts && self.is_suspended(id) {
            self.promise(&spec, &path);
            self.circuits.enter(id, Phase::Scheduled { path }, since);
            self.deadlines.set(Deadline::Starts(id), starts);
        }
    }

    /// Gives a circuit another end, if its path has room until then.
    ///
    /// # Errors
    /// What it needs is promised to others before that end, with the time.
    pub(super) fn last_until(
        &mut self,
        id: CircuitId,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(circuit) = self.circuits.get(id) else { return Ok(()) };
        let (old, scheduled) = (circuit.spec.clone(), circuit.scheduled().cloned());
        let new = CircuitSpec { expires, ..old.clone() };
        let route = self.route_of(id);
        if let Some(route) = &route {
            self.unbook(id, route, &old);
        }
        if let Some(path) = &scheduled {
            self.promise_no_more(&old, path);
        }
        let path = scheduled.as_ref().or(route.as_ref().map(|route| &route.path));
        let later = expires.is_none_or(|new| old.expires.is_some_and(|old| new > old));
        let refusal = path.filter(|_| later).and_then(|path| self.too_long(id, &new, path, now));
        let spec = if refusal.is_some() { old } else { new };
        if let Some(route) = &route {
            self.book(id, route, &spec);
        }
        if let Some(path) = &scheduled {
            self.promise(&spec, path);
        }
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.spec = spec;
        }
        self.give_way_to_plans(id, now);
        refusal.map_or(Ok(()), Err)
    }

    /// Why a path cannot be held until the end of `spec`.
    fn too_long(&self, id: CircuitId, spec: &CircuitSpec, path: &Path, now: Timestamp) -> Option<Refusal> {
        let need = spec.bounds.bandwidth;
        if need.is_zero() || !self.topology.has_plans() {
            return None;
        }
        let known = self.circuits.get(id)?;
        // What is over-booked until its old end is so already.
        let from = known.spec.expires.unwrap_or(now).max(now);
        let lacks = self
            .topology
            .lacks_from(path, need, from)
            .filter(|at| spec.expires.is_none_or(|end| *at < end))?;
        let who = self.starting_on(path, lacks);
        let who =
            who.map_or_else(|| "others".into(), |circuit| format!("{} ({})", circuit.id, circuit.spec.name));
        let what = format!("{path} has less than {need} left from {lacks} on, which is promised to {who}");
        let hint = format!("end it by {}, or make another circuit", lacks.rfc3339());
        Some(
            Refusal { field: "expires".into(), ..Refusal::new(proto_model::Kind::Exhausted, what) }
                .hint(hint),
        )
    }

    /// A scheduled circuit that starts then and shares a link or interface with a path.
    fn starting_on(&self, path: &Path, at: Timestamp) -> Option<&Circuit> {
        let mine = spots(path);
        let all = self.circuits.scheduled.iter().filter_map(|id| self.circuits.get(*id));
        let mut starting = all.filter(|circuit| circuit.spec.starts == Some(at));
        starting.find(|circuit| {
            circuit.scheduled().is_some_and(|path| spots(path).keys().any(|spot| mine.contains_key(spot)))
        })
    }
}

fn early(starts: Timestamp) -> Timestamp {
    Timestamp(starts.0.saturating_sub(LEAD.as_nanos() as u64))
}
