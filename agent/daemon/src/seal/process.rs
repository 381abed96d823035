//! The sealer: a process that encrypts circuits, and goes on when its agent is killed, stopped or replaced.
//!
//! An agent starts it with a line as its standard input, gives it keys, interfaces and circuits by that line, and any
//! later agent finds it by a socket in the state directory. It ends when it is told to, when its interfaces are removed,
//! and when a successor of another build needs it no more.
use super::former::Former;
use super::keys::Keys;
use super::line::{Door, Line};
use super::table::Table;
use super::words::{Ask, Hello, Listed, PAGE, PROTOCOL, Said};
use super::work::Work;
use super::{Timing, build};
use anyhow::{Context, Result, anyhow, bail};
use caps::CapSet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{info, warn};

/// Questioners at once; more have to wait.
const LINES: usize = 64;

struct Sealer {
    state: PathBuf,
    build: String,
    keys: Option<Keys>,
    timing: Timing,
    table: Table,
    work: Option<Work>,
    door: Option<Door>,
    lines: Vec<Line>,
}

/// What follows from a word.
enum Next {
    Answer(Said),
    /// With the interfaces.
    Devices,
    End,
}

/// Works until it is not needed any more. Standard input is the line to the agent that starts it.
///
/// # Errors
/// When it was not started by an agent, or the system refuses what it needs.
pub fn run(state: &Path) -> Result<()> {
    let line = Line::over(std::io::stdin().as_fd().try_clone_to_owned()?)
        .context("the agent starts this, with a line to it as standard input")?;
    // A packet that waits for a processor comes late, and many at once find no room in their class.
    let scheduling = crate::priority::prefer();
    detach()?;
    let mut sealer = Sealer {
        state: state.to_owned(),
        build: build::of_this_process(),
        keys: None,
        timing: Timing::default(),
        table: Table::default(),
        work: None,
        door: None,
        lines: vec![line],
    };
    info!(pid = std::process::id(), %scheduling, "the sealer begins");
    let outcome = sealer.turn();
    info!("the sealer ends");
    outcome
}

/// Neither the agent's terminal nor its directory nor its rights are needed: what the work is on comes by the line.
fn detach() -> Result<()> {
    // Refused when it leads a session already, which is as good.
    let _ = nix::unistd::setsid();
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    std::env::set_current_dir("/")?;
    let name = c"fw-sealer";
    nix::sys::prctl::set_name(name)?;
    nix::sys::prctl::set_no_new_privs()?;
    // No core file with keys, and nobody of the same user reads its memory.
    nix::sys::prctl::set_dumpable(false)?;
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| anyhow!("cannot give up capabilities: {error}"))?;
    }
    Ok(())
}

