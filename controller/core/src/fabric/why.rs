//! Follows a packet that somebody wonders about from host to host, each of which asks its own data plane.
use super::Fabric;
use super::verdicts::no_circuit;
use crate::circuit::{Circuit, Phase};
use crate::deadlines::Deadline;
use crate::io::Ticket;
use crate::registry::nodes::Node;
use crate::roles;
use crate::silence::Silence;
use proto_model::access::Actor;
use proto_model::desired::Tell;
use proto_model::query::{Answer, Body, Fate, Packet, QueryId, Question, Ran, Tunnel};
use proto_model::request::{Request, Response};
use proto_model::trail::{Trail, TrailHop, Verdict, Whom, Wonder};
use proto_model::{CircuitId, FabricAddress, Kind, NodeName, Refusal, ResourceId, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Questions that are under way at one time.
pub(super) const MOST: usize = 64;
/// Hosts that a packet is followed over: as many as a path can have, and some more to see a loop.
const HOPS: usize = 40;
/// How long one host may take: its programs may have to be loaded first.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of them together may take: less than a request waits for its answer.
pub(super) const JOURNEY: Duration = Duration::from_secs(25);

/// All that are under way, by the question that is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Journeys {
    next: u64,
    open: BTreeMap<QueryId, Journey>,
}

#[derive(Clone, Debug)]
pub(super) struct Journey {
    ticket: Ticket,
    pub(super) wonder: Wonder,
    /// Who opens and who is opened to, whichever of them sends this packet.
    pub(super) opener: ResourceId,
    pub(super) opened: ResourceId,
    pub(super) packet: Packet,
    pub(super) circuit: CircuitId,
    pub(super) hops: Vec<TrailHop>,
    pub(super) at: NodeName,
    /// A link that it crosses and that answers no probe.
    pub(super) silent: Option<(Silence, String)>,
    until: Timestamp,
}

/// How a journey ends.
pub(super) struct End {
    verdict: Verdict,
    sentence: String,
    advice: String,
}

impl End {
    pub(super) fn of(verdict: Verdict, sentence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict, sentence: sentence.into(), advice: advice.into() }
    }
}

impl Fabric {
    /// Answers later, unless it is refused or there is nobody to ask.
    pub(super) fn why(&mut self, actor: &Actor, ticket: Ticket, wonder: Wonder, now: Timestamp) {
        let request = Request::Why(wonder.clone());
        let begun = roles::check(actor, &request).and_then(|()| self.begin_why(ticket, wonder, now));
        match begun {
            Ok(None) => {}
            Ok(Some(trail)) => self.step.reply(ticket, Ok(Response::Why(trail))),
            Err(refusal) => self.step.reply(ticket, Err(refusal)),
        }
    }

    fn begin_why(
        &mut self,
        ticket: Ticket,
        wonder: Wonder,
        now: Timestamp,
    ) -> Result<Option<Trail>, Refusal> {
        if self.journeys.open.len() >= MOST {
            let what = format!("{MOST} such questions are under way already, no more are allowed");
            return Err(Refusal::new(Kind::Exhausted, what).hint("try again in a second"));
        }
        let (opener, opener_address) = self.whom(&wonder.source, "source")?;
        let (opened, opened_address) = self.whom(&wonder.destination, "destination")?;
        if opener == opened {
            return Err(Refusal::invalid(
                "destination",
                format!("{opened} is the source too; a circuit has two ends"),
            ));
        }
        let packet = packet(&wonder, opener_address, opened_address)?;
        let sender = if wonder.answer { &opened } else { &opener };
        let workload = if wonder.answer { opened_address } else { opener_address };
        let Some(circuit) = self.circuits.holder_of_pair(&opener, &opened) else {
            let end = no_circuit(&wonder, &opener, &opened);
            return Ok(Some(trail(packet, None, Vec::new(), end)));
        };
        let named = (circuit.id, circuit.spec.name.clone());
        if let Phase::Suspended { why } = &circuit.phase {
            let sentence = format!("dropped: circuit {} is suspended: {why}", named.1);
            let end =
                End::of(Verdict::Dropped, sentence, format!("foreweave circuit show {} follows it", named.1));
            return Ok(Some(trail(packet, Some(named), Vec::new(), end)));
        }
        if circuit.scheduled().is_some() {
            let starts = circuit.spec.starts.map(|at| at.to_string()).unwrap_or_default();
            let sentence = format!("dropped: circuit {} starts at {starts}", named.1);
            let next = format!("foreweave circuit watch {} follows it", named.1);
            let end = End::of(Verdict::Dropped, sentence, next);
            return Ok(Some(trail(packet, Some(named), Vec::new(), end)));
        }
        let Some(at) = self.resources.get(sender).map(|member| member.resource.metadata.node.clone()) else {
            return Err(self.unknown_resource(sender, "source"));
        };
        let journey = Journey {
            ticket,
            wonder,
            opener,
            opened,
            packet,
            circuit: named.0,
            hops: Vec::new(),
            silent: None,
            at: at.clone(),
            until: now.plus(JOURNEY),
        };
        let question = first_question(circuit, workload, packet);
        self.ask_host(journey, at, question, now);
        Ok(None)
    }

