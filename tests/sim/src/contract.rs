//! What every kernel that performs steps must do; the pretended one and the real one pass the same suite.
use agent_core::kernel_state::{
    Back, Backup, Class, Eni, Entry, EntryKey, Flow, HostSide, Kernel, KernelState, Label, LabelAction,
    LinkLayer, Meter, NextHop, Peer, Route, Row, Rules, Shaper, Step, Target, Trace,
};
use ebpf_abi::Direction;
use proto_model::resource::Attachment;
use proto_model::{FabricAddress, FabricPrefix, Timestamp};
use std::net::IpAddr;

/// Where the suite runs: a kernel without anything of the fabric in it, and namespaces to put interfaces into.
pub trait Bench {
    fn kernel(&mut self) -> &mut dyn Kernel;
    /// A new, empty network namespace; `name` is unique within the suite only.
    fn make(&mut self, name: &str) -> Attachment;
    fn unmake(&mut self, attachment: &Attachment);
    /// What is left of the fabric, however it can be seen from outside of the kernel's own `observe`.
    fn leftovers(&mut self) -> Vec<String>;
}

/// An interface that every bench has.
const UNDERLAY: &str = "under0";

/// A claim and what checks it; panics when it does not hold.
pub type Case = (&'static str, fn(&mut dyn Bench));

pub const CASES: &[Case] = &[
    ("what was put is observed", what_was_put_is_observed),
    ("a flow's second way can come and go", second_way),
    ("a step performed twice is the same as once", twice_is_once),
    ("an entry is replaced in place", replaced_in_place),
    ("an interface that cannot be changed is made anew", made_anew),
    ("what needs an interface that is not there is refused", dependents_are_refused),
    ("an interface in no namespace is refused", no_namespace),
    ("what vanished with its namespace is not observed and can be removed", vanished),
    ("an interface that is made again inherits nothing", nothing_is_inherited),
    ("what is removed is gone, also when it never was", removed),
];

/// Runs all cases, each on a kernel that the one before left empty.
pub fn run(bench: &mut dyn Bench) {
    for (claim, check) in CASES {
        run_case(claim, *check, bench);
    }
}

/// Runs one case and checks that it leaves nothing.
pub fn run_case(claim: &str, check: fn(&mut dyn Bench), bench: &mut dyn Bench) {
    assert_eq!(observe(bench), KernelState::new(), "before \"{claim}\" something was there");
    check(bench);
    clear(bench);
    assert_eq!(observe(bench), KernelState::new(), "\"{claim}\" left something");
    assert_eq!(bench.leftovers(), Vec::<String>::new(), "\"{claim}\" left something");
}

fn what_was_put_is_observed(bench: &mut dyn Bench) {
    let at = bench.make("one");
    let entries = everything(&at);
    put_all(bench, &entries);
    same(bench, &state(&entries));
    clear(bench);
    bench.unmake(&at);
}

fn twice_is_once(bench: &mut dyn Bench) {
    let at = bench.make("one");
    let entries = everything(&at);
    put_all(bench, &entries);
    put_all(bench, &entries);
    assert_eq!(bench.kernel().made_anew(), []);
    same(bench, &state(&entries));
    clear(bench);
    bench.unmake(&at);
}

fn replaced_in_place(bench: &mut dyn Bench) {
    let at = bench.make("one");
    put_all(bench, &everything(&at));
    let mut changed = everything(&at);
    for entry in &mut changed {
        match entry {
            Entry::NextHop(hop) => {
                hop.link = hop.link.map(|link| LinkLayer { neighbour: [2, 0, 0, 0, 0, 3], ..link })
            }
            Entry::Eni(eni) => eni.mtu -= 100,
            Entry::Rules(rules) => {
                rules.version += 1;
                rules.start += 10 * u32::try_from(rules.circuit).unwrap_or(0);
                rules.rows.push(row(9));
            }
            Entry::Label(label) => {
                label.label += 1 << ebpf_abi::label::INDEX_BITS;
                if let LabelAction::Deliver { back, mtu, .. } = &mut label.action {
                    *back = Back { next_hop: 3, label: 45 };
                    *mtu -= 20;
                }
            }
            Entry::Flow(flow) => {
                flow.slot += 1;
                flow.mtu -= 20;
                if let Target::NextHop { backup: Some(backup), .. } = &mut flow.target {
                    *backup = Backup { slot: 3, label: 44, group: 6 };
                }
            }
            Entry::Route(route) => route.mtu = if route.mtu == 0 { 1_210 } else { 0 },
            Entry::Trace(trace) => trace.snaplen += 1,
            Entry::Meter(meter) => meter.rate += 8_000,
            Entry::Shaper(shaper) => shaper.rest += 8_000,
            Entry::Class(class) => {
                class.rate += 8_000;
                class.ceil += 16_000;
            }
            Entry::Seal(_) | Entry::Peer(_) => {}
        }
        // The resource beside it must go on as before, so each change is seen alone.
        put(bench, entry);
    }
    same(bench, &state(&changed));
    let fewer = Rules { circuit: 7, version: 9, start: 50, rows: Vec::new() };
    put(bench, &Entry::Rules(fewer.clone()));
    assert_eq!(observe(bench).get(&EntryKey::Rules(7)), Some(&Entry::Rules(fewer)));
    clear(bench);
    bench.unmake(&at);
}

/// A circuit gets a backup while its packets flow, and loses it.
fn second_way(bench: &mut dyn Bench) {
    let at = bench.make("one");
    put_all(bench, &everything(&at));
    for backup in [Some(Backup { slot: 2, label: 43, group: 5 }), None] {
        let target = Target::NextHop { slot: 1, label: 42, backup };
        let changed = flow(1, 9, false, target);
        put(bench, &changed);
        assert_eq!(observe(bench).get(&changed.key()), Some(&changed));
    }
    clear(bench);
    bench.unmake(&at);
}

fn made_anew(bench: &mut dyn Bench) {
    let (one, two) = (bench.make("one"), bench.make("two"));
    put(bench, &Entry::Eni(eni(1, &one)));
    for changed in [Eni { interface: "other0".into(), ..eni(1, &one) }, eni(1, &two)] {
        put(bench, &Entry::Eni(changed.clone()));
        same(bench, &state(&[Entry::Eni(changed)]));
    }
    clear(bench);
    bench.unmake(&one);
    bench.unmake(&two);
}

fn dependents_are_refused(bench: &mut dyn Bench) {
    let at = bench.make("one");
    let needy = |entry: &Entry| match entry {
        Entry::Label(label) => matches!(label.action, LabelAction::Deliver { .. }),
        Entry::Route(_) | Entry::Flow(_) => true,
        Entry::NextHop(_)
        | Entry::Shaper(_)
        | Entry::Class(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Seal(_)
        | Entry::Meter(_)
        | Entry::Peer(_)
        | Entry::Trace(_) => false,
    };
    for entry in everything(&at).iter().filter(|entry| needy(entry)) {
        let refusal = bench.kernel().perform(&Step::Put(entry.clone()));
        let why = refusal.expect_err("its interface is not there");
        assert!(why.contains("fw"), "the refusal of {:?} does not name the interface: {why}", entry.key());
    }
    assert_eq!(observe(bench), KernelState::new());
    bench.unmake(&at);
}

fn no_namespace(bench: &mut dyn Bench) {
    let at = bench.make("gone");
    bench.unmake(&at);
    let refusal = bench.kernel().perform(&Step::Put(Entry::Eni(eni(1, &at))));
    let why = refusal.expect_err("there is no such namespace");
    let (Attachment::Named(name) | Attachment::Path(name)) = &at else { return };
    assert!(why.contains(name.as_str()), "the refusal does not name the namespace {name}: {why}");
    assert_eq!(observe(bench), KernelState::new());
}

fn vanished(bench: &mut dyn Bench) {
    let at = bench.make("one");
    let entries = everything(&at);
    put_all(bench, &entries);
    let left = lose(bench, &at);
    assert!(!left.keys().any(|key| matches!(key, EntryKey::Route(on, _) if *on == host(1))));
    for entry in entries.iter().rev() {
        remove(bench, &entry.key());
    }
    assert_eq!(observe(bench), KernelState::new());
    let again = bench.make("one");
    put_all(bench, &everything(&again));
    same(bench, &state(&everything(&again)));
    clear(bench);
    bench.unmake(&again);
}

/// A namespace goes with the interface in it; the kernel does that in its own time. Returns what is left.
fn lose(bench: &mut dyn Bench, at: &Attachment) -> KernelState {
    bench.unmake(at);
    let mut patience = 500;
    while observe(bench).contains_key(&EntryKey::Eni(host(1))) && patience > 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        patience -= 1;
    }
    let left = observe(bench);
    assert!(!left.contains_key(&EntryKey::Eni(host(1))), "its namespace is gone");
    left
}

/// An agent may learn that an interface vanished only after it has made it again.
fn nothing_is_inherited(bench: &mut dyn Bench) {
    let at = bench.make("one");
    put_all(bench, &everything(&at));
    lose(bench, &at);
    let again = bench.make("one");
    bench.kernel().made_anew();
    put(bench, &Entry::Eni(eni(1, &again)));
    assert_eq!(bench.kernel().made_anew(), [host(1)], "whoever asked for the step has to know");
    assert_eq!(bench.kernel().made_anew(), [], "it is told once");
    let left = observe(bench);
    assert!(!left.contains_key(&EntryKey::Label(1)), "a label of the vanished interface delivers");
    assert!(
        !left
            .keys()
            .any(|key| matches!(key, EntryKey::Flow(on, _) | EntryKey::Route(on, _) if *on == host(1)))
    );
    put_all(bench, &everything(&again));
    same(bench, &state(&everything(&again)));
    clear(bench);
    bench.unmake(&again);
}

fn removed(bench: &mut dyn Bench) {
    let at = bench.make("one");
    let entries = everything(&at);
    for entry in entries.iter().rev() {
        remove(bench, &entry.key());
    }
    put_all(bench, &entries);
    let mut left = state(&entries);
    for (key, _) in state(&entries).into_iter().rev() {
        remove(bench, &key);
        remove(bench, &key);
        left.remove(&key);
        same(bench, &left);
    }
    bench.unmake(&at);
}

/// One entry of every kind and variant: an interface in a namespace, one on the host, and what refers to them.
pub fn everything(at: &Attachment) -> Vec<Entry> {
    let link =
        LinkLayer { ifindex: 1, source: [2, 0, 0, 0, 0, 1], neighbour: [2, 0, 0, 0, 0, 2], longest: 1514 };
    let hop = |slot, local: &str, remote: &str, link| {
        Entry::NextHop(NextHop { slot, local: ip(local), remote: ip(remote), link })
    };
    let deliver = |index, own, far| {
        let back = Back { next_hop: own, label: 40 + own };
        let (eni, local, remote) = (host(own), address(own), address(far));
        let action = LabelAction::Deliver { eni, local, remote, back, mtu: 1_400, sealed: false };
        Entry::Label(Label {
            label: (1u32 << ebpf_abi::label::INDEX_BITS) | index,
            circuit: 7,
            direction: Direction::Reverse,
            from: ip("192.0.2.2"),
            to: ip("192.0.2.1"),
            class: 0,
            action,
        })
    };
    let second = Backup { slot: 2, label: 43, group: 5 };
    let peer = |remote: &str, session| Entry::Peer(Peer { remote: ip(remote), session });
    let trace = |circuit, protocol, port| {
        let until = Timestamp(4_000_000_000_000_000_000);
        Entry::Trace(Trace { circuit, until, protocol, port, snaplen: 128 })
    };
    vec![
        hop(1, "192.0.2.1", "192.0.2.2", Some(link)),
        hop(2, "2001:db8::1", "2001:db8::2", Some(link)),
        // Not resolved: the kernel has to know which way it is, so this one is loopback's.
        hop(3, "127.0.0.1", "127.0.0.2", None),
        Entry::Eni(eni(1, at)),
        Entry::Eni(eni(2, &Attachment::Host)),
        Entry::Rules(Rules { circuit: 7, version: 1, start: 0, rows: vec![row(1), row(2)] }),
        Entry::Rules(Rules { circuit: 8, version: 3, start: 2, rows: vec![row(3)] }),
        deliver(1, 1, 9),
        deliver(2, 2, 9),
        Entry::Label(Label {
            label: 3,
            circuit: 8,
            direction: Direction::Forward,
            from: ip("2001:db8::2"),
            to: ip("2001:db8::1"),
            class: 3,
            action: LabelAction::Transit { next_hop: 1, out_label: 77 },
        }),
        Entry::Shaper(Shaper { interface: UNDERLAY.into(), rate: 98_000_000, rest: 58_000_000 }),
        Entry::Class(Class { interface: UNDERLAY.into(), number: 3, rate: 40_000_000, ceil: 98_000_000 }),
        // More than 32 bits of bytes per second hold.
        Entry::Class(Class {
            interface: UNDERLAY.into(),
            number: 4,
            rate: 40_000_000_000,
            ceil: 48_000_000_000,
        }),
        Entry::Meter(Meter { slot: 3, rate: 50_000_000 }),
        peer("192.0.2.2", 1),
        peer("192.0.2.2", 2),
        peer("2001:db8::2", u16::MAX),
        trace(7, None, None),
        trace(8, Some(6), Some(5432)),
        Entry::Route(Route { host: host(1), to: address(9), mtu: 0 }),
        Entry::Route(Route { host: host(1), to: address(2), mtu: 1_230 }),
        Entry::Route(Route { host: host(2), to: address(1), mtu: 0 }),
        flow(1, 9, false, Target::NextHop { slot: 1, label: 42, backup: None }),
        flow(1, 9, true, Target::NextHop { slot: 1, label: 42, backup: Some(second) }),
        flow(1, 2, false, Target::Eni(host(2))),
        flow(2, 1, false, Target::Eni(host(1))),
    ]
}

fn address(n: u32) -> FabricAddress {
    FabricPrefix::default().address(n).expect("a small host number")
}

fn host(n: u32) -> HostSide {
    HostSide::of(&address(n))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn eni(n: u32, at: &Attachment) -> Eni {
    Eni {
        host: host(n),
        resource: format!("contract-{n}"),
        attachment: at.clone(),
        interface: format!("ctr{n}"),
        address: address(n),
        mtu: 1_450,
    }
}

fn flow(own: u32, far: u32, v6: bool, target: Target) -> Entry {
    let family = |a: FabricAddress| if v6 { IpAddr::V6(a.v6) } else { IpAddr::V4(a.v4) };
    Entry::Flow(Flow {
        host: host(own),
        circuit: 7,
        local: family(address(own)),
        remote: family(address(far)),
        mac: address(far).mac(),
        gateway: address(far).gateway_mac(),
        slot: own,
        direction: Direction::Forward,
        mtu: 1_400,
        class: 3,
        target,
        sealed: false,
    })
}

/// A row that differs with `id`.
pub fn row(id: u32) -> Row {
    Row {
        source: ebpf_abi::mapped([100, 64, 0, 0]),
        source_mask: [0xff; 16],
        destination: [0; 16],
        destination_mask: [0; 16],
        id,
        port_from: 80,
        port_to: 443,
        protocol: 6,
        directions: 1,
        allow: id % 2 == 1,
        family: 4,
    }
}

fn state(entries: &[Entry]) -> KernelState {
    entries.iter().map(|entry| (entry.key(), entry.clone())).collect()
}

fn observe(bench: &mut dyn Bench) -> KernelState {
    bench.kernel().observe().expect("the kernel can be read")
}

/// Only what differs is shown.
fn same(bench: &mut dyn Bench, wanted: &KernelState) {
    let observed = observe(bench);
    let keys = observed.keys().chain(wanted.keys());
    let differs = |key: &&EntryKey| observed.get(key) != wanted.get(key);
    let lines: Vec<String> = keys
        .filter(differs)
        .map(|key| format!("{key:?}:\n  observed {:?}\n  wanted   {:?}", observed.get(key), wanted.get(key)))
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

fn put(bench: &mut dyn Bench, entry: &Entry) {
    let result = bench.kernel().perform(&Step::Put(entry.clone()));
    result.unwrap_or_else(|why| panic!("put {:?}: {why}", entry.key()));
}

fn put_all(bench: &mut dyn Bench, entries: &[Entry]) {
    entries.iter().for_each(|entry| put(bench, entry));
}

fn remove(bench: &mut dyn Bench, key: &EntryKey) {
    let result = bench.kernel().perform(&Step::Remove(key.clone()));
    result.unwrap_or_else(|why| panic!("remove {key:?}: {why}"));
}

/// Removes what is observed, in the order in which agents do.
fn clear(bench: &mut dyn Bench) {
    for key in observe(bench).into_keys().rev() {
        remove(bench, &key);
    }
}
