//! Runs the measuring programs and gathers their tables into docs/benchmarks.md.
use crate::{Bench, build, setup, shell};
use anyhow::{Context, Result, bail};
use std::fmt::Write;

/// The sections of the page in order, each with its heading and the programs that print its tables as Markdown.
const SECTIONS: [(Bench, &str, &[&str]); 8] = [
    (Bench::Dataplane, "\n## Data plane\n\n", &["bench-throughput", "bench-delay", "bench-dataplane"]),
    (Bench::Survival, "\n## Survival\n\n", &["bench-survival"]),
    (Bench::Control, "\n## Control\n\n", &["bench-control"]),
    (Bench::Protection, "\n## Protection\n\n", &["bench-protection"]),
    (Bench::Encryption, "\n## Encryption\n\n", &["bench-encryption"]),
    (Bench::Mtu, "\n## Packet sizes\n\n", &["bench-mtu"]),
    (Bench::Bandwidth, "\n## Bandwidth\n\n", &["bench-bandwidth"]),
    (Bench::Routing, "\n## Routing\n\n", &["bench-routing"]),
];

pub(crate) fn run(what: Option<Bench>, arguments: &[String]) -> Result<()> {
    shell::need_root("bench")?;
    setup::run()?;
    if what.is_none_or(|what| what == Bench::Encryption) {
        setup::rivals()?;
    }
    build::all(true)?;
    let path = shell::root().join("docs/benchmarks.md");
    let mut page = Page::read(&std::fs::read_to_string(&path).unwrap_or_default());
    for (section, _, programs) in
        SECTIONS.iter().filter(|(section, ..)| what.is_none_or(|what| what == *section))
    {
        page.set(*section, measure(programs, arguments)?);
    }
    std::fs::create_dir_all(shell::root().join("docs"))?;
    std::fs::write(&path, page.text()).with_context(|| path.display().to_string())?;
    eprintln!("  done  {}", path.display());
    Ok(())
}

fn measure(programs: &[&str], arguments: &[String]) -> Result<String> {
    let mut tables = format!("Measured on {}.\n", machine());
    for program in programs {
        let binary = shell::target().join("release").join(program);
        if !binary.is_file() {
            bail!("{} was not built", binary.display());
        }
        let mut command = shell::command(&binary);
        if matches!(*program, "bench-survival" | "bench-encryption") {
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

/// The page keeps the sections that were not measured this time.
struct Page(Vec<String>);

const TITLE: &str = "# Measurements\n\nWritten by `cargo xtask bench`. Each row names what it was compared with in the \
same run; the spread is over the run's repetitions.\n";
const EMPTY: &str = "Not measured yet.\n";

impl Page {
    fn read(text: &str) -> Self {
        let places = SECTIONS.map(|(_, heading, _)| text.find(heading).map(|at| (at, at + heading.len())));
        let section = |place: Option<(usize, usize)>| match place {
            None => EMPTY.to_owned(),
            Some((_, begins)) => {
                let later = places.iter().flatten().map(|(at, _)| *at).filter(|at| *at >= begins);
                text[begins..later.min().unwrap_or(text.len())].to_owned()
            }
        };
        Self(places.iter().map(|place| section(*place)).collect())
    }

    fn set(&mut self, which: Bench, text: String) {
        for ((section, ..), old) in SECTIONS.iter().zip(&mut self.0) {
            if *section == which {
                text.clone_into(old);
            }
        }
    }

    fn text(&self) -> String {
        let sections = SECTIONS.iter().zip(&self.0).map(|((_, heading, _), text)| format!("{heading}{text}"));
        TITLE.to_owned() + &sections.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_one_section_keeps_the_others() {
        let mut page = Page::read("");
        page.set(Bench::Control, "fast\n".into());
        let mut page = Page::read(&page.text());
        page.set(Bench::Dataplane, "faster\n".into());
        let mut page = Page::read(&page.text());
        assert_eq!(page.0, ["faster\n", EMPTY, "fast\n", EMPTY, EMPTY, EMPTY, EMPTY, EMPTY]);
        page.set(Bench::Protection, "fastest\n".into());
        assert_eq!(
            Page::read(&page.text()).0,
            ["faster\n", EMPTY, "fast\n", "fastest\n", EMPTY, EMPTY, EMPTY, EMPTY]
        );
    }

    #[test]
    fn a_page_of_before_a_section_existed_is_kept() {
        let old = format!("{TITLE}{}x\n{}y\n", SECTIONS[0].1, SECTIONS[2].1);
        assert_eq!(Page::read(&old).0, ["x\n", EMPTY, "y\n", EMPTY, EMPTY, EMPTY, EMPTY, EMPTY]);
    }
}
