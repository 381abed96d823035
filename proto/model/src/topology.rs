//! Hosts, and the underlay links between them.
use crate::{Bandwidth, Latency, Loss, Name, NodeName, Price};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An interface of a host that carries tunnels, as its agent announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// Kernel name, e.g. `eth0`.
    pub interface: String,
    /// Hosts with interfaces in the same network reach each other directly; so each pair of them is a link.
    pub network: Name,
    /// Outer addresses; IPv4 is used where both ends have it, IPv6 otherwise.
    pub addresses: Vec<IpAddr>,
    /// Bytes of an IP packet that fit.
    pub mtu: u16,
    /// What the owner configured, else what the driver says, if it says something.
    pub speed: Option<Bandwidth>,
    /// Its owner allows the agent to queue what leaves there, so that reservations hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shape: bool,
}

/// Whether the controller has contact with a node's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Enrolled, its agent has not connected yet.
    Expected,
    Connected,
    /// Contact was lost; its circuits keep forwarding, and nothing new is placed on it.
    Lost,
}

/// The two ends of a link, in order, and the network that it is in. Copies share it: links are the keys of many books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(Arc<Between>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Between {
    a: NodeName,
    b: NodeName,
    network: Name,
}

impl LinkId {
    /// `None` when both ends are one node. The order of the ends does not matter.
    pub fn new(one: NodeName, other: NodeName, network: Name) -> Option<Self> {
        let (a, b) = match one.cmp(&other) {
            std::cmp::Ordering::Less => (one, other),
            std::cmp::Ordering::Greater => (other, one),
            std::cmp::Ordering::Equal => return None,
        };
        Some(Self(Arc::new(Between { a, b, network })))
    }
    pub fn ends(&self) -> (&NodeName, &NodeName) {
        (&self.0.a, &self.0.b)
    }
    pub fn network(&self) -> &Name {
        &self.0.network
    }
    /// The end that is not `node`; `None` when neither is.
    pub fn other(&self, node: &NodeName) -> Option<&NodeName> {
        match node {
            n if *n == self.0.a => Some(&self.0.b),
            n if *n == self.0.b => Some(&self.0.a),
            _ => None,
        }
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = self.ends();
        write!(f, "{a}–{b} ({})", self.network())
    }
}

/// What probes (STAMP) saw of a link in a few seconds, from one end. Forward: away from the node that measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Probes sent whose fate is known.
    pub probes: u32,
    /// Round-trip time without the reflector's own time; zero when none came back.
    pub rtt_min: Latency,
    pub rtt_mean: Latency,
    pub rtt_max: Latency,
    /// Mean difference of one-way delays of consecutive probes (RFC 3393); needs no synchronised clocks.
    pub variation_forward: Latency,
    pub variation_backward: Latency,
    pub loss_forward: Loss,
    pub loss_backward: Loss,
}

/// A quantity that is forecast, with its unit in [`Forecast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Round-trip time, nanoseconds.
    Rtt,
    /// Of the worse direction, packets per million.
    Loss,
    /// What the fuller direction carries, bits per second.
    Load,
}

/// Probabilities of [`Forecast::quantiles`], per cent.
pub const QUANTILES: [u8; 7] = [1, 5, 25, 50, 75, 95, 99];

/// What a quantity of a link is expected to be after some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    pub quantity: Quantity,
    pub horizon: Duration,
    pub mean: u64,
    /// At [`QUANTILES`], ascending.
    pub quantiles: [u64; 7],
    /// Mean absolute error of late, of forecasts that reached so far.
    pub error: u64,
    /// The model with the largest weight, e.g. `trend`.
    pub model: String,
    /// Errors that the quantiles are made from.
    pub samples: u32,
    /// Decisions go by it.
    pub counts: bool,
}

/// What is known of a link's behaviour; configured by an operator, later measured. Both directions are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkValues {
    /// Round-trip time. Unknown: the link cannot serve an intent with a latency bound.
    pub rtt: Option<Latency>,
    /// In each direction. Unknown: the slower end's driver speed; if that is unknown too, the link cannot serve an
    /// intent with a bandwidth.
    pub capacity: Option<Bandwidth>,
    pub loss: Loss,
    pub price: Price,
    /// The provider encrypts it (MACsec, IPsec): good enough for intents that ask for encryption.
    pub encrypted: bool,
    /// Only circuits that are encrypted end to end may take it.
    #[serde(default)]
    pub require_encryption: bool,
    /// Free words to require or avoid: a jurisdiction, a provider.
    pub tags: BTreeSet<Name>,
    /// Taken out of service by an operator: no new circuit uses it.
    pub disabled: bool,
}
