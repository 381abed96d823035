//! Whatever an agent is told and whatever goes wrong: in the end the kernel has what is wanted, by the fewest steps.
use agent_core::kernel_state::{Entry, EntryKey, HostSide, Kernel, KernelState, Target};
use proptest::prelude::*;
use proto_model::desired::{Change, Gate, Object, ObjectKey};
use proto_model::{Timestamp, report::Say};
use std::collections::BTreeMap;
use std::time::Duration;
use tests_sim::host::Host;
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;

const RESOURCES: u32 = 4;
const UNIVERSE: usize = 20;

#[derive(Clone, Debug)]
enum Event {
    /// Objects that come, or change when they are there; the number chooses a variant.
    Put(Vec<(usize, u8)>),
    Remove(Vec<usize>),
    Whole,
    /// The kernel refuses the next steps for one of the keys that it has or shall have.
    Fail(usize, u32),
    Vanish(u32),
    LoseNamespace(u32),
    FindNamespace(u32),
    Neighbours,
    Reconnect,
    Crash,
    /// Performs so many steps.
    Steps(usize),
    Wait(u64),
}

/// Object number `n` of the universe in variant `v`; some of them contend for one label or one pair of ends.
fn object(n: usize, v: u8) -> Object {
    let gate = if v & 1 == 0 { Gate::Open } else { Gate::Closed };
    let neighbour = 2 + (v >> 1) % 3;
    match n {
        0..4 => {
            let mut eni = eni(n as u32 + 1);
            eni.mtu -= u16::from(v % 3);
            if v.is_multiple_of(7) {
                eni.attachment = place((n as u32 + 1) % RESOURCES + 1);
            }
            Object::Eni(eni)
        }
        4..8 => {
            let circuit = n as u64 - 3;
            let mut end = end(circuit, n as u32 - 3, 9, neighbour, gate);
            if v.is_multiple_of(5) {
                let two = vec![receive(2, circuit as u32), receive(neighbour, 200 + circuit as u32)];
                end.leg = tunnel(send(neighbour, 900), two);
            }
            Object::Endpoint(end)
        }
        8 | 9 => local(5, 1, 2, gate)[n - 8].clone(),
        10..15 => {
            let texts = ["allow tcp/1", "deny any", "allow udp both"];
            rules(n as u64 - 9, u32::from(v), &texts[..usize::from(v % 4)])
        }
        15..18 => hop(7, 2, 300 + n as u32, neighbour, 50 + u32::from(v % 3)),
        // The same labels' indexes and the same ends as others, in another use.
        18 => hop(8, 2, (1 << 17) + 1, neighbour, 50),
        _ => Object::Endpoint(end(9, 1, 9, neighbour, gate)),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let some = || prop::collection::vec((0..UNIVERSE, any::<u8>()), 1..8);
    prop_oneof![
        6 => some().prop_map(Event::Put),
        3 => prop::collection::vec(0..UNIVERSE, 1..6).prop_map(Event::Remove),
        1 => Just(Event::Whole),
        2 => (any::<usize>(), 1u32..4).prop_map(|(key, times)| Event::Fail(key, times)),
        1 => (1..=RESOURCES).prop_map(Event::Vanish),
        1 => (1..=RESOURCES).prop_map(Event::LoseNamespace),
        2 => (1..=RESOURCES).prop_map(Event::FindNamespace),
        1 => Just(Event::Neighbours),
        1 => Just(Event::Reconnect),
        1 => Just(Event::Crash),
        5 => (0usize..30).prop_map(Event::Steps),
        2 => (0u64..3_000).prop_map(Event::Wait),
    ]
}

/// The controller's side, and the clock.
struct Run {
    host: Option<Host>,
    objects: BTreeMap<ObjectKey, Object>,
    generation: u64,
    session: u64,
    now: Timestamp,
}

impl Run {
    fn new() -> Self {
        let mut kernel = PretendedKernel::new();
        (1..=RESOURCES).for_each(|n| kernel.add_namespace(&place(n)));
        let mut run =
            Self { host: None, objects: BTreeMap::new(), generation: 0, session: 0, now: Timestamp(1) };
        run.host = Some(Host::start(kernel, run.now));
        run.reconnect();
        run
    }

    fn after(events: Vec<Event>) -> Self {
        let mut run = Self::new();
        events.into_iter().for_each(|event| run.happen(event));
        run.rest();
        run
    }

    fn host(&mut self) -> &mut Host {
        self.host.as_mut().expect("there is always a host")
    }

    fn reconnect(&mut self) {
        self.session += 1;
        let (session, now) = (self.session, self.now);
        self.host().connect(session, now);
        self.whole();
    }

    fn whole(&mut self) {
        self.generation += 1;
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        let (session, now, tell) = (self.session, self.now, whole(self.generation, &objects));
        self.host().tell(session, tell, now);
    }

    fn tell(&mut self, news: Vec<Change>) {
        for change in news.clone() {
            match change {
                Change::Put(object) => self.objects.insert(object.key(), object),
                Change::Remove(key) => self.objects.remove(&key),
            };
        }
        let (session, now, tell) = (self.session, self.now, changes(self.generation, news));
        self.generation += 1;
        self.host().tell(session, tell, now);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Put(some) => {
                self.tell(some.into_iter().map(|(n, v)| Change::Put(object(n, v))).collect());
            }
            Event::Remove(some) => {
                self.tell(some.into_iter().map(|n| Change::Remove(object(n, 0).key())).collect());
            }
            Event::Whole => self.whole(),
            Event::Fail(number, times) => {
                let node = self.host().node();
                let keys: Vec<EntryKey> = node.want().into_keys().chain(node.have().into_keys()).collect();
                if let Some(key) = keys.get(number % keys.len().max(1)).cloned() {
                    self.host().kernel.fail(key, times, "on purpose");
                }
            }
            Event::Vanish(n) => {
                let side = HostSide::of(&address(n));
                if self.host().kernel.remove_interface(&side) {
                    self.host().vanish(side, now);
                }
            }
            Event::LoseNamespace(n) => {
                for side in self.host().kernel.remove_namespace(&place(n)) {
                    self.host().vanish(side, now);
                }
            }
            Event::FindNamespace(n) => self.host().kernel.add_namespace(&place(n)),
            Event::Neighbours => self.host().resolve_all(now),
            Event::Reconnect => self.reconnect(),
            Event::Crash => {
                let kernel = self.host.take().expect("there is always a host").crash();
                self.host = Some(Host::start(kernel, now));
                self.reconnect();
            }
            Event::Steps(count) => {
                for _ in 0..count {
                    self.host().step(now);
                }
            }
            Event::Wait(millis) => {
                self.now = now.plus(Duration::from_millis(millis));
                let until = self.now;
                self.host().pass(until);
            }
        }
    }

    /// Everything is repaired, and enough time passes for everything to be tried again.
    fn rest(&mut self) {
        self.host().kernel.heal();
        (1..=RESOURCES).for_each(|n| self.host().kernel.add_namespace(&place(n)));
        let now = self.now;
        self.host().settle(now);
        self.happen(Event::Wait(120_000));
    }

    fn observe(&mut self) -> KernelState {
        self.host().kernel.observe().expect("the pretended kernel can be read")
    }

    /// Whether an object was refused because another one has what it needs.
    fn contention(&mut self) -> bool {
        let said = self.host().take_said();
        said.iter().any(|say| match say {
            Say::Report(report) => report.failed.iter().any(|failure| failure.why.contains("is taken by")),
            Say::Hello(_)
            | Say::AskWhole
            | Say::Telemetry(_)
            | Say::Drops(_)
            | Say::Switched(_)
            | Say::Answer { .. }
            | Say::Traced(_) => false,
        })
    }

    fn last_report(&mut self) -> Option<u64> {
        let said = self.host().take_said();
        said.iter().rev().find_map(|say| match say {
            Say::Report(report) => Some(report.generation.0),
            Say::Hello(_)
            | Say::AskWhole
            | Say::Telemetry(_)
            | Say::Drops(_)
            | Say::Switched(_)
            | Say::Answer { .. }
            | Say::Traced(_) => None,
        })
    }
}

