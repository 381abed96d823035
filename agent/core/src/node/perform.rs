//! What became of the steps, and of interfaces that vanished.
use super::{Node, Phase};
use crate::diff::{Flight, Left};
use crate::kernel_state::{Entry, EntryKey, HostSide};
use crate::ledger::Have;
use proto_model::Timestamp;
use proto_model::desired::{ObjectKey, Side};
use std::sync::Arc;

impl Node {
    pub(super) fn performed(&mut self, results: Vec<(EntryKey, Result<(), String>)>, now: Timestamp) {
        let Some(Flight { steps, doubted }) = self.work.flight.take() else { return };
        let mut results = results.into_iter();
        for (key, put) in steps {
            let result = match results.next() {
                Some((of, result)) if of == key => result,
                Some((of, _)) => Err(format!("its result is missing: one for {of:?} came instead")),
                None => Err("its result is missing".into()),
            };
            match result {
                Ok(()) if doubted.contains(&key) => self.doubt(&key, put.clone(), now),
                Ok(()) => self.succeeded(&key, put.clone(), now),
                Err(why) => self.failed(&key, &why, now),
            }
            if let Some(entry) = put {
                self.ledger.let_go(&entry, now);
            }
        }
    }

    fn succeeded(&mut self, key: &EntryKey, put: Option<Arc<Entry>>, now: Timestamp) {
        let owner = self.owner(key);
        let was_unsure = self.ledger.get(key).is_some_and(|cell| matches!(cell.have, Have::Unsure(_)));
        let made = put.is_some();
        self.set_have(key, put.map_or(Have::Absent, Have::Is), now);
        self.status.settle(key, owner.as_ref());
        if let EntryKey::Eni(host) = key
            && was_unsure
            && made
        {
            self.doubt_bound(host, now);
        }
        if !self.work.again(&self.ledger, key) {
            self.cleared(key, now);
        }
        for waiter in self.status.take_waiters(key) {
            self.work.again(&self.ledger, &waiter);
        }
    }

    fn failed(&mut self, key: &EntryKey, why: &str, now: Timestamp) {
        let before = self.ledger.get(key).and_then(|cell| match &cell.have {
            Have::Absent | Have::Unsure(None) => None,
            Have::Is(entry) | Have::Unsure(Some(entry)) => Some(entry.clone()),
        });
        let owner = self.owner(key);
        self.set_have(key, Have::Unsure(before), now);
        self.status.fail(key, owner.as_ref(), why, now);
    }

    /// It was performed, but its interface vanished meanwhile.
    fn doubt(&mut self, key: &EntryKey, put: Option<Arc<Entry>>, now: Timestamp) {
        self.set_have(key, Have::Unsure(put), now);
        self.work.mark(key.clone());
    }

    /// The interface may have been made anew: what is bound to it is written again.
    pub(super) fn doubt_bound(&mut self, host: &HostSide, now: Timestamp) {
        for key in self.ledger.bound_to(host) {
            let there = self.ledger.get(&key).and_then(|cell| match &cell.have {
                Have::Is(entry) => Some(entry.clone()),
                Have::Absent | Have::Unsure(_) => None,
            });
            if let Some(entry) = there {
                self.set_have(&key, Have::Unsure(Some(entry)), now);
                self.work.mark(key);
            }
        }
    }

    /// An interface is gone, and with it its routes. What the maps say of it is stale and is removed before the
    /// interface is made again.
    pub(super) fn vanished(&mut self, host: &HostSide, now: Timestamp) {
        let eni = EntryKey::Eni(*host);
        let mut bound = self.ledger.bound_to(host);
        bound.insert(eni.clone());
        for key in bound {
            let there = self.ledger.get(&key).map(|cell| cell.have.clone());
            match (&key, there) {
                (EntryKey::Eni(_) | EntryKey::Route(..), Some(Have::Is(_) | Have::Unsure(_))) => {
                    let gone = is_on(&key, host);
                    if gone {
                        self.set_have(&key, Have::Absent, now);
                    }
                }
                (EntryKey::Label(_) | EntryKey::Flow(..), Some(Have::Is(entry))) if needs(&entry, &eni) => {
                    self.set_have(&key, Have::Unsure(Some(entry)), now);
                }
                (_, None | Some(Have::Absent | Have::Is(_) | Have::Unsure(_))) => {}
            }
            if let Some(flight) = &mut self.work.flight {
                flight.doubted.insert(key.clone());
            }
            if self.phase == Phase::Led {
                self.mark(key);
            }
        }
    }

