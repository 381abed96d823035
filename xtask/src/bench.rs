//! Runs the measuring programs and gathers their tables into docs/benchmarks.md.
use crate::{Bench, build, setup, shell};
use anyhow::{Context, Result, bail};
use std::fmt::Write;

/// The programs of each half; each prints Markdown on standard output.
const DATAPLANE: [&str; 3] = ["bench-throughput", "bench-dataplane", "bench-survival"];
const CONTROL: [&str; 1] = ["bench-control"];

pub(crate) fn run(what: Option<Bench>, arguments: &[String]) -> Result<()> {
    shell::need_root("bench")?;
    setup::run()?;
    build::all(true)?;
    let halves = match what {
        Some(half) => vec![half],
        None => vec![Bench::Dataplane, Bench::Control],
    };
    let path = shell::root().join("docs/benchmarks.md");
    let mut page = Page::read(&std::fs::read_to_string(&path).unwrap_or_default());
    for half in halves {
        page.set(half, measure(half, arguments)?);
    }
    std::fs::create_dir_all(shell::root().join("docs"))?;
    std::fs::write(&path, page.text()).with_context(|| path.display().to_string())?;
    eprintln!("  done  {}", path.display());
    Ok(())
}

fn measure(half: Bench, arguments: &[String]) -> Result<String> {
    let programs = match half {
        Bench::Dataplane => &DATAPLANE[..],
        Bench::Control => &CONTROL[..],
    };
    let mut tables = format!("Measured on {}.\n", machine());
    for program in programs {
        let binary = shell::target().join("release").join(program);
        if !binary.is_file() {
            bail!("{} was not built", binary.display());
        }
        let mut command = shell::command(&binary);
        if *program == "bench-survival" {
            command.arg("--other").arg(build::other_agent()?);
        }
        let output = command
            .args(arguments)
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| binary.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        print!("{text}\n\n");
        if !output.status.success() {
            bail!("{program} failed ({}); nothing was written", output.status);
        }
        write!(tables, "\n{text}\n")?;
    }
    Ok(tables)
}

/// Processor, cores, memory, kernel, compiler and commit, without names and dates.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory: u64 =
        read("/proc/meminfo").split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let version: String = kernel.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let rustc = shell::output(shell::command("rustc").arg("--version")).unwrap_or_default();
    let rustc: Vec<&str> = rustc.split(' ').take(2).collect();
    let commit =
        shell::output(shell::command("git").args(["describe", "--always", "--dirty"])).unwrap_or_default();
    format!(
        "{cores} × {}, {} GiB, Linux {version}, {}, release build of commit {commit}",
        model.trim_start_matches(['\t', ' ', ':']),
        memory.div_ceil(1 << 20),
        rustc.join(" ")
    )
}

/// The page keeps the half that was not measured this time.
struct Page {
    dataplane: String,
    control: String,
}

const TITLE: &str = "# Measurements\n\nWritten by `cargo xtask bench`. Each row names what it was compared with in the \
same run; the spread is over the run's repetitions.\n";
const DATAPLANE_HEADING: &str = "\n## Data plane\n\n";
const CONTROL_HEADING: &str = "\n## Control\n\n";

impl Page {
    fn read(text: &str) -> Self {
        let (before, control) = text.split_once(CONTROL_HEADING).unwrap_or((text, "Not measured yet.\n"));
        let dataplane = before.split_once(DATAPLANE_HEADING).map_or("Not measured yet.\n", |(_, half)| half);
        Self { dataplane: dataplane.to_owned(), control: control.to_owned() }
    }

    fn set(&mut self, half: Bench, text: String) {
        match half {
            Bench::Dataplane => self.dataplane = text,
            Bench::Control => self.control = text,
        }
    }

    fn text(&self) -> String {
        format!("{TITLE}{DATAPLANE_HEADING}{}{CONTROL_HEADING}{}", self.dataplane, self.control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_one_half_keeps_the_other() {
        let mut page = Page::read("");
        page.set(Bench::Control, "fast\n".into());
        let mut page = Page::read(&page.text());
        page.set(Bench::Dataplane, "faster\n".into());
        let page = Page::read(&page.text());
        assert_eq!((page.dataplane.as_str(), page.control.as_str()), ("faster\n", "fast\n"));
    }
}
