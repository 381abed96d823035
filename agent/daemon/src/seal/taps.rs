//! The two TAP interfaces between the programs and the sealer.
//!
//! They stay until the agent removes them, also when agent and sealer are killed: the programs know them by number, and
//! the kernel would give a free number to somebody else's interface, which would then get packets in the clear.
use anyhow::{Context, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tun_rs::{DeviceBuilder, Layer};

/// Through which packets of workloads come and go.
pub(crate) const PLAIN: &str = "fw-plain";
/// Through which the messages come and go that carry them.
pub(crate) const CIPHER: &str = "fw-cipher";

/// Superpackets that wait while the sealer is busy; more are dropped by the kernel, which counts them as `tx_dropped`.
const QUEUE: u32 = 4_000;
/// The largest that the kernel allows: lengths are the circuits' business.
const MTU: u16 = 65_521;

/// The interfaces' indexes, in the order of [`ebpf_abi::seal::PLAIN`] and [`ebpf_abi::seal::CIPHER`].
pub(crate) type Indexes = [u32; 2];

/// Both, as the agent holds them: while it does, they outlive a sealer that is killed.
#[derive(Debug)]
pub(super) struct Taps {
    plain: OwnedFd,
    cipher: OwnedFd,
    pub(super) indexes: Indexes,
}

impl Taps {
    /// Makes them, down still; or takes those that are there with nobody at them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn make() -> Result<Self> {
        let (plain, cipher) = (make(PLAIN)?, make(CIPHER)?);
        Ok(Self { plain, cipher, indexes: indexes()? })
    }

    /// Those that a running sealer has. None: they are no interfaces of this network namespace.
    pub(super) fn of(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [plain, cipher] = <[OwnedFd; 2]>::try_from(descriptors).ok()?;
        Some(Self { plain, cipher, indexes: indexes().ok()? })
    }

    /// Whether nobody has removed them.
    pub(super) fn are_there(&self) -> bool {
        indexes().is_ok_and(|indexes| indexes == self.indexes)
    }

    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.plain.as_fd(), self.cipher.as_fd()]
    }
}

fn indexes() -> Result<Indexes> {
    let index = |name| nix::net::if_::if_nametoindex(name).with_context(|| format!("there is no {name}"));
    Ok([index(PLAIN)?, index(CIPHER)?])
}

fn make(name: &str) -> Result<OwnedFd> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .mtu(MTU)
        .with(|options| {
            options.offload(true);
        })
        .enable(false)
        .build_sync()
        .with_context(|| {
            let holder = "`ps` shows it as foreweave-agent … seal --state DIR";
            format!("cannot make the TAP interface {name}; if the sealer of another state directory has it, end that one ({holder})")
        })?;
    device.set_tx_queue_len(QUEUE)?;
    device.set_nonblocking(true)?;
    device.persist().with_context(|| format!("cannot keep the TAP interface {name}"))?;
    Ok(device.as_fd().try_clone_to_owned()?)
}
