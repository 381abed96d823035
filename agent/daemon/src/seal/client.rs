//! The agent's side of encryption: finds or starts the sealer, relieves one of another build, and tells it what to do.
use super::holder;
use super::keys::Keys;
use super::line::{self, Line};
use super::taps::{Indexes, Taps};
use super::words::{Ask, Hello, Said};
use super::{Place, Timing, build};
use agent_core::kernel_state::Seal;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tracing::{info, warn};

/// Told the process number of a sealer that has ended, by whatever cause.
pub(crate) type Ended = Arc<dyn Fn(u32) + Send + Sync>;

/// The sealer of this host, as far as the agent knows.
pub(crate) struct Sealer {
    place: Place,
    build: String,
    keys: Keys,
    timing: Timing,
    running: Option<Running>,
    /// What runs has the circuits that it is to have, and the programs know its interfaces.
    settled: bool,
    /// They outlive a sealer that was killed.
    taps: Option<Taps>,
    ended: Option<Ended>,
}

struct Running {
    line: Line,
    pid: u32,
    /// Of this agent; a sealer that was found is not.
    child: Option<Child>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pid = self.running.as_ref().map(|running| running.pid);
        f.debug_struct("Sealer").field("keys", &self.keys).field("pid", &pid).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(place: Place, keys: Keys, timing: Timing) -> Self {
        let build = build::of_this_process();
        Self { place, build, keys, timing, running: None, settled: false, taps: None, ended: None }
    }

    pub(crate) fn when_ended(&mut self, tell: Ended) {
        self.ended = Some(tell);
    }

    pub(crate) fn sessions(&self) -> Sessions {
        Sessions { state: Some(self.place.state.clone()) }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.running.is_some() && self.settled
    }

