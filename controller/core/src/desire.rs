//! What one node shall have: objects by key, and the number of the generation that they make up.
use proto_model::Generation;
use proto_model::desired::{Change, Object, ObjectKey, Tell};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Desire {
    objects: BTreeMap<ObjectKey, Object>,
    generation: Generation,
    /// What the keys changed in this step had at its beginning.
    before: BTreeMap<ObjectKey, Option<Object>>,
}

impl Desire {
    pub fn new(start: Generation) -> Self {
        Self { objects: BTreeMap::new(), generation: start, before: BTreeMap::new() }
    }

    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A node that has reported this generation has everything as of this step.
    pub fn carrying(&self) -> Generation {
        if self.before.is_empty() { self.generation } else { self.generation.next() }
    }

    pub fn put(&mut self, object: Object) {
        let key = object.key();
        if self.objects.get(&key) == Some(&object) {
            return;
        }
        let old = self.objects.insert(key.clone(), object);
        self.before.entry(key).or_insert(old);
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some(old) = self.objects.remove(key) {
            self.before.entry(key.clone()).or_insert(Some(old));
        }
    }

    /// Ends the step: one difference for all that changed in it. What was changed and changed back is not in it, but
    /// the number is used all the same, because somebody may wait for it.
    pub fn flush(&mut self) -> Option<Tell> {
        if self.before.is_empty() {
            return None;
        }
        let from = self.generation;
        self.generation = from.next();
        let mut changes = Vec::new();
        for (key, before) in std::mem::take(&mut self.before) {
            match self.objects.get(&key) {
                Some(object) if before.as_ref() != Some(object) => changes.push(Change::Put(object.clone())),
                None if before.is_some() => changes.push(Change::Remove(key)),
                Some(_) | None => {}
            }
        }
        Some(Tell::Changes { from, to: self.generation, changes })
    }

    pub fn whole(&self) -> Tell {
        Tell::Whole { generation: self.generation, objects: self.objects.values().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::CircuitId;
    use proto_model::rule::RuleSet;

    fn rules(circuit: u64, version: u32) -> Object {
        Object::Rules(RuleSet { circuit: CircuitId(circuit), version, rules: Vec::new(), revert: None })
    }

    #[test]
    fn changes_of_one_step_are_told_once_and_net() {
        let mut desire = Desire::new(Generation(7));
        desire.put(rules(1, 1));
        desire.put(rules(1, 2));
        desire.put(rules(2, 1));
        desire.remove(&rules(2, 1).key());
        assert_eq!(desire.carrying(), Generation(8));
        let changes = vec![Change::Put(rules(1, 2))];
        let tell = Tell::Changes { from: Generation(7), to: Generation(8), changes };
        assert_eq!(desire.flush(), Some(tell));
        assert_eq!(desire.flush(), None);
    }

    #[test]
    fn putting_what_is_there_changes_nothing() {
        let mut desire = Desire::new(Generation(1));
        desire.put(rules(1, 1));
        desire.flush();
        desire.put(rules(1, 1));
        assert_eq!(desire.carrying(), desire.generation());
        assert_eq!(desire.flush(), None);
    }
}
