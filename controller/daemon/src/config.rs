//! The configuration file: every key with its default, every mistake with its line and what is allowed.
use anyhow::{Context, Result, ensure};
use controller_core::settings::{Limits, Reroute, Settings, Timing};
use proto_model::plan::Weights;
use proto_model::rule::Prefix;
use proto_model::{FabricPrefix, Name};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What an operator can set; `foreweave-controller example` prints it with comments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the region; part of every certificate, so it cannot be changed later.
    pub region: Name,
    /// Where to listen; one port serves everything.
    #[serde(default = "default_listen")]
    pub listen: Vec<SocketAddr>,
    /// `host:port` under which agents and clients reach this controller; written into tokens and client files.
    /// Default: the addresses it listens on.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Directory for everything that must survive: the store, the authority's key, `admin.toml`.
    pub state: PathBuf,
    /// Where to serve Prometheus metrics; absent: nowhere.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// File to which all inputs are recorded, to replay what happened; absent: none.
    #[serde(default)]
    pub record: Option<PathBuf>,
    #[serde(default)]
    pub fabric: FabricSection,
    #[serde(default)]
    pub weights: Weights,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub reroute: Reroute,
}

/// Where fabric addresses come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FabricSection {
    /// IPv4 prefix of length 8 to 30.
    pub v4: Prefix,
    /// IPv6 prefix of length 64.
    pub v6: Prefix,
}

impl Default for FabricSection {
    fn default() -> Self {
        let FabricPrefix { v4, v4_length, v6 } = FabricPrefix::default();
        let fits = "the default prefixes fit their families";
        Self {
            v4: Prefix::new(v4.into(), v4_length).expect(fits),
            v6: Prefix::new(v6.into(), 64).expect(fits),
        }
    }
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([0u16; 8], 7447))]
}

impl Config {
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::files::read_text(path)?;
        Self::parse(&text).with_context(|| format!("{}: is not a valid configuration", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// For tests and benchmarks: all defaults, any free port of the loopback interface.
    pub fn for_loopback(region: Name, state: PathBuf) -> Self {
        Self {
            region,
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            advertise: Vec::new(),
            state,
            metrics: None,
            record: None,
            fabric: FabricSection::default(),
            weights: Weights::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            reroute: Reroute::default(),
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.listen.is_empty(),
            "listen: is empty; at least one address is needed, e.g. [\"[::]:7447\"]"
        );
        ensure!(
            self.listen.len() <= 16,
            "listen: has {} addresses, at most 16 are allowed",
            self.listen.len()
        );
        ensure!(
            self.advertise.len() <= 16,
            "advertise: has {} entries, at most 16 are allowed",
            self.advertise.len()
        );
        for entry in &self.advertise {
            ensure!(
                split_host(entry).is_some(),
                "advertise: \"{entry}\" is not host:port, e.g. controller.example:7447"
            );
        }
        ensure!(!self.state.as_os_str().is_empty(), "state: is empty; a directory is needed");
        self.settings()?.check()?;
        Ok(())
    }

    /// What the core needs to know of it.
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            region: self.region.clone(),
            prefix: self.fabric.prefix()?,
            weights: self.weights,
            timing: self.timing,
            limits: self.limits,
            reroute: self.reroute,
        })
    }
}

impl FabricSection {
    fn prefix(&self) -> Result<FabricPrefix> {
        let IpAddr::V4(v4) = self.v4.address() else {
            anyhow::bail!("fabric.v4: {} is not an IPv4 prefix", self.v4);
        };
        let IpAddr::V6(v6) = self.v6.address() else {
            anyhow::bail!("fabric.v6: {} is not an IPv6 prefix", self.v6);
        };
        let length = self.v4.length();
        ensure!((8..=30).contains(&length), "fabric.v4: the length {length} is not between 8 and 30");
        ensure!(self.v6.length() == 64, "fabric.v6: the length {} is not 64", self.v6.length());
        Ok(FabricPrefix { v4, v4_length: length, v6 })
    }
}

/// Host (without brackets) and port of `host:port`.
pub fn split_host(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok().then_some(v6)?,
        None => host,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let fits = inner.is_some() || (!host.is_empty() && host.len() <= 253 && host.chars().all(named));
    fits.then_some((host, port))
}

