//! The line between an agent and a sealer: a Unix socket that keeps messages whole and carries file descriptors.
use super::holder::{self, Holder};
use super::words::{Ask, DESCRIPTORS, Hello, LONGEST, PROTOCOL, Said};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::warn;

const NAME: &str = "sealer.sock";
/// How long an answer may take. A sealer answers within a millisecond, but a host can be busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Questioners that wait to be let in.
const WAITING: i32 = 16;

#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    /// A line, and its other end for a process that is started.
    pub(super) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(ours)?, theirs))
    }

    pub(super) fn over(socket: OwnedFd) -> Result<Self> {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .context("what should be a line to a sealer is no socket")?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// To the sealer of this state directory; none: there is none.
    pub(super) fn to(state: &Path) -> Result<Option<Self>> {
        let Ok(folder) = File::open(state) else { return Ok(None) };
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // Its patience also holds for a sealer that lets nobody in.
        let line = Self::over(socket)?;
        match connect(&line.0, &address(&folder, NAME)?) {
            Ok(()) => Ok(Some(line)),
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR) => Ok(None),
            Err(Errno::AGAIN) => bail!("the sealer lets nobody in for {PATIENCE:?}"),
            Err(error) => Err(error).with_context(|| format!("connecting to {}", path(state).display())),
        }
    }

    pub(super) fn say(&self, word: &impl Serialize, with: &[BorrowedFd<'_>]) -> Result<()> {
        let text = serde_json::to_vec(word)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
            bail!("{} file descriptors with one message; {DESCRIPTORS} is the most", with.len());
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)
            .context("the other end of the line does not listen")?;
        Ok(())
    }

    /// None: the other end has closed the line.
    pub(super) fn hear<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = match recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
            Ok(heard) => heard.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(Errno::AGAIN) => bail!("the other end of the line says nothing for {PATIENCE:?}"),
            Err(error) => return Err(error).context("listening to the other end of the line"),
        };
        if length == 0 {
            return Ok(None);
        }
        let mut with = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                with.extend(descriptors);
            }
        }
        let word = serde_json::from_slice(&text[..length]).context("not a word of this protocol")?;
        Ok(Some((word, with)))
    }

    pub(super) fn ask(&self, ask: &Ask, with: &[BorrowedFd<'_>]) -> Result<(Said, Vec<OwnedFd>)> {
        self.say(ask, with)?;
        match self.hear()? {
            Some((Said::Refused(why), _)) => bail!("the sealer refused: {why}"),
            Some(answer) => Ok(answer),
            None => bail!("the sealer has ended"),
        }
    }

    /// For what is answered with `Done` only.
    pub(super) fn tell(&self, ask: &Ask, with: &[BorrowedFd<'_>]) -> Result<()> {
        match self.ask(ask, with)? {
            (Said::Done, _) => Ok(()),
            (other, _) => bail!("the sealer answered {other:?}"),
        }
    }

    pub(super) fn hello(&self) -> Result<Hello> {
        match self.ask(&Ask::Hello, &[])?.0 {
            Said::Hello(hello) => Ok(hello),
            other => bail!("the sealer answered {other:?}"),
        }
    }

    /// Every circuit that the other end encrypts, and whether it has a session.
    pub(super) fn list(&self) -> Result<Vec<(u64, bool)>> {
        let (mut all, mut above) = (Vec::new(), 0);
        loop {
            let Said::Listed { circuits, more } = self.ask(&Ask::List { above }, &[])?.0 else {
                bail!("the sealer does not list its circuits");
            };
            all.extend(circuits.iter().map(|listed| (listed.0, listed.1)));
            match all.last() {
                Some((last, _)) if more => above = *last,
                _ => return Ok(all),
            }
        }
    }

    /// The process that opened the door through which this line goes.
    pub(super) fn who(&self) -> Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Has the sealer, this process, close the interfaces and end, and waits until it has: by force if it does not answer.
    pub(super) fn end(&self, pid: u32) -> Result<()> {
        if self.is_closed_within(Some(Duration::ZERO)) {
            return Ok(());
        }
        match self.tell(&Ask::End, &[]) {
            Ok(()) if self.is_closed_within(Some(PATIENCE)) => return Ok(()),
            Ok(()) => {
                warn!(pid, "the sealer is ended by force: it stays, {PATIENCE:?} after it said that it ends")
            }
            Err(error) => warn!(pid, error = %format!("{error:#}"), "the sealer is ended by force"),
        }
        self.kill(pid)
    }

    /// Ends the sealer, this process, without asking it, and waits until it has ended.
    pub(super) fn kill(&self, pid: u32) -> Result<()> {
        // While the line to it is open, nobody else has its number.
        if !self.is_closed_within(Some(Duration::ZERO)) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        if self.is_closed_within(Some(PATIENCE)) {
            return Ok(());
        }
        bail!("the sealer, process {pid}, did not end within {PATIENCE:?}")
    }

    /// Waits until the other end is closed; none: for ever.
    pub(super) fn is_closed_within(&self, patience: Option<Duration>) -> bool {
        let patience = patience.map(|patience| patience.try_into().unwrap_or_default());
        // Of itself, poll waits for this and for errors only.
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        loop {
            match poll(&mut fds, patience.as_ref()) {
                Err(Errno::INTR) => {}
                outcome => return outcome.is_ok_and(|found| found > 0),
            }
        }
    }

    pub(super) fn speaks_this_protocol(&self) -> Result<Option<Hello>> {
        Ok(Some(self.hello()?).filter(|hello| hello.protocol == PROTOCOL))
    }

    pub(super) fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Through the open directory: a socket's path may have 107 bytes only.
fn address(folder: &File, name: &str) -> Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?)
}

