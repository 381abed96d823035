//! What a path must keep, as options.
use crate::text::OwnWeight;
use clap::Args;
use proto_model::intent::Bounds;
use proto_model::{Bandwidth, Horizon, Latency, Loss, Name, NodeName, Price, Risk};

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What the path must keep")]
pub struct BoundsArgs {
    /// Round-trip time, at most
    #[arg(long, value_name = "RTT")]
    pub latency: Option<Latency>,
    /// Share of packets lost over the whole path, at most; a circuit with a backup also leaves a path that loses more
    #[arg(long, value_name = "SHARE")]
    pub loss: Option<Loss>,
    /// Reserved in each direction, in bits: 10mbit, 10mbps and 10mbit/s are the same; without it: best effort
    #[arg(long, value_name = "BANDWIDTH")]
    pub bandwidth: Option<Bandwidth>,
    /// In each direction, at most; more is dropped where it enters, and counted as over_limit
    #[arg(long, value_name = "BANDWIDTH")]
    pub limit: Option<Bandwidth>,
    /// Encrypt end to end, between the hosts of the two ends (WireGuard); hosts on the way see ciphertext only
    #[arg(long)]
    pub encrypted: bool,
    /// Only links that are declared as encrypted (by `link set --encrypted`)
    #[arg(long)]
    pub encrypted_links: bool,
    /// Egress fees summed over the links, at most
    #[arg(long, value_name = "PRICE")]
    pub max_price: Option<Price>,
    /// Links, at most: 1 to 16 [default: 8]
    #[arg(long, value_name = "LINKS", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub max_hops: Option<u8>,
    /// A host that the path must cross
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub via: Vec<NodeName>,
    /// A host that it must not cross
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub avoid: Vec<NodeName>,
    /// A word that every link must carry
    #[arg(long = "require-tag", value_name = "WORD", value_delimiter = ',')]
    pub require_tags: Vec<Name>,
    /// A word that no link may carry
    #[arg(long = "avoid-tag", value_name = "WORD", value_delimiter = ',')]
    pub avoid_tags: Vec<Name>,
    /// Probability with which latency and loss may exceed their bounds within the horizon: 1 to 25 % [default: the
    /// controller's, usually 5%]
    #[arg(long, value_name = "SHARE")]
    pub risk: Option<Risk>,
    /// How far ahead latency and loss are to be kept: 1 s to 1 h [default: the controller's, usually 60s]
    #[arg(long, value_name = "SPAN")]
    pub horizon: Option<Horizon>,
    /// What a term of the cost weighs instead of what the controller says: rtt (per ms), hop, load, loss (per cent), price
    /// (per $/GB) or unknown (a link without a known round-trip time), like rtt=2 or price=0
    #[arg(long = "weight", value_name = "TERM=NUMBER", value_delimiter = ',')]
    pub weights: Vec<OwnWeight>,
}

impl BoundsArgs {
    pub fn bounds(&self) -> Bounds {
        Bounds {
            max_rtt: self.latency,
            max_loss: self.loss,
            bandwidth: self.bandwidth.unwrap_or_default(),
            limit: self.limit,
            encrypted: self.encrypted,
            encrypted_links: self.encrypted_links,
            max_price: self.max_price,
            max_hops: self.max_hops,
            via: self.via.iter().cloned().collect(),
            avoid: self.avoid.iter().cloned().collect(),
            require_tags: self.require_tags.iter().cloned().collect(),
            avoid_tags: self.avoid_tags.iter().cloned().collect(),
            risk: self.risk,
            horizon: self.horizon,
            weights: self.weights.iter().map(|own| (own.term, own.weight)).collect(),
        }
    }
}
