//! The controller's own choice, as circuits make it.
use crate::choice::mesh::{Mesh, Relay};
use crate::choice::tuning::Tuning;
use crate::replay::score::Policy;

pub(super) struct Ours(Mesh);

impl Ours {
    pub(super) fn new(nodes: usize, relay: f32, tuning: Tuning) -> Self {
        Self(Mesh::new(nodes, relay, tuning))
    }
}

impl Policy for Ours {
    fn see(&mut self, samples: &[f32]) {
        self.0.see(samples);
    }

    fn choose(&mut self, available: &[f32], current: &mut [Relay]) {
        self.0.choose(available, current);
    }

    fn rehearse(&mut self, available: &[f32]) {
        self.0.rehearse(available);
    }
}
