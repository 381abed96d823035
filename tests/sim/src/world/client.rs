//! Someone who uses the fabric, remembers what was promised, and repeats what was not answered.
use super::{Event, PATIENCE, World};
use controller_core::io::{Input, Ticket};
use proto_model::access::{Actor, Role};
use proto_model::intent::Bounds;
use proto_model::request::{CircuitRef, CircuitRequest, Request, Response, RuleChange, RuleEdit};
use proto_model::resource::{Attachment, Form, Metadata, Status};
use proto_model::rule::RuleSpec;
use proto_model::{Bandwidth, CircuitId, Kind, Latency, Refusal, ResourceId};
use std::collections::BTreeMap;

/// What a small model of the fabric knows: only promises that were acknowledged.
#[derive(Debug, Default)]
pub(super) struct Client {
    tickets: u64,
    /// One request at a time; it is repeated until it is answered.
    pending: Option<(Ticket, Request)>,
    pub(super) resources: BTreeMap<ResourceId, Status>,
    pub(super) circuits: BTreeMap<CircuitId, Promise>,
    pub(super) gone: Vec<CircuitId>,
    pub(super) answers: u64,
    pub(super) refusals: BTreeMap<String, u64>,
}

/// A circuit that was promised.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) request: CircuitRequest,
    pub(super) rules: Vec<RuleSpec>,
    pub(super) version: u32,
}

pub(super) fn attachment(workload: &ResourceId) -> Attachment {
    Attachment::Named(workload.to_string())
}

impl World {
    pub(super) fn client_asks(&mut self) {
        if self.client.pending.is_some() || self.mood.requests == 0 {
            return;
        }
        self.mood.requests -= 1;
        let Some(request) = self.invent() else { return self.soon(100, Event::Ask) };
        self.client_sends(request);
    }

    fn client_sends(&mut self, request: Request) {
        self.client.tickets += 1;
        let ticket = Ticket(self.client.tickets);
        self.client.pending = Some((ticket, request.clone()));
        self.at(self.now.plus(PATIENCE), Event::GiveUp(ticket));
        let actor = Actor { name: "client".parse().expect("a name"), role: Role::Admin };
        self.note(|| format!("asks {request:?}"));
        self.controller_handles(Input::Ask { ticket, actor, request });
    }

    /// No answer: nobody knows whether it was done, so it is asked again.
    pub(super) fn client_gives_up(&mut self, ticket: Ticket) {
        if let Some((_, request)) = self.client.pending.take_if(|(of, _)| *of == ticket) {
            self.client_sends(request);
        }
    }

    pub(super) fn client_hears(&mut self, ticket: Ticket, answer: Result<Response, Refusal>) {
        let Some((_, request)) = self.client.pending.take_if(|(of, _)| *of == ticket) else { return };
        self.client.answers += 1;
        self.remember(request, answer);
        let pause = if self.chance.happens(100) { 5_000 } else { 200 };
        self.soon(pause, Event::Ask);
    }

    fn remember(&mut self, request: Request, answer: Result<Response, Refusal>) {
        match (request, answer) {
            (Request::RegisterResource { id, .. }, Ok(_)) => {
                self.client.resources.entry(id).or_insert(Status::Up);
            }
            (Request::UpdateResourceStatus { id, status }, Ok(_)) => {
                self.client.resources.insert(id, status);
            }
            (Request::RemoveResource { id, .. }, Ok(_)) => self.removed(&id),
            // Done the first time, when the answer was lost.
            (Request::RemoveResource { id, .. }, Err(refusal)) if refusal.kind == Kind::NotFound => {
                self.removed(&id)
            }
            (Request::CreateCircuit { circuit, .. }, Ok(Response::Circuit(view))) => {
                let rules = circuit.rules.clone();
                let version = view.circuit.rules_version;
                self.client.circuits.insert(view.circuit.id, Promise { request: circuit, rules, version });
            }
            (Request::DeleteCircuit { circuit: CircuitRef::Id(id) }, answer) => match answer {
                Ok(_) => self.deleted(id),
                Err(refusal) if refusal.kind == Kind::NotFound => self.deleted(id),
                Err(refusal) => self.fail(&format!("{id} cannot be deleted: {refusal}")),
            },
            (Request::UpdateFirewallRule(change), Ok(Response::Rules { circuit, version, rules, .. })) => {
                let RuleEdit::Replace { rules: asked } = change.edit else { return };
                let given: Vec<RuleSpec> = rules.into_iter().map(|rule| rule.spec).collect();
                assert_eq!(given, asked, "the rules of {circuit} are not those that were asked for");
                if let Some(promise) = self.client.circuits.get_mut(&circuit) {
                    promise.rules = asked;
                    promise.version = version;
                }
            }
            (_, Ok(_)) => {}
            (_, Err(refusal)) => {
                if refusal.kind == Kind::Internal {
                    self.fail(&format!("a bug: {refusal}"));
                }
                *self.client.refusals.entry(format!("{:?} {}", refusal.kind, refusal.field)).or_default() +=
                    1;
            }
        }
    }

