//! A copy of all histories, which somebody else can turn into bytes while the fabric goes on.
use crate::telemetry::{self, Store};
use proto_model::CircuitId;
use proto_model::topology::LinkId;

/// Copying takes a quarter of what the bytes take.
#[derive(Clone, Debug)]
pub struct Kept {
    links: Store<LinkId>,
    circuits: Store<CircuitId>,
}

impl Kept {
    pub(super) fn of(links: &Store<LinkId>, circuits: &Store<CircuitId>) -> Self {
        Self { links: links.clone(), circuits: circuits.clone() }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        telemetry::to_bytes(&self.links, &self.circuits)
    }
}
