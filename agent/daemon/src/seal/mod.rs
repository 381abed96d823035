//! Encrypts circuits end to end: WireGuard in user space, on two TAP interfaces that exist while it is needed.
//!
//! What an interface gives and takes stands in [`ebpf_abi::seal`]. Only the kernel's thread, which performs the steps,
//! changes what is encrypted for whom; two threads of their own do the work.
mod circuit;
pub mod keys;
mod taps;
mod worker;

use agent_core::kernel_state::Seal;
use anyhow::{Context, Result, anyhow};
use circuit::Circuit;
use gotatun::noise::TimerParams;
use keys::Keys;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
pub(crate) use taps::{CIPHER, PLAIN};
use worker::Devices;

/// When sessions get new keys. WireGuard's own value is 120 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The circuits that are encrypted here, by number.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<RwLock<BTreeMap<u64, Arc<Mutex<Circuit>>>>>);

impl Table {
    fn get(&self, circuit: u64) -> Option<Arc<Mutex<Circuit>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&circuit).cloned()
    }

    /// Whether the ends have agreed on keys.
    pub(crate) fn has(&self, circuit: u64) -> bool {
        self.get(circuit)
            .is_some_and(|circuit| circuit.lock().unwrap_or_else(PoisonError::into_inner).has_session())
    }

    fn all(&self) -> Vec<(u64, Arc<Mutex<Circuit>>)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().map(|(number, circuit)| (*number, circuit.clone())).collect()
    }
}

/// What is encrypted here, and by whom.
pub(crate) struct Sealer {
    keys: Keys,
    timing: Timing,
    table: Table,
    running: Option<Running>,
}

struct Running {
    devices: Arc<Devices>,
    threads: Vec<JoinHandle<()>>,
}

/// The interfaces' indexes, in the order of [`ebpf_abi::seal::PLAIN`] and [`ebpf_abi::seal::CIPHER`].
pub(crate) type Indexes = [u32; 2];

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(keys: Keys, timing: Timing) -> Self {
        Self { keys, timing, table: Table::default(), running: None }
    }

    /// Makes the interfaces, down still; none: they are there. `attach` hangs the programs on them, before any packet
    /// can come; [`Self::start`] has to follow.
    ///
    /// # Errors
    /// What the kernel refused; then nothing of it remains.
    pub(crate) fn prepare(&mut self) -> Result<Option<Indexes>> {
        if self.running.is_some() {
            return Ok(None);
        }
        let devices = Devices {
            plain: taps::Tap::open(PLAIN)?,
            cipher: taps::Tap::open(CIPHER)?,
            stop: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        };
        let indexes = [devices.plain.index()?, devices.cipher.index()?];
        self.running = Some(Running { devices: Arc::new(devices), threads: Vec::new() });
        Ok(Some(indexes))
    }

    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn start(&mut self) -> Result<()> {
        let running = self.running.as_mut().ok_or_else(|| anyhow!("there are no interfaces"))?;
        for (name, work) in [
            ("encrypt", worker::encrypt as fn(&Arc<Devices>, &Table)),
            ("decrypt", worker::decrypt as fn(&Arc<Devices>, &Table)),
        ] {
            let (devices, table) = (running.devices.clone(), self.table.clone());
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&devices, &table));
            running.threads.push(thread.context("cannot start a thread")?);
        }
        Ok(())
    }

    /// Ends the threads; the interfaces go with them.
    pub(crate) fn stop(&mut self) {
        let Some(Running { devices, threads }) = self.running.take() else { return };
        // A full counter wakes them as well.
        let _ = devices.stop.write(1);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// From now on this circuit is encrypted so. The first handshake begins at once.
    pub(crate) fn put(&mut self, seal: &Seal) {
        let mut table = self.table.0.write().unwrap_or_else(PoisonError::into_inner);
        match table.get(&seal.circuit) {
            Some(circuit) => {
                let mut circuit = circuit.lock().unwrap_or_else(PoisonError::into_inner);
                circuit.renew(seal.clone(), &self.keys, self.timing);
            }
            None => {
                let circuit = Circuit::new(seal.clone(), &self.keys, self.timing);
                table.insert(seal.circuit, Arc::new(Mutex::new(circuit)));
            }
        }
    }

    pub(crate) fn table(&self) -> Table {
        self.table.clone()
    }

    /// True: it was the last one.
    pub(crate) fn remove(&mut self, circuit: u64) -> bool {
        let mut table = self.table.0.write().unwrap_or_else(PoisonError::into_inner);
        table.remove(&circuit);
        table.is_empty()
    }
}

impl Sealer {
    /// Other keys of this host: all circuits agree on new sessions, and use the old ones until then.
    pub(crate) fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
        for (_, circuit) in self.table.all() {
            let mut circuit = circuit.lock().unwrap_or_else(PoisonError::into_inner);
            let seal = circuit.seal.clone();
            circuit.renew(seal, &self.keys, self.timing);
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.stop();
    }
}
