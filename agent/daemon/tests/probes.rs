//! Two hosts with two ways between them, each with the real data plane in a network namespace of its own: the protector's
//! thread of one probes the other, in whose programs the answers are made.
use agent_core::kernel_state::{
    Back, Eni, Entry, EntryKey, HostSide, Kernel, Label, LabelAction, LinkLayer, NextHop, Peer, Step,
};
use agent_core::protect::{Began, Guard, Order, Session, Told};
use agent_daemon::clock::Clock;
use agent_daemon::config::{Transit, Underlay, Underlays};
use agent_daemon::kernel::{Attach, Linux, Options};
use agent_daemon::probes::ProtectorThread;
use agent_daemon::seal::keys::Keys;
use agent_daemon::seal::{Place, Timing};
use aya::maps::{Array, Map, MapData};
use ebpf_abi::flow::{BACKUP, PRIMARY};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proto_model::report::Way;
use proto_model::resource::Attachment;
use proto_model::topology::{LinkId, Measured};
use proto_model::{FabricPrefix, PathId};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

const GROUP: u32 = 3;
const PRIMARY_PATH: PathId = PathId(0x10);
const BACKUP_PATH: PathId = PathId(0x20);
/// Longer than anything here takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// One of the two ways, as one of the two hosts sees it.
struct Way2 {
    slot: u32,
    interface: &'static str,
    local: &'static str,
    remote: &'static str,
    /// The label under which this host receives, and the far one.
    receive: u32,
    send: u32,
}

/// IPv4 on the one way, IPv6 on the other.
fn ways(host: usize) -> [Way2; 2] {
    let way = |slot, interface, ends: [&'static str; 2], labels: [u32; 2]| Way2 {
        slot,
        interface,
        local: ends[host],
        remote: ends[1 - host],
        receive: labels[host],
        send: labels[1 - host],
    };
    [
        way(1, "first", ["192.0.2.1", "192.0.2.2"], [11, 21]),
        way(2, "second", ["2001:db8::1", "2001:db8::2"], [12, 22]),
    ]
}

/// The label of the other circuit.
fn another(label: u32) -> u32 {
    label + 100
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

type Work = Box<dyn FnOnce(&mut Host) + Send>;

/// A host on a thread of its own, which is in the host's namespace.
struct Host {
    number: usize,
    pins: PathBuf,
    linux: Linux,
}

/// The host, as the test speaks to it.
struct Handle {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handle {
    fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Host) -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let work: Work = Box::new(move |host| {
            let _ = done.send(work(host));
        });
        self.work.as_ref().expect("running").send(work).expect("the host is there");
        result.recv().expect("done")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two hosts, connected by two pairs.
fn hosts() -> [Handle; 2] {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: sudo -E cargo nextest run -p agent-daemon --test probes"
    );
    let bpffs = Path::new("/sys/fs/bpf");
    if nix::sys::statfs::statfs(bpffs).expect("/sys/fs/bpf").filesystem_type()
        != nix::sys::statfs::BPF_FS_MAGIC
    {
        mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).expect("bpffs is mounted");
    }
    let (tell, told) = mpsc::channel();
    let far = start(1, move || {
        tell.send(nix::unistd::gettid()).expect("told");
    });
    let there = told.recv().expect("the far namespace is there");
    let near = start(0, move || {
        for way in ways(0) {
            let (name, index) = (way.interface, 40 + way.slot);
            // Ends with different indexes: the kernel tells of a lost carrier of such at once, of others within a second.
            ip(&format!("link add name {name} index {index} type veth peer name {name} netns {there}"));
        }
    });
    near.open();
    far.open();
    near.fill();
    far.fill();
    [near.handle, far.handle]
}

/// A host whose namespace is there, and nothing in it.
struct Started {
    handle: Handle,
    open: mpsc::Sender<()>,
}

