//! What is encrypted for whom: the rows that outlive the agent, and the sealer that does it.
use super::Linux;
use super::links;
use super::programs::Hook;
use crate::seal::keys::Keys;
use crate::seal::{CIPHER, Ended, Indexes, PLAIN};
use agent_core::abi;
use agent_core::kernel_state::Seal;
use anyhow::{Context, Result, bail};
use ebpf_abi::seal::SealRow;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often the sealer is asked whether it is well.
const ASK: Duration = Duration::from_secs(3);

impl Linux {
    /// Idempotent. The first one makes the interfaces.
    pub(super) fn put_seal(&mut self, seal: &Seal) -> Result<()> {
        if seal.keys.is_empty() || seal.keys.len() > proto_model::seal::KEYS {
            bail!("{} keys of the far end; 1 or {} are needed", seal.keys.len(), proto_model::seal::KEYS);
        }
        self.encrypt()?;
        self.seals
            .put(&seal.circuit, &abi::seal(seal))
            .with_context(|| format!("SEALS takes {} circuits", ebpf_abi::maps::SEALS))?;
        match self.sealer.put(seal) {
            Ok(()) => Ok(()),
            Err(error) => self.begin_again(&error),
        }
    }

    /// The last one takes the interfaces along.
    pub(super) fn remove_seal(&mut self, circuit: u64) -> Result<()> {
        self.seals.remove(&circuit)?;
        if !self.has_seals() {
            return self.end_sealer();
        }
        match self.sealer.remove(circuit) {
            Ok(()) => Ok(()),
            Err(error) => self.begin_again(&error),
        }
    }

    fn has_seals(&self) -> bool {
        self.seals.keys().next().is_some()
    }

    /// Nothing is encrypted here any more.
    fn end_sealer(&mut self) -> Result<()> {
        self.say_sealers([0, 0])?;
        let ended = self.sealer.stop();
        for name in [PLAIN, CIPHER] {
            links::remove_tap(&mut self.netlink, name)?;
        }
        ended
    }

    /// Rows of `SEALS`.
    pub(super) fn seals(&self) -> Result<Vec<Seal>> {
        let rows = self.seals.rows().collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().map(|(circuit, row)| abi::read_seal(&SealRow { circuit, ..row })).collect())
    }

    /// What was encrypted before goes on: by the sealer that a former agent left, with its sessions, or by a new one, as
    /// soon as the ends have agreed on new sessions.
    pub(super) fn resume_seals(&mut self, seals: &[Seal]) -> Result<()> {
        match self.sealer.find(seals)? {
            _ if seals.is_empty() => return self.end_sealer(),
            Some(indexes) => self.bring_up(indexes)?,
            None => return self.encrypt(),
        }
        // One that did not do what it was told is not there any more when this is tried again.
        self.sealer.settle(seals).inspect_err(|_| _ = self.sealer.lose(None))
    }

    /// It did not do what it was told, so it is not trusted any more.
    fn begin_again(&mut self, error: &anyhow::Error) -> Result<()> {
        warn!(error = %format!("{error:#}"), "the sealer is replaced");
        self.sealer.lose(None);
        let seals = self.seals()?;
        self.resume_seals(&seals)
    }

    /// Another sealer takes the place of one that has ended by itself. True: that was needed.
    ///
    /// # Errors
    /// What the kernel or the new one refused.
    pub(crate) fn sealer_ended(&mut self, pid: u32) -> Result<bool> {
        if !self.sealer.lose(Some(pid)) {
            return Ok(false);
        }
        let seals = self.seals()?;
        warn!(pid, circuits = seals.len(), "the sealer has ended; another one is started");
        self.resume_seals(&seals).map(|()| true)
    }

    /// To be called every second or so: starts the sealer that is lacking, and replaces one that does not answer.
    ///
    /// # Errors
    /// As [`Self::sealer_ended`].
    pub(crate) fn tend_sealer(&mut self) -> Result<()> {
        if !self.sealer.is_settled() && self.has_seals() {
            let seals = self.seals()?;
            self.resume_seals(&seals)?;
            info!(circuits = seals.len(), "there is a sealer again");
        }
        if self.sealer_asked.elapsed() < ASK {
            return Ok(());
        }
        self.sealer_asked = Instant::now();
        match self.sealer.hello() {
            Ok(hello) => {
                crate::metrics::sealed(hello.as_ref());
                Ok(())
            }
            Err(error) => self.begin_again(&error),
        }
    }

    pub(crate) fn when_sealer_ends(&mut self, tell: Ended) {
        self.sealer.when_ended(tell);
    }

    /// Other keys of this host.
    pub(crate) fn set_keys(&mut self, keys: Keys) -> Result<()> {
        match self.sealer.set_keys(keys) {
            Ok(()) => Ok(()),
            Err(error) => self.begin_again(&error),
        }
    }

    /// The programs before the interfaces are up, and the interfaces before the programs are told of them: no packet
    /// passes where nobody looks.
    fn encrypt(&mut self) -> Result<()> {
        let done = match self.sealer.prepare() {
            Ok(None) => return Ok(()),
            Ok(Some(indexes)) => self.bring_up(indexes).and_then(|()| self.sealer.start(&self.seals()?)),
            Err(error) => Err(error),
        };
        // Otherwise it is tried again, and what is sent meanwhile waits.
        if done.is_err() && !self.has_seals() {
            self.end_sealer()?;
        }
        done
    }

    /// Interfaces that are up stay so, with this build's programs.
    fn bring_up(&mut self, indexes: Indexes) -> Result<()> {
        self.programs.attach(PLAIN, Hook::Plain)?;
        self.programs.attach(CIPHER, Hook::Cipher)?;
        for index in indexes {
            links::settle_tap(&mut self.netlink, index)?;
        }
        self.say_sealers(indexes)
    }

    fn say_sealers(&mut self, [plain, cipher]: Indexes) -> Result<()> {
        self.sealers.put(ebpf_abi::seal::PLAIN, &plain)?;
        Ok(self.sealers.put(ebpf_abi::seal::CIPHER, &cipher)?)
    }
}
