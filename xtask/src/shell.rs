//! Runs other programs: shown, quiet behind a progress line, or for their output.
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo puts the host's builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A command in the workspace's folder.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The host toolchain's cargo.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Without what an outer cargo and rustup set for themselves, so that another toolchain can be run.
pub(crate) fn clean(mut command: Command) -> Command {
    let foreign = |name: &str| {
        name.starts_with("CARGO_")
            && !matches!(name, "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_BUILD_JOBS")
            && !name.starts_with("CARGO_HTTP_")
            && !name.starts_with("CARGO_REGISTRIES_")
            || matches!(
                name,
                "CARGO" | "RUSTUP_TOOLCHAIN" | "RUSTC" | "RUSTFLAGS" | "RUSTDOC" | "LD_LIBRARY_PATH"
            )
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs with its output on the terminal; fails with the command when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} did not start", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs quietly behind a line that moves; shows the output when it fails.
pub(crate) fn run_quietly(title: &str, command: &mut Command) -> Result<()> {
    let bar = progress(title);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{} did not start", shown(command)))?;
    bar.finish_and_clear();
    if output.status.success() {
        eprintln!("  done  {title}");
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    bail!("{title}: {} failed ({})", shown(command), output.status)
}

/// Standard output of a command that succeeded; `None` otherwise.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A line with a spinner and the time that has passed; a plain line where nobody watches.
pub(crate) fn progress(title: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("  ...   {title}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(title.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether this process may create namespaces and load programs.
pub(crate) fn is_root() -> bool {
    output(command("id").arg("-u")).as_deref() == Some("0")
}

/// Refuses to go on without root, with the command that would work.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!(
        "{what} needs root (network namespaces, BPF); run: sudo --preserve-env=PATH,HOME env \"PATH=$PATH\" cargo xtask {what}"
    )
}

/// Whether a program is on PATH or where administrators' programs are.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).is_file())
}
