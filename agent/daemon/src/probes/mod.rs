//! Runs the protector on a thread of its own: sends its probes, reads the answers, watches carriers, turns groups.
//!
//! It waits for nobody: not for the engine, which may be busy with ten thousand circuits, nor for the thread that changes
//! the kernel, which may hold the lock of all network configuration.
mod carriers;
mod news;
mod packet;
mod prompt;
mod sockets;

use crate::clock::Clock;
use crate::kernel::counters::reopen;
use crate::kernel::maps::{Row, Slots};
use crate::priority;
use agent_core::abi;
use agent_core::protect::{Answer, Defect, Event, Key, Order, Probe, Protector, Told, Wish};
use anyhow::{Context, Result, anyhow};
use aya::maps::{MapData, RingBuf};
use carriers::Carriers;
use ebpf_abi::flow::{BACKUP, PRIMARY};
use ebpf_abi::probe::Reply;
use news::News;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use prompt::Prompt;
use proto_model::report::Way;
use proto_model::{PathId, Timestamp};
use sockets::Sockets;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, error, info};

/// Words to the engine that wait in the channel; more wait in [`News`].
const WAITING: usize = 256;
/// Orders taken at once; a deadline is not kept waiting by ten thousand of them.
const ORDERS: usize = 64;
/// Records that the ring holds at most.
const ANSWERS: usize = ebpf_abi::maps::PROBES as usize / (size_of::<Reply>() + RING_HEADER);
/// Bytes before each record of a ring buffer (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: usize = 8;
/// How soon the engine is tried again when it had no room.
const RETRY: Duration = Duration::from_millis(20);

/// The protector's thread, as its owner sees it.
#[derive(Debug)]
pub struct ProtectorThread {
    /// Unbounded, so that the two sides never wait for each other; the core orders at most what its slots hold.
    orders: Sender<Vec<Order>>,
    wake: Arc<EventFd>,
    thread: JoinHandle<()>,
}

impl ProtectorThread {
    /// On the pinned maps, in the network namespace of the calling thread. `port`: of the tunnels.
    ///
    /// # Errors
    /// What could not be opened.
    pub fn start(pins: &Path, port: u16, clock: Clock) -> Result<(Self, mpsc::Receiver<Told>)> {
        let (orders, ordered) = channel();
        let (engine, told) = mpsc::channel(WAITING);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let worker = Worker::open(pins, port, clock, ordered, wake.clone(), engine)?;
        let thread = std::thread::Builder::new()
            .name("protector".into())
            .spawn(move || worker.run())
            .context("cannot start a thread")?;
        Ok((Self { orders, wake, thread }, told))
    }

    /// # Errors
    /// When the thread has ended.
    pub fn order(&self, orders: Vec<Order>) -> Result<()> {
        self.orders.send(orders).map_err(|_| anyhow!("the protector's thread ended"))?;
        self.wake.write(1)?;
        Ok(())
    }

    /// Ends the thread. Groups stay as they are.
    ///
    /// # Errors
    /// When it panicked.
    pub fn stop(self) -> Result<()> {
        let Self { orders, wake, thread } = self;
        drop(orders);
        wake.write(1)?;
        thread.join().map_err(|_| anyhow!("the protector's thread panicked"))
    }
}

struct Worker {
    protector: Protector,
    clock: Clock,
    /// This is the map's only writer; the programs read it.
    groups: Slots<u32>,
    on_backup: BTreeSet<u32>,
    ring: RingBuf<MapData>,
    carriers: Carriers,
    prompt: Prompt,
    sockets: Sockets,
    ordered: Receiver<Vec<Order>>,
    /// Taken out of the channel, not yet handled.
    orders: VecDeque<Order>,
    wake: Arc<EventFd>,
    news: News,
    rtt: metrics::Histogram,
}

/// Whether the owner is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    There,
    Gone,
}

