//! Measures the data plane's programs and prints a Markdown table, or JSON with `--json`. Needs root, and the objects that
//! `cargo xtask ebpf` builds, the generator (`foreweave-testgen`) among them.
use anyhow::Result;
use clap::Parser;
use tests_kernel::bench::report::{HEAD, Row};
use tests_kernel::bench::{endpoint, hop};

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
    /// Only what names this: endpoint or hop.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
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
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{HEAD}");
        rows.iter().for_each(|row| println!("{}", row.markdown()));
    }
    Ok(())
}

fn endpoints(program: &str, measured: &endpoint::Measured) -> [Row; 2] {
    let ratio = measured.many.median() / measured.few.median();
    [
        Row::of(format!("{program}, 10 rules on the host"), "ns/packet", &measured.few),
        Row::of(format!("{program}, {MANY} rules on the host"), "ns/packet", &measured.many)
            .against("10 rules", ratio),
    ]
}

/// The ratio is of medians of whole rates: generator, hop and sink share the core, so the hop alone gains more.
fn hops(measured: &hop::Measured) -> [Row; 3] {
    let mega = |series: &tests_kernel::bench::report::Series| series.scaled(1e-6);
    let ratio = measured.xdp.median() / measured.kernel.median();
    if measured.lost > 0 {
        eprintln!("{} frames of the transit measurement were lost", measured.lost);
    }
    [
        Row::of(
            format!("transit in XDP, {} labels in scattered order", hop::LABELS),
            "Mpps",
            &mega(&measured.xdp),
        )
        .against("kernel IP forwarding, one route", ratio),
        Row::of("kernel IP forwarding, same frames", "Mpps", &mega(&measured.kernel)),
        Row::of("generator and sink without a hop", "Mpps", &mega(&measured.empty)),
    ]
}
