//! Remembers what was decided about a circuit's path, as long as the controller lives.
use proto_model::insight::Past;
use std::collections::VecDeque;

/// The last so many entries of a circuit are kept.
pub const KEPT: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct Pasts(VecDeque<Past>);

impl Pasts {
    pub fn add(&mut self, past: Past) {
        while self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(past);
    }

    /// The oldest first.
    pub fn list(&self) -> Vec<Past> {
        self.0.iter().cloned().collect()
    }
}
