//! What ends by this host's own clock, whoever speaks or is silent; also what ended while the agent was not running.
use super::{Node, Phase};
use crate::io::Output;
use crate::kernel_state::{Entry, EntryKey};
use crate::ledger::Have;
use crate::lower::direction;
use crate::timed::Remember;
use ebpf_abi::Direction;
use proto_model::Timestamp;
use proto_model::desired::{Endpoint, Object, ObjectKey, Side};
use std::collections::BTreeMap;

impl Node {
    /// What holds now of what was told. What has a time in it is kept first, so that no gate is ever open whose end
    /// the next life of this agent would not know.
    pub(super) fn in_time(
        &mut self,
        news: BTreeMap<ObjectKey, Option<Object>>,
        now: Timestamp,
    ) -> BTreeMap<ObjectKey, Option<Object>> {
        let hold = |(key, new): (ObjectKey, Option<Object>)| {
            let (holds, remember) = self.timed.tell(&key, new, now);
            match remember {
                Remember::Nothing => {}
                Remember::Keep(object) => {
                    self.outputs.push_back(Output::Remember { key: key.clone(), object: Some(object) });
                }
                Remember::Forget => {
                    self.outputs.push_back(Output::Remember { key: key.clone(), object: None });
                }
            }
            (key, holds)
        };
        news.into_iter().map(hold).collect()
    }

    /// Before any controller has spoken: only what ends is touched, and only where the kernel has it.
    pub(super) fn remembered(&mut self, objects: Vec<Object>, now: Timestamp) {
        if self.phase != Phase::Seen {
            return;
        }
        // The policy first: what else has ended is lowered with it.
        let (policies, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| matches!(object, Object::Policy(_)));
        for object in policies.into_iter().chain(others) {
            let key = object.key();
            let (holds, _) = self.timed.tell(&key, Some(object.clone()), now);
            self.end(&key, Some(&object), holds, now);
        }
    }

    pub(super) fn ended(&mut self, now: Timestamp) {
        let changed = self.timed.take_due(now);
        if changed.is_empty() {
            return;
        }
        if self.phase == Phase::Led {
            return self.apply(changed, now);
        }
        for (key, holds) in changed {
            let told = self.timed.told(&key).cloned();
            self.end(&key, told.as_ref(), holds, now);
        }
    }

    fn end(&mut self, key: &ObjectKey, told: Option<&Object>, holds: Option<Object>, now: Timestamp) {
        match (told, holds) {
            (Some(Object::Endpoint(end)), None) => self.cut(end),
            (Some(Object::Policy(told)), Some(Object::Policy(holds))) => self.resume_policy(told, holds, now),
            (Some(Object::Rules(_)), Some(set)) if self.has_rules(key) => {
                self.apply(BTreeMap::from([(key.clone(), Some(set))]), now);
            }
            (_, _) => {}
        }
    }

    /// Marks what the kernel has of an end that is over; nobody wants it, so it is removed.
    fn cut(&mut self, end: &Endpoint) {
        let (sends, receives) = match end.side {
            Side::Source => (direction(Side::Source), direction(Side::Destination)),
            Side::Destination => (direction(Side::Destination), direction(Side::Source)),
        };
        let of_end = |entry: &Entry| is_of(entry, end.circuit.0, sends, receives);
        let there = |key: &&EntryKey| match self.ledger.get(key).map(|cell| &cell.have) {
            Some(Have::Is(entry) | Have::Unsure(Some(entry))) => of_end(entry),
            Some(Have::Absent | Have::Unsure(None)) | None => false,
        };
        let keys: Vec<EntryKey> = self.ledger.keys().filter(there).cloned().collect();
        let routes = keys.iter().filter_map(|key| match key {
            EntryKey::Flow(host, _) => Some(EntryKey::Route(*host, end.remote)),
            _ => None,
        });
        let routes: Vec<EntryKey> = routes.collect();
        keys.into_iter().chain(routes).for_each(|key| self.work.mark(key));
    }

    fn has_rules(&self, key: &ObjectKey) -> bool {
        let ObjectKey::Rules(circuit) = key else { return false };
        let cell = self.ledger.get(&EntryKey::Rules(circuit.0));
        cell.is_some_and(|cell| matches!(cell.have, Have::Is(_)))
    }
}

fn is_of(entry: &Entry, of: u64, sends: Direction, receives: Direction) -> bool {
    use crate::kernel_state::LabelAction;
    match entry {
        Entry::Flow(flow) => flow.circuit == of && flow.direction == sends,
        Entry::Label(label) => {
            let delivers = matches!(label.action, LabelAction::Deliver { .. });
            label.circuit == of && label.direction == receives && delivers
        }
        Entry::Seal(seal) => seal.circuit == of,
        Entry::Shaper(_)
        | Entry::Meter(_)
        | Entry::Class(_)
        | Entry::NextHop(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Peer(_)
        | Entry::Trace(_)
        | Entry::Route(_) => false,
    }
}
