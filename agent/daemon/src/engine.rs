//! The agent's one loop: everything that happens becomes an input of the core, everything it wishes is done here.
mod glance;

use crate::clock::{Clock, Watch};
use crate::config::Config;
use crate::doctor::{self, Verdict};
use crate::identity::{Identity, Lock};
use crate::kernel::counters::Counters;
use crate::kernel::neighbours::{self, Ask, Notice};
use crate::kernel::rehearsal::{self, Answered, Asked};
use crate::kernel::thread::{KernelThread, Opened, Reply, Request};
use crate::kernel::{Attach, Options, Summary, events, traces};
use crate::memory::Memory;
use crate::probes::ProtectorThread;
use crate::recorder::Recorder;
use crate::seal::Place;
use crate::seal::keys::Keys;
use crate::stamp::Reflector;
use crate::uplink::{self, Line};
use agent_core::io::{ClassDrops, Counter, Input, Output};
use agent_core::node::Node;
use agent_core::protect::Told;
use anyhow::{Context, Result, anyhow, bail};
use proto_model::query::Answer;
use proto_model::report::{DropCount, DropEvent, Hello, Say, Traffic};
use proto_model::trace::Traced;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

/// What `run` is told.
#[derive(Clone, Debug)]
pub struct Run {
    pub config: Config,
    /// Where to write everything that happens.
    pub record: Option<PathBuf>,
    /// How the sealer is to log: words of the command line before the subcommand.
    pub log: Vec<String>,
}

/// Things that wait to be handled, of each kind. A producer that meets a full queue waits; the ring buffer loses.
const WAITING: usize = 256;

