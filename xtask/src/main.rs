//! The project's own commands: set-up, build, test, rules, lab, demo, measurements. Imports nothing of ours.
mod bench;
mod build;
mod ebpf;
mod elf;
mod eval;
mod setup;
mod shell;
mod test;
mod tidy;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows Foreweave.", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: packages, the BPF toolchain and linker, the test runner, bpffs.
    Setup,
    /// Build the BPF programs and print instructions and stack depth of each.
    Ebpf {
        /// Only print the numbers of the object that is there.
        #[arg(long)]
        stats: bool,
    },
    /// Build the BPF programs, the daemons, the CLI and the lab.
    Build {
        #[arg(long)]
        release: bool,
    },
    /// Check the format, set up, build, run every test and the tidy rules. Needs root.
    Test {
        /// Arguments for the test runner, e.g. a filter.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check the rules of the house: imports, doors, sizes, first lines, providers.
    Tidy,
    /// Run the golden tests and accept what they now say.
    Bless,
    /// Hosts as network namespaces: up TOPOLOGY.toml | status | exec NODE CMD | link LAB A B cut … | down. Needs root.
    Lab {
        /// Use the release build.
        #[arg(long)]
        release: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up, build, and watch real packets cross three hosts. Needs root.
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure, and write docs/benchmarks.md. Needs root.
    Bench {
        what: Option<Bench>,
        /// Arguments for the measuring programs, e.g. --quick.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Replay recorded series, and write docs/evaluation.md.
    Eval {
        what: Option<eval::Eval>,
        /// The folder with the recorded series; without it ../shared/data beside the repository.
        #[arg(long, value_name = "DIR")]
        data: Option<std::path::PathBuf>,
    },
    /// Feed random input to one target (needs cargo-fuzz and a nightly toolchain).
    Fuzz {
        target: Option<String>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Packets: throughput, delay, transit hop, endpoint programs.
    Dataplane,
    /// Packets lost while agents are killed, replaced and upgraded (`-- --former PATH`: from an earlier build), and what is left behind.
    Survival,
    /// Circuits: set-up time, rate, memory of the agent.
    Control,
    /// Dead, lossy and slow paths: how long until they are left, and whether good ones are left too.
    Protection,
    /// Encrypted circuits against wireguard-go and Nebula; and what changes of keys cost.
    Encryption,
    /// A mebibyte over a narrow underlay with ICMP blocked.
    Mtu,
    /// A reserved circuit against greedy ones on a full link, with and without queues of the agents'.
    Bandwidth,
    /// Paths in large networks, a link that fails under many circuits; with `-- --data DIR` also joint admission and prices.
    Routing,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Ebpf { stats: true } => ebpf::print_stats(),
        Task::Ebpf { stats: false } => ebpf::build(ebpf::Variant::Shipped).and_then(|()| ebpf::print_stats()),
        Task::Build { release } => build::all(release),
        Task::Test { arguments } => test::run(&arguments),
        Task::Tidy => tidy::run(),
        Task::Bless => test::bless(),
        Task::Lab { release, arguments } => build::lab(release, &arguments),
        Task::Demo { arguments } => {
            setup::run()?;
            let words: Vec<String> = std::iter::once("demo".to_owned()).chain(arguments).collect();
            build::lab(true, &words)
        }
        Task::Bench { what, arguments } => bench::run(what, &arguments),
        Task::Eval { what, data } => eval::run(what, data.as_deref()),
        Task::Fuzz { target, arguments } => test::fuzz(target.as_deref(), &arguments),
    }
}
