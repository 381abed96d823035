//! Finds the network namespaces that workloads live in, and works inside them.
use super::netlink::Netlink;
use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use proto_model::resource::Attachment;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The namespace of the thread that made it; only that thread may use it.
#[derive(Debug)]
pub(crate) struct Namespaces {
    home: File,
    home_id: Id,
}

/// Device and inode of the namespace's file: the same for every path that leads to it.
type Id = (u64, u64);

/// An opened namespace. While it is open, the namespace lives: hold it briefly.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    home: bool,
}

impl Namespace {
    /// Whether it is the host's own: then both sides of an ENI are here.
    pub(crate) fn is_home(&self) -> bool {
        self.home
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Namespaces {
    /// # Errors
    /// When `/proc` is not there.
    pub(crate) fn of_this_thread() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let home = File::open(path).with_context(|| format!("cannot open {path}; is /proc mounted?"))?;
        let home_id = id(&home)?;
        Ok(Self { home, home_id })
    }

    /// # Errors
    /// What is wrong with the place, in words for the person who named it.
    pub(crate) fn open(&self, attachment: &Attachment) -> Result<Namespace> {
        let file = match path(attachment)? {
            None => self.home.try_clone().context("cannot duplicate the host's namespace")?,
            Some(path) => open(&path).with_context(|| format!("{} cannot be used", words(attachment)))?,
        };
        let home = id(&file)? == self.home_id;
        Ok(Namespace { file, home })
    }

    /// Runs `work` inside. It must not start threads.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the way back is refused: nothing that this thread does afterwards would be right.
    pub(crate) fn inside<T>(&self, place: &Namespace, work: impl FnOnce() -> T) -> Result<T> {
        if place.home {
            return Ok(work());
        }
        setns(&place.file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            nix::Error::EPERM => anyhow!("no permission to enter the network namespace (CAP_SYS_ADMIN)"),
            nix::Error::EINVAL => anyhow!("it is a namespace, but not a network namespace"),
            other => anyhow!("entering the network namespace: {other}"),
        })?;
        let result = work();
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("the way back into the host's namespace");
        Ok(result)
    }

    /// A netlink socket inside.
    ///
    /// # Errors
    /// As [`Self::inside`].
    pub(crate) fn netlink(&self, place: &Namespace) -> Result<Netlink> {
        self.inside(place, Netlink::open)?.context("cannot open a netlink socket there")
    }
}

fn id(file: &File) -> Result<Id> {
    let meta = file.metadata().context("cannot identify a namespace")?;
    Ok((meta.dev(), meta.ino()))
}

/// `None`: the host's own.
fn path(attachment: &Attachment) -> Result<Option<PathBuf>> {
    Ok(match attachment {
        Attachment::Host => None,
        Attachment::Process(pid) => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        Attachment::Path(path) if path.starts_with('/') => Some(PathBuf::from(path)),
        Attachment::Path(path) => bail!("the namespace path \"{path}\" does not start with /"),
        Attachment::Named(name) if is_plain(name) => Some(Path::new("/run/netns").join(name)),
        Attachment::Named(name) => bail!("\"{name}\" is not the name of a file under /run/netns"),
        Attachment::External(ip) => {
            bail!("the device at {ip} is on another host and needs no interface here")
        }
    })
}

/// When a process started, in ticks since the boot.
///
/// # Errors
/// When there is no such process.
pub(crate) fn started(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    start_of(&text).with_context(|| format!("{path} says nothing of the start: {text}"))
}

/// The 22nd field; the second is a name in brackets that may contain blanks and brackets.
fn start_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn open(path: &Path) -> Result<File> {
    let explain = |kind: ErrorKind| match kind {
        ErrorKind::NotFound => format!("{} does not exist", path.display()),
        ErrorKind::PermissionDenied => {
            format!("no permission for {} (another user's process needs CAP_SYS_PTRACE)", path.display())
        }
        _ => format!("{} cannot be opened", path.display()),
    };
    // Looked at before it is opened: opening a pipe or a device has effects.
    let kind = statfs(path).map_err(|errno| {
        let error = std::io::Error::from(errno);
        anyhow!("{}: {error}", explain(error.kind()))
    })?;
    if kind.filesystem_type() != NSFS_MAGIC {
        bail!("{} is not a namespace", path.display());
    }
    File::open(path).map_err(|error| anyhow!("{}: {error}", explain(error.kind())))
}

/// The attachment as people write it.
pub(crate) fn words(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Host => "the host's own namespace".to_owned(),
        Attachment::Process(pid) => format!("the network namespace of process {pid}"),
        Attachment::Path(path) => format!("the network namespace at {path}"),
        Attachment::Named(name) => format!("the network namespace named {name}"),
        Attachment::External(ip) => format!("the plain VXLAN device at {ip}"),
    }
}

/// One word (and a value) that stands for the attachment in an interface's alias; see [`parse`].
pub(crate) fn text(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Host => "host".to_owned(),
        Attachment::Process(pid) => format!("pid:{pid}"),
        Attachment::Path(path) => format!("path:{path}"),
        Attachment::Named(name) => format!("named:{name}"),
        Attachment::External(ip) => format!("external:{ip}"),
    }
}

/// The reverse of [`text`].
pub(crate) fn parse(text: &str) -> Option<Attachment> {
    match text.split_once(':') {
        None => (text == "host").then_some(Attachment::Host),
        Some(("pid", pid)) => pid.parse().ok().map(Attachment::Process),
        Some(("path", path)) => Some(Attachment::Path(path.to_owned())),
        Some(("named", name)) => Some(Attachment::Named(name.to_owned())),
        Some(("external", ip)) => ip.parse().ok().map(Attachment::External),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(attachment: &Attachment) -> String {
        let here = Namespaces::of_this_thread().expect("/proc");
        format!("{:#}", here.open(attachment).map(|_| ()).expect_err("must be refused"))
    }

    #[test]
    fn places_that_are_no_namespaces_are_refused_by_name() {
        assert!(refusal(&Attachment::Named("no-such-place".into())).contains("does not exist"));
        assert!(refusal(&Attachment::Named("../passwd".into())).contains("not the name of a file"));
        assert!(refusal(&Attachment::Named(String::new())).contains("not the name of a file"));
        assert!(refusal(&Attachment::Path("relative".into())).contains("does not start with /"));
        assert!(refusal(&Attachment::Path("/proc/self/status".into())).contains("is not a namespace"));
        assert!(refusal(&Attachment::Process(u32::MAX)).contains("does not exist"));
    }

    #[test]
    fn an_attachment_survives_its_text() {
        for attachment in [
            Attachment::Host,
            Attachment::Process(17),
            Attachment::Named("web".into()),
            Attachment::Path("/run/a:b c".into()),
        ] {
            assert_eq!(parse(&text(&attachment)), Some(attachment));
        }
        assert_eq!(parse("elsewhere"), None);
        assert_eq!(parse("pid:x"), None);
    }

    #[test]
    fn a_start_is_read_whatever_the_process_is_named() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(start_of(stat), Some(4_711));
        assert_eq!(start_of("7 (a) S 1"), None);
        assert!(started(std::process::id()).is_ok_and(|ticks| ticks > 0));
    }

    #[test]
    fn the_own_namespace_is_home_by_any_path() {
        let here = Namespaces::of_this_thread().expect("/proc");
        let own = here.open(&Attachment::Process(std::process::id())).expect("own namespace");
        assert!(own.is_home());
    }
}