    fn whom(&self, whom: &Whom, field: &str) -> Result<(ResourceId, FabricAddress), Refusal> {
        let found = match whom {
            Whom::Resource(id) => self.resources.get(id),
            Whom::Address(IpAddr::V4(v4)) => self.resources.iter().find(|m| m.resource.address.v4 == *v4),
            Whom::Address(IpAddr::V6(v6)) => self.resources.iter().find(|m| m.resource.address.v6 == *v6),
        };
        let member = found.ok_or_else(|| match whom {
            Whom::Resource(id) => self.unknown_resource(id, field),
            Whom::Address(address) => {
                let what = format!("no resource has the fabric address {address}");
                Refusal {
                    field: field.into(),
                    ..Refusal::not_found(what).hint("see `foreweave resource list`")
                }
            }
        })?;
        Ok((member.resource.id.clone(), member.resource.address))
    }

    fn ask_host(&mut self, journey: Journey, node: NodeName, question: Question, now: Timestamp) {
        let Some(session) = self.nodes.get(&node).and_then(|node| node.session()) else {
            let sentence = format!("unknown: {node} is not connected, so nobody can ask it");
            let end = End::of(Verdict::Unknown, sentence, "foreweave node list shows since when");
            return self.finish(journey, end);
        };
        self.journeys.next += 1;
        let query = QueryId(self.journeys.next);
        self.step.ask(node.clone(), session, Tell::Ask { query, question });
        self.deadlines.set(Deadline::Query(query), now.plus(PATIENCE).min(journey.until));
        self.journeys.open.insert(query, Journey { at: node, ..journey });
    }

    /// A host has answered; one that was not asked is not heard.
    pub(super) fn answered(&mut self, node: &NodeName, query: QueryId, answer: Answer, now: Timestamp) {
        if self.journeys.open.get(&query).is_none_or(|journey| journey.at != *node) {
            return;
        }
        let Some(journey) = self.journeys.open.remove(&query) else { return };
        self.deadlines.clear(&Deadline::Query(query));
        match answer {
            Answer::Ran(ran) => self.go_on(journey, ran, now),
            Answer::Unable(why) => {
                let end = End::of(
                    Verdict::Unknown,
                    format!("unknown: {node} cannot tell: {why}"),
                    self.state(&journey),
                );
                self.finish(journey, end);
            }
        }
    }

    pub(super) fn query_is_late(&mut self, query: QueryId, now: Timestamp) {
        let Some(journey) = self.journeys.open.remove(&query) else { return };
        let (at, hops) = (&journey.at, journey.hops.len());
        let sentence = if now < journey.until {
            format!("unknown: {at} did not answer within {} s", PATIENCE.as_secs())
        } else {
            let most = JOURNEY.as_secs();
            format!("unknown: {hops} hosts took the {most} s that all of them have; {at} has not answered")
        };
        let end = End::of(Verdict::Unknown, sentence, "foreweave node list shows whether it is busy");
        self.finish(journey, end);
    }

    /// What was asked in a session is lost with it.
    pub(super) fn forget_queries(&mut self, node: &NodeName) {
        let lost: Vec<QueryId> = self
            .journeys
            .open
            .iter()
            .filter(|(_, journey)| journey.at == *node)
            .map(|(query, _)| *query)
            .collect();
        for query in lost {
            self.deadlines.clear(&Deadline::Query(query));
            let Some(journey) = self.journeys.open.remove(&query) else { continue };
            let sentence = format!("unknown: contact with {node} was lost before it answered");
            self.finish(journey, End::of(Verdict::Unknown, sentence, "try again when it is back"));
        }
    }

