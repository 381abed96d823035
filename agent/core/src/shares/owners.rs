//! Whose packets wait in which class.
use super::Shares;
use proto_model::CircuitId;
use std::collections::BTreeMap;

impl Shares {
    /// Circuits by their numbers on this host, those that are only known from an earlier life included.
    pub(crate) fn owners(&self) -> BTreeMap<u16, CircuitId> {
        let seen = self.seen.iter().map(|(end, number)| (*number, end.0));
        let known = self.numbers.iter().map(|(end, number)| (number.number, end.0));
        seen.chain(known).collect()
    }
}
