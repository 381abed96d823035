//! Resources as clients ask for them: register, status, remove, discover.
use super::Fabric;
use crate::circuit::Phase;
use crate::deadlines::Deadline;
use crate::record::{Record, RecordKey};
use crate::registry::resources::{self, Member};
use proto_model::desired::ObjectKey;
use proto_model::intent::Intent;
use proto_model::request::{Event, ResourceView, Response};
use proto_model::resource::{Attachment, Liveness, Metadata, Resource, Status};
use proto_model::{CircuitId, Kind, NodeName, Refusal, ResourceId, Timestamp};
use std::time::Duration;

impl Fabric {
    pub(super) fn unknown_resource(&self, id: &ResourceId, field: &str) -> Refusal {
        let what = format!("there is no resource {id}");
        Refusal { field: field.into(), ..Refusal::not_found(what).hint("see `foreweave resource list`") }
    }

    pub(super) fn unknown_node(&self, name: &NodeName, field: &str) -> Refusal {
        let what = format!("there is no host {name}");
        Refusal { field: field.into(), ..Refusal::not_found(what).hint(self.known_nodes()) }
    }

    fn known_nodes(&self) -> String {
        const FEW: usize = 8;
        let names: Vec<_> = self.nodes.keys().take(FEW).map(NodeName::as_str).collect();
        match self.nodes.len().saturating_sub(FEW) {
            _ if names.is_empty() => "no host is known yet: foreweave node add NAME".into(),
            0 => format!("known are {}; see `foreweave node list`", names.join(", ")),
            more => format!("known are {} and {more} more; see `foreweave node list`", names.join(", ")),
        }
    }

    pub(super) fn register_resource(
        &mut self,
        id: ResourceId,
        metadata: Metadata,
        intents: Vec<Intent>,
        lease: Option<Duration>,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        resources::check(&metadata, &intents, lease)?;
        if !self.nodes.contains_key(&metadata.node) {
            let what = format!("host {} is not known", metadata.node);
            return Err(Refusal { field: "metadata.node".into(), ..Refusal::precondition(what) }
                .hint(format!("enrol it first: foreweave node add {}", metadata.node)));
        }
        if let Attachment::External(ip) = metadata.attachment
            && self.topology.is_address_of(&metadata.node, ip)
        {
            let what =
                format!("{ip} is {}'s own; a plain VXLAN device is on a host without agent", metadata.node);
            return Err(Refusal::invalid("metadata.attachment", what));
        }
        self.resources.check_conflicts(&id, &metadata)?;
        let resource = match self.resources.get(&id) {
            Some(member) => replaced(member, metadata, intents, lease, now)?,
            None => self.new_resource(id.clone(), metadata, intents, lease, now)?,
        };
        self.enter_resource(resource, now);
        self.resource_view(&id)
            .map(Response::Resource)
            .ok_or_else(|| self.unknown_resource(&id, "resource_id"))
    }

    fn new_resource(
        &mut self,
        id: ResourceId,
        metadata: Metadata,
        intents: Vec<Intent>,
        lease: Option<Duration>,
        now: Timestamp,
    ) -> Result<Resource, Refusal> {
        let limit = self.settings.limits.resources;
        if self.resources.len() >= limit {
            let what = format!("there are {limit} resources, which is the bound");
            return Err(Refusal::new(Kind::Exhausted, what).hint("remove some, or raise limits.resources"));
        }
        let address = self.resources.take_address(now).ok_or_else(|| {
            let all = self.resources.capacity();
            let what =
                format!("none of the {all} fabric addresses is free: all are in use or rest after their use");
            Refusal::new(Kind::Exhausted, what).hint("configure a larger prefix, or try again in a minute")
        })?;
        Ok(Resource {
            id,
            metadata,
            intents,
            status: Status::Up,
            address,
            lease,
            registered: now,
            renewed: now,
        })
    }

    /// Takes a checked resource, new or replacing the one with its id.
    fn enter_resource(&mut self, resource: Resource, now: Timestamp) {
        let id = resource.id.clone();
        let old = self.resources.insert(resource.clone());
        if let Some(old) = old.filter(|old| old.metadata.node != resource.metadata.node)
            && let Some(node) = self.nodes.get_mut(&old.metadata.node)
        {
            node.resources.remove(&id);
        }
        if let Some(node) = self.nodes.get_mut(&resource.metadata.node) {
            node.resources.insert(id.clone());
        }
        self.step.put(Record::Resource(resource));
        self.renew(&id, now);
        self.refresh_interface(&id);
        self.step.announce_resource(&id);
    }

    /// Sets its lease anew and lets its suspended circuits try again.
    fn renew(&mut self, id: &ResourceId, now: Timestamp) {
        let Some(member) = self.resources.get_mut(id) else { return };
        member.expired = false;
        member.resource.renewed = now;
        match member.resource.lease {
            Some(lease) => self.deadlines.set(Deadline::Lease(id.clone()), now.plus(lease)),
            None => self.deadlines.clear(&Deadline::Lease(id.clone())),
        }
        let circuits: Vec<_> = member.circuits.intersection(&self.circuits.suspended).copied().collect();
        for circuit in circuits {
            self.queue(circuit, now);
        }
    }

