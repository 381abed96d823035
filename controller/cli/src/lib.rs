//! What people and scripts type: arguments in, requests to a controller, tables or JSON out.
#![forbid(unsafe_code)]

pub mod args;
pub mod capture;
pub mod config;
pub mod fabric;
pub mod failure;
pub mod json;
pub mod out;
pub mod run;
pub mod show;
pub mod text;
mod wishes;

use clap::Parser as _;
use failure::Failure;
use std::process::ExitCode;

/// Parses, runs, and says how it went; the exit codes are documented in [`failure`].
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let out = out::Out { json: cli.global.json };
    let option = failure::Options::of(std::env::args_os().skip(1));
    match start(&cli, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = failure.named_after(&option);
            failure.print(out);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(cli: &args::Cli, out: out::Out) -> Result<(), Failure> {
    // Fails only when a provider is installed already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("the runtime could not be started: {error}")))?;
    runtime.block_on(run::command(cli, out))
}
