//! Who has the sealer's place: a locked file beside the socket, for the day when nobody answers there any more.
//!
//! The kernel tells which process holds a lock, and forgets it with the process: a number that somebody else got since
//! is never taken for it.
use super::line::PATIENCE;
use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::warn;

pub(super) const NAME: &str = "sealer.lock";

/// The file goes with its holder, unless another one has the place by then.
#[derive(Debug)]
pub(super) struct Holder {
    /// The lock ends when this is closed.
    file: File,
    path: PathBuf,
}

impl Holder {
    /// Takes the place of whoever held it, in one step.
    pub(super) fn take(state: &Path) -> Result<Self> {
        let temporary = state.join(format!(".{NAME}.{}", std::process::id()));
        let path = state.join(NAME);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("making {}", temporary.display()))?;
        fcntl(&file, FcntlArg::F_SETLK(&whole()))
            .with_context(|| format!("locking {}", temporary.display()))?;
        std::fs::rename(&temporary, &path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { file, path })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let inode = |path: &Path| std::fs::symlink_metadata(path).map(|file| file.ino()).ok();
        if self.file.metadata().is_ok_and(|file| inode(&self.path) == Some(file.ino())) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The process that has the place; none: nobody has, or this one.
fn of(state: &Path) -> Option<Pid> {
    let file = OpenOptions::new().write(true).open(state.join(NAME)).ok()?;
    let mut lock = whole();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    Pid::from_raw(lock.l_pid).filter(|_| lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Ends whoever has the place, and waits until it has ended. False: nobody has it.
///
/// # Errors
/// When it does not end.
pub(super) fn kill(state: &Path) -> Result<bool> {
    let Some(pid) = of(state) else { return Ok(false) };
    let process = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {pid}"))?;
    // From here on it is the same process, or none.
    if of(state) != Some(pid) {
        return Ok(false);
    }
    warn!(%pid, "the sealer is ended by force");
    pidfd_send_signal(&process, Signal::KILL).with_context(|| format!("ending process {pid}"))?;
    let patience = PATIENCE.try_into().unwrap_or_default();
    let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(0) => bail!("the sealer, process {pid}, did not end within {PATIENCE:?}"),
        Ok(_) => Ok(true),
        Err(error) => Err(error).with_context(|| format!("waiting for the end of process {pid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_place_has_it_alone_and_takes_its_file_along() {
        let state = tempfile::tempdir().expect("a directory");
        assert!(!kill(state.path()).expect("asked"), "nobody is there");
        let former = Holder::take(state.path()).expect("taken");
        let present = Holder::take(state.path()).expect("taken");
        drop(former);
        assert!(state.path().join(NAME).exists());
        assert!(!kill(state.path()).expect("asked"), "never itself");
        drop(present);
        assert!(!state.path().join(NAME).exists());
    }
}