    /// What it says of itself; none: there is no sealer.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn hello(&self) -> Result<Option<Hello>> {
        self.running.as_ref().map(|running| running.line.hello()).transpose()
    }

    /// Takes up the sealer that a former agent left; relieves it if it is of another build. None: there is none that can
    /// be used.
    ///
    /// # Errors
    /// When one is there that cannot be ended.
    pub(crate) fn find(&mut self, seals: &[Seal]) -> Result<Option<Indexes>> {
        if let (Some(_), Some(taps)) = (&self.running, &self.taps) {
            return Ok(Some(taps.indexes));
        }
        let Some(line) = reach(&self.place.state)? else { return Ok(None) };
        let (hello, taps) = match greet(&line) {
            Ok(known) => known,
            Err(error) => {
                warn!(error = %format!("{error:#}"), "the sealer that is there is not used");
                return line.end(line.who()?).map(|()| None);
            }
        };
        let indexes = taps.indexes;
        self.taps = Some(taps);
        if hello.build == self.build || !self.relieve(&line, &hello, seals) {
            info!(
                pid = hello.pid,
                circuits = hello.circuits,
                sessions = hello.sessions,
                "the sealer is taken up"
            );
            if let Err(error) = line.tell(&self.keys_in_use(), &[]) {
                warn!(error = %format!("{error:#}"), "the sealer that is there does not take the keys");
                return line.kill(line.who()?).map(|()| None);
            }
            self.run(line, hello.pid, None)?;
        }
        Ok(Some(indexes))
    }

    /// False: that did not succeed, and the former one goes on.
    fn relieve(&mut self, former: &Line, hello: &Hello, seals: &[Seal]) -> bool {
        info!(pid = hello.pid, theirs = %hello.build, ours = %self.build, "the sealer is of another build");
        match self.begin(Some(former), seals) {
            Ok(()) => true,
            Err(error) => {
                warn!(error = %format!("{error:#}"), "the sealer of the former build stays");
                false
            }
        }
    }

    /// Makes the interfaces, down still; none: the sealer runs. `attach` hangs the programs on them, before any packet
    /// can come; [`Self::start`] has to follow.
    ///
    /// # Errors
    /// What the kernel refused; one of them may be there then.
    pub(crate) fn prepare(&mut self) -> Result<Option<Indexes>> {
        if self.running.is_some() {
            return Ok(None);
        }
        let taps = match self.taps.take().filter(Taps::are_there) {
            Some(taps) => taps,
            None => Taps::make()?,
        };
        Ok(Some(self.taps.insert(taps).indexes))
    }

    /// # Errors
    /// When the process cannot be started, or refuses.
    pub(crate) fn start(&mut self, seals: &[Seal]) -> Result<()> {
        self.begin(None, seals)?;
        self.settled = true;
        Ok(())
    }

    /// It knows its circuits before it reads the first frame: some may wait in the interfaces.
    fn begin(&mut self, former: Option<&Line>, seals: &[Seal]) -> Result<()> {
        let taps = self.taps.as_ref().context("there are no interfaces")?;
        let (line, mut child) = self.spawn()?;
        let mut with = taps.descriptors().to_vec();
        with.extend(former.map(AsFd::as_fd));
        let take = Ask::Take { keys: self.keys.clone(), timing: self.timing };
        let told = line.tell(&self.keys_in_use(), &[]).and_then(|()| {
            seals.iter().try_for_each(|seal| line.tell(&Ask::Put(seal.clone()), &[]))?;
            line.tell(&take, &with)
        });
        if let Err(error) = told {
            // Nothing depends on it yet.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.context("the sealer did not begin"));
        }
        let pid = child.id();
        self.run(line, pid, Some(child))
    }

    fn spawn(&self) -> Result<(Line, Child)> {
        let (line, theirs) = Line::pair()?;
        let child = Command::new(&self.place.program)
            .arg0("foreweave-agent")
            .args(&self.place.words)
            .arg("seal")
            .arg("--state")
            .arg(&self.place.state)
            // No token, no socket of the service manager.
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {} as sealer", self.place.program.display()))?;
        Ok((line, child))
    }

    /// From now on it is this one; somebody waits for its end.
    fn run(&mut self, line: Line, pid: u32, child: Option<Child>) -> Result<()> {
        if let Some(tell) = self.ended.clone() {
            let watched = line.try_clone()?;
            std::thread::Builder::new().name("sealer".into()).spawn(move || {
                watched.is_closed_within(None);
                tell(pid);
            })?;
        }
        self.running = Some(Running { line, pid, child });
        self.settled = false;
        Ok(())
    }

    /// Ends the sealer. Its interfaces are closed, and are to be removed.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.taps = None;
        let Some(running) = self.running.take() else { return Ok(()) };
        let ended = running.line.end(running.pid);
        running.reap(ended.is_ok());
        ended
    }

    /// It has ended, or does not do what it is told: forgets it. True: it was the one in use.
    pub(crate) fn lose(&mut self, pid: Option<u32>) -> bool {
        let Some(running) = self.running.take_if(|running| pid.is_none_or(|pid| pid == running.pid)) else {
            return false;
        };
        let ended = running.line.kill(running.pid);
        if let Err(error) = &ended {
            warn!(error = %format!("{error:#}"), "the sealer is given up");
        }
        running.reap(ended.is_ok());
        true
    }

    fn ask(&self, ask: &Ask) -> Result<Said> {
        let running = self.running.as_ref().ok_or_else(|| anyhow!("there is no sealer"))?;
        Ok(running.line.ask(ask, &[])?.0)
    }

    fn tell(&self, ask: &Ask) -> Result<()> {
        match self.ask(ask)? {
            Said::Done => Ok(()),
            other => bail!("the sealer answered {other:?}"),
        }
    }

    /// From now on this circuit is encrypted so. The first handshake begins at once.
    pub(crate) fn put(&self, seal: &Seal) -> Result<()> {
        self.tell(&Ask::Put(seal.clone()))
    }

    pub(crate) fn remove(&self, circuit: u64) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        match self.ask(&Ask::Remove { circuit })? {
            Said::Left(_) => Ok(()),
            other => bail!("the sealer answered {other:?}"),
        }
    }

    /// What is encrypted becomes what is wanted: sessions of circuits that stay are kept.
    pub(crate) fn settle(&mut self, wanted: &[Seal]) -> Result<()> {
        let running = self.running.as_ref().context("there is no sealer")?;
        let numbers: BTreeSet<u64> = wanted.iter().map(|seal| seal.circuit).collect();
        for (circuit, _) in running.line.list()? {
            if !numbers.contains(&circuit) {
                self.remove(circuit)?;
            }
        }
        wanted.iter().try_for_each(|seal| self.put(seal))?;
        self.settled = true;
        Ok(())
    }

    /// Other keys of this host: all circuits agree on new sessions, and use the old ones until then.
    pub(crate) fn set_keys(&mut self, keys: Keys) -> Result<()> {
        self.keys = keys;
        if self.running.is_none() {
            return Ok(());
        }
        self.tell(&self.keys_in_use())
    }

    fn keys_in_use(&self) -> Ask {
        Ask::Use { keys: self.keys.clone(), timing: self.timing }
    }
}

