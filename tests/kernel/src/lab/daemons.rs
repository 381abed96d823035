//! Starts the real controller and agents in their namespaces, and waits until they know each other.
use super::plan::{CONTROLLER, Host, MANAGEMENT, PORT, Plan};
use super::process::Process;
use super::{api, namespace};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto_wire::v1;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the daemons' binaries are: beside this program, or above it for tests.
pub fn binary(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("where this program is")?;
    let folders = here.ancestors().skip(1).take(2);
    let chosen = std::env::var_os("FOREWEAVE_BIN").map(PathBuf::from);
    let looked: Vec<PathBuf> = chosen.into_iter().chain(folders.map(Path::to_owned)).collect();
    match looked.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not in {}; run: cargo xtask build", looked[0].display()),
    }
}

pub(super) fn controller(plan: &Plan) -> Process {
    Process::new(&plan.folder(), CONTROLLER)
}

pub(super) fn agent(plan: &Plan, host: &str) -> Process {
    Process::new(&plan.folder(), &format!("agent-{host}"))
}

/// The folder with a host's configuration and its agent's state.
pub(super) fn home(plan: &Plan, node: &str) -> PathBuf {
    plan.folder().join(node)
}

/// Starts the controller and waits until it listens.
pub(super) fn start_controller(plan: &Plan) -> Result<()> {
    let home = home(plan, CONTROLLER);
    std::fs::create_dir_all(&home)?;
    let configuration = home.join("controller.toml");
    std::fs::write(
        &configuration,
        format!(
            "region = \"lab\"\nlisten = [\"0.0.0.0:{PORT}\"]\nadvertise = [\"{MANAGEMENT}:{PORT}\"]\nstate = \"{}\"\n{}",
            home.display(),
            plan.controller
        ),
    )?;
    let process = controller(plan);
    let mut command = Command::new(binary("foreweave-controller")?);
    command.args(["run", "--config"]).arg(&configuration);
    process.start(&plan.controller_namespace(), command)?;
    let admin = home.join("admin.toml");
    namespace::inside(&plan.controller_namespace(), || {
        let address = SocketAddr::from((MANAGEMENT, PORT));
        wait_for(&process, Duration::from_secs(20), "listen", || {
            admin.is_file() && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        })
    })
}

/// Tries until it is so, the process ends or patience does.
fn wait_for(process: &Process, patience: Duration, what: &str, so: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !so() {
        if process.pid().is_none() {
            bail!("{} ended before it could {what}:\n{}", process.name(), process.last_words());
        }
        if begun.elapsed() > patience {
            bail!("{} did not {what} within {patience:?}:\n{}", process.name(), process.last_words());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A one-time token per host, and what is known of the links.
pub(super) fn introduce(plan: &Plan) -> Result<Vec<String>> {
    api::ask(plan, async |mut client| {
        let mut tokens = Vec::new();
        for host in &plan.hosts {
            let request = v1::CreateTokenRequest { node: host.name.clone(), lifetime: 0 };
            let answer = client.create_token(request).await;
            tokens.push(answer.with_context(|| format!("a token for {}", host.name))?.into_inner().token);
        }
        for link in &plan.links {
            let request = api::link_values(link);
            client.set_link(request).await.with_context(|| format!("the values of {}", link.network))?;
        }
        Ok(tokens)
    })
}

/// Writes the agent's configuration and exchanges its token for a certificate.
pub(super) fn enrol(plan: &Plan, host: &Host, token: &str) -> Result<()> {
    let home = home(plan, &host.name);
    std::fs::create_dir_all(home.join("state"))?;
    let mut text = format!(
        "state = \"{}\"\npins = \"{}\"\n",
        home.join("state").display(),
        plan.pins(&host.name).display()
    );
    for underlay in &host.underlays {
        write!(
            text,
            "\n[[underlay]]\ninterface = \"{}\"\nnetwork = \"{}\"\n",
            underlay.interface, underlay.network
        )?;
        // Earlier builds, from which upgrades are measured, do not know the word.
        if underlay.shape {
            text.push_str("shape = true\n");
        }
    }
    std::fs::write(home.join("agent.toml"), text)?;
    let mut command = namespace::command(&host.namespace, binary("foreweave-agent")?)?;
    command.args(["enrol", "--token", token, "--state"]).arg(home.join("state"));
    let output = command.output().context("foreweave-agent did not start")?;
    if !output.status.success() {
        bail!("{} did not enrol: {}", host.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

pub(super) fn start_agent(plan: &Plan, host: &Host) -> Result<u32> {
    start_agent_of(plan, host, &binary("foreweave-agent")?)
}

pub(super) fn start_agent_of(plan: &Plan, host: &Host, program: &Path) -> Result<u32> {
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(home(plan, &host.name).join("agent.toml"));
    // As its unit does (docs/systemd).
    command.env("MALLOC_ARENA_MAX", "1");
    agent(plan, &host.name).start(&host.namespace, command)
}

/// Agents start them, and they outlive those, so that no pid file names them.
pub(super) fn sealers(plan: &Plan, host: &str) -> Vec<u32> {
    let state = home(plan, host).join("state").display().to_string();
    let is_one = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(3).any(|three| three == [b"seal".as_slice(), b"--state", state.as_bytes()])
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect();
    found.sort_unstable();
    found
}

pub(super) fn kill_sealers(plan: &Plan, host: &str) -> Result<()> {
    let found = sealers(plan, host);
    if found.is_empty() {
        bail!("nothing encrypts on {host}");
    }
    for pid in &found {
        kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGKILL)
            .with_context(|| format!("process {pid}"))?;
    }
    let begun = Instant::now();
    while sealers(plan, host).iter().any(|pid| found.contains(pid)) {
        if begun.elapsed() > Duration::from_secs(5) {
            bail!("{found:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Waits until the controller has contact with these hosts.
pub(super) fn wait_connected(plan: &Plan, hosts: &[&str], patience: Duration) -> Result<()> {
    let begun = Instant::now();
    api::ask(plan, async |mut client| {
        loop {
            let nodes =
                client.list_nodes(v1::Empty {}).await.context("the list of nodes")?.into_inner().nodes;
            let connected = |name: &&&str| {
                let node = nodes.iter().find(|node| node.name == ***name);
                node.is_some_and(|node| node.state() == v1::node::State::Connected)
            };
            let missing: Vec<&&str> = hosts.iter().filter(|name| !connected(name)).collect();
            let Some(first) = missing.first() else { return Ok(()) };
            let process = agent(plan, first);
            if process.pid().is_none() {
                bail!("the agent of {first} ended:\n{}", process.last_words());
            }
            if begun.elapsed() > patience {
                bail!("no contact with {missing:?} within {patience:?}:\n{}", process.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Removes what the agent of a host left in the kernel; the agent itself has ended.
pub(super) fn uninstall(plan: &Plan, host: &Host) -> Result<()> {
    let configuration = home(plan, &host.name).join("agent.toml");
    if !configuration.is_file() || !namespace::exists(&host.namespace) {
        return Ok(());
    }
    let mut command = namespace::command(&host.namespace, binary("foreweave-agent")?)?;
    let output = command.args(["uninstall", "--config"]).arg(configuration).output()?;
    if !output.status.success() {
        bail!("uninstalling {}: {}", host.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
