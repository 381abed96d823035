//! Topology files: the same hosts, links and workloads for the simulator, the namespace lab and virtual machines.
use proto_model::resource::Service;
use proto_model::rule::Protocol;
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price, ResourceId, ServiceName};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The most hosts of one file.
pub const MAX_NODES: usize = 1_000;
/// The most links of one file.
pub const MAX_LINKS: usize = 4_000;
/// The most workloads of one file.
pub const MAX_WORKLOADS: usize = 10_000;

/// What a file describes; all names in it are known and unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub name: Name,
    pub nodes: Vec<NodeName>,
    pub links: Vec<Link>,
    pub workloads: Vec<Workload>,
}

/// An underlay network between two hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// As written; not sorted.
    pub ends: [NodeName; 2],
    pub network: Name,
    pub family: Family,
    /// Bytes of an IP packet.
    pub mtu: u16,
    pub rate: Option<Bandwidth>,
    /// One way.
    pub delay: Option<Latency>,
    pub jitter: Latency,
    pub loss: Loss,
    pub price: Price,
    pub encrypted: bool,
    pub tags: BTreeSet<Name>,
    /// A recording to be replayed, as seen from the topology file.
    pub series: Option<PathBuf>,
    /// The lab shall carry it by its own emulator, so that delay and loss can be changed while it is up.
    pub emulate: bool,
    /// The owners of its ends let the agents shape what they send into it.
    pub shape: bool,
    /// The controller is told no round-trip time and no loss of it.
    pub measured: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
    #[default]
    Both,
}

/// A namespace on a host, with a private network of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: ResourceId,
    pub node: NodeName,
    /// Address and prefix length; may be the same as another workload's.
    pub private: Option<(IpAddr, u8)>,
    pub services: Vec<Service>,
    pub labels: BTreeMap<Name, String>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    Toml(String),
    #[error("{place}: {what}")]
    Wrong { place: String, what: String },
}

impl Topology {
    /// # Errors
    /// The file cannot be read, or is no topology.
    pub fn load(path: &Path) -> Result<Self, Flaw> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| Flaw::Unreadable(format!("{}: {why}", path.display())))?;
        Self::parse(&text)
    }

    /// # Errors
    /// What is wrong, in which node, link or workload, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let file: File = toml::from_str(text).map_err(|why| Flaw::Toml(why.to_string()))?;
        let nodes = nodes(file.node)?;
        bound("links", file.link.len(), MAX_LINKS)?;
        bound("workloads", file.workload.len(), MAX_WORKLOADS)?;
        let mut topology = Self { name: file.name, nodes, links: Vec::new(), workloads: Vec::new() };
        for raw in file.link {
            let place = format!("link {} – {}", raw.ends[0], raw.ends[1]);
            let link = link(&topology, raw).map_err(|what| Flaw::Wrong { place, what })?;
            topology.links.push(link);
        }
        for raw in file.workload {
            let place = format!("workload {}", raw.name);
            let workload = workload(&topology, raw).map_err(|what| Flaw::Wrong { place, what })?;
            topology.workloads.push(workload);
        }
        Ok(topology)
    }
}

impl Link {
    pub fn id(&self) -> Option<LinkId> {
        let [a, b] = self.ends.clone();
        LinkId::new(a, b, self.network.clone())
    }

    /// What its ends measure counts: as wished, and where a recording says how it is.
    pub fn is_measured(&self) -> bool {
        self.measured || self.series.is_some()
    }

