//! A whole fabric in virtual time: one controller with its store, agents on pretended kernels, and a network between
//! them that delays, breaks and forgets.
mod check;
mod client;
mod controller;
mod mischief;
mod protection;
pub mod walk;

use crate::chance::Chance;
use crate::host::{Host, hello};
use crate::kernel::PretendedKernel;
use crate::topology::{Family, Topology, Workload};
use agent_core::io::Input as AgentInput;
use agent_core::kernel_state::{HostSide, LinkLayer};
use agent_core::protect::{Answer, Defect, Event as Happened};
use client::Client;
use controller_core::fabric::{Fabric, Settings};
use controller_core::io::{Input, Session, Ticket};
use controller_core::record::{Record, RecordKey};
use mischief::Nuisance;
use proto_model::access::Fingerprint;
use proto_model::desired::Tell;
use proto_model::report::{Say, Way};
use proto_model::request::{Request, Response};
use proto_model::topology::Underlay;
use proto_model::{NodeName, Refusal, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub use mischief::Mood;

/// When it all begins; the controller's clock is the Unix epoch's.
const START: Timestamp = Timestamp(1_800_000_000_000_000_000);
/// A client that got no answer asks again after so long.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct World {
    now: Timestamp,
    chance: Chance,
    mood: Mood,
    topology: Topology,
    sites: BTreeMap<NodeName, Site>,
    /// None: it crashed.
    controller: Option<Fabric>,
    store: BTreeMap<RecordKey, Record>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    connections: u64,
    /// By connection and direction: when the last message arrives, because each stream keeps its order.
    arrivals: BTreeMap<(u64, bool), Timestamp>,
    client: Client,
    /// Who has which underlay address.
    addresses: BTreeMap<IpAddr, NodeName>,
    /// A kernel changed since the last look at all of them.
    touched: bool,
    /// Hosts at which something went wrong that no agent can help.
    disturbed: BTreeSet<NodeName>,
    /// From the first of them to the second nothing passes.
    cut: BTreeSet<(NodeName, NodeName)>,
    turns: Vec<(NodeName, Way, Timestamp)>,
    /// Whether every packet of an active circuit has to arrive.
    watching: bool,
    /// Probes that each host answered, by label.
    reflected: BTreeMap<(NodeName, u32), u32>,
    /// What has been handled; printed with a failure.
    pub events: u64,
    pub log: Vec<String>,
}

/// A host with all that is around its agent.
#[derive(Debug)]
struct Site {
    /// The agent, or the kernel without one.
    life: Life,
    underlays: Vec<Underlay>,
    connection: Option<u64>,
    /// A step, or a look at a neighbour, is on its way.
    stepping: bool,
    asked: BTreeSet<(IpAddr, IpAddr)>,
}

#[derive(Debug)]
enum Life {
    Alive(Host),
    Dead(PretendedKernel),
    /// Only while one becomes the other.
    Between,
}

#[derive(Debug)]
enum Event {
    Connect(NodeName),
    ToController { node: NodeName, connection: u64, say: Say },
    ToAgent { node: NodeName, connection: u64, tell: Tell },
    ControllerLost { node: NodeName, connection: u64 },
    AgentLost { node: NodeName, connection: u64 },
    Step(NodeName),
    Neighbour { node: NodeName, pair: (IpAddr, IpAddr) },
    Revive(NodeName),
    Restore,
    Vanished { node: NodeName, side: HostSide },
    Nuisance,
    Undo(Nuisance),
    Ask,
    Answer { ticket: Ticket, answer: Result<Response, Refusal> },
    GiveUp(Ticket),
    Probed { node: NodeName, answer: Answer },
    Defect { node: NodeName, defect: Defect },
}

impl Site {
    fn kernel(&self) -> &PretendedKernel {
        match &self.life {
            Life::Alive(host) => &host.kernel,
            Life::Dead(kernel) => kernel,
            Life::Between => unreachable!("never seen from outside"),
        }
    }

    /// Whoever changes it says so with `touched`.
    fn kernel_mut(&mut self) -> &mut PretendedKernel {
        match &mut self.life {
            Life::Alive(host) => &mut host.kernel,
            Life::Dead(kernel) => kernel,
            Life::Between => unreachable!("never seen from outside"),
        }
    }

