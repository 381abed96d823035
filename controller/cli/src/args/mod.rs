//! What can be typed.
pub mod bounds;
pub mod circuit;
pub mod drawing;
pub mod fabric;
pub mod packets;
pub mod policy;
pub mod replay;
pub mod resource;
pub mod rule;

use crate::text::Span;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Drives a Foreweave fabric: resources, circuits between them, their firewall rules, and what happens on them.
#[derive(Debug, Parser)]
#[command(
    name = "foreweave",
    version,
    max_term_width = 110,
    after_help = "\
Quantities carry their units: 20ms, 300us; 200mbit, 1.5gbit; 0.5%, 1200ppm; 0.02$/GB; 90s, 15m, 12h, 7d.
Exit codes: 0 done; 1 the controller refused; 2 wrong usage or configuration; 3 no controller reached;
4 not allowed; 5 accepted, but not in force when the wait ended; 6 `why`: the packet would be dropped."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Client configuration, as written by the controller or `foreweave client add` [default:
    /// ~/.config/foreweave/config.toml]
    #[arg(long, global = true, env = "FOREWEAVE_CONFIG", hide_env_values = true, value_name = "FILE")]
    #[arg(value_hint = ValueHint::FilePath, help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print the API's answer as JSON, for programs; errors become JSON on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// How long to wait for a controller's answer, in addition to what was asked to be waited for
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", help_heading = "Global options")]
    pub timeout: Span,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the fabric is: nodes, resources, circuits
    Status,
    /// Hosts with an agent
    #[command(subcommand)]
    Node(fabric::Node),
    /// Links between hosts: what is known of them
    #[command(subcommand)]
    Link(fabric::Link),
    /// Certificates for people and programs that use the API
    #[command(subcommand)]
    Client(fabric::Client),
    /// What communicates: virtual machines, containers, serverless instances, hosts
    #[command(subcommand)]
    Resource(resource::Resource),
    /// Find resources that satisfy intents, and learn why others were left out
    Discover(resource::Discover),
    /// Dedicated paths between two resources
    #[command(subcommand)]
    Circuit(circuit::Circuit),
    /// Firewall rules of a circuit
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Show why a circuit runs where it runs, what would change that, what is expected of its paths; or draw it
    Explain(drawing::Explain),
    /// Show dropped packets: counts, or live with reason, rule and circuit
    Drops(fabric::Drops),
    /// Ask every host on a packet's way what its data plane would do with it, and why
    Why(packets::Why),
    /// Follow a circuit's packets from host to host, a line for each
    Trace(packets::Trace),
    /// Write a circuit's frames, as several hosts see them, into a pcapng file
    Capture(packets::Capture),
    /// Show everything that is and then whatever changes
    Watch(fabric::Watch),
    /// Play a recorded series against policies, offline: what each would have chosen, and what that would have cost
    Replay(replay::Replay),
    /// Print a completion script for a shell
    Completion {
        /// bash, zsh or fish (also elvish, powershell)
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// Directory to write them to; made when it is not there
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}
