//! Those who watch: each with a bounded queue; who is too slow is told to begin again, or how much was missed.
use super::handle::Answer;
use proto_model::report::DropEvent;
use proto_model::request::{Event, Request, Response};
use proto_model::trace::Traced;
use proto_model::{CircuitId, NodeName};
use proto_wire::convert::requests::Interest;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Events that wait for one watcher.
pub const QUEUE: usize = 4096;
/// Drop events that wait for one watcher.
const DROP_QUEUE: usize = 1024;

/// What a watcher is fed with.
#[derive(Debug)]
pub enum Fed {
    /// Of one kind, all that there is.
    Snapshot(Vec<Event>),
    CaughtUp,
    Event(Arc<Event>),
}

/// The engine's end of a watch.
#[derive(Clone, Debug)]
pub struct Feed {
    queue: mpsc::Sender<Fed>,
    too_slow: Arc<AtomicBool>,
}

impl Feed {
    /// The flag is set before the queue ends when the watcher was too slow.
    pub fn new() -> (Self, mpsc::Receiver<Fed>, Arc<AtomicBool>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let too_slow = Arc::new(AtomicBool::new(false));
        (Self { queue, too_slow: Arc::clone(&too_slow) }, receiver, too_slow)
    }

    /// False when the watch has ended.
    fn push(&self, fed: Fed) -> bool {
        match self.queue.try_send(fed) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.too_slow.store(true, Ordering::Release);
                false
            }
        }
    }
}

/// The engine's end of a watch of drops.
#[derive(Debug)]
pub struct DropFeed {
    /// None: all.
    pub circuit: Option<CircuitId>,
    /// None: all.
    pub node: Option<NodeName>,
    queue: mpsc::Sender<(NodeName, DropEvent, u64)>,
    missed: u64,
}

impl DropFeed {
    /// What is received: node, drop, and how many were missed before it.
    pub fn new(
        circuit: Option<CircuitId>,
        node: Option<NodeName>,
    ) -> (Self, mpsc::Receiver<(NodeName, DropEvent, u64)>) {
        let (queue, receiver) = mpsc::channel(DROP_QUEUE);
        (Self { circuit, node, queue, missed: 0 }, receiver)
    }

    fn wants(&self, node: &NodeName, event: &DropEvent) -> bool {
        self.node.as_ref().is_none_or(|wanted| wanted == node)
            && self.circuit.is_none_or(|wanted| event.circuit == Some(wanted))
    }

    fn push(&mut self, node: &NodeName, event: &DropEvent) {
        match self.queue.try_send((node.clone(), event.clone(), self.missed)) {
            Ok(()) => self.missed = 0,
            Err(_) => self.missed += 1,
        }
    }
}

/// Traced packets that wait for one reader.
const TRACE_QUEUE: usize = 16_384;

/// The engine's end of a trace.
#[derive(Debug)]
pub struct TraceFeed {
    circuit: CircuitId,
    queue: mpsc::Sender<(NodeName, Traced, u64)>,
    missed: u64,
}