    fn host(&mut self) -> Option<&mut Host> {
        match &mut self.life {
            Life::Alive(host) => Some(host),
            Life::Dead(_) | Life::Between => None,
        }
    }
}

impl World {
    /// All hosts enrolled, all links told, all agents about to connect.
    pub fn new(mut topology: Topology, seed: u64, mood: Mood) -> Self {
        populate(&mut topology, mood.population);
        let controller = Fabric::restore(Settings::default(), [], START).expect("nothing is consistent");
        let mut world = Self {
            now: START,
            chance: Chance::new(seed),
            mood,
            sites: BTreeMap::new(),
            controller: Some(controller),
            store: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            connections: 0,
            arrivals: BTreeMap::new(),
            client: Client::default(),
            addresses: BTreeMap::new(),
            touched: true,
            disturbed: BTreeSet::new(),
            cut: BTreeSet::new(),
            turns: Vec::new(),
            watching: false,
            reflected: BTreeMap::new(),
            events: 0,
            log: Vec::new(),
            topology,
        };
        world.found();
        world
    }

    fn found(&mut self) {
        for node in self.topology.nodes.clone() {
            let mut hash = [0; 32];
            hash[..node.as_str().len().min(32)]
                .copy_from_slice(&node.as_str().as_bytes()[..node.as_str().len().min(32)]);
            let expires = self.now.plus(Duration::from_secs(3_600));
            self.query(Request::CreateToken { node: node.clone(), hash, expires }).expect("a new node");
            self.query(Request::Enrol { node: node.clone(), hash, key: Fingerprint::default() })
                .expect("a fresh token");
            let mut kernel = PretendedKernel::new();
            for workload in self.topology.workloads.iter().filter(|w| w.node == node) {
                kernel.add_namespace(&client::attachment(&workload.name));
            }
            let site = Site {
                life: Life::Alive(Host::start(kernel, self.now)),
                underlays: underlays(&self.topology, &node),
                connection: None,
                stepping: false,
                asked: BTreeSet::new(),
            };
            let own = site.underlays.iter().flat_map(|underlay| &underlay.addresses);
            self.addresses.extend(own.map(|address| (*address, node.clone())));
            self.sites.insert(node.clone(), site);
            self.soon(20, Event::Connect(node));
        }
        for link in self.topology.links.clone() {
            let id = link.id().expect("two ends");
            self.query(Request::SetLink { link: id, values: link.values() }).expect("both are known");
        }
        self.soon(100, Event::Ask);
        if self.mood.nuisances > 0 {
            self.soon(500, Event::Nuisance);
        }
    }

    /// Something that happens within so many milliseconds.
    fn soon(&mut self, millis: u64, event: Event) {
        let delay = Duration::from_micros(1 + self.chance.below(millis * 1_000));
        self.at(self.now.plus(delay), event);
    }

