//! Decides on paths for a circuit, and allocates the labels for them.
use super::Fabric;
use crate::compile;
use crate::external::{self, External};
use crate::record::{Lane, Placed};
use crate::route::admission::MIN_MTU;
use crate::route::backup::Second;
use crate::route::prospect::Promise;
use crate::route::{self, Ask, Decision};
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::desired::Side;
use proto_model::intent::Bounds;
use proto_model::plan::{Candidate, Plan, Weights};
use proto_model::resource::Attachment;
use proto_model::{FabricAddress, Kind, Label, NodeName, Refusal, ResourceId, Timestamp};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// An end of a circuit that is a plain VXLAN device.
#[derive(Clone, Debug)]
pub(super) struct Outside {
    side: Side,
    remote: IpAddr,
    own: FabricAddress,
    other: FabricAddress,
}

/// What a circuit is placed by.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) path: Candidate,
    pub(super) second: Result<Second, String>,
    pub(super) outside: Option<Outside>,
    pub(super) plan: Plan,
}

impl Fabric {
    /// What is asked for a circuit.
    pub(super) fn ask<'a>(
        &'a self,
        spec: &'a CircuitSpec,
        shun: &'a BTreeSet<NodeName>,
    ) -> Result<Ask<'a>, Refusal> {
        let node = |id: &ResourceId, field: &str| {
            let member = self.resources.get(id);
            member
                .map(|member| &member.resource.metadata.node)
                .ok_or_else(|| self.unknown_resource(id, field))
        };
        Ok(Ask {
            from: node(&spec.source, "source")?,
            to: node(&spec.destination, "destination")?,
            bounds: &spec.bounds,
            pinned: spec.pinned_path.as_deref(),
            shun,
            limit: self.settings.limits.candidates,
        })
    }

    /// Of the cost, for a circuit with these bounds.
    pub(super) fn weights(&self, bounds: &Bounds) -> Weights {
        self.settings.weights.with(&bounds.weights)
    }

    /// Seeks a path for a circuit and calls `with` with the outcome.
    pub(super) fn decide<T>(
        &self,
        spec: &CircuitSpec,
        shun: &BTreeSet<NodeName>,
        with: impl FnOnce(&mut Decision, &Ask<'_>) -> T,
    ) -> Result<T, Refusal> {
        let ask = self.ask(spec, shun)?;
        let weights = self.weights(&spec.bounds);
        let mut decision = route::decide(&self.topology, &weights, &ask);
        if let Some(promise) = self.promised(spec) {
            promise.prefer_sure(&self.topology, &mut decision.judged);
        }
        if decision.chosen().is_none() {
            decision.when = self.when(spec, &decision.full());
        }
        Ok(with(&mut decision, &ask))
    }

    /// None: there is nothing to keep, or it is for another day, of which forecasts say nothing.
    fn promised<'a>(&self, spec: &'a CircuitSpec) -> Option<Promise<'a>> {
        let promise = Promise::of(&spec.bounds, &self.settings.reroute);
        let is_now = spec.starts.is_none_or(|starts| starts <= self.topology.now());
        (promise.is_bound() && is_now).then_some(promise)
    }

    /// What may break on a path that would be taken, as a sentence.
    pub(super) fn doubt(&self, spec: &CircuitSpec, path: &Path) -> Option<String> {
        let doubt = self.promised(spec)?.doubt(&self.topology, path)?;
        Some(format!("{path}: {doubt}"))
    }

    /// A path, and another one beside it if there is one.
    pub(super) fn choose(&self, spec: &CircuitSpec, shun: &BTreeSet<NodeName>) -> Result<Chosen, Refusal> {
        let keep = self.settings.limits.kept_candidates;
        let weights = self.weights(&spec.bounds);
        self.decide(spec, shun, |decision, ask| {
            let second = self.both(spec, decision, ask);
            let path = decision.chosen().ok_or_else(|| decision.refusal(ask))?.clone();
            let outside = self.outside(spec);
            Ok(Chosen { path, second, outside, plan: decision.plan(ask, &weights, keep) })
        })?
    }

    /// What was admitted once is placed by what is reserved alone, where what is expected of others leaves no room for it: a
    /// circuit that works badly is better than none. From a path that it can stay on, others do not drive it.
    pub(super) fn choose_for_standing(
        &mut self,
        spec: &CircuitSpec,
        shun: &BTreeSet<NodeName>,
        old: Option<&Placed>,
        now: Timestamp,
    ) -> Result<Chosen, Refusal> {
        let choose = |fabric: &mut Self| fabric.in_its_time(spec, now, |fabric| fabric.choose(spec, shun));
        let stands = old.is_some_and(|old| !self.is_left(old, shun));
        let first = if stands { None } else { Some(choose(self)) };
        let refused = match first {
            Some(Err(refusal)) if refusal.kind == Kind::Exhausted && self.topology.leaves_to_others() => {
                Some(refusal)
            }
            Some(first) => return first,
            None => None,
        };
        self.topology.by_reservations(true);
        let chosen = choose(self);
        self.topology.by_reservations(false);
        let Some(refusal) = refused else { return chosen };
        let Ok(mut chosen) = chosen else { return Err(refusal) };
        chosen.plan.warnings.push(format!("placed by what is reserved alone: {}", refusal.what));
        Ok(chosen)
    }

    pub(super) fn is_left(&self, old: &Placed, shun: &BTreeSet<NodeName>) -> bool {
        self.is_broken(&old.path) || old.path.nodes.iter().any(|node| shun.contains(node))
    }

    pub(super) fn allocate_both(&mut self, chosen: &Chosen, now: Timestamp) -> Result<Placed, Refusal> {
        let (path, mtu) = (chosen.path.path.clone(), chosen.path.offer.mtu);
        let mut placed = self.allocate(path, mtu, chosen.outside.clone(), now)?;
        self.add_backup(&mut placed, chosen.second.clone(), now);
        Ok(placed)
    }

    /// The end of a circuit that is a plain VXLAN device, if one is.
    pub(super) fn outside(&self, spec: &CircuitSpec) -> Option<Outside> {
        let ends = [
            (Side::Source, &spec.source, &spec.destination),
            (Side::Destination, &spec.destination, &spec.source),
        ];
        ends.into_iter().find_map(|(side, own, other)| {
            let (own, other) = (&self.resources.get(own)?.resource, &self.resources.get(other)?.resource);
            match own.metadata.attachment {
                Attachment::External(remote) => {
                    Some(Outside { side, remote, own: own.address, other: other.address })
                }
                Attachment::Path(_) | Attachment::Named(_) | Attachment::Process(_) | Attachment::Host => {
                    None
                }
            }
        })
    }

    /// A path to a plain device must end next to it, in its address family, and hold packets of some length.
    fn reach(&self, outside: Outside, path: &Path, label: Label) -> Result<(External, u16), Refusal> {
        let Outside { side, remote, own, other } = outside;
        let mut external = External { side, remote, local: remote, label, own, other };
        let refuse = |what: String| Refusal::precondition(what).hint("see `foreweave node list`");
        let mtu =
            external::mtu(&external, path, &self.topology).map_err(|broken| refuse(broken.to_string()))?;
        if mtu < MIN_MTU {
            return Err(refuse(format!("packets of {mtu} bytes fit to {remote}, {MIN_MTU} are needed")));
        }
        let beside = external.neighbour(path).and_then(|node| self.topology.beside(node, remote));
        if let Some((local, _)) = beside {
            external.local = local;
        }
        Ok((external, mtu))
    }

    /// Allocates labels for a path; all of them or none.
    pub(super) fn allocate(
        &mut self,
        path: Path,
        mtu: u16,
        outside: Option<Outside>,
        now: Timestamp,
    ) -> Result<Placed, Refusal> {
        // The label is of no account for what is asked here.
        let end = outside.map(|outside| self.reach(outside, &path, Label::LEAST)).transpose()?;
        let mut placed = Placed::on(Lane { path, mtu, forward: Vec::new(), reverse: Vec::new() });
        match self.allocate_into(&mut placed, end, now) {
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

    fn allocate_into(
        &mut self,
        placed: &mut Placed,
        end: Option<(External, u16)>,
        now: Timestamp,
    ) -> Result<(), NodeName> {
        let nodes = placed.path.nodes.clone();
        if let Some((mut external, mtu)) = end {
            let Some(neighbour) = external.neighbour(&placed.path).cloned() else { return Ok(()) };
            external.label = self.take_label(&neighbour, now)?;
            placed.mtu = mtu;
            placed.external = Some(external);
            return self.allocate_pairs(placed, &nodes, now);
        }
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
        self.allocate_pairs(placed, &nodes, now)
    }

    fn allocate_pairs(
        &mut self,
        placed: &mut Placed,
        nodes: &[NodeName],
        now: Timestamp,
    ) -> Result<(), NodeName> {
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
