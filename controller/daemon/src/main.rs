//! The `foreweave-controller` command.
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use controller_daemon::{CONNECTIONS, Config, Daemon, config};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The controller of a Foreweave region: knows resources, links and circuits, decides, and tells the agents.
///
/// The first start makes the region's certificate authority and STATE/admin.toml, the client file of its
/// administrator; try it with `foreweave --config STATE/admin.toml status`.
#[derive(Debug, Parser)]
#[command(name = "foreweave-controller", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM or SIGINT. Log level: environment variable RUST_LOG, default info.
    Run {
        /// Configuration in TOML; `foreweave-controller example` prints one.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Record all inputs to this file, to replay what happened; overrides `record` of the configuration.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Say whether a configuration is valid, and what is wrong with it.
    Check {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print a configuration with every key and its meaning.
    Example,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::Run { config, record } => run(config, record),
        Command::Check { config } => {
            Config::read(&config)?;
            println!("{} is valid", config.display());
            Ok(())
        }
        Command::Example => {
            print!("{}", config::EXAMPLE);
            Ok(())
        }
    }
}

fn run(config: PathBuf, record: Option<PathBuf>) -> Result<()> {
    log();
    raise_open_files()?;
    let mut config = Config::read(&config)?;
    config.record = record.or(config.record);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        if let Some(address) = config.metrics {
            controller_daemon::metrics::serve(address)?;
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let daemon = Daemon::start(config).await?;
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
                _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
            }
        };
        daemon.run_until(stopped).await
    })
}

/// Every connection is an open file; a soft limit of 1,024 is what many systems begin with.
fn raise_open_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files cannot be read")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("the limit of open files cannot be raised")?;
    if most <= CONNECTIONS as u64 {
        tracing::warn!(
            most,
            CONNECTIONS,
            "fewer open files than connections; raise the hard limit (LimitNOFILE=)"
        );
    }
    Ok(())
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
