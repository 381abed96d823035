//! A network namespace of a test's own, with an underlay interface, a directory of pins, and namespaces for workloads.
use agent_core::kernel_state::{Kernel, Step};
use agent_daemon::config::{Transit, Underlay, Underlays};
use agent_daemon::kernel::{Attach, Linux, Options};
use agent_daemon::seal::keys::Keys;
use agent_daemon::seal::{Place, Timing};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use proto_model::resource::Attachment;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a test works in; everything of it goes when it is dropped.
pub(crate) struct World {
    pins: PathBuf,
    /// Where the namespaces are kept: not among those of iproute2, which binds its directory over itself when it
    /// pleases.
    places: PathBuf,
    made: BTreeSet<PathBuf>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a test on a thread of its own, inside a new network namespace. The root namespace is never touched.
pub(crate) fn within(test: impl FnOnce(&mut World) + Send) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: sudo -E cargo nextest run -p tests-kernel --test contract"
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            test(&mut World::new());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl World {
    fn new() -> Self {
        let bpffs = Path::new("/sys/fs/bpf");
        let kind = nix::sys::statfs::statfs(bpffs).expect("/sys/fs/bpf");
        if kind.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).expect("bpffs is mounted");
        }
        let mark = format!("fwtest-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let pins = bpffs.join(&mark);
        ip("link set lo up");
        ip("link add under0 type veth peer name under1");
        // No link-local addresses: the kernel would still be making them while a test looks.
        ip("link set under0 addrgenmode none");
        ip("link set under1 addrgenmode none");
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            ip(&format!(
                "addr add {address} dev under0 {}",
                if address.contains(':') { "nodad" } else { "" }
            ));
        }
        ip("link set under1 up");
        ip("link set under0 up");
        let places = Path::new("/run").join(&mark);
        std::fs::create_dir(&places).expect("a place for namespaces");
        Self { pins, places, made: BTreeSet::new() }
    }

    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    pub(crate) fn options(&self) -> Options {
        options(&self.pins)
    }

    pub(crate) fn linux(&self) -> Linux {
        Linux::open(&self.options()).expect("the kernel opens")
    }

    /// A new, empty network namespace.
    pub(crate) fn make(&mut self, name: &str) -> Attachment {
        let path = self.places.join(name);
        std::fs::File::create(&path).expect("a place for the namespace");
        self.made.insert(path.clone());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
                let own = Path::new("/proc/thread-self/ns/net");
                mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("it is kept");
            });
            thread.join().expect("the namespace is made");
        });
        Attachment::Path(path.to_string_lossy().into_owned())
    }

    pub(crate) fn unmake(&mut self, attachment: &Attachment) {
        if let Attachment::Path(path) = attachment
            && self.made.remove(Path::new(path))
        {
            forget(Path::new(path));
        }
    }

    /// Interfaces of the fabric here, links and routes, as everybody can see them.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let interfaces = names(&ip("-o link"))
            .into_iter()
            .filter(|name| name.starts_with("fw") || name.starts_with("ctr"));
        let routes = ip("route show table all proto 187") + &ip("-6 route show table all proto 187");
        interfaces.chain(routes.lines().map(str::to_owned)).collect()
    }

    pub(crate) fn pinned(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.pins) else { return Vec::new() };
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

pub(crate) fn options(pins: &Path) -> Options {
    let underlay = Underlay {
        interface: "under0".into(),
        network: "test".parse().expect("a name"),
        transit: Transit::Auto,
        addresses: Vec::new(),
        shape: false,
        capacity: None,
    };
    Options {
        pins: pins.to_owned(),
        port: 4789,
        underlays: Underlays::These(vec![underlay]),
        attach: Attach::Tcx,
        keys: Keys::generate().expect("random numbers"),
        timing: Timing::default(),
        // Nothing is encrypted here; bpffs does not even look for a socket.
        sealer: Place::of(&Path::new("/run").join(pins.file_name().expect("a name"))),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for path in &self.made {
            forget(path);
        }
        let _ = std::fs::remove_dir(&self.places);
        for name in self.pinned() {
            let _ = std::fs::remove_file(self.pins.join(name));
        }
        let _ = std::fs::remove_dir(&self.pins);
    }
}

fn forget(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_file(path);
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` in a namespace that a test made.
pub(crate) fn ip_in(attachment: &Attachment, arguments: &str) -> String {
    inside(attachment, &format!("ip {arguments}"))
}

/// Runs a script in a namespace that a test made.
pub(crate) fn inside(attachment: &Attachment, script: &str) -> String {
    let Attachment::Path(path) = attachment else { panic!("a namespace of this test") };
    let net = format!("--net={path}");
    let output = Command::new("nsenter").args([&net, "sh", "-c", script]).output().expect("nsenter runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names of the interfaces in `ip -o link`.
pub(crate) fn names(listing: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    listing.lines().filter_map(name).collect()
}

pub(crate) fn put_all(linux: &mut Linux, entries: &[agent_core::kernel_state::Entry]) {
    for entry in entries {
        linux.perform(&Step::Put(entry.clone())).unwrap_or_else(|why| panic!("put {:?}: {why}", entry.key()));
    }
}

/// Removes what is observed, as an agent that is told of nothing does.
pub(crate) fn clear(linux: &mut Linux) {
    for key in linux.observe().expect("observed").into_keys().rev() {
        linux.perform(&Step::Remove(key.clone())).unwrap_or_else(|why| panic!("remove {key:?}: {why}"));
    }
    assert!(linux.observe().expect("observed").is_empty());
}
