//! Replays recorded series with the release build of `foreweave` and gathers the tables into docs/evaluation.md.
mod load;
mod money;
mod page;
mod routing;

use crate::shell;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use page::Page;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Eval {
    /// Which paths are chosen: regret beside simple policies and beside the best.
    Routing,
    /// How well loads are forecast, and what may be admitted on that.
    Load,
    /// What a cap on the price of a path costs in round-trip time.
    Money,
}

/// The sections of the page in order.
const SECTIONS: [(Eval, &str); 3] = [
    (Eval::Routing, "\n## Choice of paths\n\n"),
    (Eval::Load, "\n## Loads\n\n"),
    (Eval::Money, "\n## Money\n\n"),
];

const TITLE: &str = "# Evaluation\n\nWritten by `cargo xtask eval`, which replays recorded series of real networks with \
`foreweave replay`. The protocol, what the columns mean and what was learned from them: [prediction.md](prediction.md). One \
configuration for all series; its constants were chosen on these parts of them, so other parts and halves are listed too.\n";

pub(crate) fn run(what: Option<Eval>, data: Option<&Path>) -> Result<()> {
    let data = Data::find(data)?;
    let foreweave = build()?;
    let path = shell::root().join("docs/evaluation.md");
    let headings: Vec<&'static str> = SECTIONS.iter().map(|(_, heading)| *heading).collect();
    let mut page = Page::read(&headings, &std::fs::read_to_string(&path).unwrap_or_default());
    for (index, (section, _)) in SECTIONS.iter().enumerate() {
        if what.is_none_or(|what| what == *section) {
            let text = match section {
                Eval::Routing => routing::report(&foreweave, &data)?,
                Eval::Load => load::report(&foreweave, &data)?,
                Eval::Money => money::report(&foreweave, &data)?,
            };
            println!("{text}");
            page.set(index, text);
        }
    }
    std::fs::write(&path, page.text(TITLE)).with_context(|| path.display().to_string())?;
    eprintln!("  done  {}", path.display());
    Ok(())
}

/// The folder with the recorded series.
struct Data(PathBuf);

impl Data {
    fn find(given: Option<&Path>) -> Result<Self> {
        let usual = shell::root().join("../shared/data");
        let folder = given.map_or(usual, Path::to_owned);
        if !folder.is_dir() {
            bail!(
                "{} is no folder with recorded series; --data DIR names one. The series and where they come from are in \
                 docs/prediction.md; foreweave replay plays any other series",
                folder.display()
            );
        }
        Ok(Self(folder))
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if !path.is_file() {
            bail!("{} is missing; docs/prediction.md says where it comes from", path.display());
        }
        Ok(path)
    }
}

struct Foreweave(PathBuf);

fn build() -> Result<Foreweave> {
    let mut command = shell::cargo();
    command.args(["build", "--release", "--locked", "-p", "controller-cli"]);
    shell::run_quietly("foreweave, release build", &mut command)?;
    Ok(Foreweave(shell::target().join("release/foreweave")))
}

impl Foreweave {
    /// The answer of one replay as JSON, and how long it took, reading included.
    fn replay(&self, series: &Path, options: &[String]) -> Result<(Value, Duration)> {
        let mut command = shell::command(&self.0);
        command.arg("--json").arg("replay").arg(series).args(options);
        let begun = Instant::now();
        let output = command.output().with_context(|| self.0.display().to_string())?;
        let took = begun.elapsed();
        if !output.status.success() {
            bail!("{} failed: {}", shell::shown(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
        let value = serde_json::from_slice(&output.stdout).with_context(|| shell::shown(&command))?;
        Ok((value, took))
    }
}

/// A number of an answer; NaN where there is none, which shows in the table.
fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// What must be, in one row: the figure that was measured, and whether it holds.
fn verdict(measured: f64, must: f64, aim: f64) -> &'static str {
    match (measured <= must, measured <= aim) {
        (_, true) => "aim",
        (true, false) => "must",
        (false, false) => "**no**",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_named_with_the_way_to_one() {
        let failure = Data::find(Some(Path::new("/nonexistent"))).err().map(|why| why.to_string());
        assert!(failure.is_some_and(|why| why.contains("/nonexistent") && why.contains("--data DIR")));
    }

    #[test]
    fn what_is_not_measured_holds_nothing() {
        assert_eq!(verdict(number(&Value::Null, "regret"), 1.0, 0.5), "**no**");
        assert_eq!((verdict(0.7, 1.0, 0.5), verdict(0.5, 1.0, 0.5)), ("must", "aim"));
    }
}
