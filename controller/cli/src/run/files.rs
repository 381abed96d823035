//! What needs no controller: files that are read, completion scripts and man pages.
use crate::args::Cli;
use crate::failure::Failure;
use crate::out::{self, Out};
use clap::CommandFactory as _;
use std::io::Read as _;
use std::path::Path;

/// Of a file, or of standard input.
pub(super) fn text(file: &Path) -> Result<String, Failure> {
    let mut content = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut content)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut content))
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?;
    Ok(content)
}

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
