//! A former sealer that is being relieved: it alone can use its sessions, so frames that need them are passed to it.
//!
//! Packets of a circuit go to it until the far end is known to use a session of the new sealer; messages for its
//! sessions go to it for as long as any come. What it makes of them it writes to the interfaces itself.
use super::table::Table;
use agent_core::seal::message;
use ebpf_abi::seal::Tag;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown, sockopt};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Once all circuits have new sessions and nothing was passed for so long, the former one can go.
const QUIET: Duration = Duration::from_secs(3);
/// Its sessions are void by then in any case (WireGuard's REJECT_AFTER_TIME is 180 s).
const LIFE: Duration = Duration::from_secs(185);
/// How often the far ends are shown the new sessions meanwhile.
const REMIND: Duration = Duration::from_millis(400);
/// How long it may take for a frame; it works on one within microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Former {
    plain: OwnedFd,
    cipher: OwnedFd,
    there: AtomicBool,
    since: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Circuits whose packets it still gets.
    passing: BTreeSet<u64>,
    /// When something was passed last.
    passed: Instant,
    reminded: Instant,
    frames: u64,
}

impl Former {
    /// `passing`: the circuits that it has sessions of.
    pub(super) fn new([plain, cipher]: [OwnedFd; 2], passing: BTreeSet<u64>) -> io::Result<Self> {
        for socket in [&plain, &cipher] {
            sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        }
        let now = Instant::now();
        let progress = Mutex::new(Progress { passing, passed: now, reminded: now, frames: 0 });
        Ok(Self { plain, cipher, there: AtomicBool::new(true), since: now, progress })
    }

    pub(super) fn is_there(&self) -> bool {
        self.there.load(Ordering::Relaxed)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether packets of this circuit are to be encrypted there.
    pub(super) fn keeps(&self, circuit: u64, table: &Table) -> bool {
        let Some(known) = table.get(circuit) else { return true };
        let confirmed = known.lock().is_confirmed();
        let mut progress = self.progress();
        if confirmed {
            progress.passing.remove(&circuit);
        }
        progress.passing.contains(&circuit)
    }

    /// As read from the interface.
    pub(super) fn packet(&self, frame: &[u8]) {
        self.pass(&self.plain, frame);
    }

    pub(super) fn message(&self, tag: &Tag, bytes: &[u8]) {
        self.pass(&self.cipher, &message::bare(tag, bytes));
    }

    /// Waits until there is room, but not for long: what waits meanwhile waits in the interface's queue.
    fn pass(&self, socket: &OwnedFd, frame: &[u8]) {
        match send(socket, frame, SendFlags::NOSIGNAL) {
            Ok(_) => {
                let mut progress = self.progress();
                progress.passed = Instant::now();
                progress.frames += 1;
            }
            Err(Errno::INTR) => self.pass(socket, frame),
            Err(error @ (Errno::NOBUFS | Errno::NOMEM | Errno::MSGSIZE)) => {
                debug!(%error, length = frame.len(), "a frame was not passed to the former sealer");
            }
            Err(error) => {
                warn!(%error, "the former sealer has ended too early or takes nothing; its sessions are lost");
                self.leave();
            }
        }
    }

    /// It reads what is left, and ends.
    fn leave(&self) {
        self.there.store(false, Ordering::Relaxed);
        for socket in [&self.plain, &self.cipher] {
            let _ = shutdown(socket, Shutdown::Write);
        }
    }

    /// The circuit was removed.
    pub(super) fn forget(&self, circuit: u64) {
        self.progress().passing.remove(&circuit);
    }

    /// The circuits whose sessions are used there.
    pub(super) fn passing(&self) -> BTreeSet<u64> {
        if self.is_there() { self.progress().passing.clone() } else { BTreeSet::new() }
    }

    /// Lets it go when it is not needed any more. True: far ends are to be shown the new sessions.
    pub(super) fn tick(&self, table: &Table) -> bool {
        let unsettled: Vec<u64> = self.passing().into_iter().collect();
        let settled = unsettled
            .into_iter()
            .filter(|circuit| table.get(*circuit).is_some_and(|known| known.lock().is_confirmed()));
        let settled: Vec<u64> = settled.collect();
        let mut progress = self.progress();
        progress.passing.retain(|circuit| !settled.contains(circuit));
        let quiet = progress.passing.is_empty() && progress.passed.elapsed() > QUIET;
        if quiet || self.since.elapsed() > LIFE {
            let (frames, after) = (progress.frames, self.since.elapsed());
            info!(frames, ?after, unsettled = progress.passing.len(), "the former sealer is relieved");
            self.leave();
            return false;
        }
        let due = progress.reminded.elapsed() > REMIND;
        if due {
            progress.reminded = Instant::now();
        }
        due
    }
}
