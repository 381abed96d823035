//! Nodes, links, clients, and what happens.
use super::drawing::Drawing;
use crate::text::{DAY, MINUTE, Span, span};
use clap::{Args, Subcommand, ValueHint};
use proto_model::access::Role;
use proto_model::request::CircuitRef;
use proto_model::shortage::Share;
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Node {
    /// List the nodes
    List,
    /// Make a one-time token for a new host, and print what to run there
    #[command(alias = "token")]
    Add {
        /// Name of the node
        name: NodeName,
        /// How long the token can be used
        #[arg(long, value_name = "TIME", default_value = "1h")]
        lifetime: Span,
    },
    /// What a host lets pass, whatever the rules of its circuits say
    #[command(subcommand)]
    Policy(super::policy::Policy),
    /// Remove a node for good; its certificate is refused from then on
    Remove {
        /// Name of the node
        name: NodeName,
    },
}

#[derive(Debug, Subcommand)]
pub enum Link {
    /// List the links: what was configured, and what the agents measured
    List,
    /// Show the links between two nodes: configured values against measured ones, by end and direction; or draw them
    Show {
        #[command(flatten)]
        which: LinkShow,
        #[command(flatten)]
        drawing: Drawing,
    },
    /// Set what is known of a link, all of it: what is not given becomes unknown, none or as measured
    Set(LinkSet),
    /// List the links that are expected to be asked for more than they hold, and when
    Shortages(Shortages),
    /// Write what was measured of all links as a table that `foreweave replay` reads
    Export(Export),
    /// Forget what was set of a link; one that was declared and that no two hosts offer is listed no longer
    Forget(LinkShow),
}

#[derive(Debug, Args)]
pub struct LinkShow {
    /// One end
    pub a: NodeName,
    /// The other end
    pub b: NodeName,
    /// In this underlay network; without it show shows all, and forget means the only one there is
    #[arg(long, value_name = "NAME")]
    pub network: Option<Name>,
}

#[derive(Debug, Args)]
pub struct Shortages {
    /// How far ahead, 10m to 1d
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = span(10 * MINUTE, DAY))]
    pub within: Span,
    /// Share of a link's capacity above which it is short, 1% to 100%
    #[arg(long, value_name = "SHARE", default_value = "90%", value_parser = share)]
    pub share: Share,
    /// List a link when it will be above with at least this probability, 1% to 50%
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub chance: Share,
}

fn share(text: &str) -> Result<Share, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no share; write it like 5% or 12.5%"))
}

#[derive(Debug, Args)]
pub struct Export {
    /// How far back, 10s to 7d: up to 4m in steps of 2 s, up to 3h of a minute, beyond of an hour
    #[arg(long, value_name = "TIME", default_value = "3h", value_parser = span(10, 7 * DAY))]
    pub past: Span,
    /// The file [default: the standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LinkSet {
    /// One end
    pub a: NodeName,
    /// The other end
    pub b: NodeName,
    /// Underlay network that the link is in; without it the only link between the two is meant, and of a link that is not
    /// there yet the network "default"
    #[arg(long, value_name = "NAME")]
    pub network: Option<Name>,
    /// Round-trip time; without it, what the agents measure counts
    #[arg(long, value_name = "RTT")]
    pub latency: Option<Latency>,
    /// In each direction; without it the slower end's driver speed counts
    #[arg(long, value_name = "BANDWIDTH")]
    pub capacity: Option<Bandwidth>,
    /// Share of packets lost; at 0% what the agents measure counts
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    pub loss: Loss,
    /// Egress fees
    #[arg(long, value_name = "PRICE", default_value = "0$/GB")]
    pub price: Price,
    /// The provider encrypts it: good enough for circuits that ask for encrypted links
    #[arg(long)]
    pub encrypted: bool,
    /// Only circuits that are encrypted end to end may take it
    #[arg(long)]
    pub require_encryption: bool,
    /// A word that circuits can require or avoid
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<Name>,
    /// Take it out of service: no new circuit uses it
    #[arg(long)]
    pub disable: bool,
}

#[derive(Debug, Subcommand)]
pub enum Client {
    /// Make a certificate for an API client and print its configuration
    #[command(alias = "create")]
    Add {
        /// Name of the client
        name: Name,
        /// viewer reads; operator also registers resources and makes circuits; admin also manages nodes, links, clients
        #[arg(long)]
        role: Role,
    },
}

#[derive(Debug, Args)]
pub struct Drops {
    /// Show drops as they happen (a sample: at most 100 per node, CPU, reason and second)
    #[arg(long, short)]
    pub follow: bool,
    /// Only of this circuit: its name, or its number as c42
    #[arg(long)]
    pub circuit: Option<CircuitRef>,
    /// Only on this node
    #[arg(long)]
    pub node: Option<NodeName>,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Circuits
    #[arg(long)]
    pub circuits: bool,
    /// Resources
    #[arg(long)]
    pub resources: bool,
    /// Nodes
    #[arg(long)]
    pub nodes: bool,
}
