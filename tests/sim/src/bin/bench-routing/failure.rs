//! A link fails under ten thousand circuits: how long the real core takes until all of them are planned anew.
use crate::Options;
use crate::network::{name, node, pairs};
use crate::report::Row;
use controller_core::fabric::{Fabric, Settings};
use controller_core::io::{Input, Output, Session, Ticket};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::desired::Tell;
use proto_model::intent::Bounds;
use proto_model::report::{Hello, Report, Say};
use proto_model::request::{CircuitRequest, Request, Response};
use proto_model::resource::{Attachment, Form, Metadata};
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Bandwidth, Generation, Latency, Name, NodeName, Refusal, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

const HOSTS: usize = 60;
const DEGREE: usize = 6;
/// On each host.
const RESOURCES: u64 = 20;

/// A controller, and agents that do at once what they are told.
struct Stage {
    fabric: Fabric,
    now: Timestamp,
    sessions: BTreeMap<NodeName, Session>,
    underlays: BTreeMap<NodeName, Vec<Underlay>>,
    replies: BTreeMap<Ticket, Result<Response, Refusal>>,
    /// Pairs of resources with a circuit.
    joined: BTreeSet<(String, String)>,
    count: u64,
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let circuits = if options.quick { 500 } else { 10_000 };
    let repeats = if options.quick { 1 } else { 5 };
    let mut chance = Chance::new(2);
    let mut stage = Stage::up(&mut chance)?;
    for number in 0..circuits {
        stage.create(number, &mut chance)?;
    }
    let mut rows = Vec::new();
    let (mut times, mut most, mut least) = (Vec::new(), 0, usize::MAX);
    for _ in 0..repeats {
        let (link, crossing) = stage.busiest()?;
        (most, least) = (most.max(crossing), least.min(crossing));
        let network = link.network().clone();
        let begun = Instant::now();
        let (end, _) = link.ends();
        let end = end.clone();
        stage.lose(&end, &network);
        times.push(begun.elapsed().as_secs_f64());
        let left = stage.crossing()?.get(&link).copied().unwrap_or_default();
        if left > 0 {
            return Err(format!("{left} circuits still cross {link}"));
        }
    }
    let what = format!(
        "the busiest link of {HOSTS} hosts vanishes under {circuits} protected circuits, until all are planned anew, s (must be ≤ 1)"
    );
    rows.push(Row::of(what, times, format!("{repeats} links in turn, {least} to {most} circuits over each")));
    let (host, crossing) = stage.busiest_host()?;
    stage.disconnect(&host);
    let begun = Instant::now();
    stage.pass(Duration::from_secs(31));
    let what = "the busiest transit host of them is given up, s".to_owned();
    rows.push(Row::of(what, vec![begun.elapsed().as_secs_f64()], format!("{crossing} circuits over it")));
    Ok(rows)
}

impl Stage {
    fn up(chance: &mut Chance) -> Result<Self, String> {
        let settings = Settings::default();
        let now = Timestamp(1_800_000_000_000_000_000);
        let fabric = Fabric::restore(settings, [], now).map_err(|error| error.to_string())?;
        let (sessions, underlays, replies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut stage = Self { fabric, now, sessions, underlays, replies, joined: BTreeSet::new(), count: 0 };
        let links = pairs(HOSTS, DEGREE, chance);
        for (at, (a, b)) in links.iter().enumerate() {
            for (end, host) in [(*a, 1), (*b, 2)] {
                let underlay = Underlay {
                    interface: format!("eth{at}"),
                    network: name(&format!("l{at}")),
                    addresses: vec![[10, (at >> 8) as u8, at as u8, host].into()],
                    mtu: 1500,
                    speed: Some(Bandwidth::mbit(100_000)),
                    shape: true,
                };
                stage.underlays.entry(node(end)).or_default().push(underlay);
            }
        }
        for host in 0..HOSTS {
            stage.enrol(host)?;
        }
        for (at, (a, b)) in links.iter().enumerate() {
            let Some(link) = LinkId::new(node(*a), node(*b), name(&format!("l{at}"))) else { continue };
            let rtt = Some(Latency::from_micros(500 + chance.below(20_000)));
            stage.ask(Request::SetLink { link, values: LinkValues { rtt, ..LinkValues::default() } })?;
        }
        Ok(stage)
    }

    fn enrol(&mut self, host: usize) -> Result<(), String> {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(host as u64 + 1).to_be_bytes());
        let expires = self.now.plus(Duration::from_secs(3600));
        self.ask(Request::CreateToken { node: node(host), hash, expires })?;
        self.ask(Request::Enrol { node: node(host), hash, key: Fingerprint(hash) })?;
        self.connect(&node(host));
        for number in 0..RESOURCES {
            let metadata = Metadata {
                form: Form::Container,
                node: node(host),
                attachment: Attachment::Named(name(&format!("w{number}"))),
                interface: None,
                addresses: Vec::new(),
                labels: BTreeMap::new(),
                services: Vec::new(),
            };
            let id = name(&format!("r{host}-{number}"));
            self.ask(Request::RegisterResource { id, metadata, intents: Vec::new(), lease: None })?;
        }
        Ok(())
    }

    fn key(node: &NodeName) -> Fingerprint {
        let mut hash = [0; 32];
        let host = node.as_str()[1..].parse::<u64>().unwrap_or_default();
        hash[..8].copy_from_slice(&(host + 1).to_be_bytes());
        Fingerprint(hash)
    }

