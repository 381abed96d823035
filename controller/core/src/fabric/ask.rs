//! Answers clients: who may ask, what is asked, what is listed.
use super::Fabric;
use crate::discover::{self, Offering, Patience, Seeker};
use crate::guarantee;
use crate::registry::nodes::Contact;
use crate::roles;
use proto_model::access::Actor;
use proto_model::intent::Intent;
use proto_model::request::{DropsView, Request, Response, StatusView};
use proto_model::{NodeName, Refusal, ResourceId, Timestamp};

impl Fabric {
    pub(super) fn answer(
        &mut self,
        actor: &Actor,
        request: Request,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        roles::check(actor, &request)?;
        match request {
            Request::RegisterResource { id, metadata, intents, lease } => {
                self.register_resource(id, metadata, intents, lease, now)
            }
            Request::UpdateResourceStatus { id, status } => self.update_status(&id, status, now),
            Request::RemoveResource { id, force } => self.remove_resource(&id, force, now),
            Request::GetResource { id } => {
                let view = self.resource_view(&id).map(Response::Resource);
                view.ok_or_else(|| self.unknown_resource(&id, "resource_id"))
            }
            Request::ListResources => {
                Ok(Response::Resources(self.resources.iter().map(|member| self.view_of(member)).collect()))
            }
            Request::DiscoverResources { source, intents } => self.discover(source.as_ref(), intents, now),
            Request::CreateCircuit { circuit, idempotency_key } => {
                self.create_circuit(circuit, idempotency_key, now)
            }
            Request::PlanCircuit { circuit } => self.plan_circuit(&circuit, now),
            Request::PlaceCircuits(request) => self.place_circuits(request, now),
            Request::GetCircuit { circuit } => self.get_circuit(&circuit),
            Request::ListCircuits => Ok(Response::Circuits(
                self.circuits.iter().map(|c| guarantee::view(c, &self.topology, &self.nodes)).collect(),
            )),
            Request::DeleteCircuit { circuit } => self.delete_circuit(&circuit, now),
            Request::ExplainCircuit { circuit } => self.explain_circuit(&circuit, now),
            Request::Series { of, quantity, past } => self.series(&of, quantity, past, now),
            Request::UpdateFirewallRule(change) => self.update_rules(&change, now),
            Request::ExtendCircuit { circuit, until } => self.extend_circuit(&circuit, until, now),
            Request::ConfirmRules { circuit } => self.confirm_rules(&circuit, now),
            Request::RollbackRules { circuit } => self.rollback_rules(&circuit, now),
            Request::ListNodes => {
                Ok(Response::Nodes(self.nodes.keys().filter_map(|name| self.node_view(name)).collect()))
            }
            Request::GetPolicy { node } => self.get_policy(&node),
            Request::SetPolicy(change) => self.set_policy(change, now),
            Request::ConfirmPolicy { node } => self.confirm_policy(&node, now),
            Request::RollbackPolicy { node } => self.rollback_policy(&node, now),
            Request::RemoveNode { node } => self.remove_node(&node, now),
            Request::CreateToken { node, hash, expires } => self.create_token(node, hash, expires, now),
            Request::Enrol { node, hash, key } => self.enrol(&node, hash, key, now),
            Request::Renew { node, shown, key } => self.renew_certificate(&node, shown, key),
            Request::SetLink { link, values } => self.set_link(link, values, now),
            Request::ForgetLink { link } => self.forget_link(&link, now),
            Request::ListLinks => {
                let views = self.topology.views().into_iter();
                Ok(Response::Links(views.map(|view| self.with_forecasts(view)).collect()))
            }
            Request::ListShortages(line) => self.shortages(&line),
            Request::ListDrops { node } => self.drops(node.as_ref(), now),
            // Taken out before: it is answered later.
            Request::Why(_) => {
                Err(Refusal::new(proto_model::Kind::Internal, "a question that is answered later"))
            }
            Request::StartTrace { circuit, filter, snaplen, lasts, nodes } => {
                self.start_trace(&circuit, filter, snaplen, lasts, nodes, now)
            }
            Request::StopTrace { circuit, until } => Ok(self.stop_trace(circuit, until)),
            Request::Status => Ok(Response::Status(self.status())),
        }
    }

    fn drops(&self, only: Option<&NodeName>, now: Timestamp) -> Result<Response, Refusal> {
        if let Some(name) = only.filter(|name| !self.nodes.contains_key(*name)) {
            return Err(self.unknown_node(name, "node"));
        }
        let mut view = DropsView::default();
        for (name, node) in self.nodes.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
            view.drops.extend(node.drop_counts().map(|count| (name.clone(), count)));
            match node.contact {
                Contact::Connected(_) if node.has_told_counters(now) => {}
                Contact::Connected(_) => view.unheard.push(name.clone()),
                Contact::Lost { .. } => view.absent.push(name.clone()),
                // It has never been part of the fabric.
                Contact::Never => {}
            }
        }
        Ok(Response::Drops(view))
    }

    fn status(&self) -> StatusView {
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            nodes_connected: self.nodes.values().filter(|node| node.is_connected()).count() as u32,
            nodes: self.nodes.len() as u32,
            resources: self.resources.len() as u32,
            circuits_active: self.circuits.active() as u32,
            circuits: self.circuits.len() as u32,
            circuits_silent: self.silences.all as u32,
            started: self.started,
        }
    }

    fn discover(
        &self,
        source: Option<&ResourceId>,
        intents: Vec<Intent>,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        crate::intent::check_all(&intents)?;
        let asking = source
            .map(|id| self.resources.get(id).ok_or_else(|| self.unknown_resource(id, "source")))
            .transpose()?
            .map(|member| &member.resource);
        let own = asking.map(|resource| resource.intents.clone()).unwrap_or_default();
        let intents = if intents.is_empty() { own } else { intents };
        if intents.is_empty() {
            return Err(Refusal::invalid(
                "intents",
                "there is no intent: neither here nor registered with a source",
            )
            .hint("name a service, or a source that has intents"));
        }
        let seeker = Seeker {
            topology: &self.topology,
            weights: &self.settings.weights,
            source: asking.map(|resource| (&resource.id, &resource.metadata.node)),
            limit: self.settings.limits.candidates,
        };
        let mut patience = Patience::new(&self.topology);
        let found = intents.iter().map(|intent| {
            let offering = self.resources.offering(&intent.service).map(|member| Offering {
                member,
                liveness: self.liveness(member),
                lost_for: self.lost_for(&member.resource.metadata.node, now),
            });
            discover::find(&seeker, &mut patience, intent, offering)
        });
        Ok(Response::Discovered(found.collect()))
    }

    fn lost_for(&self, node: &NodeName, now: Timestamp) -> Option<u64> {
        let node = self.nodes.get(node)?;
        match node.contact {
            Contact::Lost { .. } => node.seen.map(|seen| now.since(seen).as_secs()),
            Contact::Never | Contact::Connected(_) => None,
        }
    }
}
