//! Times the choice of paths on large networks, and forecasts; and says whether it pays to look ahead:
//! `bench-routing [--json] [--quick] [--data DIR] [--forecasts | --choice | --joint | --scenes] [--seed FIRST] [--log]`.
mod admission;
mod choice;
mod crowd;
mod failure;
mod forecasts;
mod network;
mod paths;
mod recall;
mod report;
mod reports;
mod scenes;
mod stage;
mod weather;

use report::{Row, Table};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const RECORDED: &str =
    "Recorded traffic matrices, each pair of nodes a request; recorded prices and round-trip times";
const HOW: &str = "In process, one thread; the distribution is over seeded requests, each asked once";

const REPORTED: &str =
    "The real core, virtual time, one thread; the distribution is over rounds of two seconds";

const CHOSEN: &str = "The real core, virtual time, one circuit over four ways of different price; the distribution is over seeds";

const WATCHED: &str =
    "The real core, virtual time, six circuits with bounds over four ways; the distribution is over seeds";

#[derive(Clone, Debug, Default)]
struct Options {
    json: bool,
    quick: bool,
    /// With recorded traffic matrices, prices and round-trip times.
    data: Option<PathBuf>,
    /// Nothing but what forecasts cost.
    forecasts: bool,
    /// Nothing but what reports of hosts cost.
    reports: bool,
    /// Nothing but the scenes.
    scenes: bool,
    /// Nothing but what circuits without bounds cost.
    choice: bool,
    /// Nothing but joint admission, which needs `data`.
    joint: bool,
    /// Of the scenes.
    first_seed: u64,
    /// Each second of a broken bound, on the standard error.
    log: bool,
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
    if options.scenes {
        return scenes(&options);
    }
    if options.choice {
        return choice(&options);
    }
    if options.forecasts {
        let mut rows = forecasts::measure(&options);
        rows.extend(recall::measure(&options)?);
        Table {
            title: "Forecasts",
            how: "In process, one thread; the distribution is over seconds, portions or repetitions",
            rows,
        }
        .print(options.json);
        return Ok(());
    }
    if options.reports {
        let rows = reports::measure(&options)?;
        Table { title: "Reports", how: REPORTED, rows }.print(options.json);
        return Ok(());
    }
    if options.joint {
        return joint(options.data.as_deref().ok_or("--joint needs --data FOLDER")?, &options);
    }
    let mut rows: Vec<Row> = paths::measure(&options);
    rows.extend(failure::measure(&options)?);
    rows.extend(forecasts::measure(&options));
    rows.extend(recall::measure(&options)?);
    rows.extend(crowd::measure(&options)?);
    rows.extend(reports::measure(&options)?);
    Table { title: "Choice of paths", how: HOW, rows }.print(options.json);
    println!();
    scenes(&options)?;
    println!();
    choice(&options)?;
    if let Some(folder) = &options.data {
        println!();
        joint(folder, &options)?;
    }
    Ok(())
}

fn joint(folder: &Path, options: &Options) -> Result<(), String> {
    let rows = admission::measure(folder, options.quick)?;
    Table { title: "Joint admission and prices", how: RECORDED, rows }.print(options.json);
    Ok(())
}

fn scenes(options: &Options) -> Result<(), String> {
    let rows = scenes::measure(options)?;
    Table { title: "Whether it pays to look ahead", how: WATCHED, rows }.print(options.json);
    Ok(())
}

fn choice(options: &Options) -> Result<(), String> {
    let rows = choice::measure(options)?;
    Table { title: "What circuits without bounds cost", how: CHOSEN, rows }.print(options.json);
    Ok(())
}

fn options() -> Result<Options, String> {
    let mut options = Options { first_seed: 1, ..Options::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--data" => options.data = Some(arguments.next().ok_or("--data needs a folder")?.into()),
            "--forecasts" => options.forecasts = true,
            "--reports" => options.reports = true,
            "--scenes" => options.scenes = true,
            "--joint" => options.joint = true,
            "--choice" => options.choice = true,
            "--log" => options.log = true,
            "--seed" => {
                let seed = arguments.next().ok_or("--seed needs the first seed")?;
                options.first_seed = seed.parse().map_err(|_| format!("{seed} is not a number"))?;
            }
            other => {
                let known = "there are --json, --quick, --data DIR, --forecasts, --reports, --choice, --joint, --scenes, --seed FIRST and --log";
                return Err(format!("{other} is not known; {known}"));
            }
        }
    }
    Ok(options)
}
