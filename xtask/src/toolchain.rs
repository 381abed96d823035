//! Finds a compiler that can build for BPF: a rustup nightly with rust-src, else Debian's rustc with its source.
use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// A compiler whose `core` can be built for another target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// `rustup toolchain install nightly --component rust-src`.
    RustupNightly,
    /// Packages rustc-web, cargo-web, rust-web-src.
    Debian,
}

const NEITHER: &str = "no Rust toolchain that can build for BPF was found; either\n  \
    rustup toolchain install nightly --component rust-src\nor, on Debian,\n  \
    apt-get install rustc-web cargo-web rust-web-src";

impl Toolchain {
    pub(crate) fn find() -> Result<Self> {
        [Self::RustupNightly, Self::Debian].into_iter().find(|chain| chain.is_complete()).context(NEITHER)
    }

    /// The compiler and the source of `core` are both there.
    pub(crate) fn is_complete(self) -> bool {
        let Some(sysroot) = shell::output(self.rustc().args(["--print", "sysroot"])) else { return false };
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    }

    pub(crate) fn rustc(self) -> Command {
        match self {
            Self::RustupNightly => rustup("rustc"),
            Self::Debian => shell::clean(shell::command("/usr/bin/rustc")),
        }
    }

    pub(crate) fn cargo(self) -> Command {
        match self {
            Self::RustupNightly => rustup("cargo"),
            Self::Debian => {
                let mut cargo = shell::clean(shell::command("/usr/bin/cargo"));
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        }
    }

    /// Major version of the LLVM in the compiler: bpf-linker must have the same or a newer one.
    pub(crate) fn llvm(self) -> Result<u32> {
        let words = shell::output(self.rustc().arg("-vV")).context("rustc -vV gave nothing")?;
        let version = words.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        let major = version.and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok());
        match major {
            Some(major) => Ok(major),
            None => bail!("rustc -vV does not name its LLVM version: {words}"),
        }
    }

    pub(crate) fn describe(self) -> String {
        let version = shell::output(self.rustc().arg("--version")).unwrap_or_default();
        match self {
            Self::RustupNightly => format!("rustup's nightly ({version})"),
            Self::Debian => format!("Debian's ({version})"),
        }
    }
}

fn rustup(program: &str) -> Command {
    let mut command = shell::clean(shell::command("rustup"));
    command.args(["run", "nightly", program]);
    command
}
