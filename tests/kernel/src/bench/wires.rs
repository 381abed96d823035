//! Three namespaces in a row, for measuring one hop: where packets are made, the hop, and where they end.
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;

/// Made on creation, gone on drop.
#[derive(Debug)]
pub struct Wires {
    name: String,
    home: File,
}

/// One end of a wire.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub ifindex: u32,
    pub mac: [u8; 6],
}

pub const SOURCE: &str = "source";
pub const HOP: &str = "hop";
pub const SINK: &str = "sink";

impl Wires {
    /// `source` – `hop` – `sink`, with addresses 10.201.1.1/24, .2 and 10.201.2.1, .2, forwarding on, neighbours fixed.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new() -> Result<Self> {
        let name = format!("fwb-{}", std::process::id());
        let wires = Self { name, home: File::open("/proc/thread-self/ns/net")? };
        for part in [SOURCE, HOP, SINK] {
            ip(&["netns", "add", &wires.namespace(part)])?;
        }
        wires.wire(SOURCE, "s0", HOP, "h0")?;
        wires.wire(HOP, "h1", SINK, "k0")?;
        wires.address(SOURCE, "s0", "10.201.1.1/24")?;
        wires.address(HOP, "h0", "10.201.1.2/24")?;
        wires.address(HOP, "h1", "10.201.2.1/24")?;
        wires.address(SINK, "k0", "10.201.2.2/24")?;
        wires.enter(HOP)?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("ip_forward")?;
        wires.leave()?;
        let mac = format_mac(wires.end(SINK, "k0")?.mac);
        wires.ip_in(
            HOP,
            &["neigh", "replace", "10.201.2.2", "lladdr", &mac, "dev", "h1", "nud", "permanent"],
        )?;
        Ok(wires)
    }

    fn namespace(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    fn wire(&self, one: &str, name: &str, other: &str, peer: &str) -> Result<()> {
        let (a, b) = (self.namespace(one), self.namespace(other));
        ip(&["link", "add", name, "netns", &a, "type", "veth", "peer", "name", peer, "netns", &b])?;
        for (part, device) in [(one, name), (other, peer)] {
            self.ip_in(part, &["link", "set", device, "up"])?;
        }
        Ok(())
    }

    fn address(&self, part: &str, device: &str, address: &str) -> Result<()> {
        self.ip_in(part, &["addr", "add", address, "dev", device])
    }

    /// `ip` in one of the namespaces.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip_in(&self, part: &str, arguments: &[&str]) -> Result<()> {
        let namespace = self.namespace(part);
        ip(&[&["-n", &namespace], arguments].concat())
    }

    /// This thread into a namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self, part: &str) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.namespace(part)))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {part}"))
    }

    /// And back.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn leave(&self) -> Result<()> {
        setns(&self.home, CloneFlags::CLONE_NEWNET).context("leaving the namespace")
    }

    /// # Errors
    /// No such interface.
    pub fn end(&self, part: &str, device: &str) -> Result<End> {
        let output = Command::new("ip")
            .args(["-j", "-n", &self.namespace(part), "link", "show", device])
            .output()
            .context("ip link show")?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let ifindex = links[0]["ifindex"].as_u64().context("no ifindex")?;
        let text = links[0]["address"].as_str().context("no address")?;
        let mut mac = [0; 6];
        for (byte, hex) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(hex, 16)?;
        }
        Ok(End { ifindex: u32::try_from(ifindex)?, mac })
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = self.leave();
        for part in [SOURCE, HOP, SINK] {
            let _ = ip(&["netns", "del", &self.namespace(part)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip (package iproute2) is missing")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
