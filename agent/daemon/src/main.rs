//! The command `foreweave-agent`: makes this host a part of the fabric.
use agent_daemon::config::Config;
use agent_daemon::engine::{self, Run};
use agent_daemon::identity::{self, Enrolment};
use agent_daemon::seal::keys::Keys;
use agent_daemon::{doctor, seal, uninstall};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Makes this host a part of a Foreweave fabric.
///
/// A host joins once with `enrol` and a token of `foreweave node add NAME`; then `run` keeps it in the fabric. The
/// agent never touches interfaces, addresses, routes or rules that are not the fabric's. Stopping it, even with
/// kill -9, interrupts no circuit.
#[derive(Debug, Parser)]
#[command(name = "foreweave-agent", version, max_term_width = 100)]
struct Cli {
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as `agent_daemon=debug`
    #[arg(long, global = true, env = "FOREWEAVE_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How a line of the log looks
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// As it is chosen.
impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a fabric: exchange a one-time token for this node's key and certificate
    Enrol(EnrolArgs),
    /// Keep this host in the fabric until SIGTERM
    Run(RunArgs),
    /// Remove every interface, program, map and the identity from this host
    Uninstall(UninstallArgs),
    /// Give this host a new encryption key; the former one is accepted until the next rotation, and no packet is lost
    RotateKey(RotateArgs),
    /// Encrypt circuits for the agent; started by it, and goes on when it ends
    #[command(hide = true)]
    Seal(SealArgs),
    /// Say which capability or kernel feature is missing, and how to get it
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct EnrolArgs {
    /// The token, as `foreweave node add NAME` printed it; others on this host can see it: prefer --token-file
    #[arg(
        long,
        conflicts_with = "token_file",
        required_unless_present = "token_file",
        env = "FOREWEAVE_TOKEN"
    )]
    token: Option<String>,
    /// A file with the token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address of a controller, instead of those in the token; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    controller: Vec<String>,
    /// Where the identity is kept; the `state` of the configuration
    #[arg(long, value_name = "DIR", default_value = "/var/lib/foreweave-agent")]
    state: PathBuf,
    /// Enrol although this host has an identity already
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration (TOML): state, pins, port, metrics, and [[underlay]] tables with interface, network, transit
    #[arg(long, value_name = "FILE", default_value = "/etc/foreweave/agent.toml")]
    config: PathBuf,
    /// Write everything that happens to this file as JSON lines, for a bug report
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    #[arg(long, value_name = "FILE", default_value = "/etc/foreweave/agent.toml")]
    config: PathBuf,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RotateArgs {
    #[arg(long, value_name = "FILE", default_value = "/etc/foreweave/agent.toml")]
    config: PathBuf,
    /// Print the public keys as JSON
    #[arg(long)]
    json: bool,
}

/// Keys, interfaces and circuits come by standard input, which is a line to the agent.
#[derive(Debug, Args)]
struct SealArgs {
    /// The agent's state directory, in which later agents find this process
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Where `pins` is taken from; without it the default directory is examined
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = vec!["--log".into(), cli.log.clone(), format!("--log-format={}", cli.log_format)];
    match start_log(&cli).and_then(|()| act(cli.command, log)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("foreweave-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(cli: &Cli) -> Result<()> {
    let filter = EnvFilter::try_new(filter(&cli.log)).with_context(|| {
        format!("--log \"{}\" is not a filter (e.g. info, or agent_daemon=debug)", cli.log)
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// A bare level speaks of the agent; libraries then say only what is wrong.
fn filter(text: &str) -> String {
    let bare = ["error", "warn", "info", "debug", "trace"].contains(&text);
    if bare { format!("warn,agent_daemon={text},agent_core={text}") } else { text.to_owned() }
}

fn act(command: Command, log: Vec<String>) -> Result<ExitCode> {
    match command {
        Command::Enrol(args) => enrol(args),
        Command::Run(args) => {
            let run = Run { config: Config::read(&args.config)?, record: args.record, log };
            runtime()?.block_on(engine::run(run)).map(|()| ExitCode::SUCCESS)
        }
        Command::Uninstall(args) => remove(&args),
        Command::RotateKey(args) => rotate(&args),
        Command::Seal(args) => seal::process::run(&args.state).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check(&args),
    }
}

/// One thread: the work is in the kernel, which has a thread of its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("cannot start the runtime")
}

fn enrol(args: EnrolArgs) -> Result<ExitCode> {
    agent_daemon::install_crypto();
    let token = match (args.token, args.token_file) {
        (Some(token), _) => token,
        (None, Some(file)) => read_token(&file)?,
        (None, None) => bail!("--token or --token-file is needed"),
    };
    let enrolment =
        Enrolment { token, controllers: args.controller, state: args.state, replace: args.replace };
    let identity = runtime()?.block_on(identity::enrol(&enrolment))?;
    println!(
        "{} is a node of region {} now; start it with `foreweave-agent run`",
        identity.node, identity.region
    );
    Ok(ExitCode::SUCCESS)
}

fn read_token(file: &PathBuf) -> Result<String> {
    if file.as_os_str() == "-" {
        let mut token = String::new();
        std::io::stdin().take(64 * 1024).read_to_string(&mut token).context("cannot read the token")?;
        return Ok(token);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read the token from {}", file.display()))
}

fn remove(args: &UninstallArgs) -> Result<ExitCode> {
    let config = Config::read(&args.config)?;
    let removed = uninstall::uninstall(&config)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&removed)?);
        return Ok(ExitCode::SUCCESS);
    }
    for interface in &removed.interfaces {
        println!("removed interface {interface}");
    }
    for interface in &removed.filters {
        println!("removed the filter on {interface}");
    }
    for interface in &removed.queues {
        println!("removed the queues of {interface}; the kernel's default is back");
    }
    for pin in &removed.pins {
        println!("removed pin {}", config.pins.join(pin).display());
    }
    if removed.sealer {
        println!("ended the sealer");
    }
    if removed.identity {
        println!("removed the identity in {}", config.state.display());
    }
    if removed == uninstall::Removed::default() {
        println!("nothing to remove");
    }
    Ok(ExitCode::SUCCESS)
}

/// A running agent notices within a second, and tells the controller.
fn rotate(args: &RotateArgs) -> Result<ExitCode> {
    let config = Config::read(&args.config)?;
    let mut keys = Keys::load(&config.state)?;
    keys.rotate(&config.state)?;
    let public: Vec<String> = keys.public().iter().map(ToString::to_string).collect();
    if args.json {
        println!("{}", serde_json::json!({ "keys": public }));
        return Ok(ExitCode::SUCCESS);
    }
    for (key, what) in public.iter().zip(["the new public key", "accepted until the next rotation"]) {
        println!("{key}  {what}");
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let (pins, port, shaped, state) = match &args.config {
        Some(file) => {
            let config = Config::read(file)?;
            let shaped = config.underlay.into_iter().filter(|underlay| underlay.shape);
            let shaped = shaped.map(|underlay| underlay.interface).collect();
            (config.pins, config.port, shaped, Some(config.state))
        }
        None => (PathBuf::from(agent_daemon::config::PINS), agent_daemon::config::PORT, Vec::new(), None),
    };
    let mut findings = doctor::examine(&pins, port);
    findings.extend(doctor::shaping(&shaped));
    findings.extend(state.and_then(|state| doctor::sealer(&state)));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{finding}");
        }
    }
    Ok(if doctor::can_work(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
