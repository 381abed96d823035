//! A STAMP sender of another make (stamp-suite) asks both reflectors of a host: the programs', as a neighbour that the
//! host knows, and the agent's own, as a sender that the operator allows.
use agent_core::kernel_state::{Entry, Kernel, Peer, Step};
use agent_daemon::config::{Stamp, Transit, Underlay, Underlays};
use agent_daemon::kernel::{Attach, Linux, Options};
use agent_daemon::seal::keys::Keys;
use agent_daemon::seal::{Place, Timing};
use agent_daemon::stamp::Reflector;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// Requests of one run.
const COUNT: u64 = 20;
/// The session under which the programs know the neighbour.
const SESSION: u16 = 0x4711;
/// Not in hexadecimal, which the sender would take for half as many bytes.
const KEY: &[u8] = b"thirty-two bytes that nobody has";
/// Of the sender and of the host that is asked.
const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]];

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The asked host, in a network namespace of its own with the real data plane, until it is dropped.
struct Asked {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into a new namespace, the sender's, with the asked host beside it. `known`: the programs know
/// the sender; `allowed`: the agent's reflector answers it, with the key in this file.
fn asked(test: &str, known: bool, allowed: Option<&Path>) -> Asked {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: sudo -E cargo nextest run -p agent-daemon --test interop"
    );
    let bpffs = Path::new("/sys/fs/bpf");
    if nix::sys::statfs::statfs(bpffs).expect("/sys/fs/bpf").filesystem_type()
        != nix::sys::statfs::BPF_FS_MAGIC
    {
        mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).expect("bpffs is mounted");
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    let pins = bpffs.join(format!("fwinterop-{}-{test}", std::process::id()));
    let stamp = allowed.map(|key| Stamp {
        allow: ["192.0.2.0/24", "2001:db8::/64"].map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
        key_file: Some(key.to_owned()),
        port: ebpf_abi::probe::PORT,
    });
    let (end, ended) = channel::<()>();
    let (say, said) = channel();
    let (connect, connected) = channel::<()>();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        say.send(nix::unistd::gettid()).expect("waited for");
        connected.recv().expect("connected");
        configure(1);
        let linux = known.then(|| open(&pins));
        let _runtime = stamp.map(|stamp| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime");
            // The socket belongs to the namespace of the thread that opens it.
            let reflector = runtime.block_on(async { Reflector::open(&stamp) }).expect("it listens");
            runtime.spawn(reflector.run());
            runtime
        });
        say.send(nix::unistd::gettid()).expect("waited for");
        let _ = ended.recv();
        if linux.is_some() {
            close(linux, &pins);
        }
    });
    let there = said.recv().expect("the namespace is there");
    ip(&format!("link add name wire type veth peer name wire netns {there}"));
    configure(0);
    connect.send(()).expect("waited for");
    said.recv().expect("the host is ready");
    Asked { end: Some(end), thread: Some(thread) }
}

fn configure(end: usize) {
    ip("link set lo up");
    ip("link set wire addrgenmode none");
    ip(&format!("addr add {}/24 dev wire", ENDS[0][end]));
    ip(&format!("addr add {}/64 dev wire nodad", ENDS[1][end]));
    ip("link set wire up");
}

/// The data plane, which knows the sender as a neighbour.
fn open(pins: &Path) -> Linux {
    let underlay = Underlay {
        interface: "wire".into(),
        network: "wire".parse().expect("a name"),
        transit: Transit::Auto,
        addresses: Vec::new(),
        shape: false,
        capacity: None,
    };
    let options = Options {
        pins: pins.to_owned(),
        port: 4789,
        underlays: Underlays::These(vec![underlay]),
        attach: Attach::Tcx,
        keys: Keys::generate().expect("random numbers"),
        timing: Timing::default(),
        sealer: Place::of(Path::new("/run/nothing-is-encrypted")),
    };
    let mut linux = Linux::open(&options).expect("the kernel opens");
    for [sender, _] in ENDS {
        let peer = Peer { remote: address(sender), session: SESSION };
        linux.perform(&Step::Put(Entry::Peer(peer))).expect("performed");
    }
    linux
}

fn close(linux: Option<Linux>, pins: &PathBuf) {
    drop(linux);
    for entry in std::fs::read_dir(pins).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    let _ = std::fs::remove_dir(pins);
}

/// What the sender said at its end, as JSON; it complains on stderr.
fn ask(ends: [&str; 2], more: &[&str]) -> (serde_json::Value, String) {
    let [sender, host] = ends;
    let count = COUNT.to_string();
    let mut command = Command::new("stamp-suite");
    command.args(["--remote-addr", host, "--local-addr", sender, "--count", &count, "--send-delay", "20"]);
    command.args(["--output-format", "json"]).args(more).env("RUST_LOG", "warn");
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "stamp-suite does not run ({error}); `cargo xtask setup` or `cargo install --locked \
             stamp-suite@1.0.0` installs it"
        )
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default();
    let report = serde_json::from_str(last).unwrap_or_else(|_| panic!("{more:?}: {said}{complained}"));
    (report, complained)
}

#[track_caller]
fn all_answered(ends: [&str; 2], more: &[&str]) {
    let (report, complained) = ask(ends, more);
    println!("{} {more:?}: {report} {complained}", ends[1]);
    assert_eq!(report["packets_sent"], COUNT, "{report}");
    assert_eq!(report["packets_received"], COUNT, "{ends:?} {more:?}: {report} {complained}");
    let seen = &report["measurements"];
    for none in ["unknown_replies", "duplicate_replies", "late_replies"] {
        assert_eq!(seen[none], 0, "{ends:?} {more:?}: {report}");
    }
    assert_eq!(report["owd"]["clock_quality"]["invalid_estimate"], 0, "{report}");
    assert_eq!(complained, "", "{ends:?} {more:?}");
}

fn key_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(KEY).expect("written");
    file
}

#[test]
fn a_neighbour_of_another_make_is_answered_by_the_programs() {
    let _asked = asked("programs", true, None);
    let session = SESSION.to_string();
    for ends in ENDS {
        for clock in ["PTP", "NTP"] {
            all_answered(ends, &["--ssid", &session, "--clock-source", clock]);
        }
        // Another session is nobody's.
        let (report, _) = ask(ends, &["--ssid", "9", "--timeout", "1"]);
        assert_eq!(report["packets_received"], 0, "{report}");
    }
}

#[test]
fn a_sender_of_another_make_that_is_allowed_is_answered_by_the_agent_in_both_modes() {
    let key = key_file();
    // With the programs before it, which leave to it what they do not answer.
    for programs in [false, true] {
        let _asked = asked(&format!("agent-{programs}"), programs, Some(key.path()));
        let path = key.path().to_str().expect("UTF-8");
        for ends in ENDS {
            for clock in ["PTP", "NTP"] {
                all_answered(ends, &["--clock-source", clock]);
                let signed = ["--auth-mode", "A", "--hmac-key-file", path, "--ssid", "4711"];
                all_answered(ends, &[&signed[..], &["--clock-source", clock]].concat());
            }
            let other = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(other.path(), [b'x'; 32]).expect("written");
            let other = other.path().to_str().expect("UTF-8");
            let (report, _) = ask(ends, &["--auth-mode", "A", "--hmac-key-file", other, "--timeout", "1"]);
            assert_eq!(report["packets_received"], 0, "{report}");
        }
    }
}