impl Worker {
    fn open(
        pins: &Path,
        port: u16,
        clock: Clock,
        ordered: Receiver<Vec<Order>>,
        wake: Arc<EventFd>,
        engine: mpsc::Sender<Told>,
    ) -> Result<Self> {
        Ok(Self {
            protector: Protector::new(),
            clock,
            groups: Slots::new(reopen(pins, "GROUPS")?)?,
            on_backup: BTreeSet::new(),
            ring: RingBuf::try_from(reopen(pins, "PROBES")?).context("PROBES is not a ring buffer")?,
            carriers: Carriers::open()?,
            prompt: Prompt::open(wake.clone())?,
            sockets: Sockets::new(port),
            ordered,
            orders: VecDeque::new(),
            wake,
            news: News::new(engine),
            rtt: crate::metrics::path_rtt(),
        })
    }

    /// Until the owner is gone.
    fn run(mut self) {
        info!(scheduling = %priority::raise(), "the protector runs");
        loop {
            if let Err(error) = self.turn() {
                debug!(error = %format!("{error:#}"), "the protector ends");
                return;
            }
            if let Err(error) = self.wait() {
                error!(error = %format!("{error:#}"), "the protector cannot wait");
                return;
            }
        }
    }

    /// Answers first: what has arrived must not be judged lost. Whether time passed too quickly in between is judged by
    /// the protector, by its deadlines.
    fn turn(&mut self) -> Result<()> {
        self.answers()?;
        let owner = self.take_orders()?;
        self.look_at_carriers()?;
        self.happened(Event::Tick)?;
        self.news.flush()?;
        match owner {
            Owner::There => Ok(()),
            Owner::Gone => Err(anyhow!("its owner is gone")),
        }
    }

    fn look_at_carriers(&mut self) -> Result<()> {
        for link in self.prompt.answers() {
            self.carriers.saw(&link);
        }
        for (local, up) in self.carriers.changes() {
            self.happened(Event::Carrier { local, up })?;
        }
        self.prompt.want(self.carriers.up_of(self.protector.locals()))
    }

    fn wait(&mut self) -> Result<()> {
        if !self.orders.is_empty() {
            return Ok(());
        }
        let mut timeout = self.clock.until(self.protector.next_deadline());
        if let Some(at) = self.carriers.next_look() {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        }
        if self.news.is_waiting() {
            timeout = timeout.min(RETRY);
        }
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [self.wake.as_fd(), self.ring.as_fd(), self.carriers.fd()].map(watch);
        match ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("ppoll"),
        }
    }

    /// What is there now, and no more than one ring of what comes meanwhile: a tick is not kept waiting by answers.
    fn answers(&mut self) -> Result<()> {
        for _ in 0..ANSWERS {
            let Some(event) = self.next_record() else { break };
            self.happened(event)?;
        }
        Ok(())
    }

    /// Records of another build are left out.
    fn next_record(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            if let Ok(bytes) = <Reply as Row>::Bytes::try_from(&*item)
                && let Some(event) = event(&Reply::of(bytes), self.clock)
            {
                return Some(event);
            }
        }
    }

    fn take_orders(&mut self) -> Result<Owner> {
        // Before the channel is looked at: what is written after that wakes again.
        let _ = self.wake.read();
        let owner = loop {
            match self.ordered.try_recv() {
                Ok(orders) => self.orders.extend(orders),
                Err(TryRecvError::Empty) => break Owner::There,
                Err(TryRecvError::Disconnected) => break Owner::Gone,
            }
        };
        for _ in 0..ORDERS {
            let Some(order) = self.orders.pop_front() else { break };
            self.happened(Event::Ordered(order))?;
        }
        Ok(owner)
    }

    fn happened(&mut self, event: Event) -> Result<()> {
        let now = self.clock.now();
        self.protector.handle(event, now);
        while let Some(wish) = self.protector.poll_wish() {
            if let Some(outcome) = self.grant(wish)? {
                let now = self.clock.now();
                self.protector.handle(outcome, now);
            }
        }
        Ok(())
    }

    /// What comes of it at once.
    fn grant(&mut self, wish: Wish) -> Result<Option<Event>> {
        match wish {
            Wish::SendPath { path, session, sequence } => {
                let at = self.clock.now();
                let sent = self.sockets.path(path, &session, sequence);
                Ok(Some(outcome(sent, Probe::Path(path, session.receive), sequence, at)))
            }
            Wish::SendLink { peer, sequence } => {
                let at = self.clock.now();
                let sent = self.sockets.link(&peer, sequence);
                Ok(Some(outcome(sent, Probe::Link(peer.link), sequence, at)))
            }
            Wish::SendDefect { session, dead } => {
                if let Err(error) = self.sockets.defect(&session, dead) {
                    debug!(?session, %dead, %error, "a far end was not told of a carrier");
                }
                Ok(None)
            }
            Wish::Took(time) => {
                self.rtt.record(Duration::from_nanos(time.nanos()).as_secs_f64());
                Ok(None)
            }
            Wish::Look(group) => Ok(Some(Event::Looked { group, way: self.look(group) })),
            Wish::Turn { group, to } => {
                self.put(group, to);
                Ok(None)
            }
            Wish::Sweep(kept) => {
                self.sweep(&kept);
                Ok(None)
            }
            Wish::Tell(told) => self.news.tell(told).map(|()| None),
        }
    }

    fn look(&mut self, group: u32) -> Way {
        let way = match self.groups.get(group) {
            Ok(value) => way(value),
            Err(error) => {
                error!(group, %error, "the way of a group was not read");
                Way::Primary
            }
        };
        self.count(group, way);
        way
    }

    fn sweep(&mut self, kept: &BTreeSet<u32>) {
        for group in (0..self.groups.len()).filter(|group| !kept.contains(group)) {
            if self.look(group) == Way::Backup {
                self.put(group, Way::Primary);
            }
        }
    }

    fn put(&mut self, group: u32, to: Way) {
        let value = match to {
            Way::Primary => PRIMARY,
            Way::Backup => BACKUP,
        };
        match self.groups.put(group, &value) {
            Ok(()) => self.count(group, to),
            Err(error) => error!(group, ?to, %error, "a group was not turned"),
        }
    }

    fn count(&mut self, group: u32, way: Way) {
        let changed = match way {
            Way::Primary => self.on_backup.remove(&group),
            Way::Backup => self.on_backup.insert(group),
        };
        if changed {
            crate::metrics::groups_on_backup(self.on_backup.len());
        }
    }
}

