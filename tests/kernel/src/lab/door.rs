//! The crate's unsafe door: what runs between fork and exec, and the ioctls that make a TAP interface.
#![expect(unsafe_code, reason = "pre_exec and the TUN ioctls have no safe form")]

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The command will run in this network namespace, keeping all other namespaces (so that bpffs stays in sight), and
/// in a session of its own when `detached`.
pub(crate) fn enter(command: &mut Command, namespace: File, detached: bool) {
    // SAFETY: setns and setsid are async-signal-safe system calls, nothing allocates, and the descriptor lives in
    // the closure.
    unsafe {
        command.pre_exec(move || {
            if detached {
                nix::unistd::setsid()?;
            }
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        });
    }
}

/// Attaches to the TAP interface `name` of the calling thread's network namespace, and creates it when it is not
/// there. A persistent one stays when the descriptor is closed.
pub(crate) fn tap(name: &str, persistent: bool) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .context("/dev/net/tun")?;
    // SAFETY: ifreq is plain old data, for which all zero bytes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: the descriptor is open and the request outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    nix::errno::Errno::result(made).with_context(|| format!("TUNSETIFF {name}"))?;
    if persistent {
        // SAFETY: the descriptor is open; the argument is a number.
        let kept = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) };
        nix::errno::Errno::result(kept).with_context(|| format!("TUNSETPERSIST {name}"))?;
    }
    Ok(file)
}

/// Gives a TAP interface its carrier, or takes it away, as a cable would.
pub(crate) fn carrier(tap: &File, there: bool) -> Result<()> {
    let there = libc::c_int::from(there);
    // SAFETY: the descriptor is open and the kernel reads one integer, which outlives the call.
    let set = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETCARRIER, &raw const there) };
    nix::errno::Errno::result(set).map(drop).context("TUNSETCARRIER")
}
