//! What is drawn of the past and the future of paths and links.
use crate::failure::Failure;
use crate::text::{DAY, Span, span};
use clap::{Args, ValueHint};
use proto_model::request::CircuitRef;
use proto_model::topology::Quantity;
use std::path::PathBuf;
use std::time::Duration;

/// As long as each two seconds are kept.
const USUAL: Duration = Duration::from_secs(240);

#[derive(Debug, Args)]
#[command(next_help_heading = "A drawing")]
pub struct Drawing {
    /// Draw what was measured and what is forecast, path by path, against the bound; with --json the numbers of it
    #[arg(long)]
    pub chart: bool,
    /// Draw it as an SVG picture
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
    /// How far back, from 10s to 7d: up to 4m by 2 s, up to 3h by the minute, else by the hour; forecasts reach half as far
    /// ahead [default: 4m]
    #[arg(long, value_name = "TIME", value_parser = span(10, 7 * DAY))]
    pub past: Option<Span>,
    /// The loss instead of the round-trip time
    #[arg(long)]
    pub loss: bool,
    /// Instead of the round-trip time what a circuit's ends send, each way, against what is reserved for it; of a link what it
    /// carries, against its capacity
    #[arg(long, conflicts_with = "loss")]
    pub load: bool,
}

impl Drawing {
    pub fn is_wanted(&self) -> bool {
        self.chart || self.svg.is_some()
    }

    /// # Errors
    /// It says how to draw and not what.
    pub fn check(&self) -> Result<(), Failure> {
        if !self.is_wanted() && (self.past.is_some() || self.loss || self.load) {
            return Err(Failure::Usage {
                what: "--past, --loss and --load say what to draw, and nothing is to be drawn".into(),
                hint: "say --chart, or --svg FILE".into(),
            });
        }
        Ok(())
    }

    pub fn quantity(&self) -> Quantity {
        match (self.loss, self.load) {
            (true, _) => Quantity::Loss,
            (false, true) => Quantity::Load,
            (false, false) => Quantity::Rtt,
        }
    }

    pub fn past(&self) -> Duration {
        self.past.as_ref().map_or(USUAL, |past| past.0)
    }
}

/// A circuit to be explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// Name of the circuit, or its number as c42
    pub circuit: CircuitRef,
    #[command(flatten)]
    pub drawing: Drawing,
}
