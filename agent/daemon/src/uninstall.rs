//! Removes everything of the agent from a host: interfaces, programs, maps and identity. Doing it twice is fine.
use crate::config::Config;
use crate::identity;
use crate::kernel::{filters, links, netlink::Netlink, programs, queues};
use crate::memory::Memory;
use crate::seal::{self, CIPHER, PLAIN, keys};
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::ErrorKind;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Those of encryption, and host sides of ENIs; their inner sides and routes went with them.
    pub interfaces: Vec<String>,
    /// Underlay interfaces with a filter of ours, which are those where the kernel has no tcx.
    pub filters: Vec<String>,
    /// Underlay interfaces whose queues were ours; they have the kernel's default again.
    pub queues: Vec<String>,
    /// Pinned links and maps.
    pub pins: Vec<String>,
    /// Whether a process that encrypted circuits was ended.
    pub sealer: bool,
    /// Whether this host was enrolled.
    pub identity: bool,
}

/// Interfaces first: while they are there, packets need the maps.
///
/// # Errors
/// What could not be removed; the rest may be gone already, and a second call removes it.
pub fn uninstall(config: &Config) -> Result<Removed> {
    let mut removed = Removed::default();
    // Without a state there is no agent that could run with it.
    let lock = config.state.exists().then(|| identity::Lock::take(&config.state)).transpose()?;
    removed.sealer = config.state.exists() && seal::end(&config.state).context("ending the sealer")?;
    let mut netlink = Netlink::open().context("cannot open a netlink socket")?;
    for name in [PLAIN, CIPHER] {
        if links::remove_tap(&mut netlink, name)? {
            removed.interfaces.push(name.to_owned());
        }
    }
    for link in links::all(&mut netlink)? {
        if link.is_ours() {
            links::remove(&mut netlink, &link.name)?;
            removed.interfaces.push(link.name);
        }
    }
    removed.filters = filters::leave(&mut netlink, |_| true)?;
    removed.queues = queues::leave(&mut netlink)?;
    for pin in programs::pinned(&config.pins)? {
        if !pin.is_ours() {
            continue;
        }
        std::fs::remove_file(&pin.path).with_context(|| format!("removing {}", pin.path.display()))?;
        removed.pins.push(pin.name);
    }
    drop(lock);
    // Another's pins, or another's files, keep their directory.
    for directory in [&config.pins, &config.state] {
        if directory == &config.state {
            Memory::of(&config.state).remove()?;
            removed.identity = identity::forget(&config.state)?;
            keys::forget(&config.state)?;
            seal::forget(&config.state)?;
        }
        match std::fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(error).with_context(|| format!("removing {}", directory.display())),
        }
    }
    Ok(removed)
}
