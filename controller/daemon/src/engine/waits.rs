//! Callers that wait for a circuit to become active or to be gone, or for rules or a policy to be in force.
use super::handle::{Answer, Until};
use proto_model::circuit::CircuitState;
use proto_model::request::{CircuitView, Event, Left, Response};
use proto_model::{CircuitId, NodeName};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Entries whose callers gave up are looked for whenever so many were added.
const SWEEP: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Waits {
    active: HashMap<CircuitId, Vec<oneshot::Sender<CircuitView>>>,
    rules: HashMap<CircuitId, Vec<oneshot::Sender<CircuitView>>>,
    gone: HashMap<CircuitId, Vec<oneshot::Sender<Left>>>,
    policies: HashMap<NodeName, Vec<oneshot::Sender<()>>>,
    added: usize,
}

impl Waits {
    /// Waits for an end must begin before the question: a circuit without hosts is gone before the answer goes out.
    pub(super) fn begin(&mut self, until: Until) -> Option<Until> {
        match until {
            Until::Gone(id, done) => {
                self.gone.entry(id).or_default().push(done);
                self.sweep();
                None
            }
            Until::Active(_) | Until::Rules(_) | Until::Policy(_) => Some(until),
        }
    }

    pub(super) fn answered(&mut self, answer: &Answer, until: Option<Until>) {
        match (answer, until) {
            (Ok(Response::Circuit(view)), Some(Until::Active(done)))
                if view.circuit.state != CircuitState::Active =>
            {
                self.active.entry(view.circuit.id).or_default().push(done);
                self.sweep();
            }
            (Ok(Response::Rules { circuit, pending, .. }), Some(Until::Rules(done)))
                if !pending.is_empty() =>
            {
                self.rules.entry(*circuit).or_default().push(done);
                self.sweep();
            }
            (Ok(Response::Policy(view)), Some(Until::Policy(done))) if view.pending => {
                self.policies.entry(view.node.clone()).or_default().push(done);
                self.sweep();
            }
            (Ok(_) | Err(_), _) => {}
        }
    }

    pub(super) fn announced(&mut self, event: &Event) {
        match event {
            Event::Circuit(view) => {
                let id = &view.circuit.id;
                let is_active = view.circuit.state == CircuitState::Active;
                let active = is_active.then(|| self.active.remove(id)).flatten();
                let rules = view.rules_pending.is_empty().then(|| self.rules.remove(id)).flatten();
                for done in active.into_iter().chain(rules).flatten() {
                    // Who gave up does not need it.
                    let _ = done.send(view.clone());
                }
            }
            Event::CircuitGone { id, left } => {
                self.active.remove(id);
                self.rules.remove(id);
                for done in self.gone.remove(id).into_iter().flatten() {
                    let _ = done.send(left.clone());
                }
            }
            Event::Node(view) if !view.policy_pending => {
                for done in self.policies.remove(&view.name).into_iter().flatten() {
                    let _ = done.send(());
                }
            }
            Event::NodeGone(name) => {
                self.policies.remove(name);
            }
            Event::Resource(_) | Event::ResourceGone(_) | Event::Node(_) => {}
        }
    }

    fn sweep(&mut self) {
        self.added += 1;
        if self.added < SWEEP {
            return;
        }
        self.added = 0;
        for waiting in [&mut self.active, &mut self.rules] {
            waiting.retain(|_, callers| {
                callers.retain(|caller| !caller.is_closed());
                !callers.is_empty()
            });
        }
        self.gone.retain(|_, callers| {
            callers.retain(|caller| !caller.is_closed());
            !callers.is_empty()
        });
        self.policies.retain(|_, callers| {
            callers.retain(|caller| !caller.is_closed());
            !callers.is_empty()
        });
    }
}