/// An open gate without rules, or towards an interface that is not told, stays closed.
fn possible(mut want: KernelState) -> KernelState {
    let all = want.clone();
    want.retain(|_, entry| match entry {
        Entry::Flow(flow) => {
            let far = match &flow.target {
                Target::NextHop { slot, .. } => EntryKey::NextHop(*slot),
                Target::Eni(host) => EntryKey::Eni(*host),
            };
            all.contains_key(&far) && all.contains_key(&EntryKey::Rules(flow.circuit))
        }
        Entry::NextHop(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Shaper(_)
        | Entry::Meter(_)
        | Entry::Class(_)
        | Entry::Label(_)
        | Entry::Seal(_)
        | Entry::Peer(_)
        | Entry::Trace(_)
        | Entry::Route(_) => true,
    });
    want
}

fn differences(have: &KernelState, want: &KernelState) -> Vec<String> {
    let new = want.keys().filter(|key| !have.contains_key(key));
    let differ = have.keys().chain(new).filter(|key| have.get(key) != want.get(key));
    differ.map(|key| format!("{key:?}: have {:?}, want {:?}", have.get(key), want.get(key))).collect()
}

/// Whether an interface is in another place than before: that takes everything bound to it down and up again.
fn made_anew(before: &KernelState, after: &KernelState) -> bool {
    before.iter().any(|(key, entry)| match (entry, after.get(key)) {
        (Entry::Eni(old), Some(Entry::Eni(new))) => {
            (&old.attachment, &old.resource) != (&new.attachment, &new.resource)
        }
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_converges(events in prop::collection::vec(event(), 1..60)) {
        let mut run = Run::after(events);
        prop_assert_eq!(&run.host().kernel.sins, &Vec::<String>::new());
        let want = possible(run.host().node().want());
        prop_assert_eq!(differences(&run.host().node().have(), &want), Vec::<String>::new());
        prop_assert_eq!(differences(&run.observe(), &want), Vec::<String>::new());
        let generation = run.generation;
        prop_assert_eq!(run.last_report(), Some(generation));

        // A new agent finds nothing to do, unless it must choose anew who of two contenders comes first …
        run.happen(Event::Crash);
        let now = run.now;
        let steps = run.host().settle(now);
        prop_assert!(steps == 0 || run.contention());

        // … and what is not wanted any more leaves nothing.
        run.objects.clear();
        run.whole();
        run.rest();
        prop_assert_eq!(run.host().kernel.leftovers(), Vec::<String>::new());
        prop_assert_eq!(&run.host().kernel.sins, &Vec::<String>::new());
    }

    #[test]
    fn a_change_costs_a_step_per_entry_that_it_changes(
        events in prop::collection::vec(event(), 1..20),
        news in prop::collection::vec((0..UNIVERSE, any::<u8>()), 1..8),
    ) {
        let mut run = Run::after(events);
        let before = run.observe();
        run.tell(news.into_iter().map(|(n, v)| Change::Put(object(n, v))).collect());
        let now = run.now;
        let steps = run.host().settle(now);
        let after = run.observe();
        let new = after.keys().filter(|key| !before.contains_key(key));
        let changed = before.keys().chain(new).filter(|key| before.get(key) != after.get(key)).count();
        if !made_anew(&before, &after) {
            prop_assert_eq!(steps, changed);
        }
    }
}
