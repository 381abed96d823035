//! What an operator may set, read from one TOML file.
use crate::seal::Timing;
use anyhow::{Context, Result, bail};
use proto_model::rule::Prefix;
use proto_model::{Bandwidth, Name};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the identity; made by `enrol`.
    pub state: PathBuf,
    /// Directory on a bpffs, of this agent alone.
    #[serde(default = "default_pins")]
    pub pins: PathBuf,
    /// UDP port of the tunnels; all agents of a region use the same.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Where Prometheus may fetch; none: no metrics.
    pub metrics: Option<SocketAddr>,
    /// The interfaces that carry tunnels; none: every interface with a default route, in the network "default".
    #[serde(default)]
    pub underlay: Vec<Underlay>,
    /// Which STAMP senders that are no neighbours are answered, by this process; none: nobody.
    pub stamp: Option<Stamp>,
    #[serde(default)]
    pub encryption: Encryption,
}

/// How encrypted circuits change their keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// Seconds after which a session gets new keys: 1 to 120, WireGuard's own value.
    #[serde(default = "default_rekey")]
    pub rekey_after: u64,
}

impl Default for Encryption {
    fn default() -> Self {
        Self { rekey_after: default_rekey() }
    }
}

impl Encryption {
    pub fn timing(&self) -> Timing {
        Timing { rekey_after: Duration::from_secs(self.rekey_after) }
    }

    fn check(&self) -> Result<()> {
        let most = default_rekey();
        if self.rekey_after == 0 || self.rekey_after > most {
            bail!("[encryption] rekey_after = {} is not allowed (1 to {most} seconds)", self.rekey_after);
        }
        Ok(())
    }
}

fn default_rekey() -> u64 {
    Timing::default().rekey_after.as_secs()
}

/// Whom the reflector in user space answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Whence requests may come.
    pub allow: Vec<Prefix>,
    /// The secret of authenticated mode, 16 to 1,024 bytes; none: authenticated requests get no answer.
    pub key_file: Option<PathBuf>,
    #[serde(default = "default_stamp_port")]
    pub port: u16,
}

/// An interface that carries tunnels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    pub interface: String,
    /// Hosts with interfaces in the same network reach each other directly.
    pub network: Name,
    #[serde(default)]
    pub transit: Transit,
    /// Only these of its addresses, the preferred first; none: all that last.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its owner allows the agent to queue what leaves there (HTB as its root), so that reservations hold.
    #[serde(default)]
    pub shape: bool,
    /// Of the interface, in each direction; none: what the driver says.
    #[serde(default, deserialize_with = "bandwidth")]
    pub capacity: Option<Bandwidth>,
}

/// `"100mbit"`.
fn bandwidth<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bandwidth>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Less would hold back a packet for more than 10 ms, and with it whatever is behind it.
const LEAST_CAPACITY: Bandwidth = Bandwidth::from_bits_per_second(1_500_000);

/// Where transit packets are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transit {
    /// Native XDP on hardware that has it, tcx elsewhere.
    #[default]
    Auto,
    /// Native XDP, or an error.
    Xdp,
    Tcx,
}

/// Which interfaces carry tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Underlays {
    /// All with a default route.
    ByDefaultRoute,
    These(Vec<Underlay>),
}

/// The most underlay interfaces (as the wire says).
pub const UNDERLAYS: usize = 64;

/// Where pins are unless configured.
pub const PINS: &str = "/sys/fs/bpf/foreweave";

/// UDP port of the tunnels unless configured.
pub const PORT: u16 = ebpf_abi::maps::VXLAN_PORT;

fn default_pins() -> PathBuf {
    PathBuf::from(PINS)
}

fn default_port() -> u16 {
    PORT
}

fn default_stamp_port() -> u16 {
    ebpf_abi::probe::PORT
}

impl Config {
    /// # Errors
    /// The file, the line and what is allowed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
    }

    /// # Errors
    /// The line and what is allowed.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        for (what, path) in [("state", &self.state), ("pins", &self.pins)] {
            if !path.is_absolute() {
                bail!("{what} = \"{}\" must be an absolute path", path.display());
            }
        }
        if self.port == 0 {
            bail!("port = 0 is none (allowed: 1 to 65535; usual: 4789)");
        }
        if self.underlay.len() > UNDERLAYS {
            bail!("{} underlays, at most {UNDERLAYS} are allowed", self.underlay.len());
        }
        self.stamp.as_ref().map_or(Ok(()), |stamp| stamp.check(self.port))?;
        self.encryption.check()?;
        let mut seen = BTreeSet::new();
        for underlay in &self.underlay {
            let name = &underlay.interface;
            if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
                bail!("interface = \"{name}\" is not an interface name (1 to 15 bytes, no / and no space)");
            }
            if underlay.capacity.is_some_and(|capacity| capacity < LEAST_CAPACITY) {
                bail!("{name} has a capacity below {LEAST_CAPACITY}, the least allowed");
            }
            if !seen.insert(name) {
                bail!("the underlay interface {name} is named twice");
            }
        }
        Ok(())
    }

    pub fn underlays(&self) -> Underlays {
        if self.underlay.is_empty() {
            return Underlays::ByDefaultRoute;
        }
        Underlays::These(self.underlay.clone())
    }
}