    fn connect(&mut self, node: &NodeName) {
        self.count += 1;
        self.sessions.insert(node.clone(), Session(self.count));
        let hello = Hello {
            version: "0".into(),
            kernel: "6".into(),
            boot: "x".into(),
            underlays: self.underlays.get(node).cloned().unwrap_or_default(),
            datapath: Vec::new(),
            seal_keys: Vec::new(),
        };
        self.say(node, Say::Hello(hello));
    }

    fn disconnect(&mut self, node: &NodeName) {
        if let Some(session) = self.sessions.remove(node) {
            self.input(Input::AgentGone { node: node.clone(), session });
        }
    }

    /// The host's interface into that network is gone.
    fn lose(&mut self, node: &NodeName, network: &Name) {
        self.disconnect(node);
        if let Some(underlays) = self.underlays.get_mut(node) {
            underlays.retain(|underlay| underlay.network != *network);
        }
        self.connect(node);
        self.pass(Duration::from_millis(1));
    }

    fn create(&mut self, number: u64, chance: &mut Chance) -> Result<(), String> {
        let (from, to) = self.draw_pair(chance);
        let circuit = CircuitRequest {
            name: Some(name(&format!("k{number}"))),
            source: name(&from),
            destination: name(&to),
            bounds: Bounds { bandwidth: Bandwidth::mbit(1 + chance.below(9)), ..Bounds::default() },
            priority: chance.below(4) as u8,
            pinned_path: None,
            rules: Vec::new(),
            until: None,
        };
        self.ask(Request::CreateCircuit { circuit, idempotency_key: None }).map(drop)
    }

    /// Resources of two hosts that have no circuit yet.
    fn draw_pair(&mut self, chance: &mut Chance) -> (String, String) {
        loop {
            let from = chance.below(HOSTS as u64);
            let to = (from + 1 + chance.below(HOSTS as u64 - 1)) % HOSTS as u64;
            let mut resource = |host| format!("r{host}-{}", chance.below(RESOURCES));
            let pair = (resource(from), resource(to));
            let turned = (pair.1.clone(), pair.0.clone());
            if !self.joined.contains(&turned) && self.joined.insert(pair.clone()) {
                return pair;
            }
        }
    }

    fn crossing(&mut self) -> Result<BTreeMap<LinkId, usize>, String> {
        let mut crossing = BTreeMap::new();
        for path in self.paths()? {
            path.links.into_iter().for_each(|link| *crossing.entry(link).or_default() += 1);
        }
        Ok(crossing)
    }

    fn paths(&mut self) -> Result<Vec<proto_model::circuit::Path>, String> {
        let Response::Circuits(all) = self.ask(Request::ListCircuits)? else { return Ok(Vec::new()) };
        Ok(all.into_iter().filter_map(|view| view.circuit.path).collect())
    }

    fn busiest(&mut self) -> Result<(LinkId, usize), String> {
        let most = self.crossing()?.into_iter().max_by_key(|(_, circuits)| *circuits);
        most.ok_or_else(|| "no circuit crosses a link".to_owned())
    }

    fn busiest_host(&mut self) -> Result<(NodeName, usize), String> {
        let mut crossing: BTreeMap<NodeName, usize> = BTreeMap::new();
        for path in self.paths()? {
            let inner = path.nodes.get(1..path.nodes.len() - 1).unwrap_or_default();
            inner.iter().for_each(|node| *crossing.entry(node.clone()).or_default() += 1);
        }
        let most = crossing.into_iter().max_by_key(|(_, circuits)| *circuits);
        most.ok_or_else(|| "no circuit crosses a host".to_owned())
    }

    fn ask(&mut self, request: Request) -> Result<Response, String> {
        self.count += 1;
        let ticket = Ticket(self.count);
        let actor = Actor { name: name("bench"), role: Role::Admin };
        self.input(Input::Ask { ticket, actor, request });
        let answer = self.replies.remove(&ticket).ok_or("a question without an answer")?;
        answer.map_err(|refusal| refusal.to_string())
    }

    fn say(&mut self, node: &NodeName, say: Say) {
        let Some(session) = self.sessions.get(node).copied() else { return };
        self.input(Input::AgentSaid { node: node.clone(), session, key: Self::key(node), say });
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now.plus(duration);
        while let Some(due) = self.fabric.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = until;
    }

    fn input(&mut self, input: Input) {
        self.fabric.handle(input, self.now);
        while let Some(output) = self.fabric.poll_output() {
            match output {
                Output::Reply { ticket, answer } => drop(self.replies.insert(ticket, answer)),
                Output::Tell { node, session, tell } => self.told(&node, session, &tell),
                Output::Write(_)
                | Output::HangUp { .. }
                | Output::Announce(_)
                | Output::Traced { .. }
                | Output::Drops { .. } => {}
            }
        }
    }

    fn told(&mut self, node: &NodeName, session: Session, tell: &Tell) {
        if self.sessions.get(node) != Some(&session) {
            return;
        }
        let (generation, whole): (Generation, bool) = match tell {
            Tell::Whole { generation, .. } => (*generation, true),
            Tell::Changes { to, .. } => (*to, false),
            Tell::Ask { .. } => return,
        };
        let report = Report { generation, whole, failed: Vec::new(), recovered: Vec::new() };
        let (node, key) = (node.clone(), Self::key(node));
        self.fabric.handle(Input::AgentSaid { node, session, key, say: Say::Report(report) }, self.now);
    }
}
