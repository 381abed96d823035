//! Takes a lab down to its last trace, also one that is half up or whose maker was killed.
use super::build::each;
use super::plan::{self, Plan};
use super::process::Process;
use super::{daemons, namespace};
use anyhow::{Context, Result};
use std::path::Path;

/// Ends processes, removes what agents put into the kernel, then namespaces, pins and files. What fails is noted and
/// does not keep the rest from going.
pub(super) fn all(plan: &Plan) -> Result<()> {
    let mut outcome: Result<()> = Ok(());
    let mut then = |step: Result<()>| {
        if let Err(failure) = step {
            outcome = Err(match std::mem::replace(&mut outcome, Ok(())) {
                Ok(()) => failure,
                Err(first) => first.context(format!("{failure:#}")),
            });
        }
    };
    then(each(&Process::all(&plan.folder()), Process::kill));
    // Shells inside, and processes whose maker was killed before it could note them down.
    then(namespace::end_inhabitants(&plan.namespaces()));
    // Pins outlive namespaces: without this, programs would stay loaded. What uninstall cannot do, the rest does.
    let uninstalled = each(&plan.hosts, |host| daemons::uninstall(plan, host));
    then(each(&plan.namespaces(), |name| namespace::remove(name)));
    for host in &plan.hosts {
        then(remove_folder(&plan.pins(&host.name)));
    }
    then(uninstalled);
    then(remove_folder(&plan.folder()));
    let _ = std::fs::remove_dir(Path::new("/run/foreweave-lab"));
    outcome
}

/// What labs without a readable plan left behind; called for `--all` only.
pub(super) fn orphans() -> Result<()> {
    for folder in super::folders() {
        each(&Process::all(&folder), Process::kill)?;
        remove_folder(&folder)?;
    }
    // Those that encrypt have no pid file: agents start them.
    namespace::end_inhabitants(&namespace::list("fwl-"))?;
    for name in namespace::list("fwl-") {
        namespace::remove(&name)?;
    }
    let pins = std::fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    for entry in pins.filter(|entry| entry.file_name().to_string_lossy().starts_with("fwl-")) {
        remove_folder(&entry.path())?;
    }
    let _ = std::fs::remove_dir(plan::folder("").as_path());
    Ok(())
}

/// bpffs has no directory sizes to trust, but removes like any other file system.
pub(super) fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", folder.display())),
    }
}
