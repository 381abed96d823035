//! What needs no controller: completion scripts and man pages.
use crate::args::Cli;
use crate::failure::Failure;
use crate::out::{self, Out};
use clap::CommandFactory as _;
use std::path::Path;

pub(super) fn completion(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "foreweave", &mut script);
    out::bytes(&script)
}

pub(super) fn man_pages(dir: &Path, out: Out) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::usage(format!("{} cannot be written: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    out.note(&format!("man pages are in {0}; read one with man {0}/foreweave.1", dir.display()));
    Ok(())
}
