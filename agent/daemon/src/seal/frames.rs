//! Where frames come from and go to: a TAP interface, or a socket between two sealers.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) struct Frames(OwnedFd);

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Frame(usize),
    /// There is nothing at the moment.
    Nothing,
    /// The interface was removed, or the other sealer has closed the socket: nothing will ever come again.
    Gone,
}

impl Frames {
    /// Reading from it must not wait.
    pub(super) fn over(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// A frame with its headers.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(&self.0, into) {
            Ok(0) => Ok(Read::Gone),
            Ok(length) => Ok(Read::Frame(length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Read::Nothing),
            Err(rustix::io::Errno::BADFD | rustix::io::Errno::CONNRESET) => Ok(Read::Gone),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, frame)?;
        Ok(())
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