fn outcome(sent: std::io::Result<()>, probe: Probe, sequence: u32, at: Timestamp) -> Event {
    match sent {
        Ok(()) => Event::Sent { probe, sequence, at },
        Err(error) => {
            debug!(?probe, sequence, %error, "probe not sent");
            Event::NotSent { probe, sequence }
        }
    }
}

/// What a record of the ring says, if this build knows its kind.
fn event(reply: &Reply, clock: Clock) -> Option<Event> {
    match reply.kind {
        Reply::ANSWER => Some(Event::Answered(answer(reply, clock))),
        Reply::DEFECT => {
            let came = way(reply.reflected);
            Some(Event::Defect(Defect { group: reply.sequence, came, dead: PathId(reply.received) }))
        }
        _ => None,
    }
}

fn way(value: u32) -> Way {
    if value == BACKUP { Way::Backup } else { Way::Primary }
}

fn answer(reply: &Reply, clock: Clock) -> Answer {
    let of = match reply.label {
        0 => Key::Link(abi::ip(&reply.from), reply.session),
        label => Key::Path(label),
    };
    Answer {
        of,
        sequence: reply.sequence,
        reflected: reply.reflected,
        received: reply.received,
        answered: reply.answered,
        arrived: clock.at(reply.arrived),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn an_answer_without_a_label_is_a_neighbours() {
        let from = "2001:db8::7".parse().expect("an address");
        let link = Reply { from: abi::address(from), session: 4, sequence: 9, ..Reply::new_zeroed() };
        let clock = Clock::start();
        assert_eq!(answer(&link, clock).of, Key::Link(from, 4));
        let path = answer(&Reply { label: 77, ..link }, clock);
        assert_eq!((path.of, path.sequence), (Key::Path(77), 9));
    }

    #[test]
    fn a_record_of_a_kind_that_is_not_known_says_nothing() {
        let clock = Clock::start();
        let reply = |kind| Reply { kind, sequence: 4, reflected: BACKUP, received: 9, ..Reply::new_zeroed() };
        let defect = Defect { group: 4, came: Way::Backup, dead: PathId(9) };
        assert_eq!(event(&reply(Reply::DEFECT), clock), Some(Event::Defect(defect)));
        assert!(matches!(event(&reply(Reply::ANSWER), clock), Some(Event::Answered(_))));
        assert_eq!(event(&reply(2), clock), None);
    }
}
