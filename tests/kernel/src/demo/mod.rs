//! The demo: real packets cross three hosts through a circuit, told as it happens, with a table of what was measured.
use anyhow::Result;

/// Runs the demo; `false` when a claim failed.
pub fn run() -> Result<bool> {
    anyhow::bail!("the demo waits for the daemons")
}
