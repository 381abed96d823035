//! A small world for tests: agents that do as they are told, a store that remembers, a client that asks.
use super::{Fabric, Settings};
use crate::io::{Input, Output, Session, Ticket, Write};
use crate::record::{Record, RecordKey};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::desired::{Change, Object, ObjectKey, Tell};
use proto_model::intent::Bounds;
use proto_model::query::{QueryId, Question};
use proto_model::report::{Failure, Hello, Report, Say};
use proto_model::request::{CircuitRef, CircuitRequest, CircuitView, Event, Request, Response};
use proto_model::resource::{Attachment, Form, Metadata};
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, CircuitId, Generation, Latency, NodeName, Refusal, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Questions that it has not answered.
    pub(super) asked: VecDeque<(QueryId, Question)>,
    whole: bool,
}

pub(super) struct World {
    pub(super) fabric: Fabric,
    pub(super) now: Timestamp,
    pub(super) agents: BTreeMap<NodeName, Agent>,
    pub(super) store: BTreeMap<RecordKey, Record>,
    pub(super) events: Vec<Event>,
    pub(super) hang_ups: Vec<(NodeName, Session, String)>,
    /// Followed packets that whoever follows would see.
    pub(super) traced: Vec<(NodeName, CircuitId)>,
    pub(super) underlays: BTreeMap<NodeName, Vec<Underlay>>,
    /// Announced when they connect.
    pub(super) seal_keys: BTreeMap<NodeName, Vec<proto_model::SealKey>>,
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
        until: None,
        starts: None,
    }
}

impl Agent {
    /// Has nothing of any circuit.
    pub(super) fn is_bare(&self) -> bool {
        self.objects.keys().all(|key| matches!(key, ObjectKey::Peer(_) | ObjectKey::Policy))
    }

    pub(super) fn is_heard(&self) -> bool {
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
            traced: Vec::new(),
            underlays: BTreeMap::new(),
            seal_keys: BTreeMap::new(),
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
                shape: false,
            });
        }
        for end in [one, other] {
            self.expect(end);
        }
        let values = LinkValues { rtt: Some(Latency::from_millis(millis)), ..LinkValues::default() };
        self.ask(Request::SetLink { link: link(one, other), values }).expect("both are known");
    }

    /// Plans an interface in the one network that all share.
    pub(super) fn attach(&mut self, node: &str, host: u8, mbit: u64, shape: bool) {
        let underlay = Underlay {
            interface: "eth0".into(),
            network: name("lan"),
            addresses: vec![[10, 0, 0, host].into()],
            mtu: 1500,
            speed: Some(Bandwidth::mbit(mbit)),
            shape,
        };
        self.underlays.insert(name(node), vec![underlay]);
        self.expect(node);
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
            seal_keys: self.seal_keys.get(&node).cloned().unwrap_or_default(),
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
                | Output::Traced { .. }
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
                Output::Traced { node, packets } => {
                    self.traced.extend(packets.iter().map(|packet| (node.clone(), packet.circuit)));
                }
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
            Tell::Ask { query, question } => {
                agent.asked.push_back((query, question));
                return;
            }
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
        let failure = |key: &ObjectKey| Failure { key: key.clone(), why: "EPERM".into() };
        let report = Report {
            generation: agent.generation,
            whole,
            failed: failed.map(failure).collect(),
            recovered: agent.failing.difference(&failing).cloned().collect(),
        };
        agent.failing = failing;
        Some(Input::AgentSaid { node, session, key, say: Say::Report(report) })
    }

    /// A question that is answered later.
    pub(super) fn wonder(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let actor = Actor { name: name("tester"), role: Role::Viewer };
        self.input(Input::Ask { ticket, actor, request });
        ticket
    }

    pub(super) fn take_reply(&mut self, ticket: Ticket) -> Option<Result<Response, Refusal>> {
        self.replies.remove(&ticket)
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
}

pub(super) fn link(one: &str, other: &str) -> LinkId {
    LinkId::new(name(one), name(other), name(&format!("{one}-{other}"))).expect("two nodes")
}

fn hash(node: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..node.len()].copy_from_slice(node.as_bytes());
    hash
}