    /// What was looked at and needs no step, or cannot have one now.
    pub(super) fn leave(&mut self, left: Vec<Left>, now: Timestamp) {
        for left in left {
            match left {
                Left::Settled(key) => {
                    let owner = self.owner(&key);
                    self.status.settle(&key, owner.as_ref());
                    self.cleared(&key, now);
                }
                Left::Blocked { key, on } => {
                    let owner = self.owner(&key);
                    self.status.block(&key, owner.as_ref(), on);
                }
                Left::Leaned(key) => {
                    let owner = self.owner(&key);
                    self.status.linger(&key, owner.as_ref());
                }
            }
        }
    }

    fn set_have(&mut self, key: &EntryKey, have: Have, now: Timestamp) {
        for freed in self.ledger.set_have(key, have, now) {
            // Before a controller has spoken nothing is removed; then everything is looked at anyway.
            if freed != *key && self.phase == Phase::Led {
                self.work.again(&self.ledger, &freed);
            }
        }
    }

    /// A next hop's slot that is neither wanted nor there may serve another one.
    fn cleared(&mut self, key: &EntryKey, now: Timestamp) {
        if let EntryKey::NextHop(slot) = key
            && self.ledger.get(key).is_none_or(|cell| cell.want.is_none() && cell.have == Have::Absent)
        {
            self.slots.cleared(*slot, now);
        }
    }

    /// The object that an entry belongs to; for entries found in the kernel, the one that they must have come from.
    fn owner(&self, key: &EntryKey) -> Option<ObjectKey> {
        let cell = self.ledger.get(key)?;
        let of_have = || match &cell.have {
            Have::Is(entry) | Have::Unsure(Some(entry)) => origin(entry),
            Have::Absent | Have::Unsure(None) => None,
        };
        cell.owner.clone().or_else(of_have)
    }
}

fn is_on(key: &EntryKey, host: &HostSide) -> bool {
    match key {
        EntryKey::Eni(on) | EntryKey::Route(on, _) | EntryKey::Flow(on, _) => on == host,
        EntryKey::NextHop(_)
        | EntryKey::Shaper(_)
        | EntryKey::Rules(_)
        | EntryKey::Seal(_)
        | EntryKey::Meter(_)
        | EntryKey::Class(..)
        | EntryKey::Label(_)
        | EntryKey::Peer(..)
        | EntryKey::Trace(_) => false,
    }
}

fn needs(entry: &Entry, eni: &EntryKey) -> bool {
    crate::lower::needs(entry).contains(eni)
}

fn origin(entry: &Entry) -> Option<ObjectKey> {
    use crate::kernel_state::{Class, LabelAction, Shaper};
    use ebpf_abi::Direction;
    use proto_model::{CircuitId, Label};
    let end = |circuit, side| Some(ObjectKey::Endpoint(CircuitId(circuit), side));
    match entry {
        Entry::NextHop(_) | Entry::Meter(_) | Entry::Seal(_) | Entry::Route(_) | Entry::Peer(_) => None,
        Entry::Shaper(Shaper { interface, .. }) | Entry::Class(Class { interface, .. }) => {
            Some(ObjectKey::Queues(interface.clone()))
        }
        Entry::Trace(trace) => Some(ObjectKey::Trace(CircuitId(trace.circuit))),
        Entry::Eni(eni) => eni.resource.parse().ok().map(ObjectKey::Eni),
        Entry::Rules(rules) => Some(ObjectKey::Rules(CircuitId(rules.circuit))),
        Entry::Label(label) => match (&label.action, label.direction) {
            (LabelAction::Transit { .. }, _) => Label::new(label.label).map(ObjectKey::Hop),
            (LabelAction::Deliver { .. }, Direction::Forward) => end(label.circuit, Side::Destination),
            (LabelAction::Deliver { .. }, Direction::Reverse) => end(label.circuit, Side::Source),
        },
        Entry::Flow(flow) => match flow.direction {
            Direction::Forward => end(flow.circuit, Side::Source),
            Direction::Reverse => end(flow.circuit, Side::Destination),
        },
    }
}
