//! A small world for tests: agents that do as they are told, a store that remembers, a client that asks.
use super::{Fabric, Settings};
use crate::io::{Input, Output, Session, Ticket, Write};
use crate::record::{Record, RecordKey};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::circuit::{CircuitState, Path};
use proto_model::desired::{
    Change, Endpoint, Gate, Hop, Leg, NextHop, Object, ObjectKey, Receive, Side, Tell,
};
use proto_model::intent::Bounds;
use proto_model::report::{Failure as Failed, Hello, Report, Say, Way};
use proto_model::request::{CircuitRef, CircuitRequest, CircuitView, Event, Request, Response};
use proto_model::resource::{Attachment, Form, Metadata};
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, CircuitId, Generation, Latency, NodeName, Refusal, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) session: Option<Session>,
    pub(super) generation: Generation,
    pub(super) objects: BTreeMap<ObjectKey, Object>,
    /// Objects that its kernel refuses.
    pub(super) refuses: BTreeSet<ObjectKey>,
    failing: BTreeSet<ObjectKey>,
    /// Does not report.
    pub(super) mute: bool,
    pub(super) tells: usize,
    whole: bool,
}

pub(super) struct World {
    pub(super) fabric: Fabric,
    pub(super) now: Timestamp,
    pub(super) agents: BTreeMap<NodeName, Agent>,
    pub(super) store: BTreeMap<RecordKey, Record>,
    pub(super) events: Vec<Event>,
    pub(super) hang_ups: Vec<(NodeName, Session, String)>,
    pub(super) underlays: BTreeMap<NodeName, Vec<Underlay>>,
    pub(super) keys: BTreeMap<NodeName, Fingerprint>,
    replies: BTreeMap<Ticket, Result<Response, Refusal>>,
    tickets: u64,
    sessions: u64,
}

pub(super) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a well-formed name")
}

pub(super) fn request(source: &str, destination: &str) -> CircuitRequest {
    CircuitRequest {
        name: None,
        source: name(source),
        destination: name(destination),
        bounds: Bounds::default(),
        priority: 0,
        pinned_path: None,
        rules: vec!["allow tcp/5432".parse().expect("a rule")],
    }
}

impl Agent {
    /// Has nothing of any circuit.
    pub(super) fn is_bare(&self) -> bool {
        self.objects.keys().all(|key| matches!(key, ObjectKey::Peer(_)))
    }

