//! Policies of hosts, as options and as arguments.
use super::circuit::Wait;
use crate::text::{DAY, Span, span};
use clap::{Args, Subcommand, ValueHint};
use proto_model::NodeName;
use proto_model::rule::RuleSpec;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the rules of a host's policy in the order in which they are tried
    Show {
        /// Name of the node
        node: NodeName,
    },
    /// Replace a host's policy as a whole; rules that stay keep their numbers
    ///
    /// A policy restricts the circuits that end at the host, whoever makes them: what it denies is denied; what it
    /// allows, and what it does not speak of, is decided by the circuit's own rules. A rule without a direction is
    /// about connections to the workloads on the host, "reverse" about those that they open, "both" about both.
    Set {
        /// Name of the node
        node: NodeName,
        /// Rules like "deny tcp/22" or "allow tcp/22 from 100.64.0.7"
        #[arg(value_name = "RULE", required_unless_present = "file", conflicts_with = "file")]
        rules: Vec<RuleSpec>,
        /// Read the rules from a file: one per line, # starts a comment; - is standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        #[command(flatten)]
        confirm: ConfirmPolicy,
        #[command(flatten)]
        wait: Wait,
    },
    /// Take a host's policy away: only the circuits' own rules count there
    Clear {
        /// Name of the node
        node: NodeName,
        #[command(flatten)]
        confirm: ConfirmPolicy,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let the last change stay, which was made with --confirm-within
    Confirm {
        /// Name of the node
        node: NodeName,
    },
    /// Take the last change, which was made with --confirm-within, back at once
    Rollback {
        /// Name of the node
        node: NodeName,
    },
}

#[derive(Debug, Args)]
pub struct ConfirmPolicy {
    /// The change is taken back by itself, also with the controller dead, unless `foreweave node policy confirm` comes
    /// within this time, from 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = span(1, DAY), help_heading = "The request")]
    pub confirm_within: Option<Span>,
}

impl ConfirmPolicy {
    pub fn within(&self) -> Option<Duration> {
        self.confirm_within.as_ref().map(|span| span.0)
    }
}