/// Where a sealer is found. It goes with its sealer, unless another one has the place by then.
#[derive(Debug)]
pub(super) struct Door {
    socket: OwnedFd,
    path: PathBuf,
    inode: u64,
    _holder: Holder,
}

impl Door {
    /// Takes the place of whoever was found there, in one step.
    pub(super) fn open(state: &Path) -> Result<Self> {
        let folder = File::open(state).with_context(|| format!("opening {}", state.display()))?;
        let name = format!(".{NAME}.{}", std::process::id());
        let temporary = state.join(&name);
        let _ = std::fs::remove_file(&temporary);
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        bind(&socket, &address(&folder, &name)?)
            .with_context(|| format!("binding {}", temporary.display()))?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        listen(&socket, WAITING)?;
        let inode = std::fs::symlink_metadata(&temporary)?.ino();
        let path = path(state);
        let holder = Holder::take(state)?;
        std::fs::rename(&temporary, &path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { socket, path, inode, _holder: holder })
    }

    /// A questioner, if there is one who may ask: root, or the user that runs this.
    pub(super) fn let_in(&self) -> Result<Option<Line>> {
        let socket = match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(None),
            Err(error) => return Err(error).context("letting in a questioner"),
        };
        let who = sockopt::socket_peercred(&socket)?;
        if !who.uid.is_root() && who.uid != rustix::process::geteuid() {
            warn!(uid = who.uid.as_raw(), pid = %who.pid, "a questioner without the right was sent away");
            return Ok(None);
        }
        Line::over(socket).map(Some)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the place where a sealer was found.
pub(super) fn forget(state: &Path) -> Result<()> {
    [path(state), state.join(holder::NAME)].iter().try_for_each(|path| match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_file_descriptors_arrive_and_the_end_is_seen() {
        let state = tempfile::tempdir().expect("a directory");
        assert!(Line::to(state.path()).expect("asked").is_none(), "nobody is there");
        let door = Door::open(state.path()).expect("opened");
        let there = Line::to(state.path()).expect("connected").expect("somebody is there");
        let here = door.let_in().expect("let in").expect("a questioner");
        let file = tempfile::tempfile().expect("a file");
        there.say(&Ask::Yield, &[file.as_fd(), file.as_fd()]).expect("said");
        let (Ask::Yield, with) = here.hear::<Ask>().expect("heard").expect("a word") else {
            panic!("another word")
        };
        let inode = |file: File| file.metadata().expect("a file").ino();
        let sent = file.metadata().expect("a file").ino();
        assert_eq!(with.into_iter().map(|one| inode(one.into())).collect::<Vec<_>>(), [sent, sent]);
        assert!(!there.is_closed_within(Some(Duration::ZERO)));
        drop(here);
        assert!(there.is_closed_within(None));
        assert!(there.ask(&Ask::Hello, &[]).is_err());
    }

    #[test]
    fn who_takes_the_place_keeps_it_when_the_former_one_goes() {
        let state = tempfile::tempdir().expect("a directory");
        let former = Door::open(state.path()).expect("opened");
        let present = Door::open(state.path()).expect("opened");
        drop(former);
        let line = Line::to(state.path()).expect("connected").expect("somebody is there");
        assert!(present.let_in().expect("let in").is_some());
        drop((line, present));
        assert!(!path(state.path()).exists());
        // One that was killed leaves its socket behind.
        let killed = Door::open(state.path()).expect("opened");
        let kept = state.path().join("kept");
        std::fs::hard_link(path(state.path()), &kept).expect("kept");
        drop(killed);
        std::fs::rename(&kept, path(state.path())).expect("put back");
        assert!(Line::to(state.path()).expect("asked").is_none());
        drop(Door::open(state.path()).expect("opened"));
        assert!(!path(state.path()).exists() && !state.path().join(holder::NAME).exists());
    }

    #[test]
    fn a_state_directory_may_have_a_long_name() {
        let state = tempfile::tempdir().expect("a directory");
        let deep = state.path().join("a".repeat(120));
        std::fs::create_dir(&deep).expect("made");
        let door = Door::open(&deep).expect("opened");
        assert!(Line::to(&deep).expect("connected").is_some());
        assert!(door.let_in().expect("let in").is_some());
    }
}