    fn removed(&mut self, id: &ResourceId) {
        self.client.resources.remove(id);
        let of = |promise: &Promise| promise.request.source == *id || promise.request.destination == *id;
        let ended: Vec<_> = self.client.circuits.extract_if(.., |_, promise| of(promise)).collect();
        self.client.gone.extend(ended.into_iter().map(|(circuit, _)| circuit));
    }

    fn deleted(&mut self, id: CircuitId) {
        self.client.circuits.remove(&id);
        self.client.gone.push(id);
    }

    fn invent(&mut self) -> Option<Request> {
        let all: Vec<ResourceId> = self.topology.workloads.iter().map(|w| w.name.clone()).collect();
        let known: Vec<ResourceId> = self.client.resources.keys().cloned().collect();
        let circuits: Vec<CircuitId> = self.client.circuits.keys().copied().collect();
        // At first everybody registers; later only those come back that were removed.
        if known.len() < all.len().min(6) || self.chance.happens(150) {
            let missing: Vec<ResourceId> = all.iter().filter(|id| !known.contains(id)).cloned().collect();
            let id = self.chance.pick(&missing).or(self.chance.pick(&all)).cloned()?;
            return Some(self.register(id));
        }
        match self.chance.below(40) {
            0..22 => self.create(&known),
            22..28 => {
                let id = *self.chance.pick(&circuits)?;
                Some(Request::DeleteCircuit { circuit: CircuitRef::Id(id) })
            }
            28..37 => {
                let id = *self.chance.pick(&circuits)?;
                let edit = RuleEdit::Replace { rules: self.rules() };
                let circuit = CircuitRef::Id(id);
                Some(Request::UpdateFirewallRule(RuleChange {
                    circuit,
                    expected_version: None,
                    edit,
                    confirm_within: None,
                }))
            }
            37 | 38 => {
                let id = self.chance.pick(&known)?.clone();
                let all =
                    [Status::Up, Status::Up, Status::Up, Status::Degraded, Status::Draining, Status::Down];
                let status = *self.chance.pick(&all)?;
                Some(Request::UpdateResourceStatus { id, status })
            }
            _ => {
                let id = self.chance.pick(&known)?.clone();
                Some(Request::RemoveResource { id, force: self.chance.happens(500) })
            }
        }
    }

    fn register(&mut self, id: ResourceId) -> Request {
        let workload = self.topology.workloads.iter().find(|w| w.name == id).expect("of the topology");
        let metadata = Metadata {
            form: Form::Container,
            node: workload.node.clone(),
            attachment: attachment(&id),
            interface: None,
            addresses: workload.private.iter().map(|(address, _)| *address).collect(),
            labels: workload.labels.clone(),
            services: workload.services.clone(),
        };
        Request::RegisterResource { id, metadata, intents: Vec::new(), lease: None }
    }

    fn create(&mut self, known: &[ResourceId]) -> Option<Request> {
        let source = self.chance.pick(known)?.clone();
        let others: Vec<ResourceId> = known.iter().filter(|id| **id != source).cloned().collect();
        let foolish = self.chance.happens(20);
        let destination = self.chance.pick(if foolish { known } else { &others })?.clone();
        let mut bounds = Bounds::default();
        if self.chance.happens(400) {
            bounds.bandwidth = Bandwidth::mbit(50 + self.chance.below(400));
        }
        if self.chance.happens(200) {
            bounds.max_rtt = Some(Latency::from_millis(2 + self.chance.below(40)));
        }
        let rules = self.rules();
        let circuit = CircuitRequest {
            name: None,
            source,
            destination,
            bounds,
            priority: 0,
            pinned_path: None,
            rules,
            until: None,
            starts: None,
        };
        let key = format!("key-{}", self.client.tickets);
        Some(Request::CreateCircuit { circuit, idempotency_key: Some(key) })
    }

    fn rules(&mut self) -> Vec<RuleSpec> {
        let texts =
            ["allow tcp/80", "deny tcp/22", "allow udp/53 both", "allow icmp both", "deny any reverse"];
        let picked: std::collections::BTreeSet<usize> =
            (0..self.chance.below(4)).map(|_| usize::try_from(self.chance.below(5)).unwrap_or(0)).collect();
        picked.into_iter().map(|i| texts[i].parse().expect("a rule")).collect()
    }

    /// How much was asked, answered and refused.
    pub fn summary(&self) -> String {
        let client = &self.client;
        format!(
            "{} events, {} answers, {} circuits stand, {} gone, refused: {:?}",
            self.events,
            client.answers,
            client.circuits.len(),
            client.gone.len(),
            client.refusals
        )
    }
}
