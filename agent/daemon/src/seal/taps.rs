//! The two TAP interfaces between the programs and the agent. They go when the agent closes them, or ends.
use anyhow::{Context, Result};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Through which packets of workloads come and go.
pub(crate) const PLAIN: &str = "fw-plain";
/// Through which the messages come and go that carry them.
pub(crate) const CIPHER: &str = "fw-cipher";

/// Superpackets that wait while the agent is busy; more are dropped by the kernel, which counts them as `tx_dropped`.
const QUEUE: u32 = 4_000;
/// The largest that the kernel allows: lengths are the circuits' business.
const MTU: u16 = 65_521;

pub(crate) struct Tap(SyncDevice);

impl Tap {
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .mtu(MTU)
            .with(|options| {
                options.offload(true);
            })
            .enable(false)
            .build_sync()
            .with_context(|| format!("cannot make the TAP interface {name}"))?;
        device.set_tx_queue_len(QUEUE)?;
        device.set_nonblocking(true)?;
        Ok(Self(device))
    }

    pub(crate) fn index(&self) -> Result<u32> {
        Ok(self.0.if_index()?)
    }

    /// A frame with its headers; none: there is none at the moment.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.recv(into) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
