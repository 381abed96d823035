//! What the agent looks at again and again, because nobody tells it: its keys, its sealer, the clock, the underlays.
use super::Engine;
use crate::kernel::thread::Request;
use crate::seal::keys::Keys;
use agent_core::io::Input;
use anyhow::Result;
use tracing::{info, warn};

impl Engine {
    /// Somebody may have rotated the encryption key (`foreweave-agent rotate-key`). It is announced once it is accepted
    /// here.
    pub(super) async fn look_at_keys(&mut self) -> Result<()> {
        match Keys::load(&self.state) {
            Ok(keys) if keys.public() != self.keys.public() => {
                self.keys = keys.clone();
                self.kernel.ask(Request::Keys(keys)).await
            }
            Ok(_) => Ok(()),
            Err(error) => {
                warn!(error = %format!("{error:#}"), "the encryption keys are not read again");
                Ok(())
            }
        }
    }

    /// One that could not be started is tried again, and one that does not answer is replaced.
    pub(super) async fn look_at_sealer(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.tending, true) {
            self.kernel.ask(Request::Sealer(None)).await?;
        }
        Ok(())
    }

    /// Ends follow the host's clock when somebody sets it.
    pub(super) fn look_at_clock(&mut self) -> Option<Input> {
        let ahead = self.host_clock.look()?;
        info!(ahead_seconds = ahead as f64 / 1e9, "the host's clock was set; what ends by itself follows it");
        Some(Input::ClockSet { ahead })
    }

    pub(super) async fn look_at_underlays(&mut self) -> Result<()> {
        if self.underlays.looking {
            self.underlays.again = true;
            return Ok(());
        }
        self.underlays.looking = true;
        self.kernel.ask(Request::Refresh).await
    }
}
