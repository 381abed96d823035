//! Circuits.
use super::bounds::BoundsArgs;
use super::drawing::{Explain, Sketch};
use super::rule::RuleArgs;
use crate::text::{DAY, Span, span};
use clap::{Args, Subcommand, ValueHint};
use proto_model::request::{CircuitRef, CircuitRequest};
use proto_model::{CircuitName, NodeName, ResourceId, Timestamp, Until};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum Circuit {
    /// Choose a path, reserve, and program every host on it
    Create(Create),
    /// The same decision without building anything: candidates, costs, what would change; or the candidates drawn over time (not of a --file)
    Plan(Plan),
    /// Show why a circuit runs where it runs, what would change that, what is expected of its paths; or draw it
    Explain(Explain),
    /// List the circuits
    List,
    /// Show one circuit with its path and backup, by which way each end sends, rules and counters
    Show(Named),
    /// Show circuits and then whatever changes about them, ends that turn to their backup included
    Watch {
        /// Only this circuit: its name, or its number as c42
        circuit: Option<CircuitRef>,
    },
    /// Move the end of a circuit, or take it away
    Extend {
        #[command(flatten)]
        circuit: Named,
        #[command(flatten)]
        end: End,
        /// It does not end by itself any more
        #[arg(long, conflicts_with_all = ["lifetime", "until"])]
        forever: bool,
    },
    /// Take a circuit down
    Delete {
        #[command(flatten)]
        circuit: Named,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
pub struct Named {
    /// Name of the circuit, or its number as c42
    pub circuit: CircuitRef,
}

/// What is said of one circuit, and cannot be said of those of a file.
const ONE: [&str; 23] = [
    "source",
    "destination",
    "name",
    "latency",
    "loss",
    "bandwidth",
    "limit",
    "encrypted",
    "encrypted_links",
    "max_price",
    "max_hops",
    "via",
    "avoid",
    "require_tags",
    "avoid_tags",
    "priority",
    "path",
    "allow",
    "deny",
    "rule",
    "start",
    "lifetime",
    "until",
];

/// What a circuit shall be.
#[derive(Debug, Args)]
pub struct Wish {
    /// Resource at one end; rules speak of its connections unless they say reverse
    #[arg(value_name = "SRC", required_unless_present = "file")]
    pub source: Option<ResourceId>,
    /// Resource at the other end
    #[arg(value_name = "DST", required_unless_present = "file")]
    pub destination: Option<ResourceId>,
    /// Several circuits, placed together so that as much as can be is admitted, by priority: one per line like "web db bandwidth=200mbit priority=3 allow=tcp/443", in the words of these options; # starts a comment; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ONE, help_heading = "Several circuits")]
    pub file: Option<PathBuf>,
    /// Name of the circuit [default: SRC-DST]
    #[arg(long)]
    pub name: Option<CircuitName>,
    #[command(flatten)]
    pub bounds: BoundsArgs,
    /// From 0 (least) to 255
    #[arg(long, default_value_t = 0, help_heading = "What the path must keep")]
    pub priority: u8,
    /// The hosts to cross, from SRC's to DST's, instead of leaving the choice to the controller; there is no backup then
    #[arg(long, value_name = "NODE,NODE,…", value_delimiter = ',', help_heading = "What the path must keep")]
    pub path: Vec<NodeName>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub start: Start,
    #[command(flatten)]
    pub end: End,
}

/// When something begins.
#[derive(Debug, Args)]
#[command(next_help_heading = "When it starts")]
pub struct Start {
    /// At a time in UTC, like 2026-11-21T12:00:00Z, or so long from now, like 30m, up to 366d; until then it is scheduled, and its bandwidth is promised for its time [default: at once]
    #[arg(long, value_name = "WHEN", value_parser = crate::text::start)]
    pub start: Option<Until>,
}

/// When something ends by itself.
#[derive(Debug, Args)]
#[command(next_help_heading = "When it ends")]
pub struct End {
    /// So long from now (or from its start, if that is later), from 1s to 366d; the hosts of its ends close it by their own clocks
    #[arg(long = "for", id = "lifetime", value_name = "TIME", value_parser = span(1, 366 * DAY), conflicts_with = "until")]
    pub lifetime: Option<Span>,
    /// At a time in UTC, like 2026-11-21T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Timestamp>,
}

impl End {
    pub fn wish(&self) -> Option<Until> {
        let span = self.lifetime.as_ref().map(|span| Until::After(span.0));
        span.or(self.until.map(Until::At))
    }
}

impl Wish {
    /// None: a file has them.
    pub fn request(&self) -> Option<CircuitRequest> {
        let (source, destination) = self.source.clone().zip(self.destination.clone())?;
        Some(CircuitRequest {
            name: self.name.clone(),
            source,
            destination,
            bounds: self.bounds.bounds(),
            priority: self.priority,
            pinned_path: (!self.path.is_empty()).then(|| self.path.clone()),
            rules: self.rules.rules.clone(),
            until: self.end.wish(),
            starts: self.start.start,
        })
    }
}

/// What would become of a wish.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub wish: Wish,
    #[command(flatten)]
    pub sketch: Sketch,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub wish: Wish,
    /// A repeated key within 24 hours makes no second circuit [default: a new random one]
    #[arg(long, value_name = "KEY", help_heading = "The request")]
    pub idempotency_key: Option<String>,
    /// Move circuits that stand, make before break, if it does not fit otherwise; without this the refusal says which
    #[arg(long = "move", help_heading = "The request")]
    pub moves: bool,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The request")]
pub struct Wait {
    /// Wait at most this long until every host has reported; `0s` is as --no-wait
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub wait: Span,
    /// Do not wait
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

impl Wait {
    pub fn duration(&self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait.0 }
    }
}