    fn go_on(&mut self, mut journey: Journey, mut ran: Ran, now: Timestamp) {
        let node = journey.at.clone();
        let silent = self.crosses_silent(&journey, &ran);
        let note = self.note(&journey, &ran);
        let parts = [note, silent.as_ref().map(|(_, text)| text.clone()).unwrap_or_default()];
        let note = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        journey.silent = match (journey.silent, silent) {
            // What was heard once and is silent now says more than what was never heard.
            (Some((Silence::Ever(_), _)), worse @ Some((Silence::Since(_), _))) => worse,
            (known, found) => known.or(found),
        };
        let (next, sent) = match &mut ran.fate {
            Fate::Sent(sent) => {
                let frame = std::mem::take(&mut sent.frame);
                (self.holder_of(&journey, sent.remote), Some((frame, sent.remote)))
            }
            Fate::Delivered { .. } | Fate::Dropped { .. } | Fate::NotOurs => (None, None),
        };
        let rule = self.rule_text(&node, journey.circuit, ran.rule);
        let hop = TrailHop { node: node.clone(), ran, rule, next: next.clone(), note };
        journey.hops.push(hop);
        let device = sent.as_ref().and_then(|(_, remote)| self.reaches_device(&journey, *remote));
        if let Some(end) = device {
            return self.finish(journey, end);
        }
        match (next, sent) {
            (_, Some(_)) if journey.hops.len() >= HOPS => {
                let sentence = format!("dropped: the packet loops; it was followed over {HOPS} hosts");
                let end = End::of(Verdict::Dropped, sentence, "this is a bug of the fabric");
                self.finish(journey, end);
            }
            (Some(next), Some((frame, _))) => {
                let packet = journey.packet;
                self.ask_host(journey, next, Question::Arrives { frame, packet }, now);
            }
            (None, Some(_)) => {
                let sentence =
                    format!("unknown: no host of this region has the address to which {node} sends it");
                let end =
                    End::of(Verdict::Unknown, sentence, "foreweave link list shows what each announced");
                self.finish(journey, end);
            }
            (_, None) => {
                let end = self.end_at(&journey);
                self.finish(journey, end);
            }
        }
    }

    /// Networks that know nothing of each other may use the same addresses: the circuit's own hosts first.
    fn holder_of(&self, journey: &Journey, address: IpAddr) -> Option<NodeName> {
        let route = self.circuits.get(journey.circuit).and_then(|circuit| circuit.phase.route());
        let lanes = route.map(|route| (&route.path, route.second().map(|lane| &lane.path)));
        let own = lanes.into_iter().flat_map(|(path, backup)| {
            path.nodes.iter().chain(backup.into_iter().flat_map(|backup| &backup.nodes))
        });
        let own = own.filter_map(|name| self.nodes.get(name));
        let has =
            |node: &&Node| node.record.underlays.iter().any(|underlay| underlay.addresses.contains(&address));
        own.chain(self.nodes.values()).find(has).map(|node| node.record.name.clone())
    }

    fn finish(&mut self, journey: Journey, end: End) {
        let named = self.circuits.get(journey.circuit).map(|circuit| (circuit.id, circuit.spec.name.clone()));
        let trail = trail(journey.packet, named, journey.hops, end);
        self.step.reply(journey.ticket, Ok(Response::Why(trail)));
    }
}

/// A plain VXLAN device cannot be asked, but the host next to it can.
fn first_question(circuit: &Circuit, workload: FabricAddress, packet: Packet) -> Question {
    let external = circuit.phase.route().and_then(|route| route.external.as_ref());
    match external.filter(|end| end.own == workload) {
        Some(end) => {
            let tunnel = Tunnel { source: end.remote, destination: end.local, label: end.label };
            Question::Enters { workload, tunnel, packet }
        }
        None => Question::Sent { workload, packet },
    }
}

fn trail(
    packet: Packet,
    circuit: Option<(CircuitId, proto_model::CircuitName)>,
    hops: Vec<TrailHop>,
    end: End,
) -> Trail {
    Trail { packet, circuit, hops, verdict: end.verdict, sentence: end.sentence, advice: end.advice }
}

fn packet(wonder: &Wonder, opener: FabricAddress, opened: FabricAddress) -> Result<Packet, Refusal> {
    let said = |whom: &Whom| match whom {
        Whom::Address(address) => Some(address.is_ipv6()),
        Whom::Resource(_) => None,
    };
    let v6 = match (said(&wonder.source), said(&wonder.destination)) {
        (Some(one), Some(other)) if one != other => {
            let what = format!("{} and {} are of two address families", wonder.source, wonder.destination);
            return Err(Refusal::invalid("destination", what));
        }
        (Some(v6), _) | (None, Some(v6)) => v6,
        (None, None) => wonder.v6,
    };
    let pick = |address: FabricAddress| if v6 { IpAddr::V6(address.v6) } else { IpAddr::V4(address.v4) };
    let (mut source, mut destination) = (pick(opener), pick(opened));
    let mut ports = (wonder.source_port, wonder.port);
    if wonder.answer {
        std::mem::swap(&mut source, &mut destination);
        ports = (ports.1, ports.0);
    }
    let body = match wonder.protocol {
        6 => Body::Tcp { source: ports.0, destination: ports.1, answer: wonder.answer },
        17 => Body::Udp { source: ports.0, destination: ports.1 },
        1 => Body::Echo { id: wonder.source_port, answer: wonder.answer },
        other => Body::Other(other),
    };
    Ok(Packet { source, destination, body, size: wonder.size })
}
