//! Builds the BPF object with whichever toolchain is there, and tells the size of each program.
use crate::elf::Object;
use crate::shell;
use crate::toolchain::Toolchain;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The programs are compiled in the same way everywhere, except for what a benchmark needs to tell two builds apart.
#[derive(Clone, Copy)]
pub(crate) enum Variant {
    /// What agents carry.
    Shipped,
    /// The same source for a newer instruction set: other programs that do the same.
    Other,
}

impl Variant {
    fn folder(self) -> PathBuf {
        shell::root().join(match self {
            Self::Shipped => "target/bpf",
            Self::Other => "target/bpf-other",
        })
    }

    fn processor(self) -> &'static str {
        match self {
            Self::Shipped => "generic",
            Self::Other => "v3",
        }
    }
}

/// Where daemons and tests find the object, whatever CARGO_TARGET_DIR is.
pub(crate) fn object(variant: Variant) -> PathBuf {
    variant.folder().join("bpfel-unknown-none/release/foreweave-dataplane")
}

pub(crate) fn build(variant: Variant) -> Result<()> {
    let toolchain = Toolchain::find()?;
    if !shell::has("bpf-linker") && shell::output(shell::command("bpf-linker").arg("--version")).is_none() {
        bail!("bpf-linker is missing; run: cargo xtask setup");
    }
    let mut cargo = toolchain.cargo();
    let flags = "-C linker=bpf-linker -C debuginfo=2 -C link-arg=--btf -C target-cpu=";
    cargo.env("RUSTFLAGS", format!("{flags}{}", variant.processor()));
    cargo.args(["build", "--quiet", "--release", "-Z", "build-std=core", "--target", "bpfel-unknown-none"]);
    // With the packet generator of the benchmarks, which is not shipped.
    cargo.args(["--package", "ebpf-programs", "--bin", "foreweave-dataplane", "--bin", "foreweave-testgen"]);
    cargo.arg("--target-dir");
    cargo.arg(variant.folder());
    let bar = shell::progress("building the BPF programs");
    let built = shell::run(&mut cargo);
    bar.finish_and_clear();
    built.with_context(|| format!("the BPF programs did not build with {}", toolchain.describe()))?;
    eprintln!("  done  BPF programs, by {}", toolchain.describe());
    Ok(())
}

/// One line per program: instructions as compiled (functions it calls included), deepest stack of the call chain.
pub(crate) fn print_stats() -> Result<()> {
    let path = object(Variant::Shipped);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{} is not there; run: cargo xtask ebpf", path.display()))?;
    let object = Object::parse(&bytes).with_context(|| path.display().to_string())?;
    println!("| program | section | instructions | deepest stack, bytes | own stack, bytes | functions |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for program in object.programs()? {
        println!(
            "| {} | {} | {} | {} of 512 | {} | {} |",
            program.name,
            program.section,
            program.instructions,
            program.deepest_stack,
            program.own_stack,
            program.functions
        );
        if program.deepest_stack > 512 {
            bail!("{} needs {} bytes of stack; the verifier allows 512", program.name, program.deepest_stack);
        }
    }
    Ok(())
}