impl Running {
    /// Nobody waits here for a process that would not end.
    fn reap(self, ended: bool) {
        let Some(mut child) = self.child else { return };
        if ended {
            let _ = child.wait();
            return;
        }
        // Refused: it is reaped when the agent ends.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(move || child.wait());
    }
}

/// A line to the sealer of this state directory. One that lets nobody in is ended by force: there is none then.
fn reach(state: &Path) -> Result<Option<Line>> {
    match Line::to(state) {
        Err(error) => {
            warn!(error = %format!("{error:#}"), "the sealer cannot be reached");
            if holder::kill(state)? { Ok(None) } else { Err(error) }
        }
        reached => reached,
    }
}

/// One that speaks this protocol and has interfaces here.
fn greet(line: &Line) -> Result<(Hello, Taps)> {
    let hello = line.speaks_this_protocol()?.context("it speaks another protocol")?;
    let devices = line.ask(&Ask::Devices, &[])?.1;
    Ok((hello, Taps::of(devices).context("its interfaces are gone")?))
}

/// Whom to ask whether a circuit has a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    state: Option<PathBuf>,
}

impl Sessions {
    /// Whether the ends have agreed on keys.
    pub(crate) fn has(&self, circuit: u64) -> bool {
        let ask = || -> Result<bool> {
            let state = self.state.as_ref().context("nobody to ask")?;
            let line = Line::to(state)?.context("there is no sealer")?;
            Ok(matches!(line.ask(&Ask::Has { circuit }, &[])?.0, Said::Has(true)))
        };
        ask().unwrap_or(false)
    }
}

/// The sealer of this state directory, if there is one.
pub(crate) fn look(state: &Path) -> Result<Option<Hello>> {
    Line::to(state)?.map(|line| line.hello()).transpose()
}

/// Ends the sealer of this state directory. True: there was one.
pub(crate) fn end(state: &Path) -> Result<bool> {
    let Some(line) = reach(state)? else { return Ok(false) };
    line.end(line.who()?).map(|()| true)
}

/// Removes what a sealer that was killed left in the state directory.
pub(crate) fn forget(state: &Path) -> Result<()> {
    line::forget(state)
}

#[cfg(test)]
mod tests {
    use super::super::line::Door;
    use super::*;

    #[test]
    fn a_sealer_of_another_protocol_is_told_to_end_and_nothing_else() {
        let state = tempfile::tempdir().expect("a directory");
        let door = Door::open(state.path()).expect("opened");
        let mut sealer = Sealer::new(
            Place::of(state.path()),
            Keys::generate().expect("random numbers"),
            Timing::default(),
        );
        let heard = std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                let mut fds = [rustix::event::PollFd::new(&door, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut fds, None).expect("somebody comes");
                let line = door.let_in().expect("let in").expect("a questioner");
                let mut heard = Vec::new();
                while let Some((word, _)) = line.hear::<serde_json::Value>().expect("heard") {
                    let last = word == "End";
                    heard.push(word);
                    let answer = serde_json::json!({ "Hello": { "protocol": 7, "feathers": true } });
                    let answer = if last { serde_json::json!("Done") } else { answer };
                    line.say(&answer, &[]).expect("said");
                    if last {
                        break;
                    }
                }
                heard
            });
            assert_eq!(sealer.find(&[]).expect("it ends"), None);
            other.join().expect("no panic")
        });
        assert_eq!(heard, ["Hello", "End"]);
        assert!(!sealer.is_settled());
    }
}
