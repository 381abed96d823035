//! What the controller told, into what is wanted of the kernel. Only what changed is looked at.
use super::{Node, Phase};
use crate::bounds::Refused;
use crate::diff::made_anew;
use crate::io::Output;
use crate::kernel_state::{Entry, EntryKey};
use crate::ledger::{Cell, Have};
use crate::lower::{self, Ways};
use crate::shares::Turn;
use crate::slots::{Pair, Use};
use crate::status::Again;
use proto_model::desired::{Change, Endpoint, Object, ObjectKey, Side};
use proto_model::{CircuitId, FabricAddress, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    pub(super) fn apply_whole(&mut self, objects: Vec<Object>, now: Timestamp) {
        let mut news: BTreeMap<ObjectKey, Option<Object>> =
            objects.into_iter().map(|object| (object.key(), Some(object))).collect();
        let known = self.objects.keys().chain(self.timed.keys());
        let gone: Vec<ObjectKey> = known.filter(|key| !news.contains_key(*key)).cloned().collect();
        news.extend(gone.into_iter().map(|key| (key, None)));
        let first = self.phase == Phase::Seen;
        if first {
            self.phase = Phase::Led;
            self.seen_ends.clear();
            self.ledger.keys().cloned().for_each(|key| self.work.mark(key));
        }
        let news = self.in_time(news, now);
        self.apply(news, now);
        if first {
            self.stop_assuming();
            self.shares.stop_adopting();
            self.abandon_unused(now);
        }
        self.sampler.begin(now);
        self.ledger.groups.begin();
    }

    pub(super) fn apply_changes(&mut self, changes: Vec<Change>, now: Timestamp) {
        let news = changes.into_iter().map(|change| match change {
            Change::Put(object) => (object.key(), Some(object)),
            Change::Remove(key) => (key, None),
        });
        let news = self.in_time(news.collect(), now);
        self.apply(news, now);
    }

    /// Tries once more to lower what could not be.
    pub(super) fn lower_again(&mut self, objects: BTreeSet<ObjectKey>, now: Timestamp) {
        let mut affected = objects;
        for key in affected.clone() {
            if let ObjectKey::Eni(resource) = &key {
                affected.extend(self.ends(resource));
            }
        }
        self.exchange(affected, BTreeMap::new(), now);
    }

    pub(super) fn apply(&mut self, news: BTreeMap<ObjectKey, Option<Object>>, now: Timestamp) {
        let news: BTreeMap<_, _> =
            news.into_iter().filter(|(key, new)| self.objects.get(key) != new.as_ref()).collect();
        let mut affected: BTreeSet<ObjectKey> = news.keys().cloned().collect();
        for (key, new) in &news {
            let ObjectKey::Eni(resource) = key else { continue };
            if address(self.objects.get(key)) != address(new.as_ref()) {
                affected.extend(self.ends(resource));
                let ends_to_be = news.values().flatten().filter(|object| ends_at(object, resource));
                affected.extend(ends_to_be.map(Object::key));
            }
        }
        affected.extend(self.judged_otherwise(&news));
        self.exchange(affected, news, now);
    }

    /// Takes back what the affected objects wanted, learns the news, and lowers them anew: so the order in which
    /// objects were told does not matter.
    fn exchange(
        &mut self,
        affected: BTreeSet<ObjectKey>,
        news: BTreeMap<ObjectKey, Option<Object>>,
        now: Timestamp,
    ) {
        let before: Vec<EntryKey> = affected.iter().flat_map(|key| self.ground_of(key)).collect();
        let released: Vec<Pair> = affected.iter().flat_map(|key| self.take_back(key, now)).collect();
        for (key, new) in news {
            self.store(key, new);
        }
        for key in affected.iter().filter(|key| !matches!(key, ObjectKey::Endpoint(..))) {
            self.lower(key, now);
        }
        for key in affected.iter().filter(|key| matches!(key, ObjectKey::Endpoint(..))) {
            self.lower(key, now);
        }
        for pair in released {
            self.stop_using(pair, now);
        }
        // Before a controller has told everything, nothing that forwards is changed.
        let shapers = if self.phase == Phase::Led { self.shares.shapers() } else { Vec::new() };
        for turn in shapers {
            self.turn(turn, now);
        }
        before.iter().for_each(|key| self.mark_dependents(key));
    }

    /// The interface or rule set that others may need.
    fn ground_of(&self, key: &ObjectKey) -> Vec<EntryKey> {
        match self.objects.get(key) {
            Some(object @ (Object::Eni(_) | Object::Rules(_))) => self.entries_of(object),
            Some(
                Object::Endpoint(_) | Object::Hop(_) | Object::Peer(_) | Object::Trace(_) | Object::Policy(_),
            )
            | None => Vec::new(),
        }
    }

    /// Returns the next hops that the object used.
    fn take_back(&mut self, key: &ObjectKey, now: Timestamp) -> Vec<Pair> {
        let Some(object) = self.objects.get(key) else { return Vec::new() };
        let (circuit, slots) = lower::counted_in(object);
        if self.status.is_refused(key) {
            return Vec::new();
        }
        let pairs = lower::sends_to(object);
        let entries = self.entries_of(object);
        if let Object::Peer(peer) = object {
            self.shares.remove_link(&peer.link);
        }
        let turns = self.shares.leave(object);
        self.unprotect(key);
        if let ObjectKey::Trace(circuit) = key {
            self.traces.end(*circuit);
        }
        for turn in turns {
            self.turn(turn, now);
        }
        for entry in entries {
            let owner = self
                .ledger
                .get(&entry)
                .filter(|cell| cell.want.is_some())
                .and_then(|cell| cell.owner.as_ref());
            if owner == Some(key) {
                self.ledger.unwant(&entry, now);
                self.status.disown(&entry, key);
                self.mark(entry);
            }
        }
        slots.into_iter().for_each(|slot| self.sampler.unassign(slot, circuit));
        pairs
    }

    fn store(&mut self, key: ObjectKey, new: Option<Object>) {
        if let Some(Object::Endpoint(end)) = self.objects.get(&key)
            && let Some(ends) = self.ends_of.get_mut(&end.resource)
        {
            ends.remove(&(end.circuit, end.side));
            if ends.is_empty() {
                self.ends_of.remove(&end.resource);
            }
        }
        if let Some(Object::Endpoint(end)) = &new {
            self.ends_of.entry(end.resource.clone()).or_default().insert((end.circuit, end.side));
        }
        match new {
            Some(object) => {
                self.objects.insert(key, object);
            }
            None => {
                self.status.accept(&key);
                self.objects.remove(&key);
            }
        }
    }

    fn lower(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(object) = self.objects.share(key) else { return };
        match self.try_lower(key, &object, now) {
            Ok(()) => {
                self.status.accept(key);
            }
            Err(refused) => {
                let again = match refused {
                    Refused::Missing(_)
                    | Refused::TooManyRules { .. }
                    | Refused::LabelIndex { .. }
                    | Refused::Families { .. }
                    | Refused::NoLabel => Again::OnChange,
                    Refused::Taken { .. }
                    | Refused::Enis
                    | Refused::Flows { .. }
                    | Refused::RuleSets
                    | Refused::Rows { .. }
                    | Refused::Traces
                    | Refused::NextHops
                    | Refused::Shares => Again::Later,
                };
                self.status.refuse(key, &refused.to_string(), again, now);
            }
        }
    }

    /// All or nothing.
    fn try_lower(&mut self, key: &ObjectKey, object: &Object, now: Timestamp) -> Result<(), Refused> {
        lower::check_tunnel(object)?;
        let entries = match object {
            Object::Eni(eni) => vec![lower::eni(eni)],
            Object::Rules(set) => vec![self.lowered_rules(set)?],
            Object::Endpoint(end) => lower::endpoint(end, &self.address_of(&end.resource)?, Ways::default()),
            Object::Hop(hop) => vec![lower::hop(hop, 0, 0)],
            Object::Peer(peer) => vec![lower::peer(peer)],
            Object::Trace(trace) => {
                self.traces.check(trace.circuit)?;
                lower::trace(trace, now)
            }
            Object::Policy(_) => Vec::new(),
        };
        self.ledger.check(key, &entries)?;
        let class = self.shares.join(object)?;
        let pairs = lower::sends_to(object);
        let ways = match self.start_using_all(&pairs, now) {
            Ok(ways) => Ways { class, ..ways },
            Err(refused) => {
                self.shares.leave(object);
                return Err(refused);
            }
        };
        for turn in self.shares.wants(object, class) {
            self.turn(turn, now);
        }
        match object {
            Object::Eni(_) => self.want_all(entries, key, now),
            Object::Peer(peer) => {
                self.orders.add_peer(peer.clone());
                self.shares.add_link(peer.link.clone(), peer.local, peer.capacity);
                self.want_all(entries, key, now);
            }
            Object::Endpoint(end) => {
                let own = self.address_of(&end.resource)?;
                let ways = self.protect(end, &own, ways, now);
                self.want_all(lower::endpoint(end, &own, ways), key, now);
            }
            Object::Hop(hop) => self.want_all(vec![lower::hop(hop, ways.primary, class)], key, now),
            Object::Rules(set) => self.want_rules(set, key, now)?,
            Object::Trace(trace) => {
                self.traces.begin(trace, now);
                self.want_all(entries, key, now);
            }
            // It stands before the rules of the circuits.
            Object::Policy(_) => {}
        }
        let (circuit, slots) = lower::counted_in(object);
        if let Some(circuit) = circuit {
            slots.into_iter().for_each(|slot| self.sampler.assign(slot, circuit));
        }
        Ok(())
    }

    fn want_all(&mut self, entries: Vec<Entry>, key: &ObjectKey, now: Timestamp) {
        for entry in entries {
            self.desire(entry, Some(key.clone()), now);
        }
    }

    /// Everything that may leave otherwise now that other interfaces are shaped.
    pub(super) fn reshape(&mut self, now: Timestamp) {
        let sends = |(_, object): &(&ObjectKey, &Object)| !lower::sends_to(object).is_empty();
        let keys: BTreeSet<ObjectKey> =
            self.objects.iter().filter(sends).map(|(key, _)| key.clone()).collect();
        self.exchange(keys, BTreeMap::new(), now);
    }

    fn turn(&mut self, turn: Turn, now: Timestamp) {
        match turn {
            Turn::Want(entry, owner) => self.desire(entry, owner, now),
            Turn::Unwant(key) => {
                let owner = self.ledger.get(&key).and_then(|cell| cell.owner.clone());
                self.ledger.unwant(&key, now);
                if let Some(owner) = owner {
                    self.status.disown(&key, &owner);
                }
                self.mark(key);
            }
        }
    }

    pub(super) fn desire(&mut self, entry: Entry, owner: Option<ObjectKey>, now: Timestamp) {
        let key = entry.key();
        self.ledger.want(entry, owner, now);
        self.mark(key);
    }

    /// All of them or none.
    fn start_using_all(&mut self, pairs: &[Pair], now: Timestamp) -> Result<Ways, Refused> {
        let mut slots = [0; 2];
        for (i, pair) in pairs.iter().enumerate().take(slots.len()) {
            match self.start_using(*pair, now) {
                Ok(slot) => slots[i] = slot,
                Err(refused) => {
                    pairs[..i].iter().for_each(|pair| self.stop_using(*pair, now));
                    return Err(refused);
                }
            }
        }
        Ok(Ways { primary: slots[0], backup: slots[1], group: 0, class: 0 })
    }

    fn start_using(&mut self, pair: Pair, now: Timestamp) -> Result<u32, Refused> {
        let (hop, turned) = self.slots.acquire(pair, now)?;
        let slot = lower::slot(Some(&hop));
        if turned == Use::Turned {
            self.desire(Entry::NextHop(hop), None, now);
        }
        if self.slots.watch(pair) {
            self.outputs.push_back(Output::Watch { local: pair.0, remote: pair.1 });
        }
        Ok(slot)
    }

    /// Next hops that were followed only because the kernel had them.
    fn abandon_unused(&mut self, now: Timestamp) {
        for (slot, (local, remote)) in self.slots.abandon_unused() {
            self.ledger.unwant(&EntryKey::NextHop(slot), now);
            self.mark(EntryKey::NextHop(slot));
            self.outputs.push_back(Output::Unwatch { local, remote });
        }
    }

    fn stop_using(&mut self, pair: Pair, now: Timestamp) {
        if let Some((slot, Use::Turned)) = self.slots.release(pair) {
            self.ledger.unwant(&EntryKey::NextHop(slot), now);
            self.mark(EntryKey::NextHop(slot));
            self.outputs.push_back(Output::Unwatch { local: pair.0, remote: pair.1 });
        }
    }

    /// The address of a resource here, once its interface has been told and accepted.
    fn address_of(&self, resource: &ResourceId) -> Result<FabricAddress, Refused> {
        let key = ObjectKey::Eni(resource.clone());
        let told = address(self.objects.get(&key)).filter(|_| !self.status.is_refused(&key));
        told.ok_or(Refused::Missing(key))
    }

    fn ends(&self, resource: &ResourceId) -> BTreeSet<ObjectKey> {
        let ends = self.ends_of.get(resource).into_iter().flatten();
        ends.map(|(circuit, side)| ObjectKey::Endpoint(*circuit, *side)).collect()
    }

    pub(super) fn entries_of(&self, object: &Object) -> Vec<EntryKey> {
        let own = match object {
            Object::Endpoint(end) => address(self.objects.get(&ObjectKey::Eni(end.resource.clone()))),
            Object::Eni(_)
            | Object::Hop(_)
            | Object::Rules(_)
            | Object::Peer(_)
            | Object::Trace(_)
            | Object::Policy(_) => None,
        };
        lower::keys(object, own.as_ref())
    }

    /// What may have to be done otherwise because of what happened to this key.
    pub(super) fn mark(&mut self, key: EntryKey) {
        self.status.give_new_chance(&key);
        for waiter in self.status.take_waiters(&key) {
            self.work.mark(waiter);
        }
        self.work.mark(key);
    }

    /// Marks what needs this entry, if it goes or has to be made anew.
    fn mark_dependents(&mut self, key: &EntryKey) {
        if !goes(self.ledger.get(key)) {
            return;
        }
        let dependents = match key {
            EntryKey::Eni(host) => self.ledger.bound_to(host),
            EntryKey::Rules(circuit) => self.flows_of(CircuitId(*circuit)),
            // What needs it belongs to the same end, and is marked with it.
            EntryKey::Seal(_)
            | EntryKey::NextHop(_)
            | EntryKey::Shaper(_)
            | EntryKey::Meter(_)
            | EntryKey::Class(..)
            | EntryKey::Label(_)
            | EntryKey::Peer(..)
            | EntryKey::Trace(_)
            | EntryKey::Route(..)
            | EntryKey::Flow(..) => return,
        };
        dependents.into_iter().for_each(|key| self.work.mark(key));
    }

    fn flows_of(&self, circuit: CircuitId) -> BTreeSet<EntryKey> {
        let ends = [Side::Source, Side::Destination].map(|side| ObjectKey::Endpoint(circuit, side));
        let objects = ends.iter().filter_map(|key| self.objects.get(key));
        objects.flat_map(|end| self.entries_of(end)).filter(|key| matches!(key, EntryKey::Flow(..))).collect()
    }
}

fn goes(cell: Option<&Cell>) -> bool {
    let Some(cell) = cell else { return true };
    match (&cell.want, &cell.have) {
        (None, _) => true,
        (Some(want), Have::Is(have) | Have::Unsure(Some(have))) => made_anew(have, want),
        (Some(_), Have::Absent | Have::Unsure(None)) => false,
    }
}

fn address(eni: Option<&Object>) -> Option<FabricAddress> {
    match eni? {
        Object::Eni(eni) => Some(eni.address),
        Object::Endpoint(_)
        | Object::Hop(_)
        | Object::Rules(_)
        | Object::Peer(_)
        | Object::Trace(_)
        | Object::Policy(_) => None,
    }
}

fn ends_at(object: &Object, at: &ResourceId) -> bool {
    match object {
        Object::Endpoint(Endpoint { resource, .. }) => resource == at,
        Object::Eni(_)
        | Object::Hop(_)
        | Object::Rules(_)
        | Object::Peer(_)
        | Object::Trace(_)
        | Object::Policy(_) => false,
    }
}
