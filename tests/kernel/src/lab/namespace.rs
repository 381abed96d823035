//! Network namespaces by name, as iproute2 keeps them under /run/netns.
use super::door;
use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "/run/netns";

pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

pub fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Makes a namespace with its loopback still down.
pub fn create(name: &str) -> Result<()> {
    std::fs::create_dir_all(FOLDER)?;
    let path = path(name);
    File::create_new(&path).with_context(|| format!("{} exists already", path.display()))?;
    let target = path.clone();
    on_own_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
        let here = Some("/proc/thread-self/ns/net");
        mount(here, &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind mount")
    })
    .with_context(|| format!("making the network namespace {name}"))
}

/// Removes a namespace with everything in it; one that is not there is removed already.
pub fn remove(name: &str) -> Result<()> {
    let path = path(name);
    if !path.exists() {
        return Ok(());
    }
    // Not mounted when its making was cut short.
    while umount2(&path, MntFlags::MNT_DETACH).is_ok() {}
    std::fs::remove_file(&path).with_context(|| path.display().to_string())
}

/// Names that begin with `prefix`, sorted.
pub fn list(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// Ends every process that lives in one of the namespaces.
pub(super) fn end_inhabitants(names: &[String]) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let inodes = names.iter().filter_map(|name| std::fs::metadata(path(name)).ok()).map(|data| data.ino());
    let homes: Vec<String> = inodes.map(|inode| format!("net:[{inode}]")).collect();
    let entries = std::fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| *pid != std::process::id() as i32) {
        let home = std::fs::read_link(format!("/proc/{pid}/ns/net"));
        if home.is_ok_and(|home| homes.iter().any(|ours| home.as_os_str() == ours.as_str())) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    Ok(())
}

/// Does something on a thread that is inside the namespace.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = open(name)?;
    on_own_thread(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {name}"))?;
        work()
    })
}

/// A command that will run inside the namespace.
pub fn command(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    door::enter(&mut command, open(name)?, false);
    Ok(command)
}

pub(super) fn open(name: &str) -> Result<File> {
    File::open(path(name)).with_context(|| format!("there is no network namespace {name}"))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().map_err(|_| anyhow!("a thread of the lab panicked"))?
    })
}
