//! Installs what is missing to build and run Foreweave; quick when nothing is.
use crate::shell::{self, has, output, run_quietly};
use crate::toolchain::Toolchain;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The BPF linker's version that was tried, and the LLVM versions that it can be built with, best first.
const LINKER: &str = "0.13.0";
const LINKER_LLVM: [u32; 3] = [22, 23, 21];

/// The STAMP sender of another make.
const STAMP_SUITE: &str = "1.0.0";

/// Programs that the build, the lab, the tests and the measurements call, by the Debian package that has them.
const PROGRAMS: [(&str, &str); 9] = [
    ("cc", "build-essential"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("bpftool", "bpftool"),
];

const OTHERS: &str = "packages by name:
  Fedora: dnf install gcc gcc-c++ make iproute util-linux iputils iperf3 tcpdump ethtool nftables bpftool llvm-devel zlib-devel libzstd-devel
  Arch:   pacman -S base-devel iproute2 util-linux iputils iperf3 tcpdump ethtool nftables bpf llvm zlib zstd
  other:  a C compiler; the programs cc, ip, tc, nsenter, ping, iperf3, tcpdump, ethtool, nft, bpftool; LLVM with headers; zlib and zstd headers
then, everywhere:
  rustup toolchain install nightly --component rust-src
  cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22   (LLVM_PREFIX names LLVM's folder)
  cargo install --locked cargo-nextest
  cargo install --locked stamp-suite --version 1.0.0   (for the tests: a STAMP sender of another make)";

pub(crate) fn run() -> Result<()> {
    let debian = has("apt-get");
    if debian {
        install_packages(&missing_packages())?;
    } else if !missing_programs().is_empty() {
        bail!("these programs are missing: {}\n{OTHERS}", missing_programs().join(", "));
    }
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        // Other distributions with apt-get have no such packages, or older compilers.
        Err(neither) if debian => {
            let pair = ["rustc-web", "cargo-web", "rust-web-src"].map(String::from);
            install_packages(&pair).map_err(|why| neither.context(format!("{why:#}")))?;
            Toolchain::find()?
        }
        Err(neither) => return Err(neither),
    };
    install_linker(toolchain, debian)?;
    install_test_runner()?;
    install_stamp_sender();
    mount_bpffs()?;
    warn_of_an_old_kernel();
    eprintln!("  ready  BPF programs are built with {}", toolchain.describe());
    Ok(())
}

fn missing_programs() -> Vec<&'static str> {
    PROGRAMS.iter().map(|(program, _)| *program).filter(|program| !has(program)).collect()
}

fn missing_packages() -> Vec<String> {
    PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|(_, package)| (*package).to_owned()).collect()
}

/// Installs Debian packages; refreshes the lists only when they do not know one of them.
fn install_packages(packages: &[String]) -> Result<()> {
    let packages: Vec<&String> = packages.iter().filter(|package| !is_installed(package)).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    let known = packages.iter().all(|package| candidate(package));
    if !known {
        run_quietly("refreshing the package lists", as_root("apt-get")?.args(["update", "-q"]))?;
    }
    let install = || -> Result<()> {
        let mut apt = as_root("apt-get")?;
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-q", "--no-install-recommends"]);
        run_quietly(&format!("installing {names}"), apt.args(&packages))
    };
    install().or_else(|_| {
        // Lists that are too old name files that the mirror no longer has.
        run_quietly("refreshing the package lists", as_root("apt-get")?.args(["update", "-q"]))?;
        install()
    })
}

/// What encrypted circuits are compared with.
pub(crate) fn rivals() -> Result<()> {
    let wanted = [("wireguard-go", "wireguard-go"), ("wg", "wireguard-tools"), ("nebula", "nebula")];
    let missing: Vec<String> = wanted
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if !missing.is_empty() && !has("apt-get") {
        bail!("these are missing, and have to be installed by hand: {}", missing.join(", "));
    }
    install_packages(&missing)
}

fn is_installed(package: &str) -> bool {
    let query = ["-W", "-f=${db:Status-Status}", package];
    output(shell::command("dpkg-query").args(query)).as_deref() == Some("installed")
}

fn candidate(package: &str) -> bool {
    let policy = output(shell::command("apt-cache").args(["policy", package])).unwrap_or_default();
    policy.lines().any(|line| line.trim().starts_with("Candidate: ") && !line.ends_with("(none)"))
}

/// The program itself for root, else through sudo.
fn as_root(program: &str) -> Result<Command> {
    if shell::is_root() {
        return Ok(shell::command(program));
    }
    if !has("sudo") {
        bail!("installing packages needs root, and sudo is not there; run as root: cargo xtask setup");
    }
    let mut sudo = shell::command("sudo");
    sudo.args(["--preserve-env=DEBIAN_FRONTEND", program]);
    Ok(sudo)
}

