//! Recorded series against policies: what would have been chosen, and what that would have cost.
use crate::text::{DAY, Span, span};
use clap::{Args, ValueEnum, ValueHint};
use controller_core::replay::policy::Kind as Policy;
use controller_core::replay::series::Series;
use controller_core::replay::table::{Part, Protocol, USUAL_STEP};
use proto_model::Latency;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
SERIES is a table (.csv, or .csv.gz): one line per step and source, one column per destination, milliseconds;
an empty cell is a missing sample. The first column's name may say how long a step is: step=15.7s,src,…

  step,src,fra,ams,nyc
  0,fra,,8.1,80.2
  0,ams,8.0,,75.5
  1,fra,,8.3,81.0

At step t a policy has seen the samples up to t, and its choice (direct, or over one relay) is scored with
those of t + 1.
Policies: direct, static, last, ewma:GAIN[:HYSTERESIS], experts, bandit, mix, ours, hindsight, oracle.
With --kind load the table has the traffic from each source to each destination in Mbit/s.
With --kind money it has the columns src_region, src_tier, dst_region, dst_tier, avg_rtt (ms), and --prices says
what a gigabyte costs.

  foreweave replay rtt.csv.gz --policy direct,last,ewma:0.1,ours
  foreweave replay rtt.csv.gz --step 15s --every 7 --json | jq '.rows[] | [.policy, .regret]'
  foreweave replay matrices.csv.gz --kind load --network topology.json --step 5m")]
pub struct Replay {
    /// The recorded series
    #[arg(value_hint = ValueHint::FilePath)]
    pub series: PathBuf,
    /// What was recorded
    #[arg(long, value_enum, default_value_t = Recorded::Rtt)]
    pub kind: Recorded,
    /// Policies to compare, in this order [default: all but the oracle]
    #[arg(long, value_delimiter = ',', value_name = "POLICY")]
    pub policy: Vec<Policy>,
    /// The time between two frames, from 1s to 1d: how often paths are chosen (with --every, so many times as
    /// long), how fast forecasts follow, and which frames are a day apart [default: what the series says, else 5m]
    #[arg(long, value_name = "TIME", value_parser = span(1, DAY))]
    pub step: Option<Span>,
    /// Take every so many-th frame only
    #[arg(long, value_name = "FRAMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Begin with this frame: other parts of the same series, which nothing was chosen on
    #[arg(long, value_name = "FRAMES", default_value_t = 0)]
    pub offset: u32,
    /// Interpolate gaps of up to so many steps in what choices are scored with; policies see the gaps
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub gaps: u32,
    /// Share of the steps, from 0 to 0.9, in which policies learn and are not scored
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = burn_in)]
    pub burn_in: f64,
    /// What a relay adds to a path
    #[arg(long, value_name = "TIME", default_value = "0.5ms")]
    pub relay_cost: Latency,
    /// Which nodes of the header take part: all, every other one
    #[arg(long, value_enum, default_value_t = Half::All)]
    pub nodes: Half,
    /// From which share of the steps to which, as in 0.4..1
    #[arg(long, value_name = "FROM..TO", default_value = "0..1", value_parser = shares)]
    pub span: (f64, f64),
    /// For loads: the network as JSON, `nodes` as [name, longitude, latitude], `links` as [a, b, [capacities]]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub network: Option<PathBuf>,
    /// For money: prices between regions, as CSV with the columns src, dest, src_tier, dest_tier, cost ($/GB)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub prices: Option<PathBuf>,
    /// Draw the table as an SVG picture, too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recorded {
    /// Round-trip times: which path is chosen
    Rtt,
    /// Traffic matrices: how well the loads of links are forecast
    Load,
    /// Round-trip times and prices between regions: what a cap on the price costs
    Money,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Half {
    All,
    Even,
    Odd,
}

impl Replay {
    /// The time between two frames of a series.
    pub fn step(&self, series: &Series) -> Duration {
        self.step.map(|step| step.0).or(series.step).unwrap_or(USUAL_STEP)
    }

    pub fn protocol(&self, series: &Series) -> Protocol {
        Protocol {
            step: self.step(series),
            every: self.every as usize,
            offset: self.offset as usize,
            gaps: self.gaps as usize,
            burn_in: self.burn_in,
            relay_cost: (self.relay_cost.nanos() as f64 / 1e6) as f32,
            nodes: match self.nodes {
                Half::All => Part::All,
                Half::Even => Part::Even,
                Half::Odd => Part::Odd,
            },
            span: self.span,
        }
    }

    pub fn policies(&self) -> &[Policy] {
        if self.policy.is_empty() { &Policy::USUAL } else { &self.policy }
    }
}

fn burn_in(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| (0.0..=0.9).contains(share));
    share.ok_or_else(|| format!("\"{text}\" is no share from 0 to 0.9"))
}

fn shares(text: &str) -> Result<(f64, f64), String> {
    let refusal = || format!("\"{text}\" is no part of a series; write it like 0..0.6 or 0.4..1");
    let (from, to) = text.split_once("..").ok_or_else(refusal)?;
    let share = |text: &str| text.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
    match (share(from), share(to)) {
        (Some(from), Some(to)) if from < to => Ok((from, to)),
        _ => Err(refusal()),
    }
}
