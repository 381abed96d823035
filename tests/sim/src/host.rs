//! One host in virtual time: the agent's core on a pretended kernel. The kernel outlives the agent.
use crate::kernel::PretendedKernel;
use agent_core::io::{Input, Output};
use agent_core::kernel_state::{EntryKey, HostSide, Kernel, LinkLayer, Step};
use agent_core::node::Node;
use agent_core::protect::{Order, Protector};
use proto_model::Timestamp;
use proto_model::desired::{Object, ObjectKey, Tell};
use proto_model::query::Answer;
use proto_model::report::{Hello, Say};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

#[derive(Debug)]
pub struct Host {
    node: Node,
    pub kernel: PretendedKernel,
    /// What the agent said and nobody has taken yet.
    pub said: VecDeque<(u64, Say)>,
    /// Next hops whose neighbours the agent wants to know.
    pub watched: BTreeSet<(IpAddr, IpAddr)>,
    /// How often counters were asked for.
    pub counts: u64,
    /// What the protector was told and nobody has taken yet.
    pub orders: VecDeque<Order>,
    pub protector: Protector,
    /// What the agent's next life is to be told.
    pub kept: BTreeMap<ObjectKey, Object>,
    batch: VecDeque<Step>,
    results: Vec<(EntryKey, Result<(), String>)>,
    /// Size of the largest batch.
    pub largest: usize,
}

impl Host {
    /// An agent starts and looks at its kernel.
    pub fn start(mut kernel: PretendedKernel, now: Timestamp) -> Self {
        let state = kernel.observe().expect("the pretended kernel can always be read");
        let mut host = Self {
            node: Node::new(),
            kernel,
            said: VecDeque::new(),
            watched: BTreeSet::new(),
            counts: 0,
            orders: VecDeque::new(),
            protector: Protector::new(),
            kept: BTreeMap::new(),
            batch: VecDeque::new(),
            results: Vec::new(),
            largest: 0,
        };
        host.handle(Input::Observed(state), now);
        host
    }

    /// The agent dies; what it was about to do is not done.
    pub fn crash(self) -> PretendedKernel {
        self.kernel
    }

    /// The agent dies and another one starts at `now`, on the same kernel and with what was kept.
    pub fn restart(self, now: Timestamp) -> Self {
        let kept = self.kept.clone();
        let mut next = Self::start(self.kernel, now);
        next.kept.clone_from(&kept);
        next.handle(Input::Remembered(kept.into_values().collect()), now);
        next
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn connect(&mut self, session: u64, now: Timestamp) {
        self.handle(Input::Connected { session, hello: hello() }, now);
    }

    pub fn tell(&mut self, session: u64, tell: Tell, now: Timestamp) {
        self.handle(Input::Told { session, tell }, now);
    }

    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.node.handle(input, now);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Perform(steps) => {
                    assert!(self.batch.is_empty() && self.results.is_empty(), "two batches at once");
                    self.largest = self.largest.max(steps.len());
                    self.batch = steps.into();
                }
                Output::Say { session, say } => self.said.push_back((session, say)),
                Output::Watch { local, remote } => {
                    assert!(self.watched.insert((local, remote)), "watched twice")
                }
                Output::Unwatch { local, remote } => {
                    assert!(self.watched.remove(&(local, remote)), "never watched")
                }
                Output::Remember { key, object: Some(object) } => {
                    self.kept.insert(key, object);
                }
                Output::Remember { key, object: None } => {
                    self.kept.remove(&key);
                }
                Output::Protect(orders) => self.orders.extend(orders),
                Output::Count => self.counts += 1,
                // No programs run here.
                Output::Rehearse { session, query, .. } => {
                    let answer = Answer::Unable("a pretended host has no programs".into());
                    self.said.push_back((session, Say::Answer { query, answer }));
                }
            }
        }
    }

    /// The next step of the batch under way, if there is one.
    pub fn next_step(&self) -> Option<&Step> {
        self.batch.front()
    }

    /// Performs one step; after the last of a batch the agent is told the results.
    pub fn step(&mut self, now: Timestamp) -> bool {
        let Some(step) = self.batch.pop_front() else { return false };
        let result = self.kernel.perform(&step);
        self.results.push((step.key(), result));
        if self.batch.is_empty() {
            let results = std::mem::take(&mut self.results);
            for host in self.kernel.made_anew() {
                self.handle(Input::MadeAnew(host), now);
            }
            self.handle(Input::Performed(results), now);
        }
        true
    }

    /// Performs everything that the agent asks for without waiting; returns how many steps it were.
    pub fn settle(&mut self, now: Timestamp) -> usize {
        let mut steps = 0;
        while self.step(now) {
            steps += 1;
            assert!(steps < 2_000_000, "the agent never comes to rest");
        }
        steps
    }

    /// Lets time pass up to `until`, with all deadlines on the way.
    pub fn pass(&mut self, until: Timestamp) -> usize {
        let mut steps = 0;
        while let Some(at) = self.node.next_deadline().filter(|at| *at <= until) {
            self.handle(Input::Tick, at);
            steps += self.settle(at);
        }
        steps
    }

    pub fn vanish(&mut self, host: HostSide, now: Timestamp) {
        self.handle(Input::Vanished(host), now);
    }

    /// Every neighbour that is asked for answers.
    pub fn resolve_all(&mut self, now: Timestamp) {
        self.resolve_to([2, 0, 0, 0, 0, 9], now);
    }

    /// Every neighbour that is asked for is found at `neighbour`.
    pub fn resolve_to(&mut self, neighbour: [u8; 6], now: Timestamp) {
        for (local, remote) in self.watched.clone() {
            let link = Some(LinkLayer { ifindex: 2, source: [2, 0, 0, 0, 0, 1], neighbour, longest: 0 });
            self.handle(Input::Neighbour { local, remote, link }, now);
        }
    }

    /// Reports in the order in which they were said.
    pub fn take_said(&mut self) -> Vec<Say> {
        self.said.drain(..).map(|(_, say)| say).collect()
    }
}

pub fn hello() -> Hello {
    Hello {
        version: "sim".into(),
        kernel: "pretended".into(),
        boot: "one".into(),
        underlays: Vec::new(),
        datapath: Vec::new(),
        seal_keys: Vec::new(),
    }
}