    /// What the controller is told of it.
    pub fn values(&self) -> LinkValues {
        LinkValues {
            rtt: self.delay.filter(|_| !self.is_measured()).map(|one_way| one_way.saturating_add(one_way)),
            capacity: self.rate,
            loss: if self.is_measured() { Loss::NONE } else { self.loss },
            price: self.price,
            encrypted: self.encrypted,
            require_encryption: false,
            tags: self.tags.clone(),
            disabled: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Name,
    #[serde(default)]
    node: Vec<RawNode>,
    #[serde(default)]
    link: Vec<RawLink>,
    #[serde(default)]
    workload: Vec<RawWorkload>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: NodeName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    ends: [NodeName; 2],
    network: Option<Name>,
    #[serde(default)]
    family: Family,
    mtu: Option<i64>,
    rate: Option<String>,
    delay: Option<String>,
    jitter: Option<String>,
    loss: Option<String>,
    price: Option<String>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    tags: BTreeSet<Name>,
    series: Option<PathBuf>,
    #[serde(default)]
    emulate: bool,
    #[serde(default)]
    shape: bool,
    #[serde(default)]
    measured: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorkload {
    name: ResourceId,
    node: NodeName,
    private: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<Name, String>,
}

fn bound(what: &str, have: usize, most: usize) -> Result<(), Flaw> {
    let place = "the file".to_owned();
    match have > most {
        true => Err(Flaw::Wrong { place, what: format!("{have} {what}, at most {most} are allowed") }),
        false => Ok(()),
    }
}

fn nodes(raw: Vec<RawNode>) -> Result<Vec<NodeName>, Flaw> {
    bound("nodes", raw.len(), MAX_NODES)?;
    if raw.is_empty() {
        return Err(Flaw::Wrong { place: "the file".into(), what: "it has no [[node]]".into() });
    }
    let mut seen = BTreeSet::new();
    for node in &raw {
        if !seen.insert(&node.name) {
            return Err(Flaw::Wrong {
                place: format!("node {}", node.name),
                what: "it is there twice".into(),
            });
        }
    }
    Ok(raw.iter().map(|node| node.name.clone()).collect())
}

fn link(topology: &Topology, raw: RawLink) -> Result<Link, String> {
    let [a, b] = &raw.ends;
    known(topology, a)?;
    known(topology, b)?;
    if a == b {
        return Err("both ends are one node".into());
    }
    let network = match raw.network {
        Some(network) => network,
        None => format!("{a}-{b}").parse().map_err(|_| {
            format!("\"{a}-{b}\" is too long for the name of its network; give it one with network = \"…\"")
        })?,
    };
    if let Some(other) = topology.links.iter().find(|link| link.network == network) {
        let [x, y] = &other.ends;
        return Err(format!("network {network} is that of link {x} – {y} already; a network has two ends"));
    }
    let least = if raw.family == Family::Ipv4 { 576 } else { 1280 };
    let mtu = raw.mtu.unwrap_or(1500);
    let in_range = u16::try_from(mtu).ok().filter(|mtu| *mtu >= least);
    Ok(Link {
        ends: raw.ends,
        network,
        family: raw.family,
        mtu: in_range.ok_or_else(|| format!("mtu {mtu} is not between {least} and 65535 bytes"))?,
        rate: quantity("rate", raw.rate)?,
        delay: quantity("delay", raw.delay)?,
        jitter: quantity("jitter", raw.jitter)?.unwrap_or_default(),
        loss: quantity("loss", raw.loss)?.unwrap_or_default(),
        price: quantity("price", raw.price)?.unwrap_or_default(),
        encrypted: raw.encrypted,
        tags: raw.tags,
        series: raw.series,
        emulate: raw.emulate,
        shape: raw.shape,
        measured: raw.measured,
    })
}

fn quantity<Q: FromStr<Err: Display>>(field: &str, text: Option<String>) -> Result<Option<Q>, String> {
    text.map(|text| text.parse().map_err(|why| format!("{field}: {why}"))).transpose()
}

fn known(topology: &Topology, node: &NodeName) -> Result<(), String> {
    match topology.nodes.contains(node) {
        true => Ok(()),
        false => Err(format!("there is no node {node} in the file")),
    }
}

fn workload(topology: &Topology, raw: RawWorkload) -> Result<Workload, String> {
    known(topology, &raw.node)?;
    if topology.workloads.iter().any(|other| other.name == raw.name) {
        return Err("it is there twice".into());
    }
    Ok(Workload {
        name: raw.name,
        node: raw.node,
        private: raw.private.as_deref().map(private).transpose()?,
        services: raw.services.iter().map(|text| service(text)).collect::<Result<_, _>>()?,
        labels: raw.labels,
    })
}

fn private(text: &str) -> Result<(IpAddr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        Some((address, length.parse().ok().filter(|length| *length <= most)?))
    });
    parsed.ok_or_else(|| {
        format!("private: \"{text}\" is not an address with its length; write it like 192.168.1.10/24")
    })
}

fn service(text: &str) -> Result<Service, String> {
    let wrong = || format!("services: \"{text}\" is not a service; write it like \"http tcp/80\"");
    let (name, port) = text.split_once(' ').ok_or_else(wrong)?;
    let name: ServiceName = name.parse().map_err(|why| format!("services: {why}"))?;
    let (protocol, port) = port.trim().split_once('/').ok_or_else(wrong)?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(wrong()),
    };
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    Ok(Service { name, protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "name = \"two\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n";

    fn flaw(rest: &str) -> String {
        Topology::parse(&format!("{TWO}{rest}")).expect_err(rest).to_string()
    }

    #[test]
    fn every_topology_of_the_project_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("tests/topologies") {
            let path = entry.expect("an entry").path();
            let topology = Topology::load(&path).unwrap_or_else(|flaw| panic!("{}: {flaw}", path.display()));
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(topology.name.as_str()));
            names.insert(topology.name.to_string());
        }
        assert!(
            names.is_superset(&["diamond", "line", "ring", "twenty"].map(str::to_owned).into()),
            "{names:?}"
        );
    }

