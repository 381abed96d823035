//! Measures the data plane's programs and prints a Markdown table, or JSON with `--json`. Needs root, and the objects that
//! `cargo xtask ebpf` builds, the generator (`foreweave-testgen`) among them.
use anyhow::Result;
use clap::Parser;
use tests_kernel::bench::report::Series;
use tests_kernel::bench::{endpoint, hop};
use tests_kernel::measure::{Row, Spread, print};

/// Rules on the host in the second case.
const MANY: u32 = 10_000;

#[derive(Parser)]
struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measurements of each thing; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Two rounds, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only what names this: endpoint or hop.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if options.quick {
        options.rounds = 2;
    }
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut rows = Vec::new();
    if wanted("endpoint") {
        eprintln!("endpoint programs, {} rounds", options.rounds);
        rows.extend(endpoints("eni_ingress", &endpoint::ingress(options.rounds, MANY)?));
        rows.extend(endpoints("underlay_ingress", &endpoint::delivery(options.rounds, MANY)?));
    }
    if wanted("hop") {
        eprintln!("transit hop, {} rounds of about 3 s", options.rounds);
        rows.extend(hops(&hop::measure(options.rounds)?));
    }
    let how = format!("{} rounds per row, the ways in turn", options.rounds);
    print("Programs", &how, &rows, options.json);
    Ok(())
}

fn endpoints(program: &str, measured: &endpoint::Measured) -> [Row; 2] {
    let what = |rules: u32| format!("{program}, {rules} rules on the host, ns per packet");
    let few = spread(&measured.few);
    [
        Row::alone(&what(endpoint::OWN_RULES), few, ""),
        Row::compared(&what(MANY), spread(&measured.many), &format!("{} rules", endpoint::OWN_RULES), few),
    ]
}

/// The ratio is of medians of whole rates: generator, hop and sink share the core, so the hop alone gains more.
fn hops(measured: &hop::Measured) -> [Row; 2] {
    let mega = |series: &Series| spread(&series.scaled(1e-6));
    if measured.lost > 0 {
        eprintln!("{} frames of the transit measurement were lost", measured.lost);
    }
    let what =
        format!("transit in XDP, {} labels in scattered order, million packets per second", hop::LABELS);
    [
        Row::compared(
            &what,
            mega(&measured.xdp),
            "kernel IP forwarding of the same frames, one route",
            mega(&measured.kernel),
        ),
        Row::alone(
            "generator and sink without a hop, million packets per second",
            mega(&measured.empty),
            "what both of these pay besides",
        ),
    ]
}

fn spread(series: &Series) -> Spread {
    Spread { median: series.median(), least: series.least(), most: series.most() }
}