impl Sealer {
    fn turn(&mut self) -> Result<()> {
        while !self.is_over() {
            let (doorbell, speaking) = self.wait()?;
            if doorbell {
                self.let_in();
            }
            // From the last to the first: the numbers of the others stay as they are.
            for at in speaking.into_iter().rev() {
                if self.hear(at) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Nobody who started it is there any more, or there is nothing to work on.
    fn is_over(&self) -> bool {
        match &self.work {
            None => self.lines.is_empty(),
            Some(work) => work.has_ended(),
        }
    }

    /// Whether somebody is at the door, and who says something.
    fn wait(&self) -> Result<(bool, Vec<usize>)> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = self.lines.iter().map(|line| readable(line.as_fd())).collect();
        let door = self.door.as_ref().filter(|_| self.lines.len() < LINES);
        fds.extend(door.map(|door| readable(door.as_fd())));
        fds.extend(self.work.as_ref().map(|work| readable(work.news())));
        // A thread may have ended before its news was read.
        if self.is_over() {
            return Ok((false, Vec::new()));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("waiting for questions"),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let speaking = (0..self.lines.len()).filter(|at| ready(&fds[*at])).collect();
        Ok((door.is_some() && ready(&fds[self.lines.len()]), speaking))
    }

    fn let_in(&mut self) {
        match self.door.as_ref().map(Door::let_in) {
            Some(Ok(Some(line))) => self.lines.push(line),
            Some(Err(error)) => warn!(error = %format!("{error:#}"), "a questioner was not let in"),
            Some(Ok(None)) | None => {}
        }
    }

    /// True: this was the last word.
    fn hear(&mut self, at: usize) -> bool {
        let (ask, with) = match self.lines[at].hear::<Ask>() {
            Ok(Some(heard)) => heard,
            Ok(None) => {
                self.lines.swap_remove(at);
                return false;
            }
            Err(error) => {
                let why = Said::Refused(format!("{error:#}"));
                if self.lines[at].say(&why, &[]).is_err() {
                    self.lines.swap_remove(at);
                }
                return false;
            }
        };
        let next = self.handle(ask, with).unwrap_or_else(|error| {
            warn!(error = %format!("{error:#}"), "refused");
            Next::Answer(Said::Refused(format!("{error:#}")))
        });
        self.answer(at, next)
    }

    fn answer(&mut self, at: usize, next: Next) -> bool {
        let line = &self.lines[at];
        let said = match (&next, &self.work) {
            (Next::Answer(said), _) => line.say(said, &[]),
            (Next::Devices, Some(work)) => line.say(&Said::Done, &work.interfaces()),
            (Next::Devices, None) => line.say(&Said::Refused("there are no interfaces yet".into()), &[]),
            (Next::End, _) => {
                // Who is told that it ended finds the interfaces closed, and its place free.
                self.work = None;
                self.door = None;
                let _ = self.lines[at].say(&Said::Done, &[]);
                return true;
            }
        };
        if said.is_err() {
            self.lines.swap_remove(at);
        }
        false
    }

    fn handle(&mut self, ask: Ask, with: Vec<OwnedFd>) -> Result<Next> {
        let said = match ask {
            Ask::Hello => Said::Hello(self.hello()),
            Ask::End => return Ok(Next::End),
            Ask::Devices => return Ok(Next::Devices),
            Ask::Take { keys, timing } => {
                (self.keys, self.timing) = (Some(keys), timing);
                self.take(with)?;
                Said::Done
            }
            Ask::Use { keys, timing } => {
                self.table.renew(&keys, timing);
                (self.keys, self.timing) = (Some(keys), timing);
                Said::Done
            }
            Ask::Put(seal) => {
                let keys = self.keys.as_ref().context("there are no keys yet")?;
                self.table.put(&seal, keys, self.timing);
                Said::Done
            }
            Ask::Remove { circuit } => {
                if let Some(former) = self.former() {
                    former.forget(circuit);
                }
                Said::Left(self.table.remove(circuit))
            }
            Ask::List { above } => self.list(above),
            Ask::Has { circuit } => Said::Has(self.has(circuit)),
            Ask::Yield => {
                self.give_way(with)?;
                Said::Done
            }
        };
        Ok(Next::Answer(said))
    }

    fn former(&self) -> Option<&Former> {
        self.work.as_ref().and_then(Work::former)
    }

    fn hello(&self) -> Hello {
        let circuits = self.table.all();
        Hello {
            protocol: PROTOCOL,
            build: self.build.clone(),
            pid: std::process::id(),
            circuits: circuits.len(),
            sessions: circuits.iter().filter(|(_, circuit)| circuit.lock().has_session()).count(),
            relieving: self.former().is_some(),
        }
    }

    /// A session of a former sealer serves as well.
    fn has(&self, circuit: u64) -> bool {
        self.table.has(circuit) || self.former().is_some_and(|former| former.passing().contains(&circuit))
    }

    fn list(&self, above: u64) -> Said {
        let circuits = self.table.above(above, PAGE);
        let more = circuits.len() == PAGE;
        let listed = circuits.iter().map(|(number, _)| Listed(*number, self.has(*number)));
        Said::Listed { circuits: listed.collect(), more }
    }

    fn take(&mut self, with: Vec<OwnedFd>) -> Result<()> {
        if self.work.is_some() {
            bail!("there are interfaces already");
        }
        let mut with = with.into_iter();
        let (Some(plain), Some(cipher)) = (with.next(), with.next()) else {
            bail!("two interfaces are needed")
        };
        self.work = Some(match with.next() {
            None => Work::start([plain, cipher], None, &self.table)?,
            Some(line) => self.relieve(&Line::over(line)?, [plain, cipher])?,
        });
        self.door = Some(Door::open(&self.state)?);
        Ok(())
    }

    /// First somebody reads here, and only then nobody there: no frame finds both away.
    fn relieve(&self, line: &Line, interfaces: [OwnedFd; 2]) -> Result<Work> {
        let passing = line.list()?.into_iter().filter(|(_, has)| *has).map(|(circuit, _)| circuit);
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let ([plain, for_plain], [cipher, for_cipher]) = (<[_; 2]>::from(pair()?), <[_; 2]>::from(pair()?));
        let former = Former::new([plain, cipher], passing.collect())?;
        let work = Work::start(interfaces, Some(Arc::new(former)), &self.table)?;
        line.tell(&Ask::Yield, &[for_plain.as_fd(), for_cipher.as_fd()])?;
        info!("frames of sessions that are there go on to the former sealer");
        Ok(work)
    }

    fn give_way(&mut self, with: Vec<OwnedFd>) -> Result<()> {
        let sockets: [OwnedFd; 2] = with.try_into().map_err(|_| anyhow!("two sockets are needed"))?;
        let work = self.work.take().context("there is nothing to give way with")?;
        for (_, circuit) in self.table.all() {
            circuit.lock().retire();
        }
        self.work = Some(work.yielded(sockets, &self.table)?);
        info!("a successor is there; what needs sessions of this sealer comes from it");
        Ok(())
    }
}