    fn at(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// Runs for so long, checking after each event what must always hold.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn run(&mut self, duration: Duration) {
        let until = self.now.plus(duration);
        while let Some(at) = self.next_time().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.events += 1;
            assert!(self.events < 3_000_000, "the world never comes to rest");
            self.turn(at);
            if std::mem::take(&mut self.touched) {
                self.check_always();
                self.check_sent();
            }
        }
        self.now = until;
    }

    fn next_time(&self) -> Option<Timestamp> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let controller = self.controller.as_ref().and_then(Fabric::next_deadline);
        let agents = self.sites.values().filter_map(|site| match &site.life {
            Life::Alive(host) => host.node().next_deadline().into_iter().chain(self.probes_due(host)).min(),
            Life::Dead(_) | Life::Between => None,
        });
        agents.chain(queued).chain(controller).min()
    }

    fn turn(&mut self, at: Timestamp) {
        if self.queue.keys().next().is_some_and(|(queued, _)| *queued <= at) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.happen(event);
            }
            return;
        }
        if self.controller.as_ref().and_then(Fabric::next_deadline).is_some_and(|due| due <= at) {
            return self.controller_handles(Input::Tick);
        }
        let due = self.sites.iter().find(|(_, site)| match &site.life {
            Life::Alive(host) => host.node().next_deadline().is_some_and(|due| due <= at),
            Life::Dead(_) | Life::Between => false,
        });
        if let Some(node) = due.map(|(node, _)| node.clone()) {
            return self.agent_handles(&node, AgentInput::Tick);
        }
        self.probe_due(at);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.mood.talkative {
            let line = format!("{:>9.3} s  {}", self.now.since(START).as_secs_f64(), what());
            self.log.push(line);
        }
    }

    fn happen(&mut self, event: Event) {
        self.note(|| format!("{event:?}").chars().take(900).collect());
        match event {
            Event::Connect(node) => self.connect(&node),
            Event::ToController { node, connection, say } => {
                let session = Session(connection);
                self.controller_handles(Input::AgentSaid { node, session, key: Fingerprint::default(), say });
            }
            Event::ToAgent { node, connection, tell } => {
                if self.sites[&node].connection == Some(connection) {
                    self.agent_handles(&node, AgentInput::Told { session: connection, tell });
                }
            }
            Event::ControllerLost { node, connection } => {
                self.controller_handles(Input::AgentGone { node, session: Session(connection) });
            }
            Event::AgentLost { node, connection } => {
                self.agent_handles(&node, AgentInput::Disconnected { session: connection });
            }
            Event::Step(node) => self.step(&node),
            Event::Neighbour { node, pair } => self.neighbour(&node, pair),
            Event::Revive(node) => self.revive(&node),
            Event::Restore => self.restore(),
            Event::Vanished { node, side } => self.agent_handles(&node, AgentInput::Vanished(side)),
            Event::Nuisance => self.nuisance(),
            Event::Undo(nuisance) => self.undo(nuisance),
            Event::Ask => self.client_asks(),
            Event::Answer { ticket, answer } => self.client_hears(ticket, answer),
            Event::GiveUp(ticket) => self.client_gives_up(ticket),
            Event::Probed { node, answer } => self.protect(&node, Happened::Answered(answer)),
            Event::Defect { node, defect } => self.protect(&node, Happened::Defect(defect)),
        }
    }

    fn connect(&mut self, node: &NodeName) {
        let site = &self.sites[node];
        if self.controller.is_none() || matches!(site.life, Life::Dead(_)) {
            return self.soon(1_000, Event::Connect(node.clone()));
        }
        if site.connection.is_some() {
            return;
        }
        self.connections += 1;
        let session = self.connections;
        let Some(site) = self.sites.get_mut(node) else { return };
        site.connection = Some(session);
        let mut hello = hello();
        hello.underlays.clone_from(&site.underlays);
        self.agent_handles(node, AgentInput::Connected { session, hello });
    }

    /// A stream ends; what is under way on it is lost, and each side learns of it in its own time.
    fn hang_up(&mut self, node: &NodeName) {
        let Some(connection) = self.sites.get_mut(node).and_then(|site| site.connection.take()) else {
            return;
        };
        self.queue.retain(|_, event| match event {
            Event::ToController { connection: of, .. } | Event::ToAgent { connection: of, .. } => {
                *of != connection
            }
            _ => true,
        });
        self.soon(2_000, Event::ControllerLost { node: node.clone(), connection });
        self.soon(500, Event::AgentLost { node: node.clone(), connection });
        self.soon(3_000, Event::Connect(node.clone()));
    }

    fn agent_handles(&mut self, node: &NodeName, input: AgentInput) {
        let now = self.now;
        if let Some(host) = self.sites.get_mut(node).and_then(Site::host) {
            host.handle(input, now);
        }
        self.flush(node);
    }

    fn step(&mut self, node: &NodeName) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(node) else { return };
        site.stepping = false;
        let Some(host) = site.host() else { return };
        let step = host.next_step().cloned();
        host.step(now);
        self.touched = true;
        if let Some(step) = step {
            self.note(|| format!("  {node} performed {:?}", step.key()));
            self.check_step(node, &step);
        }
        self.flush(node);
    }

    /// Sends what an agent said, and lets its kernel go on.
    fn flush(&mut self, node: &NodeName) {
        let Some(site) = self.sites.get_mut(node) else { return };
        let Life::Alive(host) = &mut site.life else { return };
        let orders: Vec<_> = host.orders.drain(..).collect();
        let said: Vec<(u64, Say)> = host.said.drain(..).collect();
        let step = host.next_step().is_some() && !site.stepping;
        site.stepping |= step;
        let new: Vec<_> = host.watched.difference(&site.asked).copied().collect();
        site.asked.clone_from(&host.watched);
        let connection = site.connection;
        for (session, say) in said {
            if connection == Some(session) {
                let event = Event::ToController { node: node.clone(), connection: session, say };
                self.send((session, true), event);
            }
        }
        for order in orders {
            self.protect(node, Happened::Ordered(order));
        }
        for pair in new {
            self.soon(300, Event::Neighbour { node: node.clone(), pair });
        }
        if step {
            self.soon(3, Event::Step(node.clone()));
        }
    }

    /// In the order of its stream, sometimes slowly.
    fn send(&mut self, stream: (u64, bool), event: Event) {
        let slow = if self.chance.happens(self.mood.slow_per_mille) { 3_000_000 } else { 20_000 };
        let delay = Duration::from_micros(50 + self.chance.below(slow));
        let last = self.arrivals.get(&stream).copied().unwrap_or_default();
        let at = self.now.plus(delay).max(last);
        self.arrivals.insert(stream, at);
        self.at(at, event);
    }

    fn neighbour(&mut self, node: &NodeName, (local, remote): (IpAddr, IpAddr)) {
        let watched = self
            .sites
            .get_mut(node)
            .and_then(Site::host)
            .is_some_and(|host| host.watched.contains(&(local, remote)));
        if watched {
            let link = Some(LinkLayer {
                ifindex: 2,
                source: [2, 0, 0, 0, 0, 1],
                neighbour: [2, 0, 0, 0, 0, 9],
                longest: 0,
            });
            self.agent_handles(node, AgentInput::Neighbour { local, remote, link });
        }
    }

    fn revive(&mut self, node: &NodeName) {
        let now = self.now;
        self.touched = true;
        let Some(site) = self.sites.get_mut(node) else { return };
        match std::mem::replace(&mut site.life, Life::Between) {
            Life::Dead(kernel) => site.life = Life::Alive(Host::start(kernel, now)),
            other => site.life = other,
        }
        site.asked.clear();
        site.stepping = false;
        self.soon(300, Event::Connect(node.clone()));
    }

    /// Ends the run with everything that is needed to repeat it.
    fn fail(&self, what: &str) -> ! {
        for line in &self.log {
            println!("{line}");
        }
        panic!("at {:.3} s: {what}", self.now.since(START).as_secs_f64());
    }
}

