//! The circuits that a sealer encrypts, by number.
use super::Timing;
use super::circuit::Circuit;
use super::keys::Keys;
use agent_core::kernel_state::Seal;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// One circuit, as the threads share it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Circuit>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Default)]
pub(super) struct Table(Arc<RwLock<BTreeMap<u64, Shared>>>);

impl Table {
    pub(super) fn get(&self, circuit: u64) -> Option<Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&circuit).cloned()
    }

    pub(super) fn all(&self) -> Vec<(u64, Shared)> {
        self.above(0, usize::MAX)
    }

    /// Some of those with higher numbers, in their order.
    pub(super) fn above(&self, circuit: u64, most: usize) -> Vec<(u64, Shared)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // No circuit has the number 0.
        let range = table.range((Bound::Excluded(circuit), Bound::Unbounded));
        range.take(most).map(|(number, circuit)| (*number, circuit.clone())).collect()
    }

    /// Whether the ends have agreed on keys.
    pub(super) fn has(&self, circuit: u64) -> bool {
        self.get(circuit).is_some_and(|circuit| circuit.lock().has_session())
    }

    /// From now on this circuit is encrypted so. The first handshake begins at once.
    pub(super) fn put(&self, seal: &Seal, keys: &Keys, timing: Timing) {
        match self.get(seal.circuit) {
            Some(circuit) => circuit.lock().renew(seal.clone(), keys, timing),
            None => {
                let circuit = Shared(Arc::new(Mutex::new(Circuit::new(seal.clone(), keys, timing))));
                self.0.write().unwrap_or_else(PoisonError::into_inner).insert(seal.circuit, circuit);
            }
        }
    }

    /// So many are left.
    pub(super) fn remove(&self, circuit: u64) -> usize {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.remove(&circuit);
        table.len()
    }

    /// Other keys of this host: all circuits agree on new sessions, and use the old ones until then.
    pub(super) fn renew(&self, keys: &Keys, timing: Timing) {
        for (_, circuit) in self.all() {
            let mut circuit = circuit.lock();
            let seal = circuit.seal.clone();
            circuit.renew(seal, keys, timing);
        }
    }
}
