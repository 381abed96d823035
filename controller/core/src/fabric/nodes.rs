//! Nodes and links as clients ask for them: tokens, enrolment, removal, link values.
use super::Fabric;
use crate::deadlines::Deadline;
use crate::record::{Keys, NodeRecord, PolicyRecord, Record, RecordKey, TokenRecord};
use crate::registry::nodes::{Contact, Node};
use crate::topology::{Link, Spot};
use proto_model::access::Fingerprint;
use proto_model::circuit::Path;
use proto_model::request::{Event, NodeView, Response};
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, CircuitId, Kind, NodeName, Refusal, Timestamp};
use std::collections::BTreeSet;

/// Why a session or a renewal is refused to a certificate that another enrolment has replaced.
pub(super) fn earlier_enrolment(name: &NodeName) -> String {
    format!("this certificate is of an earlier enrolment of {name}; enrol again")
}

impl Fabric {
    pub(super) fn create_token(
        &mut self,
        name: NodeName,
        hash: [u8; 32],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        if expires <= now {
            return Err(Refusal::invalid("lifetime", "the token would have expired already"));
        }
        if self.tokens.contains_key(&hash) {
            return Err(Refusal::new(Kind::AlreadyExists, "this token exists already").hint("make another"));
        }
        let limit = self.settings.limits.tokens;
        if self.tokens.len() >= limit {
            let what = format!("there are {limit} unused tokens, which is the bound");
            return Err(Refusal::new(Kind::Exhausted, what).hint("wait until some expire"));
        }
        if !self.nodes.contains_key(&name) {
            let limit = self.settings.limits.nodes;
            if self.nodes.len() >= limit {
                let what = format!("there are {limit} nodes, which is the bound");
                return Err(Refusal::new(Kind::Exhausted, what).hint("remove some, or raise limits.nodes"));
            }
            let record = NodeRecord {
                name: name.clone(),
                enrolled: None,
                keys: Keys::Unknown,
                underlays: Vec::new(),
                seal_keys: Vec::new(),
                policy: PolicyRecord::default(),
            };
            self.step.put(Record::Node(record.clone()));
            self.add_node(record, now);
            self.step.announce_node(&name);
        }
        let token = TokenRecord { hash, node: name, expires };
        self.step.put(Record::Token(token.clone()));
        self.deadlines.set(Deadline::Token(hash), expires);
        self.tokens.insert(hash, token);
        Ok(Response::Done)
    }

    pub(super) fn add_node(&mut self, record: NodeRecord, now: Timestamp) {
        self.topology.add_node(record.name.clone());
        self.topology.set_underlays(&record.name, record.underlays.clone());
        let node = Node::new(record, self.settings.timing.rest, now);
        let name = node.record.name.clone();
        self.nodes.insert(name.clone(), node);
        self.want_policy(&name);
        self.watch_policy(&name);
    }

    pub(super) fn enrol(
        &mut self,
        name: &NodeName,
        hash: [u8; 32],
        key: Fingerprint,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let again = format!("make a new one: foreweave node add {name}");
        let Some(token) = self.tokens.get(&hash) else {
            return Err(Refusal::not_found("the token is not known, or was used already").hint(again));
        };
        if token.expires <= now {
            let ago = now.since(token.expires).as_secs();
            return Err(Refusal::new(Kind::Forbidden, format!("the token expired {ago} s ago")).hint(again));
        }
        if token.node != *name {
            let what = format!("the token is for another host than {name}");
            return Err(Refusal::new(Kind::Forbidden, what).hint(again));
        }
        let Some(node) = self.nodes.get_mut(name) else { return Err(self.unknown_node(name, "node")) };
        let before = std::mem::replace(&mut node.record.keys, Keys::One(key));
        node.record.enrolled = Some(now);
        self.step.put(Record::Node(node.record.clone()));
        if let Some(session) = node.session().filter(|_| before != Keys::One(key)) {
            self.step.hang_up(name.clone(), session, format!("{name} was enrolled anew"));
            self.agent_gone(name, session, now);
        }
        self.drop_token(&hash);
        self.step.announce_node(name);
        Ok(Response::Done)
    }

