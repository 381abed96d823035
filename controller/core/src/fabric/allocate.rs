//! Decides on paths for a circuit, and allocates the labels for them.
use super::Fabric;
use crate::compile;
use crate::record::{Lane, Placed};
use crate::route::backup::Second;
use crate::route::{self, Ask, Decision};
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::plan::{Candidate, Plan};
use proto_model::{Kind, Label, NodeName, Refusal, ResourceId, Timestamp};
use std::collections::BTreeSet;

/// What a circuit is placed by.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) path: Candidate,
    pub(super) second: Result<Second, String>,
    pub(super) plan: Plan,
}

impl Fabric {
    /// Seeks a path for a circuit and calls `with` with the outcome.
    pub(super) fn decide<T>(
        &self,
        spec: &CircuitSpec,
        shun: &BTreeSet<NodeName>,
        with: impl FnOnce(&Decision, &Ask<'_>) -> T,
    ) -> Result<T, Refusal> {
        let node = |id: &ResourceId, field: &str| {
            let member = self.resources.get(id);
            member
                .map(|member| &member.resource.metadata.node)
                .ok_or_else(|| self.unknown_resource(id, field))
        };
        let ask = Ask {
            from: node(&spec.source, "source")?,
            to: node(&spec.destination, "destination")?,
            bounds: &spec.bounds,
            pinned: spec.pinned_path.as_deref(),
            shun,
            limit: self.settings.limits.candidates,
        };
        Ok(with(&route::decide(&self.topology, &self.settings.weights, &ask), &ask))
    }

    /// A path, and another one beside it if there is one.
    pub(super) fn choose(&self, spec: &CircuitSpec, shun: &BTreeSet<NodeName>) -> Result<Chosen, Refusal> {
        let keep = self.settings.limits.kept_candidates;
        let weights = self.settings.weights;
        self.decide(spec, shun, |decision, ask| {
            let path = decision.chosen().ok_or_else(|| decision.refusal(ask))?.clone();
            let second = self.second(spec, decision, ask, &path.path);
            Ok(Chosen { path, second, plan: decision.plan(ask, &weights, keep) })
        })?
    }

    pub(super) fn allocate_both(&mut self, chosen: &Chosen, now: Timestamp) -> Result<Placed, Refusal> {
        let mut placed = self.allocate(chosen.path.path.clone(), chosen.path.offer.mtu, now)?;
        self.add_backup(&mut placed, chosen.second.clone(), now);
        Ok(placed)
    }

    /// Allocates labels for a path; all of them or none.
    pub(super) fn allocate(&mut self, path: Path, mtu: u16, now: Timestamp) -> Result<Placed, Refusal> {
        let mut placed = Placed::on(Lane { path, mtu, forward: Vec::new(), reverse: Vec::new() });
        match self.allocate_into(&mut placed, now) {
            Ok(()) => Ok(placed),
            Err(node) => {
                for (node, label) in compile::labels(&placed) {
                    if let Some(at) = self.nodes.get_mut(&node) {
                        at.labels.give_back(label, now);
                    }
                }
                let held = self.nodes.get(&node).map_or(0, |at| at.labels.given());
                let what =
                    format!("{node} has no free label: {held} are in use, others rest after their use");
                Err(Refusal::new(Kind::Exhausted, what).hint("avoid this host, or try again in a minute"))
            }
        }
    }

    fn allocate_into(&mut self, placed: &mut Placed, now: Timestamp) -> Result<(), NodeName> {
        let nodes = placed.path.nodes.clone();
        if let [node] = nodes.as_slice() {
            let first = self.take_label(node, now)?;
            let second = self.take_label(node, now);
            if second.is_err() {
                // Not in `placed` yet, so nobody else gives it back.
                if let Some(at) = self.nodes.get_mut(node) {
                    at.labels.give_back(first, now);
                }
            }
            placed.local = Some((first, second?));
            return Ok(());
        }
        for pair in nodes.windows(2) {
            placed.forward.push(self.take_label(&pair[1], now)?);
            placed.reverse.push(self.take_label(&pair[0], now)?);
        }
        Ok(())
    }

    fn take_label(&mut self, node: &NodeName, now: Timestamp) -> Result<Label, NodeName> {
        self.nodes.get_mut(node).and_then(|at| at.labels.take(now)).ok_or_else(|| node.clone())
    }
}
