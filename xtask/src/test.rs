//! Runs every test, and the rules of the house.
use crate::{build, setup, shell, tidy};
use anyhow::{Context, Result, bail};

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::need_root("test")?;
    // Takes a second, and what it finds is mended in another.
    formatted()?;
    setup::run()?;
    build::all(false)?;
    let checks = [tidy::run(), lints(), doctests(), fuzz_targets_by_rote()];
    // The runner's own summary is the last thing on the screen when everything passes.
    let tests = shell::run(runner(&["--workspace"]).args(arguments));
    checks.into_iter().chain([tests]).collect()
}

fn formatted() -> Result<()> {
    if shell::output(shell::cargo().args(["fmt", "--version"])).is_none() {
        bail!("rustfmt is missing; run: rustup component add rustfmt");
    }
    shell::run(shell::cargo().args(["fmt", "--all", "--check"])).context("run: cargo fmt --all")
}

/// The bans on clocks, chance and files in the cores are clippy's (`clippy.toml` there), so clippy is a test.
fn lints() -> Result<()> {
    if shell::output(shell::cargo().args(["clippy", "--version"])).is_none() {
        bail!("clippy is missing; run: rustup component add clippy");
    }
    shell::run(shell::cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn doctests() -> Result<()> {
    shell::run(shell::cargo().args(["test", "--workspace", "--doc", "--quiet"]))
}

/// The fuzz targets on fixed and pseudo-random inputs; they are a workspace of their own, for the fuzzer's sake, with a lock file that a
/// change of a dependency forgets easily: so it is insisted on.
fn fuzz_targets_by_rote() -> Result<()> {
    let manifest = shell::root().join("fuzz/Cargo.toml");
    let mut cargo = shell::cargo();
    cargo
        .args(["test", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(shell::target());
    shell::run(&mut cargo)
}

/// nextest where it is there: one process per test, root tests one after the other (.config/nextest.toml).
fn runner(packages: &[&str]) -> std::process::Command {
    let mut cargo = shell::cargo();
    if shell::output(shell::cargo().args(["nextest", "--version"])).is_some() {
        cargo.args(["nextest", "run", "--no-fail-fast"]);
    } else {
        // One thread, since tests that make namespaces share the machine.
        cargo.env("RUST_TEST_THREADS", "1").args(["test", "--no-fail-fast"]);
    }
    cargo.args(packages);
    cargo
}

/// Golden tests write what they now say; a person reads the difference in the version control.
pub(crate) fn bless() -> Result<()> {
    let mut cargo = runner(&["--package", "tests-sim"]);
    cargo.env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1").env("FOREWEAVE_BLESS", "1");
    shell::run(&mut cargo)?;
    shell::run(shell::command("git").args(["status", "--short", "tests"]))
}

pub(crate) fn fuzz(target: Option<&str>, arguments: &[String]) -> Result<()> {
    if shell::output(shell::cargo().args(["fuzz", "--version"])).is_none() {
        bail!("cargo-fuzz is missing; run: cargo install --locked cargo-fuzz");
    }
    let mut cargo = shell::clean(shell::command("cargo"));
    match target {
        None => shell::run(cargo.args(["+nightly", "fuzz", "list"])),
        Some(target) => shell::run(cargo.args(["+nightly", "fuzz", "run", target]).args(arguments)),
    }
}
