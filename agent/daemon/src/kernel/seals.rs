//! What is encrypted for whom: the rows that outlive the agent, and the interfaces through which it works.
use super::Linux;
use super::programs::Hook;
use crate::seal::keys::Keys;
use crate::seal::{CIPHER, PLAIN};
use agent_core::abi;
use agent_core::kernel_state::Seal;
use anyhow::{Context, Result, bail};

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
        self.sealer.put(seal);
        Ok(())
    }

    /// The last one takes the interfaces along.
    pub(super) fn remove_seal(&mut self, circuit: u64) -> Result<()> {
        self.seals.remove(&circuit)?;
        if self.sealer.remove(circuit) {
            self.say_sealers([0, 0])?;
            self.sealer.stop();
        }
        Ok(())
    }

    /// What was encrypted before the agent was started goes on as soon as the ends have agreed on new sessions.
    pub(super) fn resume_seals(&mut self, seals: &[Seal]) -> Result<()> {
        // A former agent's interfaces are gone.
        self.say_sealers([0, 0])?;
        if !seals.is_empty() {
            self.encrypt()?;
        }
        seals.iter().for_each(|seal| self.sealer.put(seal));
        Ok(())
    }

    /// Other keys of this host.
    pub(crate) fn set_keys(&mut self, keys: Keys) {
        self.sealer.set_keys(keys);
    }

    /// The programs before the interfaces are up, and the interfaces before the programs are told of them: no packet
    /// passes where nobody looks.
    fn encrypt(&mut self) -> Result<()> {
        let Some(indexes) = self.sealer.prepare()? else { return Ok(()) };
        let done = self.bring_up(indexes);
        if done.is_err() {
            self.sealer.stop();
        }
        done
    }

    fn bring_up(&mut self, indexes: [u32; 2]) -> Result<()> {
        self.programs.attach(PLAIN, Hook::Plain)?;
        self.programs.attach(CIPHER, Hook::Cipher)?;
        for index in indexes {
            super::links::settle_tap(&mut self.netlink, index)?;
        }
        self.sealer.start()?;
        self.say_sealers(indexes)
    }

    fn say_sealers(&mut self, [plain, cipher]: [u32; 2]) -> Result<()> {
        self.sealers.put(ebpf_abi::seal::PLAIN, &plain)?;
        Ok(self.sealers.put(ebpf_abi::seal::CIPHER, &cipher)?)
    }
}
