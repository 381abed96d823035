//! Makes an interface as slow as its link: HTB for the rate, netem for the rest where the kernel has it.
use super::namespace;
use super::plan::Shape;
use anyhow::{Context, Result, bail};

/// Whether this kernel has netem: tried, in a namespace of the lab.
pub(super) fn has_netem(in_namespace: &str) -> Result<bool> {
    let tried = tc(in_namespace, "qdisc add dev lo root netem delay 1ms");
    if tried.is_ok() {
        tc(in_namespace, "qdisc del dev lo root")?;
    }
    Ok(tried.is_ok())
}

/// Shapes what leaves the interface.
pub(super) fn apply(in_namespace: &str, interface: &str, shape: &Shape, netem: bool) -> Result<()> {
    if let Some(rate) = shape.rate {
        // HTB lets superpackets pass whole and takes their length from what follows.
        let burst = (rate / 8 / 1_000).clamp(65_536, 4_000_000);
        tc(in_namespace, &format!("qdisc add dev {interface} root handle 1: htb default 1"))?;
        let class = format!("rate {rate}bit ceil {rate}bit burst {burst}b cburst {burst}b quantum 60000");
        tc(in_namespace, &format!("class add dev {interface} parent 1: classid 1:1 htb {class}"))?;
    }
    if shape.needs_delay_or_loss() && netem {
        let place = if shape.rate.is_some() { "parent 1:1" } else { "root" };
        let jitter = if shape.jitter > 0 { format!(" {}ns", shape.jitter) } else { String::new() };
        let loss = f64::from(shape.loss) / 10_000.0;
        // Jitter must not reorder: the rate after it keeps the order of arrival.
        let netem = format!("netem limit 100000 delay {}ns{jitter} loss {loss}%", shape.delay);
        tc(in_namespace, &format!("qdisc add dev {interface} {place} {netem}"))?;
    }
    Ok(())
}

/// Loses what leaves the interface, and says to nobody that it was lost (the kernel's own `blackhole` queue).
pub(super) fn blackhole(in_namespace: &str, interface: &str) -> Result<()> {
    tc(in_namespace, &format!("qdisc replace dev {interface} root blackhole"))
}

/// Takes away what [`apply`] or [`blackhole`] made.
pub(super) fn clear(in_namespace: &str, interface: &str) -> Result<()> {
    tc(in_namespace, &format!("qdisc del dev {interface} root"))
}

fn tc(in_namespace: &str, words: &str) -> Result<()> {
    let mut command = namespace::command(in_namespace, "tc")?;
    let output = command.args(words.split(' ')).output().context("tc did not start")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("in {in_namespace}: tc {words}: {}", why.trim());
    }
    Ok(())
}