impl Stamp {
    fn check(&self, tunnels: u16) -> Result<()> {
        if self.allow.is_empty() {
            bail!("[stamp] allow = [] answers nobody: name prefixes, or leave [stamp] out");
        }
        if self.port == 0 || self.port == tunnels {
            bail!(
                "[stamp] port = {} is none (allowed: 1 to 65535, not that of the tunnels; usual: 862)",
                self.port
            );
        }
        match &self.key_file {
            Some(path) if !path.is_absolute() => {
                bail!("[stamp] key_file = \"{}\" must be an absolute path", path.display())
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_senders_are_named_by_prefix() {
        let text =
            "state = \"/s\"\n[stamp]\nallow = [\"192.0.2.0/24\", \"2001:db8::7\"]\nkey_file = \"/k\"\n";
        let stamp = Config::parse(text).expect("valid").stamp.expect("a section");
        assert_eq!((stamp.port, stamp.allow.len()), (862, 2));
        let refusal = |text: &str| {
            let text = format!("state = \"/s\"\n[stamp]\n{text}\n");
            format!("{:#}", Config::parse(&text).expect_err("must be refused"))
        };
        assert!(refusal("").contains("missing field `allow`"));
        assert!(refusal("allow = []").contains("answers nobody"));
        assert!(refusal("allow = [\"everybody\"]").contains("is not a prefix"));
        assert!(refusal("allow = [\"::/0\"]\nport = 4789").contains("not that of the tunnels"));
        assert!(refusal("allow = [\"::/0\"]\nkey_file = \"k\"").contains("absolute"));
    }

    #[test]
    fn sessions_can_change_their_keys_more_often_than_wireguard_wants_but_not_less() {
        let parse =
            |seconds: u64| Config::parse(&format!("state = \"/s\"\n[encryption]\nrekey_after = {seconds}\n"));
        assert_eq!(parse(2).expect("valid").encryption.timing().rekey_after, Duration::from_secs(2));
        for wrong in [0, 121] {
            let refusal = format!("{:#}", parse(wrong).expect_err("must be refused"));
            assert!(refusal.contains("1 to 120 seconds"), "{refusal}");
        }
    }

    #[test]
    fn a_short_file_is_enough() {
        let config = Config::parse("state = \"/var/lib/foreweave\"").expect("valid");
        assert_eq!(config.port, 4789);
        assert_eq!(config.pins, Path::new("/sys/fs/bpf/foreweave"));
        assert_eq!(config.underlays(), Underlays::ByDefaultRoute);
    }

    #[test]
    fn underlays_are_read_with_their_transit() {
        let text = "state = \"/s\"\n[[underlay]]\ninterface = \"eth0\"\nnetwork = \"internet\"\ntransit = \"xdp\"\naddresses = [\"192.0.2.1\"]\n";
        let config = Config::parse(text).expect("valid");
        assert_eq!(config.underlay[0].transit, Transit::Xdp);
        assert_eq!(config.underlay[0].network.as_str(), "internet");
        assert_eq!(config.underlay[0].addresses, ["192.0.2.1".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn an_owner_allows_shaping_and_says_how_fast_the_interface_is() {
        let shaped = |more: &str| {
            let text = format!("state = \"/s\"\n[[underlay]]\ninterface = \"a\"\nnetwork = \"n\"\n{more}");
            Config::parse(&text).map(|config| (config.underlay[0].shape, config.underlay[0].capacity))
        };
        assert_eq!(shaped("").expect("valid"), (false, None));
        let slow = shaped("shape = true\ncapacity = \"100mbit\"").expect("valid");
        assert_eq!(slow, (true, Some(Bandwidth::mbit(100))));
        let refusal = |text: &str| format!("{:#}", shaped(text).expect_err("must be refused"));
        assert!(refusal("capacity = \"1mbit\"").contains("below 1.5 Mbit/s"));
        assert!(refusal("capacity = \"fast\"").contains("fast"));
    }

    #[test]
    fn mistakes_are_refused_with_what_is_allowed() {
        let refusal = |text: &str| format!("{:#}", Config::parse(text).expect_err("must be refused"));
        assert!(refusal("").contains("missing field `state`"));
        assert!(refusal("state = \"s\"").contains("absolute"));
        assert!(refusal("state = \"/s\"\nprot = 1").contains("unknown field `prot`"));
        assert!(refusal("state = \"/s\"\nport = 0").contains("1 to 65535"));
        assert!(
            refusal("state = \"/s\"\nport = 70000").contains("65535")
                || refusal("state = \"/s\"\nport = 70000").contains("u16")
        );
        let twice = "state = \"/s\"\n[[underlay]]\ninterface = \"a\"\nnetwork = \"n\"\n[[underlay]]\ninterface = \"a\"\nnetwork = \"n\"\n";
        assert!(refusal(twice).contains("named twice"));
        let long = "state = \"/s\"\n[[underlay]]\ninterface = \"an-interface-name\"\nnetwork = \"n\"\n";
        assert!(refusal(long).contains("1 to 15 bytes"));
        let network = "state = \"/s\"\n[[underlay]]\ninterface = \"a\"\nnetwork = \"No Name\"\n";
        assert!(refusal(network).contains("is not a name"));
    }
}