/// How soon a rotated encryption key, or a host's clock that was set, is noticed.
const GLANCE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT. What forwards then goes on forwarding.
///
/// # Errors
/// What is missing on this host, or what broke while running.
pub async fn run(run: Run) -> Result<()> {
    crate::install_crypto();
    check_host(&run)?;
    let identity = Identity::load(&run.config.state)?;
    let _lock = Lock::take(&run.config.state)?;
    if let Some(address) = run.config.metrics {
        crate::metrics::export(address)?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut engine = Engine::start(&run).await?;
    engine.connect(identity, run.config.state.clone());
    // Refused where no systemd listens, which is fine.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let outcome = tokio::select! {
        outcome = engine.turn() => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if let Err(error) = &outcome {
        error!(error = %format!("{error:#}"), "stopping");
    }
    engine.stop().await?;
    info!("stopped; circuits go on forwarding");
    outcome
}

fn check_host(run: &Run) -> Result<()> {
    let findings = doctor::examine(&run.config.pins, run.config.port);
    let lacking = findings.iter().filter(|finding| finding.verdict != Verdict::Good);
    for finding in lacking.clone() {
        warn!(what = %finding.what, says = %finding.says, remedy = %finding.remedy, "this host lacks something");
    }
    if doctor::can_work(&findings) {
        return Ok(());
    }
    let missing: Vec<String> =
        lacking.filter(|f| f.verdict == Verdict::Missing).map(ToString::to_string).collect();
    bail!("the agent cannot work here:\n{}", missing.join("\n"))
}

/// What was counted: traffic by slot, drops, those of queues, and what interfaces carried.
type Counted = Result<(Vec<(u32, Traffic)>, Vec<DropCount>, Vec<ClassDrops>, Vec<Counter>)>;

#[derive(Debug)]
struct Engine {
    node: Node,
    clock: Clock,
    recorder: Option<Recorder>,
    memory: Memory,
    kernel: KernelThread,
    replies: mpsc::Receiver<Reply>,
    /// Unbounded, so that the two sides never wait for each other; the core watches at most as many next hops as
    /// there are slots.
    asks: mpsc::UnboundedSender<Ask>,
    notices: mpsc::Receiver<Notice>,
    session: Option<(u64, Line)>,
    /// Followed packets that gave way to more important words since the last that was told.
    untold: u64,
    uplink: mpsc::Receiver<uplink::Event>,
    uplink_events: mpsc::Sender<uplink::Event>,
    counters: Arc<Counters>,
    counted: mpsc::Receiver<Counted>,
    count: mpsc::Sender<Counted>,
    drops: mpsc::Receiver<Vec<DropEvent>>,
    asked: mpsc::Sender<Asked>,
    answered: mpsc::Receiver<Answered>,
    traced: mpsc::Receiver<Vec<Traced>>,
    protector: ProtectorThread,
    told: mpsc::Receiver<Told>,
    underlays: Underlays,
    keys: Keys,
    /// The kernel's thread looks after the sealer.
    tending: bool,
    state: PathBuf,
    host_clock: Watch,
    /// When the keys' file and the host's clock are looked at again.
    glance: tokio::time::Interval,
    tasks: JoinSet<Result<()>>,
}

/// What the controller is told of the underlays, and whether a look at them is under way.
#[derive(Debug)]
struct Underlays {
    summary: Summary,
    looking: bool,
    /// Something changed while the look was under way.
    again: bool,
}

impl Engine {
    async fn start(run: &Run) -> Result<Self> {
        let keys = Keys::load(&run.config.state)?;
        let options = Options {
            pins: run.config.pins.clone(),
            port: run.config.port,
            underlays: run.config.underlays(),
            attach: Attach::of_this_kernel(),
            keys: keys.clone(),
            timing: run.config.encryption.timing(),
            sealer: Place { words: run.log.clone(), ..Place::of(&run.config.state) },
        };
        let (kernel, Opened { summary, shared }, replies) = KernelThread::start(options).await?;
        let counters = Arc::new(Counters::open(&run.config.pins, shared.clone())?);
        let (asks, asked) = mpsc::unbounded_channel();
        let (notify, notices) = mpsc::channel(WAITING);
        let (dropped, drops) = mpsc::channel(4);
        let (count, counted) = mpsc::channel(1);
        let (uplink_events, uplink) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        let (rehearse, wanted) = mpsc::channel(rehearsal::WAITING);
        let (answer, answered) = mpsc::channel(rehearsal::WAITING);
        tasks.spawn(rehearsal::run(run.config.pins.clone(), run.config.port, shared.clone(), wanted, answer));
        let (follow, traced) = mpsc::channel(4);
        let (pins, port, seen) = (run.config.pins.clone(), run.config.port, shared.clone());
        tasks.spawn(async move { traces::run(&pins, port, seen, follow).await });
        tasks.spawn(neighbours::run(asked, notify, shared));
        let pins = run.config.pins.clone();
        tasks.spawn(async move { events::run(&pins, dropped).await });
        if let Some(reflector) = run.config.stamp.as_ref().map(Reflector::open).transpose()? {
            tasks.spawn(reflector.run());
        }
        let clock = Clock::start();
        let (protector, told) = ProtectorThread::start(&run.config.pins, run.config.port, clock)?;
        let mut engine = Self {
            node: Node::new(),
            clock,
            recorder: run.record.as_deref().map(Recorder::to).transpose()?,
            memory: Memory::of(&run.config.state),
            kernel,
            replies,
            asks,
            notices,
            session: None,
            untold: 0,
            uplink,
            uplink_events,
            counters,
            counted,
            count,
            drops,
            asked: rehearse,
            answered,
            traced,
            protector,
            told,
            underlays: Underlays { summary, looking: false, again: false },
            keys,
            tending: false,
            state: run.config.state.clone(),
            host_clock: Watch::of(clock),
            glance: tokio::time::interval(GLANCE),
            tasks,
        };
        engine.observe().await?;
        Ok(engine)
    }

    /// First of all: what the kernel has.
    async fn observe(&mut self) -> Result<()> {
        self.kernel.ask(Request::Observe).await?;
        match self.replies.recv().await {
            Some(Reply::Observed(Ok(state))) => {
                info!(entries = state.len(), "read back from the kernel");
                self.handle(Input::Observed(state)).await?;
                let kept = self.memory.read().context("cannot read what ends by itself")?;
                self.handle(Input::Remembered(kept)).await
            }
            Some(Reply::Observed(Err(why))) => bail!("cannot read back what the kernel has: {why}"),
            other => bail!("the kernel's thread answered {other:?}"),
        }
    }

    fn connect(&mut self, identity: Identity, state: PathBuf) {
        let events = self.uplink_events.clone();
        self.tasks.spawn(uplink::run(identity, state, events));
    }

    async fn turn(&mut self) -> Result<()> {
        loop {
            let tick = self.clock.until(self.node.next_deadline());
            let input = tokio::select! {
                reply = self.replies.recv() => self.replied(reply.context("the kernel's thread ended")?).await?,
                event = self.uplink.recv() => event.and_then(|event| self.linked(event)),
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.noticed(notice).await?,
                    None => None,
                },
                Some(drops) = self.drops.recv() => Some(Input::Dropped(drops)),
                Some(Answered { session, query, answer }) = self.answered.recv() => {
                    Some(Input::Rehearsed { session, query, answer })
                }
                Some(packets) = self.traced.recv() => Some(Input::Traced(packets)),
                Some(counted) = self.counted.recv() => self.counted(counted),
                told = self.told.recv() => Some(protected(told.context("the protector's thread ended")?)),
                () = tokio::time::sleep(tick) => Some(Input::Tick),
                _ = self.glance.tick() => {
                    self.look_at_keys().await?;
                    self.look_at_sealer().await?;
                    self.look_at_clock()
                }
                Some(ended) = self.tasks.join_next() => return Err(ended_early(ended)),
            };
            if let Some(input) = input {
                self.handle(input).await?;
            }
        }
    }

    async fn handle(&mut self, input: Input) -> Result<()> {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder
            && !matches!(input, Input::Traced(_))
        {
            recorder.record(now, &input);
        }
        let started = Instant::now();
        self.node.handle(input, now);
        crate::metrics::handled(started.elapsed());
        crate::metrics::ended(self.node.ended_so_far());
        while let Some(output) = self.node.poll_output() {
            self.perform(output).await?;
        }
        Ok(())
    }

    async fn perform(&mut self, output: Output) -> Result<()> {
        match output {
            Output::Perform(steps) => self.kernel.ask(Request::Perform(steps)).await?,
            Output::Say { session, say } => self.say(session, say),
            Output::Watch { local, remote } => self.ask(Ask::Watch { local, remote })?,
            Output::Unwatch { local, remote } => self.ask(Ask::Unwatch { local, remote })?,
            Output::Remember { key, object } => {
                // What was told goes on; only the next life of this agent would end it too late.
                if let Err(error) = self.memory.keep(&key, object.as_ref()) {
                    warn!(%key, error = %format!("{error:#}"), "not kept: an end is not known after a restart");
                }
            }
            Output::Rehearse { session, query, question } => {
                if self.asked.try_send(Asked { session, query, question }).is_err() {
                    let answer =
                        Answer::Unable(format!("{} questions wait here already", rehearsal::WAITING));
                    self.say(session, Say::Answer { query, answer });
                }
            }
            Output::Protect(orders) => self.protector.order(orders)?,
            Output::Count => self.start_counting(),
        }
        Ok(())
    }

    fn ask(&self, ask: Ask) -> Result<()> {
        self.asks.send(ask).map_err(|_| anyhow!("nobody watches the neighbours any more"))
    }

    fn say(&mut self, session: u64, mut say: Say) {
        let Some((_, line)) = self.session.as_ref().filter(|(current, _)| *current == session) else {
            return;
        };
        // What people watch gives way to what the fabric needs.
        if let Say::Traced(packets) = &mut say {
            if line.is_busy() {
                self.untold += packets.iter().map(|packet| 1 + packet.missed).sum::<u64>();
                return;
            }
            if let Some(first) = packets.first_mut() {
                first.missed += std::mem::take(&mut self.untold);
            }
        }
        if !line.say(say.into()) {
            warn!(session, "the controller does not read; the session is opened anew");
            self.session = None;
        }
    }

    /// Beside this loop: with many circuits it takes some milliseconds.
    fn start_counting(&self) {
        let (counters, count) = (self.counters.clone(), self.count.clone());
        let underlays = &self.underlays.summary.underlays;
        let names: Vec<String> = underlays.iter().map(|underlay| underlay.interface.clone()).collect();
        tokio::task::spawn_blocking(move || {
            let queues = Counters::queues().unwrap_or_else(|error| {
                warn!(error = %format!("{error:#}"), "drops of queues not read");
                Vec::new()
            });
            if let Ok(reasons) = counters.reasons(&queues) {
                crate::metrics::counted(counters.slots(), &reasons);
            }
            let interfaces = Counters::interfaces(&names).unwrap_or_else(|error| {
                warn!(error = %format!("{error:#}"), "what interfaces carried not read");
                Vec::new()
            });
            let counted =
                counters.traffic().and_then(|traffic| Ok((traffic, counters.drops()?, queues, interfaces)));
            // Closed only when the agent stops.
            let _ = count.blocking_send(counted);
        });
    }

    fn counted(&self, counted: Counted) -> Option<Input> {
        let (traffic, drops, queues, interfaces) = counted.unwrap_or_else(|error| {
            warn!(error = %format!("{error:#}"), "counters not read");
            Default::default()
        });
        Some(Input::Counted { traffic, drops, queues, interfaces })
    }

    async fn replied(&mut self, reply: Reply) -> Result<Option<Input>> {
        match reply {
            Reply::Observed(_) => Ok(None),
            Reply::Rekeyed(outcome) => {
                if let Err(why) = outcome {
                    warn!(%why, "the sealer does not use the new key yet");
                }
                info!(keys = ?self.keys, "the encryption key was rotated; the session is opened anew to tell of it");
                self.session = None;
                Ok(None)
            }
            Reply::Sealed(outcome) => {
                if let Err(why) = &outcome {
                    warn!(%why, "there is no sealer; encrypted circuits pass nothing until there is one");
                }
                self.tending = false;
                Ok(None)
            }
            Reply::Performed { results, made_anew, took } => {
                let failed = results.iter().filter(|(_, result)| result.is_err()).count();
                for (key, why) in
                    results.iter().filter_map(|(key, result)| Some((key, result.as_ref().err()?)))
                {
                    warn!(?key, %why, "step failed");
                }
                debug!(steps = results.len(), failed, ?took, "performed");
                crate::metrics::performed(failed, results.len() - failed, took);
                for host in made_anew {
                    warn!(interface = %host.as_str(), "the interface had to be made anew; what was bound to it is written again");
                    self.handle(Input::MadeAnew(host)).await?;
                }
                Ok(Some(Input::Performed(results)))
            }
            Reply::Refreshed(outcome) => {
                self.underlays.looking = false;
                match outcome {
                    Ok(None) => {}
                    Ok(Some(summary)) => {
                        info!(datapath = ?summary.sentences, "underlays changed; the session is opened anew");
                        self.underlays.summary = summary;
                        self.session = None;
                    }
                    Err(why) => warn!(%why, "underlays not looked at"),
                }
                if std::mem::take(&mut self.underlays.again) {
                    self.look_at_underlays().await?;
                }
                Ok(None)
            }
        }
    }

    fn linked(&mut self, event: uplink::Event) -> Option<Input> {
        match event {
            uplink::Event::Connected { session, line } => {
                self.session = Some((session, line));
                crate::metrics::connected(true);
                Some(Input::Connected { session, hello: self.hello() })
            }
            uplink::Event::Told { session, tell } => Some(Input::Told { session, tell }),
            uplink::Event::Disconnected { session } => {
                self.session = None;
                crate::metrics::connected(false);
                Some(Input::Disconnected { session })
            }
        }
    }

    fn hello(&self) -> Hello {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Hello {
            version: crate::VERSION.to_owned(),
            kernel: doctor::release(),
            boot: boot.trim().to_owned(),
            underlays: self.underlays.summary.underlays.clone(),
            datapath: self.underlays.summary.sentences.clone(),
            seal_keys: self.keys.public(),
        }
    }

    async fn noticed(&mut self, notice: Notice) -> Result<Option<Input>> {
        Ok(match notice {
            Notice::Neighbour { local, remote, link } => Some(Input::Neighbour { local, remote, link }),
            Notice::Vanished(host) => {
                warn!(interface = %host.as_str(), "an interface of the fabric was removed by somebody else");
                Some(Input::Vanished(host))
            }
            Notice::Underlays => {
                self.look_at_underlays().await?;
                None
            }
        })
    }

    /// Lets the kernel's thread finish what it was asked to do. Groups stay turned as they are.
    async fn stop(self) -> Result<()> {
        let Self { kernel, protector, mut tasks, mut replies, .. } = self;
        tasks.shutdown().await;
        replies.close();
        let stopped = kernel.stop().await;
        protector.stop()?;
        stopped
    }
}

fn protected(told: Told) -> Input {
    crate::metrics::protector(&told);
    if let Told::Turned { group, to, why, .. } = &told {
        info!(group, ?to, %why, "protection turned a group of circuits");
    }
    Input::Protector(told)
}

fn ended_early(ended: Result<Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("a task of the agent ended too early"),
        Ok(Err(error)) => error,
        Err(error) => anyhow!("a task of the agent panicked: {error}"),
    }
}
