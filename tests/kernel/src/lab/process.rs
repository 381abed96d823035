//! The lab's processes: started apart from the lab, found again by pid and start time, never mistaken for others.
use super::{door, namespace};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A process of the lab: its files are `DIR/NAME.pid` (pid and start time) and `DIR/NAME.log`.
#[derive(Clone, Debug)]
pub struct Process {
    folder: PathBuf,
    name: String,
}

impl Process {
    pub fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), name: name.to_owned() }
    }

    /// Every process that has a pid file in the folder.
    pub fn all(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<Self> =
            names.filter_map(|file| file.strip_suffix(".pid").map(|name| Self::new(folder, name))).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.name))
    }

    /// Starts the command in a namespace and a session of its own, with its output in the log.
    pub fn start(&self, in_namespace: &str, mut command: Command) -> Result<u32> {
        if let Some(pid) = self.pid() {
            bail!("{} runs already, as process {pid}", self.name);
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        door::enter(&mut command, namespace::open(in_namespace)?, true);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{program} did not start"))?;
        let pid = child.id();
        let started = start_time(pid).unwrap_or(0);
        std::fs::write(self.pid_file(), format!("{pid} {started}\n"))?;
        Ok(pid)
    }

    /// Its pid while it runs; a process that merely got the same number later is another one.
    pub fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid: u32 = pid.parse().ok()?;
        (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
    }

    /// Sends a signal; `false` when it does not run.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(pid) = self.pid() else { return Ok(false) };
        kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("{signal} to {}", self.name))?;
        Ok(true)
    }

    /// Ends it for good, without asking it first, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let pid = self.pid();
        self.signal(Signal::SIGKILL)?;
        self.wait_gone(Duration::from_secs(5))?;
        if let Some(pid) = pid {
            // It is our child, or that of a lab that has ended; only in the first case is there something to reap.
            let _ = waitpid(Pid::from_raw(pid as i32), Some(WaitPidFlag::WNOHANG));
        }
        let _ = std::fs::remove_file(self.pid_file());
        Ok(())
    }

    /// Waits until it has ended.
    pub fn wait_gone(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while let Some(pid) = self.pid() {
            if begun.elapsed() > patience {
                bail!("{} (process {pid}) did not end within {patience:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The end of its log, for errors.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// In clock ticks since boot; `None` when there is no such process or it has ended.
fn start_time(pid: u32) -> Option<u64> {
    started(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of a process's `stat` (proc(5), fields 3, 20 and 22). A killed process shows as a zombie as soon as its first
/// thread has ended, but holds its sockets and locks until the last one has.
fn started(stat: &str) -> Option<u64> {
    // The name may hold spaces and parentheses; what follows the last one does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if matches!(fields.first(), Some(&("Z" | "X"))) && threads <= 1 {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_another_process() {
        let folder = tempfile::tempdir().expect("folder");
        let process = Process::new(folder.path(), "x");
        let me = std::process::id();
        let started = start_time(me).expect("this process runs");
        std::fs::write(process.pid_file(), format!("{me} {started}\n")).expect("write");
        assert_eq!(process.pid(), Some(me));
        std::fs::write(process.pid_file(), format!("{me} {}\n", started + 1)).expect("write");
        assert_eq!(process.pid(), None);
        assert!(!process.signal(Signal::SIGKILL).expect("nobody is hit"));
    }

    #[test]
    fn a_zombie_whose_threads_still_end_has_not_ended() {
        let stat = |state, threads| {
            format!(
                "7 (a (b) c) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0 18446744073709551615"
            )
        };
        assert_eq!(started(&stat("S", 5)), Some(4711));
        assert_eq!(started(&stat("Z", 5)), Some(4711));
        assert_eq!(started(&stat("Z", 1)), None);
        assert_eq!(started("7 (torn"), None);
    }

    #[test]
    fn a_torn_pid_file_names_nobody() {
        let folder = tempfile::tempdir().expect("folder");
        let process = Process::new(folder.path(), "x");
        for text in ["", "1", "abc 1", "99999999999 1", "4194304 7"] {
            std::fs::write(process.pid_file(), text).expect("write");
            assert_eq!(process.pid(), None, "{text:?}");
        }
    }
}
