//! What a lab will consist of, decided from the topology before anything is made, so that its end is known as well.
use anyhow::{Result, bail};
use proto_model::{Bandwidth, Latency, Loss};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The controller's name where nodes are named.
pub const CONTROLLER: &str = "controller";
/// Where the controller listens in the management network.
pub const MANAGEMENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Its prefix: benchmarking addresses (RFC 2544), which no network of a host has.
pub const MANAGEMENT_LENGTH: u8 = 15;
/// gRPC of the controller.
pub const PORT: u16 = 7447;

/// Everything that `up` makes and `down` removes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    pub workloads: Vec<Workload>,
    /// More lines of the controller's configuration.
    #[serde(default)]
    pub controller: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub namespace: String,
    /// Address in the management network.
    pub management: Ipv4Addr,
    pub underlays: Vec<Underlay>,
}

/// An interface of a host that carries tunnels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Underlay {
    pub interface: String,
    pub network: String,
    /// The agent may shape what leaves there.
    #[serde(default)]
    pub shape: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub network: String,
    pub ends: [End; 2],
    /// Bytes of an IP packet.
    pub mtu: u32,
    pub shape: Shape,
    /// Micro-dollars per gigabyte.
    pub price: u64,
    pub encrypted: bool,
    pub tags: Vec<String>,
    /// By the lab's own emulator, also where nothing in its shape asks for it.
    #[serde(default)]
    pub emulate: bool,
    /// The controller is told no round-trip time and no loss of it: what its ends measure counts.
    #[serde(default)]
    pub measured: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub host: String,
    pub interface: String,
    pub addresses: Vec<(IpAddr, u8)>,
}

/// How a link behaves, each direction alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Bits per second; none: as fast as it goes.
    pub rate: Option<u64>,
    /// Nanoseconds, one way.
    pub delay: u64,
    /// Nanoseconds: each packet is delayed by up to this much more or less.
    pub jitter: u64,
    /// Packets per million.
    pub loss: u32,
    /// A recording of `seconds,rtt_ms,loss` lines that replaces delay and loss while the link runs.
    pub series: Option<PathBuf>,
}

impl Shape {
    /// Whether more than a rate is asked for.
    pub fn needs_delay_or_loss(&self) -> bool {
        self.delay > 0 || self.jitter > 0 || self.loss > 0 || self.series.is_some()
    }

    /// Whether nothing is asked for.
    pub fn is_plain(&self) -> bool {
        self.rate.is_none() && !self.needs_delay_or_loss()
    }

    /// For people.
    pub fn told(&self) -> String {
        let rate =
            self.rate.map_or("no limit".to_owned(), |bits| Bandwidth::from_bits_per_second(bits).to_string());
        let [delay, jitter] = [self.delay, self.jitter].map(Latency::from_nanos);
        let series = if self.series.is_some() { ", by its recording" } else { "" };
        format!("delay {delay}, jitter {jitter}, loss {}, rate {rate}{series}", Loss::from_ppm(self.loss))
    }
}

impl Link {
    /// Its ends and its network.
    pub fn described(&self) -> String {
        format!("{} – {} ({})", self.ends[0].host, self.ends[1].host, self.network)
    }
}

impl End {
    /// `eth0 of HOST`.
    pub fn interface_of(&self) -> String {
        format!("{} of {}", self.interface, self.host)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub host: String,
    /// The bridge of its private network, on the host.
    pub bridge: String,
    /// Its address there; the same one may occur in many networks.
    pub private: Option<(IpAddr, u8)>,
    /// As in `http tcp/80`.
    pub services: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl Plan {
    pub fn folder(&self) -> PathBuf {
        folder(&self.name)
    }

    pub fn controller_namespace(&self) -> String {
        format!("fwl-{}-{CONTROLLER}", self.name)
    }

    /// Namespaces in the order of their making.
    pub fn namespaces(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(|host| host.namespace.clone());
        let workloads = self.workloads.iter().map(|workload| workload.namespace.clone());
        std::iter::once(self.controller_namespace()).chain(hosts).chain(workloads).collect()
    }

    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// The namespace of a host, a workload or the controller.
    pub fn namespace(&self, node: &str) -> Result<String> {
        if node == CONTROLLER {
            return Ok(self.controller_namespace());
        }
        let host = self.host(node).map(|host| host.namespace.clone());
        match host.or_else(|| self.workload(node).map(|workload| workload.namespace.clone())) {
            Some(namespace) => Ok(namespace),
            None => {
                let hosts = self.hosts.iter().map(|host| host.name.as_str());
                let names: Vec<&str> =
                    hosts.chain(self.workloads.iter().map(|workload| workload.name.as_str())).collect();
                bail!("lab {} has no \"{node}\"; it has {CONTROLLER}, {}", self.name, names.join(", "))
            }
        }
    }

    /// Where the agent of a host pins.
    pub fn pins(&self, host: &str) -> PathBuf {
        Path::new("/sys/fs/bpf").join(format!("fwl-{}-{host}", self.name))
    }

    /// Checks what the kernel would refuse later, half-way.
    pub(super) fn check(self) -> Result<Self> {
        for namespace in self.namespaces() {
            // A file name of the kernel has at most 255 bytes.
            if namespace.len() > 200 {
                bail!("the name {namespace} has {} bytes; allowed are 200", namespace.len());
            }
        }
        if self.host(CONTROLLER).is_some() {
            bail!("a host may not be called {CONTROLLER}: that is the controller");
        }
        for workload in &self.workloads {
            if self.host(&workload.name).is_some() || workload.name == CONTROLLER {
                bail!("the workload {} has the name of a host", workload.name);
            }
        }
        Ok(self)
    }
}

/// Where the files of a lab are.
pub fn folder(name: &str) -> PathBuf {
    Path::new("/run/foreweave-lab").join(name)
}

/// Address of the host with this index in the management network.
pub(super) fn management(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(MANAGEMENT.to_bits() + 1 + index as u32)
}

/// IPv4 addresses of link `index`: its own /30 out of 10.192.0.0/10.
pub(super) fn link_v4(index: usize) -> [(IpAddr, u8); 2] {
    let base = Ipv4Addr::new(10, 192, 0, 0).to_bits() + 4 * index as u32;
    [1, 2].map(|host| (IpAddr::V4(Ipv4Addr::from(base + host)), 30))
}

/// IPv6 addresses of link `index`: its own /64 out of fd00:f0e::/32.
pub(super) fn link_v6(index: usize) -> [(IpAddr, u8); 2] {
    [1, 2].map(|host| (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xf0e, 0, index as u16, 0, 0, 0, host)), 64))
}