/// Builds the BPF linker against a packaged LLVM that can read what the compiler writes.
fn install_linker(toolchain: Toolchain, debian: bool) -> Result<()> {
    if output(shell::command("bpf-linker").arg("--version")).is_some() {
        return Ok(());
    }
    let least = toolchain.llvm()?;
    let (llvm, prefix) = find_llvm(least, debian)?;
    if debian {
        let mut packages = vec![format!("llvm-{llvm}-dev"), "zlib1g-dev".into(), "libzstd-dev".into()];
        // Split off from LLVM's own package in some versions only.
        packages.extend(Some(format!("libpolly-{llvm}-dev")).filter(|polly| candidate(polly)));
        install_packages(&packages)?;
    }
    let mut cargo = shell::clean(shell::command("cargo"));
    cargo.env("LLVM_PREFIX", &prefix).args(["install", "bpf-linker", "--version", LINKER]);
    cargo.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    run_quietly(&format!("building bpf-linker {LINKER} with LLVM {llvm} (about 75 s)"), &mut cargo)
        .context("the BPF linker could not be built")
}

/// The LLVM to link with: one that is there or can be installed, not older than the compiler's.
fn find_llvm(least: u32, debian: bool) -> Result<(u32, PathBuf)> {
    let usable: Vec<u32> = LINKER_LLVM.into_iter().filter(|version| *version >= least).collect();
    let prefix = |version: u32| PathBuf::from(format!("/usr/lib/llvm-{version}"));
    let there = |version: &u32| prefix(*version).join("include/llvm-c").is_dir();
    if let Some(version) = usable.iter().copied().find(there) {
        return Ok((version, prefix(version)));
    }
    if debian {
        let packaged = |version: &u32| candidate(&format!("llvm-{version}-dev"));
        let mut found = usable.iter().copied().find(packaged);
        if found.is_none() {
            run_quietly("refreshing the package lists", as_root("apt-get")?.args(["update", "-q"]))?;
            found = usable.iter().copied().find(packaged);
        }
        if let Some(version) = found {
            return Ok((version, prefix(version)));
        }
    }
    // Distributions with one LLVM: llvm-config knows which.
    let version = output(shell::command("llvm-config").arg("--version"));
    let folder = output(shell::command("llvm-config").arg("--prefix"));
    let major = version.as_deref().and_then(|text| text.split('.').next()).and_then(|text| text.parse().ok());
    match (major, folder) {
        (Some(major), Some(folder)) if usable.contains(&major) => Ok((major, folder.into())),
        _ => bail!(
            "the compiler uses LLVM {least}; bpf-linker {LINKER} needs the headers of LLVM {}, found {}\n{OTHERS}",
            usable.iter().map(u32::to_string).collect::<Vec<_>>().join(" or "),
            version.as_deref().unwrap_or("none")
        ),
    }
}

/// Without cargo-nextest, `cargo test` does.
fn install_test_runner() -> Result<()> {
    if output(shell::cargo().args(["nextest", "--version"])).is_some() {
        return Ok(());
    }
    let mut cargo = shell::clean(shell::command("cargo"));
    cargo.args(["install", "--locked", "cargo-nextest"]);
    if let Err(failure) = run_quietly("building cargo-nextest (some minutes, once)", &mut cargo) {
        eprintln!("  note   {failure:#}; tests will run by cargo test, one after the other");
    }
    Ok(())
}

/// A STAMP sender that is not ours, for the tests that ask our reflectors; only those fail without it.
fn install_stamp_sender() {
    if output(shell::command("stamp-suite").arg("--version")).is_some() {
        return;
    }
    let mut cargo = shell::clean(shell::command("cargo"));
    cargo.args(["install", "--locked", "stamp-suite", "--version", STAMP_SUITE]);
    if let Err(failure) = run_quietly("building stamp-suite (a minute, once)", &mut cargo) {
        eprintln!("  note   {failure:#}; the tests of agent-daemon's interop need it");
    }
}

/// Pins live in the BPF file system.
fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = |line: &str| line.split(' ').nth(1) == Some("/sys/fs/bpf");
    if mounts.lines().any(mounted) {
        return Ok(());
    }
    if !Path::new("/sys/fs/bpf").is_dir() {
        bail!("/sys/fs/bpf is not there: the kernel has no BPF file system (CONFIG_BPF_SYSCALL)");
    }
    let mut mount = as_root("mount")?;
    run_quietly("mounting the BPF file system", mount.args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
}

fn warn_of_an_old_kernel() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 6) {
        eprintln!(
            "  note   kernel {} is older than 6.6 and has no tcx; clsact is used instead",
            release.trim()
        );
    }
}