    pub(super) fn renew_certificate(
        &mut self,
        name: &NodeName,
        shown: Fingerprint,
        key: Fingerprint,
    ) -> Result<Response, Refusal> {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.record.enrolled.is_some()) else {
            let what = format!("the node {name} is not part of the fabric any more");
            return Err(Refusal::new(Kind::Forbidden, what).hint("enrol it again"));
        };
        let Some(keys) = node.record.keys.after_renewal(shown, key) else {
            return Err(Refusal::new(Kind::Forbidden, earlier_enrolment(name)));
        };
        if keys != node.record.keys {
            node.record.keys = keys;
            self.step.put(Record::Node(node.record.clone()));
        }
        Ok(Response::Done)
    }

    pub(super) fn drop_token(&mut self, hash: &[u8; 32]) {
        if self.tokens.remove(hash).is_some() {
            self.deadlines.clear(&Deadline::Token(*hash));
            self.step.delete(RecordKey::Token(*hash));
        }
    }

    pub(super) fn remove_node(&mut self, name: &NodeName, now: Timestamp) -> Result<Response, Refusal> {
        let Some(node) = self.nodes.get(name) else { return Err(self.unknown_node(name, "node")) };
        if !node.resources.is_empty() {
            let names: Vec<_> = node.resources.iter().take(5).map(ToString::to_string).collect();
            let what = format!("{} resources are on {name}: {}", node.resources.len(), names.join(", "));
            return Err(Refusal::precondition(what).hint("remove them first"));
        }
        if let Contact::Connected(session) = node.contact {
            self.step.hang_up(name.clone(), session, format!("{name} was removed from the region"));
        }
        let circuits: Vec<_> = node.circuits.iter().copied().collect();
        let waited = node.awaiting.values().flatten().copied().collect();
        self.drain_no_more(name, now);
        for id in circuits {
            self.leave_host(id, name, now);
        }
        let tokens: Vec<_> =
            self.tokens.values().filter(|token| token.node == *name).map(|t| t.hash).collect();
        for hash in tokens {
            self.drop_token(&hash);
        }
        self.deadlines.clear(&Deadline::NodeGrace(name.clone()));
        self.deadlines.clear(&Deadline::EndGrace(name.clone()));
        self.deadlines.clear(&Deadline::Policy(name.clone()));
        self.given_up.remove(name);
        self.nodes.remove(name);
        for link in self.topology.remove_node(name) {
            self.step.delete(RecordKey::Link(link));
        }
        self.step.delete(RecordKey::Node(name.clone()));
        self.step.announce_gone(Event::NodeGone(name.clone()));
        self.stop_waiting_for(name, waited, now);
        Ok(Response::Done)
    }

    /// A circuit crosses a host that is being removed.
    fn leave_host(&mut self, id: CircuitId, name: &NodeName, now: Timestamp) {
        let removed = BTreeSet::from([name.clone()]);
        let on_path = self.route_of(id).is_some_and(|route| route.path.nodes.contains(name));
        if !on_path {
            self.lose_backup(
                id,
                &format!("the backup's host {name} was removed; another one is sought"),
                now,
            );
        } else if self.can_promote(id, &removed) {
            self.promote(id, now);
        } else {
            self.suspend(id, format!("its host {name} was removed"), now);
            self.queue(id, now);
        }
    }

    pub(super) fn set_link(
        &mut self,
        link: LinkId,
        values: LinkValues,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        for end in [link.ends().0, link.ends().1] {
            if !self.nodes.contains_key(end) {
                return Err(self.unknown_node(end, "link"));
            }
        }
        if values.tags.len() > crate::intent::MAX_NAMES {
            let what =
                format!("{} tags, at most {} are allowed", values.tags.len(), crate::intent::MAX_NAMES);
            return Err(Refusal::invalid("values.tags", what));
        }
        let limit = self.settings.limits.links;
        if self.topology.configured() >= limit && !self.topology.is_configured(&link) {
            let what = format!("{limit} links are configured, which is the bound");
            return Err(Refusal::new(Kind::Exhausted, what).hint("raise limits.links"));
        }
        self.step.put(Record::Link(link.clone(), values.clone()));
        let before = self.topology.link(&link).and_then(Link::over_booked);
        self.topology.configure(link.clone(), values);
        self.link_is_set(&link, before, now);
        Ok(Response::Link(self.with_forecasts(self.topology.view(&link))))
    }

    pub(super) fn forget_link(&mut self, link: &LinkId, now: Timestamp) -> Result<Response, Refusal> {
        let before = self.topology.link(link).and_then(Link::over_booked);
        if !self.topology.forget(link) {
            let what = format!("nothing was set of the link {link}");
            let hint = match self.topology.link(link) {
                Some(_) => "its hosts offer it: it goes when one of them no longer has an interface there",
                None => "see `foreweave link list`",
            };
            return Err(Refusal { field: "link".into(), ..Refusal::not_found(what).hint(hint) });
        }
        self.step.delete(RecordKey::Link(link.clone()));
        self.link_is_set(link, before, now);
        Ok(Response::Done)
    }

    /// `before`: by how much it was over-booked.
    fn link_is_set(&mut self, link: &LinkId, before: Option<Bandwidth>, now: Timestamp) {
        if before != self.topology.link(link).and_then(Link::over_booked) {
            self.announce_promises(link.ends().0, |path| path.links.contains(link));
        }
        self.relieve(&[Spot::Link(link.clone())], now);
        self.retry_suspended(now);
    }

    /// What is promised to circuits that cross something at a host is kept, or not any longer.
    pub(super) fn announce_promises(&mut self, at: &NodeName, crosses: impl Fn(&Path) -> bool) {
        let Some(node) = self.nodes.get(at) else { return };
        for id in &node.circuits {
            let circuit = self.circuits.get(*id).filter(|c| !c.spec.bounds.bandwidth.is_zero());
            let Some(route) = circuit.and_then(|circuit| circuit.phase.route()) else { continue };
            if crosses(&route.path) || route.second().is_some_and(|lane| crosses(&lane.path)) {
                self.step.announce_circuit(*id);
            }
        }
    }

    pub(super) fn node_view(&self, name: &NodeName) -> Option<NodeView> {
        let view = |node: &Node| node.view(self.topology.left_out(name), self.settings.limits.links);
        self.nodes.get(name).map(view)
    }
}