    fn is_heard(&self) -> bool {
        self.session.is_some() && !self.mute
    }
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Timestamp(1_700_000_000_000_000_000);
        Self {
            fabric: Fabric::restore(settings, [], now).expect("nothing is consistent"),
            now,
            agents: BTreeMap::new(),
            store: BTreeMap::new(),
            events: Vec::new(),
            hang_ups: Vec::new(),
            underlays: BTreeMap::new(),
            keys: BTreeMap::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            sessions: 0,
        }
    }

    /// a – t1 – b and a – t2 – b; the way over t1 is shorter, the one over t2 is wider. `web` on a, `db` on b.
    pub(super) fn diamond() -> Self {
        let mut world = Self::new(Settings::default());
        for (one, other, millis, mbit) in
            [("a", "t1", 1, 500), ("t1", "b", 1, 400), ("a", "t2", 10, 1000), ("t2", "b", 10, 1000)]
        {
            world.wire(one, other, millis, mbit);
        }
        for node in ["a", "b", "t1", "t2"] {
            world.enrol(node);
            world.connect(node);
        }
        world.register("web", "a");
        world.register("db", "b");
        world
    }

    /// Plans a network of its own between two hosts; announced when they connect.
    pub(super) fn wire(&mut self, one: &str, other: &str, millis: u64, mbit: u64) {
        let network = format!("{one}-{other}");
        let count = self.underlays.values().map(Vec::len).sum::<usize>() as u8 / 2;
        for (end, host) in [(one, 1u8), (other, 2)] {
            let underlays = self.underlays.entry(name(end)).or_default();
            underlays.push(Underlay {
                interface: format!("eth{}", underlays.len()),
                network: name(&network),
                addresses: vec![
                    [10, count, 0, host].into(),
                    [0xfd00, 0, 0, 0, 0, 0, u16::from(count), u16::from(host)].into(),
                ],
                mtu: 1500,
                speed: Some(Bandwidth::mbit(mbit)),
            });
        }
        for end in [one, other] {
            self.expect(end);
        }
        let values = LinkValues { rtt: Some(Latency::from_millis(millis)), ..LinkValues::default() };
        self.ask(Request::SetLink { link: link(one, other), values }).expect("both are known");
    }

    fn expect(&mut self, node: &str) {
        let expires = self.now.plus(Duration::from_secs(3600));
        let _ = self.ask(Request::CreateToken { node: name(node), hash: hash(node), expires });
    }

    pub(super) fn enrol(&mut self, node: &str) {
        self.expect(node);
        let key = self.key(node);
        self.ask(Request::Enrol { node: name(node), hash: hash(node), key }).expect("the token is fresh");
    }

    /// The key of the node's certificate: the same for ever, unless a test gave it another.
    pub(super) fn key(&self, node: &str) -> Fingerprint {
        self.keys.get(&name::<NodeName>(node)).copied().unwrap_or(Fingerprint(hash(node)))
    }

    pub(super) fn connect(&mut self, node: &str) {
        self.sessions += 1;
        let session = Session(self.sessions);
        let node: NodeName = name(node);
        let agent = self.agents.entry(node.clone()).or_default();
        agent.session = Some(session);
        agent.whole = true;
        let underlays = self.underlays.get(&node).cloned().unwrap_or_default();
        let hello = Hello {
            version: "0".into(),
            kernel: "6".into(),
            boot: "x".into(),
            underlays,
            datapath: Vec::new(),
        };
        self.say(node.as_str(), session, Say::Hello(hello));
    }

    pub(super) fn say(&mut self, node: &str, session: Session, say: Say) {
        let key = self.key(node);
        self.input(Input::AgentSaid { node: name(node), session, key, say });
    }

    pub(super) fn disconnect(&mut self, node: &str) {
        let node: NodeName = name(node);
        let session = self.agents.get_mut(&node).and_then(|agent| agent.session.take());
        if let Some(session) = session {
            self.input(Input::AgentGone { node, session });
        }
    }

    pub(super) fn metadata(node: &str) -> Metadata {
        Metadata {
            form: Form::Container,
            node: name(node),
            attachment: Attachment::Host,
            interface: None,
            addresses: Vec::new(),
            labels: BTreeMap::new(),
            services: Vec::new(),
        }
    }

    pub(super) fn register(&mut self, id: &str, node: &str) {
        let mut metadata = Self::metadata(node);
        metadata.attachment = Attachment::Named(id.into());
        self.ask(Request::RegisterResource { id: name(id), metadata, intents: Vec::new(), lease: None })
            .expect("well-formed");
    }

    /// Handles an input and ends before a word is said, when only what it wrote is left; then starts anew.
    pub(super) fn die_after_writing(&mut self, input: Input) {
        self.fabric.handle(input, self.now);
        while let Some(output) = self.fabric.poll_output() {
            match output {
                Output::Write(Write::Put(record)) => {
                    self.store.insert(record.key(), record);
                }
                Output::Write(Write::Delete(key)) => {
                    self.store.remove(&key);
                }
                Output::Reply { .. }
                | Output::Tell { .. }
                | Output::HangUp { .. }
                | Output::Announce(_)
                | Output::Drops { .. } => {}
            }
        }
        self.restart();
    }

    pub(super) fn input(&mut self, input: Input) {
        self.fabric.handle(input, self.now);
        self.settle();
    }

    /// Advances the clock, and handles what falls due on the way.
    pub(super) fn pass(&mut self, duration: Duration) {
        let until = self.now.plus(duration);
        while let Some(due) = self.fabric.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = until;
    }

    fn settle(&mut self) {
        while let Some(output) = self.fabric.poll_output() {
            match output {
                Output::Write(Write::Put(record)) => {
                    self.store.insert(record.key(), record);
                }
                Output::Write(Write::Delete(key)) => {
                    self.store.remove(&key);
                }
                Output::Reply { ticket, answer } => {
                    self.replies.insert(ticket, answer);
                }
                Output::Tell { node, session, tell } => self.told(node, session, tell),
                Output::HangUp { node, session, why } => self.hang_ups.push((node, session, why)),
                Output::Announce(event) => self.events.push(event),
                Output::Drops { .. } => {}
            }
        }
    }

    fn told(&mut self, node: NodeName, session: Session, tell: Tell) {
        let Some(agent) = self.agents.get_mut(&node).filter(|agent| agent.session == Some(session)) else {
            return;
        };
        agent.tells += 1;
        match tell {
            Tell::Whole { generation, objects } => {
                agent.generation = generation;
                agent.objects = objects.into_iter().map(|object| (object.key(), object)).collect();
            }
            Tell::Changes { from, to, changes } => {
                assert_eq!(agent.generation, from, "{node} was told a gap");
                agent.generation = to;
                for change in changes {
                    match change {
                        Change::Put(object) => agent.objects.insert(object.key(), object),
                        Change::Remove(key) => agent.objects.remove(&key),
                    };
                }
            }
        }
        if !agent.mute {
            self.say_report(&node);
        }
    }

    /// Has the agent report how far it is.
    pub(super) fn report(&mut self, node: &NodeName) {
        self.say_report(node);
        self.settle();
    }

    fn say_report(&mut self, node: &NodeName) {
        if let Some(report) = self.pending_report(node.as_str()) {
            self.fabric.handle(report, self.now);
        }
    }

    /// What the agent would report now.
    pub(super) fn pending_report(&mut self, node: &str) -> Option<Input> {
        let key = self.key(node);
        let node: NodeName = name(node);
        let agent = self.agents.get_mut(&node)?;
        let session = agent.session?;
        let failing: BTreeSet<_> =
            agent.refuses.iter().filter(|key| agent.objects.contains_key(*key)).cloned().collect();
        let whole = std::mem::take(&mut agent.whole);
        let failed = failing.iter().filter(|key| whole || !agent.failing.contains(*key));
        let failure = |key: &ObjectKey| Failed { key: key.clone(), why: "EPERM".into() };
        let report = Report {
            generation: agent.generation,
            whole,
            failed: failed.map(failure).collect(),
            recovered: agent.failing.difference(&failing).cloned().collect(),
        };
        agent.failing = failing;
        Some(Input::AgentSaid { node, session, key, say: Say::Report(report) })
    }

    pub(super) fn ask_as(&mut self, role: Role, request: Request) -> Result<Response, Refusal> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let actor = Actor { name: name("tester"), role };
        self.input(Input::Ask { ticket, actor, request });
        self.replies.remove(&ticket).expect("each question has one answer")
    }

    pub(super) fn ask(&mut self, request: Request) -> Result<Response, Refusal> {
        self.ask_as(Role::Admin, request)
    }

    pub(super) fn create(&mut self, circuit: CircuitRequest) -> Result<CircuitView, Refusal> {
        match self.ask(Request::CreateCircuit { circuit, idempotency_key: None })? {
            Response::Circuit(view) => Ok(view),
            other => panic!("not a circuit: {other:?}"),
        }
    }

    pub(super) fn view(&mut self, id: CircuitId) -> Option<CircuitView> {
        match self.ask(Request::GetCircuit { circuit: CircuitRef::Id(id) }) {
            Ok(Response::Circuit(view)) => Some(view),
            Ok(other) => panic!("not a circuit: {other:?}"),
            Err(_) => None,
        }
    }

    pub(super) fn state(&mut self, id: CircuitId) -> &'static str {
        self.view(id).map_or("gone", |view| view.circuit.state.name())
    }

    /// Starts the controller anew from what it wrote; agents keep what they have.
    pub(super) fn restart(&mut self) {
        let settings = self.fabric.settings.clone();
        self.fabric = Fabric::restore(settings, self.store.values().cloned(), self.now).expect("own records");
        self.settle();
        let nodes: Vec<_> =
            self.agents.iter().filter(|(_, a)| a.session.is_some()).map(|(n, _)| n.clone()).collect();
        for node in nodes {
            self.connect(node.as_str());
        }
    }

    fn endpoint(&self, node: &NodeName, id: CircuitId, side: Side) -> Option<&Endpoint> {
        match self.agents.get(node)?.objects.get(&ObjectKey::Endpoint(id, side))? {
            Object::Endpoint(end) => Some(end),
            Object::Eni(_) | Object::Hop(_) | Object::Rules(_) | Object::Peer(_) => None,
        }
    }

    /// Follows the packets of every active circuit through what the agents have: they must arrive at the other end,
    /// at every hop under a label and between addresses that it expects. Also compares the books.
    pub(super) fn check(&mut self) {
        let circuits: Vec<_> = self.fabric.circuits.iter().map(|circuit| circuit.view().circuit).collect();
        for circuit in &circuits {
            let heard = |path: &Path| {
                path.nodes.iter().all(|node| self.agents.get(node).is_some_and(Agent::is_heard))
            };
            let Some(path) = circuit.path.as_ref().filter(|_| circuit.state == CircuitState::Active) else {
                continue;
            };
            self.check_gates(circuit.id, &path.nodes);
            if heard(path) {
                self.follow_both(circuit.id, path, Way::Primary);
            }
            if let Some(backup) = circuit.backup.as_ref().filter(|backup| heard(path) && heard(backup)) {
                self.follow_both(circuit.id, backup, Way::Backup);
            }
        }
        self.check_books();
        for (node, agent) in &self.agents {
            if agent.is_heard() {
                let Tell::Whole { objects, .. } = self.fabric.nodes[node].desire.whole() else {
                    panic!("whole")
                };
                assert!(
                    agent.objects.values().eq(objects.iter()),
                    "{node} has something else than is desired"
                );
            }
        }
    }

    /// What is reserved is what paths need and the worst failure brings; after any failure everything fits.
    pub(super) fn check_books(&self) {
        let circuits: Vec<_> = self.fabric.circuits.iter().filter_map(Booked::of).collect();
        let mut reserved: BTreeMap<&LinkId, u64> = BTreeMap::new();
        let mut moved: BTreeMap<&LinkId, BTreeMap<Failure<'_>, u64>> = BTreeMap::new();
        for circuit in &circuits {
            for link in &circuit.path.links {
                *reserved.entry(link).or_default() += circuit.need;
            }
            let Some(backup) = circuit.backup else { continue };
            for link in backup.links.iter().filter(|link| !circuit.path.links.contains(link)) {
                for failure in circuit.failures.difference(&circuit.of_backup) {
                    *moved.entry(link).or_default().entry(*failure).or_default() += circuit.need;
                }
            }
        }
        for view in self.fabric.topology.views() {
            let worst = moved.get(&view.id).and_then(|sums| sums.values().max().copied());
            let sum = reserved.get(&view.id).copied().unwrap_or(0) + worst.unwrap_or(0);
            assert_eq!(view.reserved.bits_per_second(), sum, "{}", view.id);
            assert!(view.capacity.is_none_or(|most| view.reserved <= most), "{} is over-booked", view.id);
        }
        let everything: BTreeSet<_> = circuits.iter().flat_map(|circuit| &circuit.failures).collect();
        for failure in everything {
            let mut crossing: BTreeMap<&LinkId, u64> = BTreeMap::new();
            for circuit in &circuits {
                let path = (!circuit.failures.contains(failure)).then_some(circuit.path);
                let way = path.or(circuit.backup.filter(|_| !circuit.of_backup.contains(failure)));
                for link in way.into_iter().flat_map(|way| &way.links) {
                    *crossing.entry(link).or_default() += circuit.need;
                }
            }
            for (link, sum) in crossing {
                let capacity = self.fabric.topology.link(link).and_then(|link| link.capacity());
                let fits = capacity.is_none_or(|capacity| sum <= capacity.bits_per_second());
                assert!(fits, "after the end of {failure:?}, {link} carries {sum} of {capacity:?}");
            }
        }
    }

    /// An end that is open stays so until it is told otherwise, heard of or not.
    fn check_gates(&self, id: CircuitId, nodes: &[NodeName]) {
        for (node, side) in [(&nodes[0], Side::Source), (&nodes[nodes.len() - 1], Side::Destination)] {
            let gate = self.endpoint(node, id, side).map(|end| end.gate);
            assert_eq!(gate, Some(Gate::Open), "{id} is active, at {node}");
        }
    }

    fn follow_both(&self, id: CircuitId, path: &Path, way: Way) {
        self.follow(id, &path.nodes, Side::Source, way);
        let back: Vec<_> = path.nodes.iter().rev().cloned().collect();
        self.follow(id, &back, Side::Destination, way);
    }

    fn follow(&self, id: CircuitId, nodes: &[NodeName], from: Side, way: Way) {
        let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
        let to = match from {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        };
        let (Some(start), Some(end)) = (self.endpoint(first, id, from), self.endpoint(last, id, to)) else {
            panic!("an end of {id} is missing")
        };
        assert_eq!(start.gate, Gate::Open);
        for (node, end) in [(first, start), (last, end)] {
            let agent = &self.agents[node];
            assert!(agent.objects.contains_key(&ObjectKey::Rules(id)), "{node} has no rules of {id}");
            let eni = agent.objects.get(&ObjectKey::Eni(end.resource.clone()));
            assert!(matches!(eni, Some(Object::Eni(_))), "{node} has no interface of {}", end.resource);
        }
        if let Leg::Local { resource, .. } = &start.leg {
            return assert_eq!(*resource, end.resource);
        }
        let Some((mut send, _)) = ways(start, way) else {
            // Its hosts are not ready; then no end knows of it.
            return assert_eq!(ways(end, way), None, "{id}: one end has a backup");
        };
        for pair in nodes.windows(2) {
            assert_eq!(send.node, pair[1]);
            let receives = |label, local, from| {
                assert_eq!((label, local, from), (send.label, send.remote, send.local), "into {}", pair[1]);
            };
            if pair[1] == *last {
                let (_, receive) = ways(end, way).expect("both ends have it");
                return receives(receive.label, receive.local, receive.from);
            }
            let next = self.hop(&pair[1], &send);
            assert_eq!((next.circuit, next.from_side), (id, from));
            receives(next.receive.label, next.receive.local, next.receive.from);
            send = next.send.clone();
        }
    }

    fn hop(&self, node: &NodeName, send: &NextHop) -> &Hop {
        match self.agents[node].objects.get(&ObjectKey::Hop(send.label)) {
            Some(Object::Hop(hop)) => hop,
            other => panic!("{node} has {other:?} under label {}", send.label),
        }
    }
}