/// Workloads beside those of the file, so many on each host that there are `population` in all.
fn populate(topology: &mut Topology, population: usize) {
    for (i, node) in topology.nodes.iter().cycle().enumerate() {
        if topology.workloads.len() >= population {
            break;
        }
        topology.workloads.push(Workload {
            name: format!("extra-{i}").parse().expect("a name"),
            node: node.clone(),
            private: None,
            services: Vec::new(),
            labels: BTreeMap::new(),
        });
    }
}

/// Link number `i` has the prefixes 10.9.i.0/24 and `fd00:9:i::/64`.
fn underlays(topology: &Topology, node: &NodeName) -> Vec<Underlay> {
    let mut underlays = Vec::new();
    for (i, link) in topology.links.iter().enumerate() {
        let Some(end) = link.ends.iter().position(|end| end == node) else { continue };
        let (i, end) = (i as u8, end as u8 + 1);
        let v4 = IpAddr::from([10, 9, i, end]);
        let v6 = IpAddr::from([0xfd00, 9, u16::from(i), 0, 0, 0, 0, u16::from(end)]);
        let addresses = match link.family {
            Family::Ipv4 => vec![v4],
            Family::Ipv6 => vec![v6],
            Family::Both => vec![v4, v6],
        };
        underlays.push(Underlay {
            interface: format!("eth{}", underlays.len()),
            network: link.network.clone(),
            addresses,
            mtu: link.mtu,
            speed: None,
            // Wherever a reservation can be.
            shape: link.rate.is_some(),
        });
    }
    underlays
}
