//! The rules of the house (DESIGN §1 and §7), checked; each broken one is told with its place and what is allowed.
mod imports;
mod manifests;
mod proto;
mod sources;

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fmt;

/// A broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Breach {
    file: String,
    line: usize,
    what: String,
}

impl Breach {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

pub(crate) fn run() -> Result<()> {
    let files = tracked_files()?;
    let mut breaches = Vec::new();
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    breaches.extend(imports::check(&metadata));
    breaches.extend(imports::providers());
    breaches.extend(manifests::top_level(&files));
    for file in &files {
        let Ok(text) = std::fs::read_to_string(shell::root().join(file)) else { continue };
        if file.ends_with(".rs") {
            breaches.extend(sources::check(file, &text));
        } else if file.ends_with(".proto") {
            breaches.extend(proto::check(file, &text));
        }
    }
    breaches.extend(manifests::packages(&metadata, &files));
    breaches.sort();
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if !breaches.is_empty() {
        bail!("tidy: {} broken rules in {} files", breaches.len(), files.len());
    }
    eprintln!("tidy: {} files keep the rules", files.len());
    Ok(())
}

/// Files under version control, and new ones that are not ignored.
fn tracked_files() -> Result<Vec<String>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let text = shell::output(shell::command("git").args(list)).context("git ls-files")?;
    let mut files: Vec<String> = text.lines().map(str::to_owned).collect();
    files.retain(|file| shell::root().join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
