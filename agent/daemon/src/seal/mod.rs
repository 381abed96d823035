//! Encrypts circuits end to end: WireGuard in user space, on two TAP interfaces that exist while it is needed.
//!
//! What an interface gives and takes stands in [`ebpf_abi::seal`]. A process of its own does the work, the sealer
//! ([`process`]), so that sessions outlive the agent; only the agent's kernel thread tells it what is encrypted for whom
//! ([`client`]), in the words of [`words`].
mod build;
mod circuit;
mod client;
mod former;
mod frames;
mod holder;
pub mod keys;
mod line;
pub mod process;
mod table;
mod taps;
mod words;
mod work;
mod worker;

pub(crate) use client::{Ended, Sealer, Sessions, end, forget, look};
use gotatun::noise::TimerParams;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use taps::{CIPHER, Indexes, PLAIN};
pub(crate) use words::Hello;

/// When sessions get new keys. WireGuard's own value is 120 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub rekey_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { rekey_after: Duration::from_secs(120) }
    }
}

/// An unanswered handshake is repeated sooner than WireGuard's 5 s: a circuit can be younger at one end than at the
/// other, and its workload waits.
const REPEAT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(600));

impl Timing {
    fn params(self) -> TimerParams {
        TimerParams {
            rekey_timeout: REPEAT.0..=REPEAT.1,
            rekey_after_time: self.rekey_after..=self.rekey_after,
            ..TimerParams::default()
        }
    }
}

/// Where the sealer is found, and how it is started.
#[derive(Clone, Debug)]
pub struct Place {
    /// The agent's state directory, which has the sealer's socket.
    pub state: PathBuf,
    /// The program that has the subcommand `seal`.
    pub program: PathBuf,
    /// Words before the subcommand: how it logs.
    pub words: Vec<String>,
}

impl Place {
    /// The sealer of the agent with this state directory: the program that runs now, also when its file was replaced.
    pub fn of(state: &Path) -> Self {
        Self { state: state.to_owned(), program: "/proc/self/exe".into(), words: Vec::new() }
    }
}