impl TraceFeed {
    /// What is received: node, packet, and how many were missed before it.
    pub fn new(circuit: CircuitId) -> (Self, mpsc::Receiver<(NodeName, Traced, u64)>) {
        let (queue, receiver) = mpsc::channel(TRACE_QUEUE);
        (Self { circuit, queue, missed: 0 }, receiver)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchId(u64);

#[derive(Debug)]
struct Watcher {
    interest: Interest,
    feed: Feed,
    /// Kinds whose snapshot has not come yet.
    waiting: usize,
}

#[derive(Debug, Default)]
pub(super) struct Watchers {
    next: u64,
    watchers: BTreeMap<WatchId, Watcher>,
    drops: Vec<DropFeed>,
    traces: Vec<TraceFeed>,
}

impl Watchers {
    pub(super) fn add_trace(&mut self, feed: TraceFeed) {
        self.traces.retain(|feed| !feed.queue.is_closed());
        self.traces.push(feed);
    }

    pub(super) fn traced(&mut self, node: &NodeName, packets: Vec<Traced>) {
        self.traces.retain(|feed| !feed.queue.is_closed());
        for packet in packets {
            // A circuit is followed by one request at a time.
            let Some(feed) = self.traces.iter_mut().rfind(|feed| feed.circuit == packet.circuit) else {
                continue;
            };
            match feed.queue.try_send((node.clone(), packet, feed.missed)) {
                Ok(()) => feed.missed = 0,
                Err(_) => feed.missed += 1,
            }
        }
    }

    /// Registers the watcher; answers to these requests are its snapshots.
    pub(super) fn begin(&mut self, interest: Interest, feed: Feed) -> (WatchId, Vec<Request>) {
        self.watchers.retain(|_, watcher| !watcher.feed.queue.is_closed());
        let id = WatchId(self.next);
        self.next += 1;
        let kinds = [
            (interest.nodes, Request::ListNodes),
            (interest.resources, Request::ListResources),
            (interest.circuits, Request::ListCircuits),
        ];
        let requests: Vec<Request> =
            kinds.into_iter().filter(|(wanted, _)| *wanted).map(|(_, ask)| ask).collect();
        self.watchers.insert(id, Watcher { interest, feed, waiting: requests.len() });
        (id, requests)
    }

    pub(super) fn snapshot(&mut self, id: WatchId, answer: Answer) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let events = match answer {
            Ok(Response::Nodes(nodes)) => nodes.into_iter().map(Event::Node).collect(),
            Ok(Response::Resources(resources)) => resources.into_iter().map(Event::Resource).collect(),
            Ok(Response::Circuits(circuits)) => circuits.into_iter().map(Event::Circuit).collect(),
            Ok(_) | Err(_) => Vec::new(),
        };
        watcher.waiting -= 1;
        let mut alive = watcher.feed.push(Fed::Snapshot(events));
        if alive && watcher.waiting == 0 {
            alive = watcher.feed.push(Fed::CaughtUp);
        }
        if !alive {
            self.watchers.remove(&id);
        }
    }

    pub(super) fn announced(&mut self, event: Event) {
        if self.watchers.is_empty() {
            return;
        }
        let event = Arc::new(event);
        self.watchers.retain(|_, watcher| {
            // What is announced before the snapshot is part of it.
            let listens = watcher.waiting == 0 && wanted(watcher.interest, &event);
            !listens || watcher.feed.push(Fed::Event(Arc::clone(&event)))
        });
    }

    pub(super) fn add_drops(&mut self, feed: DropFeed) {
        self.drops.retain(|feed| !feed.queue.is_closed());
        self.drops.push(feed);
    }

    pub(super) fn dropped(&mut self, node: &NodeName, events: Vec<DropEvent>) {
        self.drops.retain(|feed| !feed.queue.is_closed());
        for feed in &mut self.drops {
            for event in &events {
                if feed.wants(node, event) {
                    feed.push(node, event);
                }
            }
        }
    }
}

fn wanted(interest: Interest, event: &Event) -> bool {
    match event {
        Event::Circuit(_) | Event::CircuitGone { .. } => interest.circuits,
        Event::Resource(_) | Event::ResourceGone(_) => interest.resources,
        Event::Node(_) | Event::NodeGone(_) => interest.nodes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::Timestamp;

    const ALL: Interest = Interest { circuits: true, resources: true, nodes: true };

    fn gone(number: u64) -> Event {
        Event::CircuitGone { id: CircuitId(number), left: proto_model::request::Left::default() }
    }

    /// A watcher that has its snapshots.
    fn caught_up(watchers: &mut Watchers) -> (mpsc::Receiver<Fed>, Arc<AtomicBool>) {
        let (feed, queue, too_slow) = Feed::new();
        let (id, requests) = watchers.begin(ALL, feed);
        for request in requests {
            let answer = match request {
                Request::ListNodes => Response::Nodes(Vec::new()),
                Request::ListResources => Response::Resources(Vec::new()),
                _ => Response::Circuits(Vec::new()),
            };
            watchers.snapshot(id, Ok(answer));
        }
        (queue, too_slow)
    }

    #[test]
    fn what_is_announced_before_the_snapshot_is_not_told_twice() {
        let mut watchers = Watchers::default();
        let (feed, mut queue, _) = Feed::new();
        let interest = Interest { circuits: true, resources: false, nodes: false };
        let (id, requests) = watchers.begin(interest, feed);
        assert_eq!(requests, [Request::ListCircuits]);
        watchers.announced(gone(1));
        watchers.snapshot(id, Ok(Response::Circuits(Vec::new())));
        watchers.announced(gone(2));
        watchers.announced(Event::NodeGone("a".parse().expect("name")));
        assert!(matches!(queue.try_recv(), Ok(Fed::Snapshot(events)) if events.is_empty()));
        assert!(matches!(queue.try_recv(), Ok(Fed::CaughtUp)));
        assert!(matches!(queue.try_recv(), Ok(Fed::Event(event)) if *event == gone(2)));
        assert!(queue.try_recv().is_err());
    }

    #[test]
    fn a_watcher_that_does_not_read_is_let_go_with_the_reason() {
        let mut watchers = Watchers::default();
        let (mut queue, too_slow) = caught_up(&mut watchers);
        for number in 0..2 * QUEUE as u64 {
            watchers.announced(gone(number));
        }
        assert!(watchers.watchers.is_empty());
        assert!(too_slow.load(Ordering::Acquire));
        let mut kept = 0;
        while queue.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, QUEUE);
    }

    #[test]
    fn watchers_that_left_are_forgotten_even_when_nothing_happens() {
        let mut watchers = Watchers::default();
        for _ in 0..10 {
            drop(caught_up(&mut watchers));
            watchers.add_drops(DropFeed::new(None, None).0);
        }
        assert!(watchers.watchers.len() <= 1 && watchers.drops.len() <= 1);
    }

    #[test]
    fn missed_drops_are_counted_and_told_with_the_next() {
        let mut watchers = Watchers::default();
        let (feed, mut queue) = DropFeed::new(Some(CircuitId(7)), None);
        watchers.add_drops(feed);
        let node: NodeName = "a".parse().expect("name");
        let event = |circuit| DropEvent {
            at: Timestamp(0),
            circuit: Some(CircuitId(circuit)),
            reason: String::new(),
            text: String::new(),
            rule: 0,
            interface: String::new(),
            source: None,
            destination: None,
            protocol: 0,
            source_port: 0,
            destination_port: 0,
            length: 0,
            label: None,
        };
        watchers.dropped(&node, vec![event(8)]);
        assert!(queue.try_recv().is_err(), "of another circuit");
        watchers.dropped(&node, vec![event(7); DROP_QUEUE + 3]);
        while queue.try_recv().is_ok() {}
        watchers.dropped(&node, vec![event(7)]);
        assert_eq!(queue.try_recv().map(|(_, _, missed)| missed), Ok(3));
    }
}
