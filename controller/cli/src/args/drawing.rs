//! What is drawn of the past and the future of paths and links.
use crate::failure::Failure;
use crate::text::{DAY, Span, span};
use clap::{Args, ValueEnum, ValueHint};
use proto_model::request::CircuitRef;
use proto_model::topology::Quantity;
use std::path::PathBuf;
use std::time::Duration;

/// As long as each two seconds are kept.
const USUAL: Duration = Duration::from_secs(240);

/// That something is drawn, where, and how far back.
#[derive(Debug, Args)]
#[command(next_help_heading = "A drawing")]
pub struct Sheet {
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
}

impl Sheet {
    pub fn is_wanted(&self) -> bool {
        self.chart || self.svg.is_some()
    }

    pub fn past(&self) -> Duration {
        self.past.as_ref().map_or(USUAL, |past| past.0)
    }

    fn check(&self, says_what: bool, options: &str) -> Result<(), Failure> {
        if !self.is_wanted() && (self.past.is_some() || says_what) {
            return Err(Failure::Usage {
                what: format!("{options} say what to draw, and nothing is to be drawn"),
                hint: "say --chart, or --svg FILE".into(),
            });
        }
        Ok(())
    }
}

/// Of a circuit or a link.
#[derive(Debug, Args)]
#[command(next_help_heading = "A drawing")]
pub struct Drawing {
    #[command(flatten)]
    pub sheet: Sheet,
    /// The loss instead of the round-trip time
    #[arg(long)]
    pub loss: bool,
    /// Instead of the round-trip time what a circuit's ends send, each way, against what is reserved for it; of a link what it
    /// carries, against its capacity
    #[arg(long, conflicts_with = "loss")]
    pub load: bool,
}

impl Drawing {
    /// # Errors
    /// It says how to draw and not what.
    pub fn check(&self) -> Result<(), Failure> {
        self.sheet.check(self.loss || self.load, "--past, --loss and --load")
    }

    pub fn quantity(&self) -> Quantity {
        match (self.loss, self.load) {
            (true, _) => Quantity::Loss,
            (false, true) => Quantity::Load,
            (false, false) => Quantity::Rtt,
        }
    }
}

/// What can be drawn of a path that nobody runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawn {
    Rtt,
    Loss,
    /// Of links and circuits that are there; known so that it can be said.
    #[value(hide = true)]
    Load,
}

/// Of the paths of a plan, whose --loss is a bound.
#[derive(Debug, Args)]
#[command(next_help_heading = "A drawing")]
pub struct Sketch {
    #[command(flatten)]
    pub sheet: Sheet,
    /// The round-trip time, against --latency, or the loss, against --loss [default: rtt]
    #[arg(long, value_name = "WHAT")]
    pub draw: Option<Drawn>,
}

impl Sketch {
    /// # Errors
    /// It says how to draw and not what; or a load, or those of several circuits are to be drawn.
    pub fn check(&self, has_several: bool) -> Result<(), Failure> {
        self.sheet.check(self.draw.is_some(), "--past and --draw")?;
        if has_several && self.sheet.is_wanted() {
            return Err(Failure::Usage {
                what: "a chart has the paths of one circuit, and --file names several".into(),
                hint: "say `foreweave circuit plan SRC DST --chart` for one of them".into(),
            });
        }
        if self.draw == Some(Drawn::Load) {
            return Err(Failure::Usage {
                what: "the load is of a link, or of a circuit that is there; a path has neither".into(),
                hint: "say `foreweave link show A B --chart --load`".into(),
            });
        }
        Ok(())
    }

    pub fn quantity(&self) -> Quantity {
        match self.draw {
            None | Some(Drawn::Rtt) => Quantity::Rtt,
            Some(Drawn::Loss) => Quantity::Loss,
            Some(Drawn::Load) => Quantity::Load,
        }
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
