//! Builds what runs: the BPF programs first, since the agent carries them; and starts the lab.
use crate::ebpf::{self, Variant};
use crate::shell;
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

/// Packages whose binaries the lab runs.
const RUNNING: [&str; 5] =
    ["controller-daemon", "controller-cli", "agent-daemon", "tests-kernel", "tests-sim"];

pub(crate) fn all(release: bool) -> Result<()> {
    ebpf::build(Variant::Shipped)?;
    let mut cargo = shell::cargo();
    cargo.args(["build", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    for package in RUNNING {
        cargo.args(["--package", package]);
    }
    shell::run(&mut cargo).context("the daemons did not build")
}

/// An agent of another build, with other BPF programs inside, by which a running one can be replaced.
pub(crate) fn other_agent() -> Result<PathBuf> {
    ebpf::build(Variant::Other)?;
    let folder = shell::target().join("other");
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "agent-daemon", "--bins", "--target-dir"]).arg(&folder);
    shell::run(cargo.env("FOREWEAVE_BPF_OBJECT", ebpf::object(Variant::Other)))?;
    Ok(folder.join("debug/foreweave-agent"))
}

/// Builds, then becomes the lab with these words.
pub(crate) fn lab(release: bool, words: &[String]) -> Result<()> {
    let words = words.strip_prefix(&["--".to_owned()]).unwrap_or(words);
    let harmless =
        matches!(words.first().map(String::as_str), None | Some("--help" | "-h" | "help" | "plan"));
    if !harmless {
        let task = if words[0] == "demo" { "demo".to_owned() } else { format!("lab {}", words.join(" ")) };
        shell::need_root(&task)?;
    }
    all(release)?;
    let binary = shell::target().join(if release { "release/lab" } else { "debug/lab" });
    let failure = shell::command(&binary).args(words).exec();
    Err(failure).with_context(|| binary.display().to_string())
}
