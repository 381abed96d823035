//! Times the choice of paths on large networks, and forecasts: `bench-routing [--json] [--quick] [--data DIR]`.
mod admission;
mod failure;
mod forecasts;
mod network;
mod paths;
mod report;

use report::{Row, Table};
use std::path::PathBuf;
use std::process::ExitCode;

const HOW: &str = "In process, one thread; the distribution is over seeded requests, each asked once";

#[derive(Clone, Debug, Default)]
struct Options {
    json: bool,
    quick: bool,
    /// With recorded traffic matrices, prices and round-trip times.
    data: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = options()?;
    let mut rows: Vec<Row> = paths::measure(&options);
    rows.extend(failure::measure(&options)?);
    rows.extend(forecasts::measure(&options));
    Table { title: "Choice of paths", how: HOW, rows }.print(options.json);
    if let Some(folder) = &options.data {
        let rows = admission::measure(folder, options.quick)?;
        let how =
            "Recorded traffic matrices, each pair of nodes a request; recorded prices and round-trip times";
        println!();
        Table { title: "Joint admission and prices", how, rows }.print(options.json);
    }
    Ok(())
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--data" => options.data = Some(arguments.next().ok_or("--data needs a folder")?.into()),
            other => return Err(format!("{other} is not known; there are --json, --quick and --data DIR")),
        }
    }
    Ok(options)
}
