//! Tells what happens, runs commands as a user would, and keeps the claims with what was measured.
use crate::lab::{Lab, plan::CONTROLLER};
use anyhow::{Context, Result, bail};
use std::process::Output;

/// What was promised, what was measured, and whether that is the same.
#[derive(Debug)]
struct Claim {
    promise: String,
    measured: String,
    kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct Story {
    chapter: usize,
    claims: Vec<Claim>,
}

impl Story {
    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("\n{}. {title}\n", self.chapter);
    }

    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Keeps a claim and tells it.
    pub(super) fn claim(&mut self, promise: &str, kept: bool, measured: impl Into<String>) {
        let measured = measured.into();
        println!("   {} {promise}: {measured}", if kept { "✔" } else { "✘" });
        self.claims.push(Claim { promise: promise.to_owned(), measured, kept });
    }

    /// A claim whose measurement may itself fail.
    pub(super) fn measure(&mut self, promise: &str, outcome: Result<(bool, String)>) {
        match outcome {
            Ok((kept, measured)) => self.claim(promise, kept, measured),
            Err(failure) => self.claim(promise, false, format!("{failure:#}")),
        }
    }

    /// The table of all claims; `true` when each was kept.
    pub(super) fn end(&self) -> bool {
        let width = self.claims.iter().map(|claim| claim.promise.chars().count()).max().unwrap_or(0);
        println!("\nWhat was promised, and what was measured\n");
        for claim in &self.claims {
            let verdict = if claim.kept { "ok    " } else { "FAILED" };
            println!("   {verdict}  {:<width$}  {}", claim.promise, claim.measured);
        }
        let kept = self.claims.iter().filter(|claim| claim.kept).count();
        println!("\n   {kept} of {} claims kept", self.claims.len());
        kept == self.claims.len()
    }
}

/// Shows `foreweave …` as typed, runs it as the lab's administrator, and shows what it printed.
pub(super) fn foreweave(lab: &Lab, words: &[&str]) -> Result<Output> {
    show("foreweave", words);
    let output = lab.foreweave()?.args(words).output().context("foreweave did not start")?;
    for text in [&output.stdout, &output.stderr] {
        String::from_utf8_lossy(text).lines().for_each(|line| println!("     {line}"));
    }
    println!();
    Ok(output)
}

/// The same, and it must succeed.
pub(super) fn foreweave_ok(lab: &Lab, words: &[&str]) -> Result<()> {
    let output = foreweave(lab, words)?;
    if !output.status.success() {
        bail!("foreweave {} failed: {}", words.join(" "), last_line(&output.stderr));
    }
    Ok(())
}

/// The API's answer, not shown.
pub(super) fn ask(lab: &Lab, words: &[&str]) -> Result<serde_json::Value> {
    let output = lab.foreweave()?.arg("--json").args(words).output().context("foreweave did not start")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("foreweave --json {}: {}", words.join(" "), last_line(&output.stderr)))
}

/// Shows a command that is run inside a workload, runs it, and returns what it printed.
pub(super) fn inside(lab: &Lab, node: &str, words: &[&str]) -> Result<String> {
    show(&format!("[{node}]"), words);
    let output = lab.output(node, words[0], &words[1..])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.trim().is_empty()).for_each(|line| println!("     {line}"));
    println!();
    Ok(text)
}

fn show(program: &str, words: &[&str]) {
    let quoted = words.iter().map(|word| match word.contains(' ') {
        true => format!("\"{word}\""),
        false => (*word).to_owned(),
    });
    println!("   $ {program} {}", quoted.collect::<Vec<_>>().join(" "));
}

pub(super) fn last_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().last().unwrap_or("").to_owned()
}

/// Where the reader can look while the lab is up.
pub(super) fn hint(lab: &Lab) -> String {
    format!(
        "(each command runs inside the lab: cargo xtask lab exec --lab {} {CONTROLLER} …)",
        lab.plan().name
    )
}
