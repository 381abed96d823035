//! Measures TCP from workload to workload over three hosts: circuit, kernel VXLAN and plain kernel routing in turn.
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::net::IpAddr;
use tests_kernel::bench::line;
use tests_kernel::bench::rivals::{PLAIN, VXLAN, route};
use tests_kernel::lab::{Lab, Options};
use tests_kernel::measure::{Row, Spread, print};

#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures every way once.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Two rounds of one second, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

/// Rules in force; the one that lets the stream in is tried last.
const RULES: usize = 64;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (2, 1);
    }
    // Two labs, so that the kernel's ways meet none of our programs.
    let bare = Options { bare: true, ..Options::default() };
    let kernel = line::up("kernel", Some("tcp/5201"), bare)?;
    route(&kernel)?;
    let register = Options { register: true, ..Options::default() };
    let circuit = line::up("circuit", Some("tcp/5201"), register)?;
    let target = weave(&circuit)?;
    let ways: [(&Lab, IpAddr); 3] =
        [(&circuit, target), (&kernel, VXLAN.parse()?), (&kernel, PLAIN.parse()?)];
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..arguments.rounds {
        // Each round begins with another way, so that no way always runs on the warmest machine.
        for way in (0..3).map(|index| (index + round as usize) % 3) {
            let (lab, address) = ways[way];
            measured[way].push(line::stream(lab, "web", "db", address, arguments.seconds)?);
            eprintln!("  round {}: way {way}: {:.2} Gbit/s", round + 1, measured[way].last().unwrap_or(&0.0));
        }
    }
    let [circuit_spread, vxlan, plain] = measured.map(|values| Spread::of(&values));
    let what =
        format!("TCP, workload – endpoint – transit – endpoint – workload, {RULES} rules in force, Gbit/s");
    let rows = [
        Row::compared(&what, circuit_spread, "kernel routing + kernel VXLAN", vxlan),
        Row::compared(&what, circuit_spread, "plain kernel routing", plain),
    ];
    kernel.down()?;
    circuit.down()?;
    let how = format!(
        "{} rounds of {} s per way, one stream, the ways in turn",
        arguments.rounds, arguments.seconds
    );
    print("TCP throughput", &how, &rows, arguments.json);
    Ok(())
}

/// A circuit from web to db; returns db's address in the fabric.
fn weave(lab: &Lab) -> Result<IpAddr> {
    let mut command = lab.foreweave()?;
    command.args(["circuit", "create", "web", "db"]);
    for port in 0..RULES - 1 {
        command.args(["--deny", &format!("udp/{}", 20_000 + port)]);
    }
    let output = command.args(["--allow", "tcp/5201"]).output()?;
    if !output.status.success() {
        bail!("no circuit: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let answer = lab.foreweave()?.args(["--json", "resource", "show", "db"]).output()?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.stdout).context("foreweave resource show")?;
    Ok(answer["address"]["v4"].as_str().context("db has no address")?.parse()?)
}