/// How an end sends and receives one way.
fn ways(end: &Endpoint, way: Way) -> Option<(NextHop, Receive)> {
    let Leg::Tunnel { send, receive, backup, .. } = &end.leg else { panic!("not a tunnel") };
    match way {
        Way::Primary => Some((send.clone(), receive[0].clone())),
        Way::Backup => backup.as_ref().map(|backup| (backup.send.clone(), backup.receive.clone())),
    }
}

/// A circuit that needs bandwidth.
struct Booked<'a> {
    need: u64,
    path: &'a Path,
    failures: BTreeSet<Failure<'a>>,
    backup: Option<&'a Path>,
    of_backup: BTreeSet<Failure<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure<'a> {
    Host(&'a NodeName),
    Link(&'a LinkId),
}

impl<'a> Booked<'a> {
    fn of(circuit: &'a crate::circuit::Circuit) -> Option<Self> {
        let route = circuit.phase.route()?;
        let need = circuit.spec.bounds.bandwidth.bits_per_second();
        let backup = route.second().map(|lane| &lane.path);
        Some(Self {
            need,
            path: &route.path,
            failures: failures(&route.path),
            backup,
            of_backup: backup.map(failures).unwrap_or_default(),
        })
        .filter(|_| need > 0)
    }
}

/// What a path dies of: its links, and the hosts between its ends.
fn failures(path: &Path) -> BTreeSet<Failure<'_>> {
    let hosts = path.nodes[1..path.nodes.len().max(2) - 1].iter().map(Failure::Host);
    hosts.chain(path.links.iter().map(Failure::Link)).collect()
}

pub(super) fn link(one: &str, other: &str) -> LinkId {
    LinkId::new(name(one), name(other), name(&format!("{one}-{other}"))).expect("two nodes")
}

fn hash(node: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..node.len()].copy_from_slice(node.as_bytes());
    hash
}
