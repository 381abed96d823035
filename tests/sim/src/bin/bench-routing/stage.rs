//! A controller with its real core, and agents that do at once what they are told.
use crate::network::{name, node};
use controller_core::fabric::{Fabric, Settings};
use controller_core::io::{Input, Output, Session, Ticket};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::desired::Tell;
use proto_model::report::{Hello, Report, Say};
use proto_model::request::{Request, Response};
use proto_model::resource::{Attachment, Form, Metadata};
use proto_model::topology::Underlay;
use proto_model::{Bandwidth, Generation, NodeName, Refusal, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct Stage {
    pub(crate) fabric: Fabric,
    pub(crate) now: Timestamp,
    sessions: BTreeMap<NodeName, Session>,
    pub(crate) underlays: BTreeMap<NodeName, Vec<Underlay>>,
    replies: BTreeMap<Ticket, Result<Response, Refusal>>,
    count: u64,
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let now = Timestamp(1_800_000_000_000_000_000);
        let fabric = Fabric::restore(settings, [], now).map_err(|error| error.to_string())?;
        let (sessions, underlays, replies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { fabric, now, sessions, underlays, replies, count: 0 })
    }

    /// A network of its own between two hosts that are not enrolled yet.
    pub(crate) fn wire(&mut self, at: usize, a: usize, b: usize) {
        for (end, host) in [(a, 1), (b, 2)] {
            let underlay = Underlay {
                interface: format!("eth{at}"),
                network: name(&format!("l{at}")),
                addresses: vec![[10, (at >> 8) as u8, at as u8, host].into()],
                mtu: 1500,
                speed: Some(Bandwidth::mbit(100_000)),
                shape: true,
            };
            self.underlays.entry(node(end)).or_default().push(underlay);
        }
    }

    pub(crate) fn enrol(&mut self, host: usize, resources: u64) -> Result<(), String> {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(host as u64 + 1).to_be_bytes());
        let expires = self.now.plus(Duration::from_secs(3600));
        self.ask(Request::CreateToken { node: node(host), hash, expires })?;
        self.ask(Request::Enrol { node: node(host), hash, key: Fingerprint(hash) })?;
        self.connect(&node(host));
        for number in 0..resources {
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

    pub(crate) fn connect(&mut self, node: &NodeName) {
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

    pub(crate) fn disconnect(&mut self, node: &NodeName) {
        if let Some(session) = self.sessions.remove(node) {
            self.input(Input::AgentGone { node: node.clone(), session });
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<Response, String> {
        self.count += 1;
        let ticket = Ticket(self.count);
        let actor = Actor { name: name("bench"), role: Role::Admin };
        self.input(Input::Ask { ticket, actor, request });
        let answer = self.replies.remove(&ticket).ok_or("a question without an answer")?;
        answer.map_err(|refusal| refusal.to_string())
    }

    pub(crate) fn say(&mut self, node: &NodeName, say: Say) {
        let Some(session) = self.sessions.get(node).copied() else { return };
        self.input(Input::AgentSaid { node: node.clone(), session, key: Self::key(node), say });
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
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