    /// The renewal itself is no promise and not written: after a restart all leases begin anew.
    pub(super) fn update_status(
        &mut self,
        id: &ResourceId,
        status: Status,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let Some(member) = self.resources.get_mut(id) else {
            return Err(self.unknown_resource(id, "resource_id"));
        };
        let changed = member.resource.status != status || member.expired;
        member.resource.status = status;
        if changed {
            self.step.put(Record::Resource(member.resource.clone()));
            self.step.announce_resource(id);
        }
        match status {
            Status::Down => {
                self.renew_lease_only(id, now);
                self.suspend_circuits_of(id, &format!("{id} is down"), now);
            }
            Status::Up | Status::Degraded | Status::Draining => self.renew(id, now),
        }
        self.resource_view(id).map(Response::Resource).ok_or_else(|| self.unknown_resource(id, "resource_id"))
    }

    fn renew_lease_only(&mut self, id: &ResourceId, now: Timestamp) {
        let Some(member) = self.resources.get_mut(id) else { return };
        member.expired = false;
        member.resource.renewed = now;
        if let Some(lease) = member.resource.lease {
            self.deadlines.set(Deadline::Lease(id.clone()), now.plus(lease));
        }
    }

    pub(super) fn lease_ran_out(&mut self, id: &ResourceId, now: Timestamp) {
        let Some(member) = self.resources.get_mut(id) else { return };
        member.expired = true;
        self.step.announce_resource(id);
        self.suspend_circuits_of(id, &format!("the lease of {id} has run out"), now);
    }

    fn suspend_circuits_of(&mut self, id: &ResourceId, why: &str, now: Timestamp) {
        let circuits: Vec<CircuitId> = self
            .resources
            .get(id)
            .map(|member| member.circuits.iter().copied().collect())
            .unwrap_or_default();
        for circuit in circuits {
            let placed = self.circuits.get(circuit).is_some_and(|circuit| circuit.phase.route().is_some());
            if placed {
                self.suspend(circuit, why.to_owned(), now);
            }
        }
    }

    pub(super) fn remove_resource(
        &mut self,
        id: &ResourceId,
        force: bool,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let Some(member) = self.resources.get(id) else {
            return Err(self.unknown_resource(id, "resource_id"));
        };
        let circuits: Vec<_> = member.circuits.iter().copied().collect();
        let node = member.resource.metadata.node.clone();
        if !circuits.is_empty() && !force {
            let names: Vec<_> = circuits.iter().take(5).map(ToString::to_string).collect();
            let what = format!("{} circuits end at {id}: {}", circuits.len(), names.join(", "));
            return Err(Refusal::precondition(what).hint("delete them first, or force"));
        }
        for circuit in circuits {
            self.close(circuit, now);
        }
        self.deadlines.clear(&Deadline::Lease(id.clone()));
        self.resources.remove(id, now);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.resources.remove(id);
        }
        self.step.delete(RecordKey::Resource(id.clone()));
        self.step.announce_gone(Event::ResourceGone(id.clone()));
        Ok(Response::Done)
    }

    pub(super) fn liveness(&self, member: &Member) -> Liveness {
        let lost = self.nodes.get(&member.resource.metadata.node).is_none_or(|node| node.is_given_up());
        match (member.expired, lost) {
            (true, _) => Liveness::Expired,
            (false, true) => Liveness::NodeLost,
            (false, false) => Liveness::Alive,
        }
    }

    pub(super) fn resource_view(&self, id: &ResourceId) -> Option<ResourceView> {
        self.resources.get(id).map(|member| self.view_of(member))
    }

    pub(super) fn view_of(&self, member: &Member) -> ResourceView {
        ResourceView {
            resource: member.resource.clone(),
            liveness: self.liveness(member),
            circuits: member.circuits.iter().copied().collect(),
            trouble: self.trouble_of(&member.resource),
        }
    }

    /// What its host reported of its interface.
    fn trouble_of(&self, resource: &Resource) -> String {
        let node = self.nodes.get(&resource.metadata.node);
        let why = node.and_then(|node| node.failures.get(&ObjectKey::Eni(resource.id.clone())));
        why.cloned().unwrap_or_default()
    }

    /// A placed circuit's other end at the same host, or none.
    pub(super) fn is_suspended(&self, id: CircuitId) -> bool {
        self.circuits.get(id).is_some_and(|circuit| matches!(circuit.phase, Phase::Suspended { .. }))
    }
}

/// The resource with what its owner says now; what its circuits stand on cannot change under them.
fn replaced(
    member: &Member,
    metadata: Metadata,
    intents: Vec<Intent>,
    lease: Option<Duration>,
    now: Timestamp,
) -> Result<Resource, Refusal> {
    let old = &member.resource;
    let was = &old.metadata;
    let moved = [
        ("metadata.node", was.node != metadata.node),
        ("metadata.attachment", was.attachment != metadata.attachment),
        ("metadata.interface", was.interface != metadata.interface),
    ];
    if let Some((field, _)) = moved.into_iter().find(|(_, changed)| *changed && !member.circuits.is_empty()) {
        let what = format!("{} circuits end at {}, so it cannot be moved", member.circuits.len(), old.id);
        return Err(Refusal { field: field.into(), ..Refusal::precondition(what) }.hint("delete them first"));
    }
    Ok(Resource { metadata, intents, lease, renewed: now, ..old.clone() })
}
