//! A fabric on one machine: hosts and workloads as network namespaces, links between them, real daemons inside.
//!
//! Everything is written down in `/run/foreweave-lab/NAME/plan.json` before it is made, so that [`Lab::down`] works
//! from any state, the middle of [`Lab::up`] included.
pub mod api;
mod build;
pub mod control;
mod daemons;
pub(crate) mod door;
pub mod file;
pub mod link;
pub mod namespace;
mod network;
pub mod plan;
pub mod process;
mod shape;
pub mod snapshot;
pub mod status;
mod teardown;

pub use daemons::binary;
pub use plan::Plan;
pub use snapshot::{Owned, Snapshot};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;
use process::Process;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// How a lab is brought up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Register every workload as a resource.
    pub register: bool,
    /// Only networks: no controller, no agents.
    pub bare: bool,
    /// A controller without agents, for pretended ones.
    pub without_agents: bool,
}

/// A lab that is up; it goes down with this value unless [`Lab::keep`] is called.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    kept: bool,
}

impl Lab {
    /// Brings up a plan; what was made goes away again when something fails.
    pub fn up(plan: Plan, options: Options, bar: &ProgressBar) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "this needs root (network namespaces, BPF); as root, `cargo xtask test` runs the tests, \
                 `cargo xtask lab up TOPOLOGY.toml` a lab, `cargo xtask demo` the demo"
            );
        }
        let folder = plan.folder();
        if folder.exists() {
            bail!("lab {} is there already; run: cargo xtask lab down {}", plan.name, plan.name);
        }
        std::fs::create_dir_all(&folder)?;
        // Whole or not there: what has no plan has made nothing yet.
        let draft = folder.join("plan.draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(&plan)?)?;
        std::fs::rename(draft, folder.join("plan.json"))?;
        let lab = Self { plan, kept: false };
        lab.make(options, bar).with_context(|| format!("lab {} did not come up", lab.plan.name))?;
        Ok(lab)
    }

    fn make(&self, options: Options, bar: &ProgressBar) -> Result<()> {
        let plan = &self.plan;
        bar.set_length(if options.register { 6 } else { 5 });
        let step = |what: String| {
            bar.set_message(what);
            bar.inc(1);
        };
        step(format!("{} namespaces", plan.namespaces().len()));
        build::namespaces(plan)?;
        step(format!("{} links", plan.links.len()));
        build::management(plan)?;
        let emulated = build::links(plan)?;
        build::emulators(plan, &emulated)?;
        build::workloads(plan)?;
        if options.bare {
            return Ok(());
        }
        step("the controller".into());
        daemons::start_controller(plan)?;
        self.write_environment()?;
        if options.without_agents {
            return Ok(());
        }
        let tokens = daemons::introduce(plan)?;
        step(format!("{} agents", plan.hosts.len()));
        let enrolling: Vec<_> = plan.hosts.iter().zip(&tokens).collect();
        build::each(&enrolling, |(host, token)| {
            daemons::enrol(plan, host, token)?;
            daemons::start_agent(plan, host).map(drop)
        })?;
        step("contact".into());
        let hosts: Vec<&str> = plan.hosts.iter().map(|host| host.name.as_str()).collect();
        daemons::wait_connected(plan, &hosts, Duration::from_secs(30))?;
        if options.register {
            step(format!("{} resources", plan.workloads.len()));
            self.register()?;
        }
        Ok(())
    }

    /// A lab that was brought up by another process.
    pub fn attach(name: &str) -> Result<Self> {
        let file = plan::folder(name).join("plan.json");
        let Ok(text) = std::fs::read(&file) else {
            let labs = names();
            let there =
                if labs.is_empty() { "none is up".to_owned() } else { format!("up: {}", labs.join(", ")) };
            bail!("there is no lab \"{name}\"; {there}");
        };
        let plan = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
        Ok(Self { plan, kept: true })
    }

    /// The lab of that name, or the only one.
    pub fn find(name: Option<&str>) -> Result<Self> {
        match (name, names().as_slice()) {
            (Some(name), _) => Self::attach(name),
            (None, [only]) => Self::attach(only),
            (None, []) => bail!("no lab is up; run: cargo xtask lab up TOPOLOGY.toml"),
            (None, several) => bail!("which lab? up: {}; say --lab NAME", several.join(", ")),
        }
    }

    /// Leaves it up when this value goes.
    pub fn keep(mut self) -> Self {
        self.kept = true;
        self
    }

    /// Removes the folder of a lab whose maker ended before it had written the plan, and so before it made anything.
    pub fn forget_unplanned(name: &str) -> Result<()> {
        let folder = plan::folder(name);
        // A name that is no name could lead out of the labs' folder.
        if name.parse::<proto_model::Name>().is_err() || folder.join("plan.json").exists() {
            return Ok(());
        }
        teardown::remove_folder(&folder)
    }

    /// Takes it down to the last trace.
    pub fn down(mut self) -> Result<()> {
        self.kept = true;
        teardown::all(&self.plan)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Registers every workload as a resource, attached by the path of its namespace.
    pub fn register(&self) -> Result<()> {
        let requests = self.plan.workloads.iter().map(api::registration).collect::<Result<Vec<_>>>()?;
        api::ask(&self.plan, async |mut client| {
            for request in requests {
                let id = request.resource_id.clone();
                client.register_resource(request).await.with_context(|| format!("registering {id}"))?;
            }
            Ok(())
        })
    }

    /// A command inside the namespace of a host, a workload or `controller`, with the CLI on its PATH and configured.
    pub fn exec(&self, node: &str, program: &str) -> Result<Command> {
        let mut command = namespace::command(&self.plan.namespace(node)?, program)?;
        for (name, value) in self.environment()? {
            command.env(name, value);
        }
        command.env("FOREWEAVE_LAB", &self.plan.name);
        Ok(command)
    }

    /// Runs it to its end and returns what it wrote.
    pub fn output(&self, node: &str, program: &str, arguments: &[&str]) -> Result<Output> {
        self.exec(node, program)?.args(arguments).output().with_context(|| format!("{program} in {node}"))
    }

    /// The `foreweave` command as the lab's administrator.
    pub fn foreweave(&self) -> Result<Command> {
        self.exec(plan::CONTROLLER, &binary("foreweave")?.display().to_string())
    }

    pub fn controller(&self) -> Process {
        daemons::controller(&self.plan)
    }

    pub fn agent(&self, host: &str) -> Process {
        daemons::agent(&self.plan, host)
    }

    /// Where a host's agent keeps its configuration (`agent.toml`) and its `state`.
    pub fn home(&self, node: &str) -> PathBuf {
        daemons::home(&self.plan, node)
    }

    pub fn start_controller(&self) -> Result<()> {
        daemons::start_controller(&self.plan)
    }

    pub fn start_agent(&self, host: &str) -> Result<u32> {
        let host = self.plan.host(host).with_context(|| format!("there is no host {host}"))?;
        daemons::start_agent(&self.plan, host)
    }

    /// An agent of another build, or of a copy of this one.
    pub fn start_agent_of(&self, host: &str, program: &Path) -> Result<u32> {
        let host = self.plan.host(host).with_context(|| format!("there is no host {host}"))?;
        daemons::start_agent_of(&self.plan, host, program)
    }

    /// The processes that encrypt circuits on a host; while one relieves another there are two.
    pub fn sealers(&self, host: &str) -> Vec<u32> {
        daemons::sealers(&self.plan, host)
    }

    /// kill -9 of whatever encrypts on a host.
    pub fn kill_sealers(&self, host: &str) -> Result<()> {
        daemons::kill_sealers(&self.plan, host)
    }

    /// Removes what a host's agent left in the kernel; its agent must have ended.
    pub fn uninstall(&self, host: &str) -> Result<()> {
        let host = self.plan.host(host).with_context(|| format!("there is no host {host}"))?;
        daemons::uninstall(&self.plan, host)
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill_agent(&self, host: &str) -> Result<()> {
        let process = self.agent(host);
        if !process.signal(Signal::SIGKILL)? {
            bail!("the agent of {host} does not run");
        }
        process.kill()
    }

    /// Waits until the controller has contact with these hosts.
    pub fn wait_connected(&self, hosts: &[&str]) -> Result<()> {
        daemons::wait_connected(&self.plan, hosts, Duration::from_secs(30))
    }

    fn environment(&self) -> Result<Vec<(&'static str, String)>> {
        let folder = self.plan.folder();
        let mut variables =
            vec![("FOREWEAVE_CONFIG", folder.join("controller/admin.toml").display().to_string())];
        // A bare lab needs no binaries.
        if let Some(binaries) = binary("foreweave").ok().and_then(|path| path.parent().map(PathBuf::from)) {
            let path = std::env::var("PATH").unwrap_or_default();
            variables.push(("PATH", format!("{}:{path}", binaries.display())));
        }
        Ok(variables)
    }

    /// `LABDIR/env`, for shells: `set -a; . LABDIR/env`.
    fn write_environment(&self) -> Result<()> {
        let lines = self.environment()?.into_iter().map(|(name, value)| format!("{name}='{value}'\n"));
        let text: String = lines.collect();
        Ok(std::fs::write(self.plan.folder().join("env"), text)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.kept
            && let Err(failure) = teardown::all(&self.plan)
        {
            eprintln!("lab {}: {failure:#}", self.plan.name);
        }
    }
}

/// Labs that are up, or half up.
pub fn names() -> Vec<String> {
    let folders = folders().into_iter().filter(|folder| folder.join("plan.json").is_file());
    folders.filter_map(|folder| folder.file_name().map(|name| name.to_string_lossy().into_owned())).collect()
}

fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/run/foreweave-lab").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Takes down every lab of this machine, and what labs without a plan left.
pub fn down_all() -> Result<()> {
    for name in names() {
        if let Ok(lab) = Lab::attach(&name) {
            lab.down()?;
        }
    }
    teardown::orphans()
}