impl Started {
    fn open(&self) {
        self.open.send(()).expect("the host is there");
    }
    fn fill(&self) {
        self.handle.run(Host::fill);
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn start(number: usize, connect: impl FnOnce() + Send + 'static) -> Started {
    let (work, works) = mpsc::channel::<Work>();
    let (open, opened) = mpsc::channel();
    let (ready, connected) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        ip("link set lo up");
        connect();
        ready.send(()).expect("waited for");
        if opened.recv().is_err() {
            return;
        }
        let mut host = Host::open(number);
        while let Ok(work) = works.recv() {
            work(&mut host);
        }
    });
    connected.recv().expect("connected");
    Started { handle: Handle { work: Some(work), thread: Some(thread) }, open }
}

impl Host {
    fn open(number: usize) -> Self {
        for way in ways(number) {
            let (name, local) = (way.interface, way.local);
            let (length, rest) = if local.contains(':') { (64, "nodad") } else { (24, "") };
            ip(&format!("link set {name} addrgenmode none"));
            ip(&format!("addr add {local}/{length} dev {name} {rest}"));
            ip(&format!("link set {name} up"));
        }
        let mark = format!("fwprobes-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let pins = Path::new("/sys/fs/bpf").join(mark);
        let underlay = |way: Way2| Underlay {
            interface: way.interface.into(),
            network: way.interface.parse().expect("a name"),
            transit: Transit::Auto,
            addresses: Vec::new(),
            shape: false,
            capacity: None,
        };
        let options = Options {
            pins: pins.clone(),
            port: 4789,
            underlays: Underlays::These(ways(number).map(underlay).to_vec()),
            attach: Attach::Tcx,
            keys: Keys::generate().expect("random numbers"),
            timing: Timing::default(),
            sealer: Place::of(Path::new("/run/nothing-is-encrypted")),
        };
        Self { number, pins, linux: Linux::open(&options).expect("the kernel opens") }
    }

    fn put(&mut self, entry: Entry) {
        self.linux.perform(&Step::Put(entry)).expect("performed");
    }

    /// What a circuit's end with two ways needs, and the neighbour as a peer on both.
    fn fill(&mut self) {
        let fabric = |n: usize| FabricPrefix::default().address(n as u32 + 1).expect("a small number");
        let (own, far) = (fabric(self.number), fabric(1 - self.number));
        let eni = HostSide::of(&own);
        self.put(Entry::Eni(Eni {
            host: eni,
            resource: "probed".into(),
            attachment: Attachment::Host,
            interface: "ctr0".into(),
            address: own,
            mtu: 1_400,
        }));
        for way in ways(self.number) {
            let (local, remote) = (address(way.local), address(way.remote));
            let link = Some(self.link_layer(&way));
            self.put(Entry::NextHop(NextHop { slot: way.slot, local, remote, link }));
            let back = Back { next_hop: way.slot, label: way.send };
            let (eni, mtu, sealed) = (eni, 0, false);
            let action = LabelAction::Deliver { eni, local: own, remote: far, back, mtu, sealed };
            let direction = ebpf_abi::Direction::Forward;
            let (label, circuit) = (way.receive, 5);
            let one = Label {
                label,
                circuit,
                direction,
                from: remote,
                to: local,
                class: 0,
                action: action.clone(),
            };
            self.put(Entry::Label(one));
            // Another circuit on the same path.
            let label = another(label);
            let action = match action {
                LabelAction::Deliver { eni, local, remote, back, mtu, sealed } => {
                    let back = Back { label: another(back.label), ..back };
                    LabelAction::Deliver { eni, local, remote, back, mtu, sealed }
                }
                other => other,
            };
            self.put(Entry::Label(Label {
                label,
                circuit: 6,
                direction,
                from: remote,
                to: local,
                class: 0,
                action,
            }));
            self.put(Entry::Peer(Peer { remote, session: way.slot as u16 }));
        }
    }

    /// The neighbour's address is asked for, as the agent does it, until the interfaces of both ends are up.
    fn link_layer(&self, way: &Way2) -> LinkLayer {
        let asked = |_| {
            let _ = Command::new("ping").args(["-c1", "-W1", way.remote]).output();
            let output = Command::new("ip").args(["neigh", "show", way.remote]).output().expect("ip runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.split("lladdr ").nth(1).and_then(|rest| rest.split(' ').next().map(str::to_owned))
        };
        let neighbour = (0..30).find_map(asked).expect("a neighbour");
        let neighbour = neighbour.as_str();
        let show = Command::new("ip").args(["-o", "link", "show", way.interface]).output().expect("ip runs");
        let show = String::from_utf8_lossy(&show.stdout).into_owned();
        let own = show.split("link/ether ").nth(1).expect("a MAC").split(' ').next().expect("a MAC");
        let index = show.split(':').next().and_then(|index| index.trim().parse().ok()).expect("an index");
        LinkLayer { ifindex: index, source: mac(own), neighbour: mac(neighbour), longest: 0 }
    }
}

fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
    bytes.try_into().expect("six bytes")
}

impl Drop for Host {
    fn drop(&mut self) {
        for key in self.linux.observe().expect("observed").into_keys().rev() {
            let _ = self.linux.perform(&Step::Remove(key));
        }
        for entry in std::fs::read_dir(&self.pins).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_dir(&self.pins);
    }
}

/// The protector's thread on the near host, guarding one group.
struct Guarded {
    protector: Option<ProtectorThread>,
    told: Receiver<Told>,
    pins: PathBuf,
}

fn guarded(near: &Handle, began: Began) -> Guarded {
    let (started, pins) = near.run(|host| {
        (ProtectorThread::start(&host.pins, 4789, Clock::start()).expect("it starts"), host.pins.clone())
    });
    let (protector, told) = started;
    let [first, second] = ways(0);
    let session = |way: &Way2| Session {
        local: address(way.local),
        remote: address(way.remote),
        label: way.send,
        receive: way.receive,
    };
    let both = |way: &Way2| {
        let one = session(way);
        vec![one, Session { label: another(one.label), receive: another(one.receive), ..one }]
    };
    let guard = Guard { primary: PRIMARY_PATH, backup: BACKUP_PATH, max_rtt: None, max_loss: None };
    protector
        .order(vec![
            Order::Measure(PRIMARY_PATH, both(&first)),
            Order::Measure(BACKUP_PATH, both(&second)),
            Order::Guard { group: GROUP, guard, began },
            Order::Peer(peer(&first)),
            Order::Peer(peer(&second)),
        ])
        .expect("ordered");
    Guarded { protector: Some(protector), told, pins }
}

fn peer(way: &Way2) -> proto_model::desired::Peer {
    let link = link(way);
    let (local, remote) = (address(way.local), address(way.remote));
    proto_model::desired::Peer { link, local, remote, session: way.slot as u16, capacity: None }
}

fn link(way: &Way2) -> LinkId {
    let name = |text: &str| text.parse().expect("a name");
    LinkId::new(name("near"), name("far"), way.interface.parse().expect("a name")).expect("two ends")
}

impl Guarded {
    fn next(&mut self) -> Told {
        let since = Instant::now();
        loop {
            match self.told.try_recv() {
                Ok(told) => return told,
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => {
                    assert!(since.elapsed() < PATIENCE, "nothing was told for {PATIENCE:?}");
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(error) => panic!("the protector's thread ended: {error}"),
            }
        }
    }

    /// The next turn of the group, and why.
    fn turned(&mut self) -> (Way, String) {
        loop {
            if let Told::Turned { group, to, why, .. } = self.next() {
                assert_eq!(group, GROUP);
                return (to, why);
            }
        }
    }

    /// What was measured next of this link, once enough of its probes were answered to speak of loss.
    fn measured(&mut self, wanted: &LinkId) -> Measured {
        loop {
            if let Told::Measured(links) = self.next()
                && let Some((_, seen)) =
                    links.into_iter().find(|(link, seen)| link == wanted && seen.probes > 5)
            {
                return seen;
            }
        }
    }

    /// As the programs read it.
    fn way_in_the_map(&self) -> u32 {
        let data = MapData::from_pin(self.pins.join("map_groups")).expect("pinned");
        let map = Map::from_map_data(data).expect("a map");
        let groups: Array<MapData, u32> = Array::try_from(map).expect("an array");
        groups.get(&GROUP, 0).expect("a slot")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(protector) = self.protector.take() {
            protector.stop().expect("stopped");
        }
    }
}

#[test]
fn both_links_are_measured_by_answers_of_the_far_hosts_programs() {
    let [near, far] = hosts();
    let mut guarded = guarded(&near, Began::Now);
    for way in ways(0) {
        let seen = guarded.measured(&link(&way));
        assert!(
            seen.rtt_min.nanos() > 0 && seen.rtt_min <= seen.rtt_mean && seen.rtt_mean <= seen.rtt_max,
            "{seen:?}"
        );
        assert_eq!((seen.loss_forward.ppm(), seen.loss_backward.ppm()), (0, 0), "{seen:?}");
        println!("{}: {seen:?}", way.interface);
    }
    drop((guarded, far));
}

#[test]
fn a_way_whose_far_end_falls_silent_is_left_and_stays_left_over_a_restart() {
    let [near, far] = hosts();
    let mut first = guarded(&near, Began::Now);
    // A path is judged only after it has answered; the links say when there were some answers.
    first.measured(&link(&ways(0)[1]));
    assert_eq!(first.way_in_the_map(), PRIMARY);
    let remove = |label: u32| {
        far.run(move |host| {
            let label = EntryKey::Label(ebpf_abi::label::index(label));
            host.linux.perform(&Step::Remove(label)).expect("removed");
        });
    };
    // One circuit's far end goes, and with it the answers to what is sent as it; the path is another's as well.
    remove(ways(1)[0].receive);
    (0..2).for_each(|_| _ = first.measured(&link(&ways(0)[1])));
    assert_eq!(first.way_in_the_map(), PRIMARY);
    let since = Instant::now();
    remove(another(ways(1)[0].receive));
    let (to, why) = first.turned();
    println!("left after {:?}: {why}", since.elapsed());
    assert_eq!((to, first.way_in_the_map()), (Way::Backup, BACKUP));
    let pins = first.pins.clone();
    drop(first);
    assert!(pins.join("map_groups").exists());
    let mut second = guarded(&near, Began::Before);
    let (to, why) = second.turned();
    println!("after the restart: {why}");
    assert_eq!((to, second.way_in_the_map()), (Way::Backup, BACKUP));
}

#[test]
fn a_carrier_that_is_lost_turns_the_group() {
    let [near, far] = hosts();
    let mut guarded = guarded(&near, Began::Now);
    guarded.measured(&link(&ways(0)[1]));
    let since = Instant::now();
    far.run(|_| ip("link set first down"));
    let (to, why) = guarded.turned();
    println!("left after {:?}: {why}", since.elapsed());
    assert_eq!((to, guarded.way_in_the_map()), (Way::Backup, BACKUP));
    // The kernel tells of a carrier when it finds the time for it (its linkwatch); the probes may be quicker.
    assert!(why.contains("carrier") || why.contains("probes in a row"), "{why}");
}

/// The way of a group that was on its backup, after this order.
fn way_after(order: Order) -> u32 {
    let [near, far] = hosts();
    let mut guarded = guarded(&near, Began::Now);
    guarded.measured(&link(&ways(0)[1]));
    far.run(|_| ip("link set first down"));
    assert_eq!(guarded.turned().0, Way::Backup);
    let protector = guarded.protector.take().expect("running");
    protector.order(vec![order]).expect("ordered");
    // It takes its orders before it ends.
    protector.stop().expect("stopped");
    guarded.way_in_the_map()
}

#[test]
fn an_unguarded_group_is_left_at_its_first_way() {
    assert_eq!(way_after(Order::Unguard(GROUP)), PRIMARY);
}

#[test]
fn what_an_earlier_life_left_turned_in_slots_of_no_flow_is_put_back() {
    assert_eq!(way_after(Order::InUse([GROUP + 1].into())), PRIMARY);
    assert_eq!(way_after(Order::InUse([GROUP].into())), BACKUP, "flows speak of it");
}