/// A configuration with every key, for people to start from.
pub const EXAMPLE: &str = r#"# Name of the region: 1 to 63 of a-z, 0-9 and -. It is part of every certificate and cannot be changed later.
region = "local"
# Where to listen; one port serves agents, clients, health and reflection.
listen = ["[::]:7447"]
# host:port under which agents and clients reach this controller; default: the addresses it listens on.
advertise = ["controller.example:7447"]
# Everything that must survive: the store, the authority's key, admin.toml.
state = "/var/lib/foreweave/controller"
# Prometheus metrics over HTTP; default: none.
metrics = "127.0.0.1:9447"
# Record all inputs to this file, at most 1 GiB; earlier ones are kept as FILE.1 to FILE.9; default: none.
# record = "/var/log/foreweave/inputs.jsonl"

[fabric]                    # where the addresses of resources come from
v4 = "100.64.0.0/10"        # length 8 to 30
v6 = "fdfb:6f72:6577::/64"  # length 64

[weights]                   # what one unit of each quantity adds to the cost of a path
rtt = 1.0                   # per millisecond of round-trip time
hop = 0.5                   # per link
load = 20.0                 # times the squared share of the tightest link's capacity in use
loss = 50.0                 # per cent
price = 100.0               # per dollar and gigabyte
unknown = 50.0              # for a link whose round-trip time is not known

[timing]
node_grace = "30s"          # a node without contact keeps its resources found for so long
end_grace = "600s"          # an active circuit whose end host is lost keeps its place for so long
build_patience = "10s"      # a host may fail to build a circuit for so long before another path is tried

[reroute]                   # when circuits leave a path that works for a better one
mode = "predictive"         # by forecasts; "reactive": by what was measured lately; "off"
horizon = "60s"             # how far it is looked ahead, 1 s to 1 h
risk = 0.05                 # a bound that may break within the horizon with a greater probability is at risk, 0.01 to 0.25
rest = "30s"                # a circuit that was moved stays for so long, longer each time that it goes back
step = "4s"                 # paths are compared by what their links cost, in means over so long; 2 s to 4 min
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        format!("{:#}", Config::parse(text).expect_err(text))
    }

    #[test]
    fn the_example_is_valid() {
        let config = Config::parse(EXAMPLE).expect("example");
        assert_eq!(config.settings().expect("settings").prefix, FabricPrefix::default());
    }

    #[test]
    fn two_lines_are_enough() {
        let config = Config::parse("region = \"local\"\nstate = \"/tmp/x\"").expect("minimal");
        assert_eq!(config.listen, ["[::]:7447".parse().expect("address")]);
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_what_is_allowed() {
        let base = "region = \"local\"\nstate = \"/tmp/x\"\n";
        for (text, expected) in [
            ("state = \"/tmp/x\"", "missing field `region`"),
            ("region = \"Eu West\"\nstate = \"/x\"", "1 to 63 of a-z"),
            (&format!("{base}lisen = []"), "line 3"),
            (&format!("{base}lisen = []"), "expected one of"),
            (&format!("{base}listen = []"), "listen: is empty"),
            (&format!("{base}listen = [\"here\"]"), "line 3"),
            (&format!("{base}advertise = [\"nohost\"]"), "is not host:port"),
            (&format!("{base}[fabric]\nv4 = \"10.0.0.0/4\""), "between 8 and 30"),
            (&format!("{base}[fabric]\nv4 = \"fd00::/8\""), "not an IPv4 prefix"),
            (&format!("{base}[fabric]\nv6 = \"fd00::/8\""), "is not 64"),
            (&format!("{base}[timing]\nnode_grace = 30"), "line 4"),
            (&format!("{base}[timing]\nnode_grace = \"soon\""), "write it like 30s"),
            (&format!("{base}[weights]\nrtt = -1.0"), "weights.rtt"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(expected), "{text}\n-> {fault}");
        }
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        assert_eq!(split_host("a.example:7447"), Some(("a.example", 7447)));
        assert_eq!(split_host("[::1]:80"), Some(("::1", 80)));
        for bad in ["a.example", ":80", "a:0", "a:99999", "[zz]:80", "a b:80", "::1:x"] {
            assert_eq!(split_host(bad), None, "{bad}");
        }
    }
}