    #[test]
    fn the_controller_is_told_twice_the_delay() {
        let text = format!("{TWO}[[link]]\nends = [\"b\", \"a\"]\ndelay = \"2ms\"\nrate = \"1gbit\"\n");
        let topology = Topology::parse(&text).expect("a topology");
        let link = &topology.links[0];
        assert_eq!((link.network.as_str(), link.mtu, link.family), ("b-a", 1500, Family::Both));
        assert_eq!(link.values().rtt, Some(Latency::from_millis(4)));
        assert_eq!(link.values().capacity, Some(Bandwidth::mbit(1000)));
    }

    #[test]
    fn the_controller_is_told_nothing_of_what_is_left_to_measurement() {
        for more in ["measured = true", "series = \"link.csv\""] {
            let link = "[[link]]\nends = [\"b\", \"a\"]\ndelay = \"2ms\"\nloss = \"1%\"\nprice = \"1$/GB\"\n";
            let topology = Topology::parse(&format!("{TWO}{link}{more}\n")).expect("a topology");
            let values = topology.links[0].values();
            assert_eq!((values.rtt, values.loss), (None, Loss::NONE));
            assert_eq!(values.price, topology.links[0].price, "prices are no measurement");
        }
    }

    #[test]
    fn a_flaw_says_where_it_is_and_what_is_allowed() {
        for (rest, place, what) in [
            ("[[link]]\nends = [\"a\", \"c\"]", "link a – c", "no node c"),
            ("[[link]]\nends = [\"a\", \"a\"]", "link a – a", "both ends are one node"),
            ("[[link]]\nends = [\"a\", \"b\"]\nmtu = 70000", "link a – b", "between 1280 and 65535"),
            ("[[link]]\nends = [\"a\", \"b\"]\nrate = \"fast\"", "link a – b", "200mbit"),
            ("[[link]]\nends = [\"a\", \"b\"]\n[[link]]\nends = [\"a\", \"b\"]", "link a – b", "a-b"),
            ("[[link]]\nends = [\"a\", \"b\"]\nspeed = 3", "", "unknown field `speed`"),
            ("[[workload]]\nname = \"w\"\nnode = \"x\"", "workload w", "no node x"),
            (
                "[[workload]]\nname = \"w\"\nnode = \"a\"\nprivate = \"10.0.0.1/33\"",
                "workload w",
                "192.168.1.10/24",
            ),
            ("[[workload]]\nname = \"w\"\nnode = \"a\"\nservices = [\"http\"]", "workload w", "http tcp/80"),
            (
                "[[workload]]\nname = \"w\"\nnode = \"a\"\nservices = [\"http tcp/0\"]",
                "workload w",
                "http tcp/80",
            ),
            ("[[node]]\nname = \"a\"", "node a", "twice"),
        ] {
            let flaw = flaw(rest);
            assert!(flaw.contains(place) && flaw.contains(what), "{rest}: {flaw}");
        }
        assert!(Topology::parse("name = \"none\"").expect_err("no node").to_string().contains("[[node]]"));
    }
}
