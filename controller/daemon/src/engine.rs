//! The one loop: takes what happened in batches, lets the core decide, keeps the promises on the disk, then tells.
//!
//! All writes of a batch are one transaction. Nothing of a batch goes out before its transaction is durable; when it
//! cannot be made durable, the engine stops, so that nobody is ever told what was not kept.
mod clock;
#[cfg(test)]
mod durable;
mod handle;
mod lines;
mod waits;
mod watchers;

pub use clock::Clock;
pub use handle::{Answer, Handle, Overloaded, Until};
pub use lines::{Line, Outgoing, QUEUE as LINE_QUEUE};
pub use watchers::{DropFeed, Fed, Feed, QUEUE as WATCH_QUEUE, TraceFeed};

use crate::history::History;
use crate::recorder::Recorder;
use crate::store::{Store, StoreError};
use controller_core::fabric::Fabric;
use controller_core::io::{Input, Output, Session, Ticket, Write};
use controller_core::record::RecordKey;
use handle::Event;
use lines::Lines;
use proto_model::report::Say;
use proto_model::{NodeName, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;
use waits::Waits;
use watchers::Watchers;

/// Events that wait for the engine. API calls beyond it are refused, agents wait.
pub const QUEUE: usize = 8192;
/// Events that are decided before their writes are committed together.
pub const BATCH: usize = 512;
/// How long the engine sleeps at most when nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// Decides, keeps, tells. Runs on a thread of its own: commits block.
pub struct Engine {
    fabric: Fabric,
    store: Box<dyn Store>,
    recorder: Recorder,
    history: Option<History>,
    inbox: mpsc::Receiver<Event>,
    clock: Clock,
    now: Timestamp,
    next_ticket: u64,
    pending: HashMap<Ticket, Pending>,
    lines: Lines,
    waits: Waits,
    watchers: Watchers,
    batch: Batch,
}

/// What one batch of steps wants.
#[derive(Default)]
struct Batch {
    /// The last write of each key: the only one that counts once the transaction is whole.
    writes: BTreeMap<RecordKey, Write>,
    outputs: Vec<Output>,
    /// Sessions whose queue overflowed while the last batch went out.
    lost: Vec<(NodeName, Session)>,
}

/// Who waits for the answer to a ticket.
enum Pending {
    Client { reply: tokio::sync::oneshot::Sender<Answer>, until: Option<Until> },
    Snapshot(watchers::WatchId),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// Whether the loop goes on.
enum Flow {
    On,
    Stop,
}

impl Engine {
    pub(crate) fn new(
        fabric: Fabric,
        store: Box<dyn Store>,
        recorder: Recorder,
        clock: Clock,
    ) -> (Self, Handle) {
        let (sender, inbox) = mpsc::channel(QUEUE);
        let engine = Self {
            fabric,
            store,
            recorder,
            history: None,
            inbox,
            clock,
            now: clock.now(),
            next_ticket: 0,
            pending: HashMap::new(),
            lines: Lines::default(),
            waits: Waits::default(),
            watchers: Watchers::default(),
            batch: Batch::default(),
        };
        (engine, Handle::new(sender, clock))
    }

    /// What was measured of the links begins with what is kept there, and is kept there.
    pub(crate) fn keep_history(&mut self, history: History) {
        history.recall(&mut self.fabric, self.now);
        self.history = Some(history);
    }

    /// Until it is told to stop, all handles are gone, or the store fails.
    pub fn run(mut self) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|why| StoreError::Failed {
            file: "engine".into(),
            what: "cannot make its timer",
            why: why.to_string(),
        })?;
        let mut events = Vec::with_capacity(BATCH);
        self.collect();
        self.finish_batch()?;
        loop {
            runtime.block_on(self.receive(&mut events));
            let flow = self.turn(&mut events)?;
            if let Some(history) = &mut self.history {
                match flow {
                    Flow::On => history.turn(&self.fabric, self.now),
                    Flow::Stop => history.keep(&self.fabric),
                }
            }
            if matches!(flow, Flow::Stop) {
                return Ok(());
            }
        }
    }

    /// Waits for events or the next deadline, whichever comes first.
    async fn receive(&mut self, events: &mut Vec<Event>) {
        self.tick_clock();
        let sleep = self.fabric.next_deadline().map_or(IDLE, |deadline| deadline.since(self.now).min(IDLE));
        if sleep.is_zero() {
            while events.len() < BATCH
                && let Ok(event) = self.inbox.try_recv()
            {
                events.push(event);
            }
            return;
        }
        let received = tokio::time::timeout(sleep, self.inbox.recv_many(events, BATCH)).await;
        if received == Ok(0) {
            events.push(Event::Stop);
        }
    }

    /// One batch: decide everything, commit once, then tell everybody.
    fn turn(&mut self, events: &mut Vec<Event>) -> Result<Flow, StoreError> {
        metrics::histogram!("foreweave_engine_batch_events").record(events.len() as f64);
        self.tick_clock();
        let mut flow = Flow::On;
        for event in events.drain(..) {
            match event {
                Event::Stop => flow = Flow::Stop,
                event => self.take(event),
            }
        }
        if self.fabric.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.step(Input::Tick);
        }
        self.finish_batch()?;
        while !self.batch.lost.is_empty() {
            for (node, session) in std::mem::take(&mut self.batch.lost) {
                self.step(Input::AgentGone { node, session });
            }
            self.finish_batch()?;
        }
        Ok(flow)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ask { actor, request, reply, until } => {
                let until = until.and_then(|until| self.waits.begin(until));
                let ticket = self.ticket(Pending::Client { reply, until });
                self.step(Input::Ask { ticket, actor, request });
            }
            Event::Said { node, session, key, say, line, taken } => {
                if let Some(line) = line {
                    self.lines.open(node.clone(), session, line);
                }
                self.step(Input::AgentSaid { node, session, key, say });
                // Its session may have ended meanwhile.
                let _ = taken.send(());
            }
            Event::Gone { node, session } => {
                self.lines.close(session);
                self.step(Input::AgentGone { node, session });
            }
            Event::Watch { actor, interest, feed } => {
                let (id, requests) = self.watchers.begin(interest, feed);
                for request in requests {
                    let ticket = self.ticket(Pending::Snapshot(id));
                    self.step(Input::Ask { ticket, actor: actor.clone(), request });
                }
            }
            Event::WatchDrops(feed) => self.watchers.add_drops(feed),
            Event::WatchTrace(feed) => self.watchers.add_trace(feed),
            Event::Stop => {}
        }
    }

    fn ticket(&mut self, pending: Pending) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending.insert(ticket, pending);
        ticket
    }

    /// The only caller of the core.
    fn step(&mut self, input: Input) {
        // What users send is in no recording.
        if !matches!(input, Input::AgentSaid { say: Say::Traced(_), .. }) {
            self.recorder.input(self.now, &input);
        }
        self.fabric.handle(input, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.fabric.poll_output() {
            match output {
                Output::Write(write) => {
                    let key = match &write {
                        Write::Put(record) => record.key(),
                        Write::Delete(key) => key.clone(),
                    };
                    self.batch.writes.insert(key, write);
                }
                output => self.batch.outputs.push(output),
            }
        }
    }

    fn finish_batch(&mut self) -> Result<(), StoreError> {
        let writes: Vec<Write> = std::mem::take(&mut self.batch.writes).into_values().collect();
        if !writes.is_empty() {
            let begin = std::time::Instant::now();
            self.store.commit(&writes)?;
            metrics::histogram!("foreweave_store_commit_seconds").record(begin.elapsed().as_secs_f64());
            metrics::counter!("foreweave_store_writes_total").increment(writes.len() as u64);
        }
        self.recorder.flush();
        crate::metrics::protection(self.fabric.standing());
        for output in std::mem::take(&mut self.batch.outputs) {
            self.tell(output);
        }
        Ok(())
    }

    fn tell(&mut self, output: Output) {
        match output {
            Output::Reply { ticket, answer } => self.answer(ticket, answer),
            Output::Tell { node, session, tell } => {
                if !self.lines.tell(session, tell) {
                    self.batch.lost.push((node, session));
                }
            }
            Output::HangUp { node, session, why } => self.lines.hang_up(&node, session, why),
            Output::Announce(event) => {
                self.waits.announced(&event);
                self.watchers.announced(event);
            }
            Output::Drops { node, events } => self.watchers.dropped(&node, events),
            Output::Traced { node, packets } => self.watchers.traced(&node, packets),
            // Taken out in `step`.
            Output::Write(_) => {}
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        match self.pending.remove(&ticket) {
            Some(Pending::Client { reply, until }) => {
                self.waits.answered(&answer, until);
                // A caller that gave up does not need it.
                let _ = reply.send(answer);
            }
            Some(Pending::Snapshot(id)) => self.watchers.snapshot(id, answer),
            None => tracing::error!(?ticket, "an answer to nobody's question"),
        }
    }

    fn tick_clock(&mut self) {
        self.now = self.clock.now();
    }
}
