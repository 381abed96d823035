//! The `lab` command: brings labs up and down, looks into them, runs the demo.
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use proto_model::{Latency, Loss};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests_kernel::lab::link::{self, Change, Step};
use tests_kernel::lab::{self, Lab, Options, Snapshot, control, file, status};
use tests_kernel::{demo, emulate};

#[derive(Parser)]
#[command(name = "cargo xtask lab", about = "Hosts as network namespaces, with real daemons. Needs root.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up a topology.
    Up {
        topology: PathBuf,
        /// Name of the lab, instead of the one in the file.
        #[arg(long)]
        name: Option<String>,
        /// Register every workload as a resource.
        #[arg(long)]
        register: bool,
        /// Networks only: no controller and no agents.
        #[arg(long)]
        bare: bool,
        /// Every link by the lab's own emulator, so that its delay and loss can be changed later.
        #[arg(long)]
        emulate: bool,
    },
    /// Processes, hosts and workloads of the labs that are up.
    Status {
        lab: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Run a command in the namespace of a host, a workload or `controller` (where `foreweave` finds its way).
    Exec {
        #[arg(long, value_name = "NAME")]
        lab: Option<String>,
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Change a link while the lab is up.
    Link {
        lab: String,
        /// Its ends, as the topology names them.
        a: String,
        b: String,
        /// Only what goes from A to B.
        #[arg(long, global = true)]
        one_way: bool,
        /// Which one, where the hosts share several networks.
        #[arg(long, global = true)]
        network: Option<String>,
        #[command(subcommand)]
        change: LinkChange,
    },
    /// Take a lab down, to the last trace.
    Down {
        lab: Option<String>,
        /// Every lab of this machine, and what broken ones left.
        #[arg(long)]
        all: bool,
    },
    /// Print what a topology would become, as JSON; needs no root.
    Plan {
        topology: PathBuf,
        #[arg(long)]
        name: Option<String>,
    },
    /// What is in the kernel and on disk now.
    Snapshot,
    /// Show the whole thing: register, discover, plan, create, filter, crash, tear down.
    Demo {
        /// This scene only
        #[arg(value_enum)]
        scene: Option<demo::Scene>,
    },
    /// One emulated link; started by `up`.
    #[command(hide = true)]
    Emulate { lab: String, link: usize },
}

#[derive(Subcommand)]
enum LinkChange {
    /// Take the carrier away: from both ends of an emulated link; else B's interface goes down, and A loses its carrier.
    Cut,
    /// Give back carrier and passage; loss, delay and rate stay as they were set.
    Mend,
    /// Lose everything without a word; the carrier stays.
    Blackhole,
    /// Lose this share of the packets, each way.
    Loss {
        #[arg(value_name = "20%")]
        share: Loss,
    },
    /// Delay one way: so long, or so much longer or shorter than now.
    Delay {
        #[arg(value_name = "10ms|+50ms|-5ms", value_parser = Step::parse, allow_hyphen_values = true)]
        by: Step,
    },
    /// Delay each packet by up to this much more or less.
    Jitter {
        #[arg(value_name = "100us")]
        by: Latency,
    },
    /// At most so many bits per second; `none`: as fast as it goes.
    Rate {
        #[arg(value_name = "10mbit|none")]
        to: String,
    },
    /// As the topology says.
    Reset,
}

impl LinkChange {
    fn read(self) -> Result<Change> {
        Ok(match self {
            Self::Cut => Change::Cut,
            Self::Mend => Change::Mend,
            Self::Blackhole => Change::Blackhole,
            Self::Loss { share } => Change::Loss(share),
            Self::Delay { by } => Change::Delay(by),
            Self::Jitter { by } => Change::Jitter(by),
            Self::Rate { to } if to == "none" => Change::Rate(None),
            Self::Rate { to } => Change::Rate(Some(to.parse()?)),
            Self::Reset => Change::Reset,
        })
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Up { topology, name, register, bare, emulate } => {
            let mut plan = file::read(&topology, name.as_deref())?;
            plan.links.iter_mut().for_each(|link| link.emulate |= emulate);
            up(plan, Options { register, bare, without_agents: false })?;
        }
        Task::Status { lab, json } => show_status(lab.as_deref(), json)?,
        Task::Exec { lab, node, command } => exec(lab.as_deref(), &node, &command)?,
        Task::Link { lab, a, b, one_way, network, change } => {
            let lab = Lab::attach(&lab)?;
            let link = lab.find_link(&a, &b, network.as_deref())?;
            lab.change_link(link, &change.read()?, one_way)?;
            let now = lab.condition(link.index)?.differences(&lab.plan().links[link.index]);
            let now = if now.is_empty() { "as the topology says".to_owned() } else { now.join("; ") };
            println!("{}: {now}", lab.plan().links[link.index].described());
        }
        Task::Down { lab, all } => down(lab.as_deref(), all)?,
        Task::Plan { topology, name } => {
            println!("{}", serde_json::to_string_pretty(&file::read(&topology, name.as_deref())?)?);
        }
        Task::Snapshot => {
            for (kind, count) in Snapshot::of_machine()?.counts() {
                println!("{kind:<16} {count}");
            }
        }
        Task::Demo { scene } => {
            return Ok(if demo::run(scene)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Task::Emulate { lab, link } => carry(&lab, link)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(plan: lab::Plan, options: Options) -> Result<()> {
    let begun = Instant::now();
    let bar = progress();
    let lab = Lab::up(plan, options, &bar)?.keep();
    bar.finish_and_clear();
    let (name, took) = (&lab.plan().name, begun.elapsed().as_secs_f64());
    eprintln!(
        "lab {name} is up after {took:.1} s: {} hosts, {} links",
        lab.plan().hosts.len(),
        lab.plan().links.len()
    );
    if !options.bare {
        eprintln!("  the CLI:   cargo xtask lab exec controller foreweave status");
    }
    if let Some(workload) = lab.plan().workloads.first() {
        eprintln!("  a shell:   cargo xtask lab exec {} bash", workload.name);
    }
    eprintln!("  the end:   cargo xtask lab down {name}");
    Ok(())
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(6);
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {bar:24} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show_status(name: Option<&str>, json: bool) -> Result<()> {
    let labs: Vec<Lab> = match name {
        Some(name) => vec![Lab::attach(name)?],
        None => lab::names().iter().map(|name| Lab::attach(name)).collect::<Result<_>>()?,
    };
    let all = labs.iter().map(status::of).collect::<Result<Vec<_>>>()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else if all.is_empty() {
        println!("no lab is up; run: cargo xtask lab up TOPOLOGY.toml");
    } else {
        all.iter().for_each(status::print);
    }
    Ok(())
}

/// Becomes the command, inside the namespace.
fn exec(name: Option<&str>, node: &str, command: &[String]) -> Result<()> {
    let lab = Lab::find(name)?;
    let failure = lab.exec(node, &command[0])?.args(&command[1..]).exec();
    Err(failure).with_context(|| command[0].clone())
}

fn down(name: Option<&str>, all: bool) -> Result<()> {
    if all {
        return lab::down_all();
    }
    if name.is_none() && lab::names().is_empty() {
        eprintln!("no lab is up");
        return Ok(());
    }
    if let Some(name) = name.filter(|name| !lab::names().iter().any(|up| up == name)) {
        Lab::forget_unplanned(name)?;
        eprintln!("lab {name} is not up");
        return Ok(());
    }
    let lab = Lab::find(name)?;
    let (name, begun) = (lab.plan().name.clone(), Instant::now());
    lab.down()?;
    eprintln!("lab {name} is gone after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn carry(name: &str, index: usize) -> Result<()> {
    let lab = Lab::attach(name)?;
    let plan = lab.plan();
    let link = plan.links.get(index).with_context(|| format!("lab {name} has no link {index}"))?;
    let told = control::listen(&plan.folder(), index)?;
    let [one, other] = link::namespaces(plan, link)?;
    emulate::run(link, [&one, &other], index as u64, &told)
}
