//! What circuits have of this host's underlay: their numbers, their classes in the queues of shaped interfaces, and what
//! is left there for the rest.
mod interface;
mod owners;

use crate::bounds::Refused;
use crate::groups::End;
use crate::kernel_state::{Class, Entry, EntryKey, Meter, Shaper};
use ebpf_abi::share::{NUMBERS, is_best_effort};
use interface::{Interface, Told, whole_bytes};
use proto_model::Bandwidth;
use proto_model::CircuitId;
use proto_model::desired::{Hop, Leg, Object, ObjectKey, Share, Side};
use proto_model::topology::{LinkId, Underlay};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A circuit end, or one direction of a circuit in transit, has one number whichever way it leaves: so its class is
/// counted once where both ways leave by one interface, and turning to the backup changes no flow.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    numbers: BTreeMap<End, Number>,
    taken: BTreeSet<u16>,
    /// Ends without a user, whose numbers come free unless they are wanted again at once.
    idle: BTreeSet<End>,
    /// Seen in the kernel at the start, until a controller has told everything.
    seen: BTreeMap<End, u16>,
    /// Shaped interfaces by address, and what is known of each.
    by_address: BTreeMap<IpAddr, String>,
    interfaces: BTreeMap<String, Interface>,
    links: BTreeMap<LinkId, (IpAddr, Option<Bandwidth>)>,
    /// Rates of interfaces as last known: one that loses its links for a while, or whose controller does not know them yet,
    /// keeps its queues, because to replace a root loses what waits there.
    kept: BTreeMap<String, u64>,
    /// By interface and number.
    classes: BTreeMap<(String, u16), Wanted>,
    touched: BTreeSet<String>,
}

#[derive(Debug)]
struct Number {
    number: u16,
    users: BTreeSet<ObjectKey>,
    /// With a class of this number.
    interfaces: BTreeSet<String>,
}

#[derive(Debug)]
struct Wanted {
    rate: u64,
    users: BTreeSet<ObjectKey>,
}

/// What becomes of an entry of this module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Want(Entry, Option<ObjectKey>),
    Unwant(EntryKey),
}

impl Shares {
    /// The interfaces that may be shaped. True: they differ from before, so that ends may leave otherwise.
    pub(crate) fn learn(&mut self, underlays: &[Underlay]) -> bool {
        let mut by_address = BTreeMap::new();
        let mut speeds = BTreeMap::new();
        for underlay in underlays.iter().filter(|underlay| underlay.shape) {
            by_address.extend(underlay.addresses.iter().map(|ip| (*ip, underlay.interface.clone())));
            speeds.insert(underlay.interface.clone(), underlay.speed);
        }
        let same_speeds = speeds.len() == self.interfaces.len()
            && self.interfaces.iter().all(|(name, known)| speeds.get(name) == Some(&known.speed));
        if by_address == self.by_address && same_speeds {
            return false;
        }
        self.touched.extend(self.interfaces.keys().chain(speeds.keys()).cloned());
        self.interfaces.retain(|name, _| speeds.contains_key(name));
        for (name, speed) in speeds {
            self.interfaces.entry(name).or_default().speed = speed;
        }
        self.by_address = by_address;
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        names.iter().for_each(|name| self.look_at_links(name));
        true
    }

    /// The number that a flow or label of an earlier life has; it stays with its end.
    pub(crate) fn adopt(&mut self, end: End, number: u16) {
        if number != 0 && number <= NUMBERS {
            self.seen.insert(end, number);
            self.taken.insert(number);
        }
    }

    /// A controller has told everything: numbers that nobody uses come free.
    pub(crate) fn stop_adopting(&mut self) {
        let used: BTreeSet<u16> = self.numbers.values().map(|number| number.number).collect();
        self.seen.clear();
        self.taken = used;
    }

    /// The number of an object's end; 0 when it has neither bandwidth nor limit.
    pub(crate) fn join(&mut self, object: &Object) -> Result<u16, Refused> {
        let Some((end, _)) = share(object) else { return Ok(0) };
        if let Some(known) = self.numbers.get_mut(&end) {
            known.users.insert(object.key());
            return Ok(known.number);
        }
        let seen = self.seen.get(&end).copied();
        let number = seen.or_else(|| self.free()).ok_or(Refused::Shares)?;
        self.taken.insert(number);
        let users = BTreeSet::from([object.key()]);
        self.numbers.insert(end, Number { number, users, interfaces: BTreeSet::new() });
        Ok(number)
    }

    /// A number that is not in use; the next one after the highest, so that a number rests as long as it can.
    fn free(&self) -> Option<u16> {
        let next = self.taken.last().map_or(1, |last| last + 1);
        let mut after = (next..=NUMBERS).filter(|number| is_best_effort(*number));
        let mut all = (1..=NUMBERS).filter(|number| is_best_effort(*number) && !self.taken.contains(number));
        after.next().or_else(|| all.next())
    }

    /// What an object that has been given `number` wants here.
    pub(crate) fn wants(&mut self, object: &Object, number: u16) -> Vec<Turn> {
        let Some((end, share)) = share(object).filter(|_| number != 0) else { return Vec::new() };
        let owner = object.key();
        let mut turns = Vec::new();
        if let (Some(limit), Object::Endpoint(_)) = (share.limit, object) {
            let meter = Meter { slot: number, rate: limit.bits_per_second() };
            turns.push(Turn::Want(Entry::Meter(meter), Some(owner.clone())));
        }
        let rate = whole_bytes(share.reserved.bits_per_second());
        let locals = crate::lower::sends_to(object).into_iter().map(|(local, _)| local);
        let interfaces: BTreeSet<String> =
            locals.filter_map(|local| self.by_address.get(&local).cloned()).collect();
        for interface in interfaces.into_iter().filter(|_| rate != 0) {
            if let Some(known) = self.numbers.get_mut(&end) {
                known.interfaces.insert(interface.clone());
            }
            turns.push(self.use_class(interface, number, rate, owner.clone()));
        }
        turns
    }

    fn use_class(&mut self, interface: String, number: u16, rate: u64, user: ObjectKey) -> Turn {
        let key = (interface.clone(), number);
        let wanted = self.classes.entry(key).or_insert_with(|| Wanted { rate: 0, users: BTreeSet::new() });
        wanted.users.insert(user);
        let before = std::mem::replace(&mut wanted.rate, rate);
        self.promise(&interface, |promised| promised.saturating_sub(before).saturating_add(rate));
        let ceil = self.ceil(&interface);
        class(interface, number, rate, ceil)
    }

    fn ceil(&self, interface: &str) -> u64 {
        self.interfaces.get(interface).map_or(0, |known| known.ceil)
    }

    fn promise(&mut self, interface: &str, change: impl FnOnce(u64) -> u64) {
        if let Some(known) = self.interfaces.get_mut(interface) {
            known.promised = change(known.promised);
        }
        self.touched.insert(interface.to_owned());
    }

    /// An object is taken back: its number and classes come free with their last user.
    pub(crate) fn leave(&mut self, object: &Object) -> Vec<Turn> {
        let Some((end, share)) = share(object) else { return Vec::new() };
        let user = object.key();
        let Some(known) = self.numbers.get_mut(&end) else { return Vec::new() };
        let number = known.number;
        known.users.remove(&user);
        if known.users.is_empty() {
            self.idle.insert(end);
        }
        let mut turns = Vec::new();
        if share.limit.is_some() && matches!(object, Object::Endpoint(_)) {
            turns.push(Turn::Unwant(EntryKey::Meter(number)));
        }
        let interfaces = known.interfaces.clone();
        for interface in interfaces {
            let key = (interface.clone(), number);
            turns.extend(self.leave_class(&key, &user));
            if !self.classes.contains_key(&key)
                && let Some(known) = self.numbers.get_mut(&end)
            {
                known.interfaces.remove(&interface);
            }
        }
        turns
    }

    fn leave_class(&mut self, key: &(String, u16), user: &ObjectKey) -> Option<Turn> {
        let (interface, number) = key.clone();
        let ceil = self.ceil(&interface);
        let wanted = self.classes.get_mut(key)?;
        if !wanted.users.remove(user) {
            return None;
        }
        let rate = wanted.rate;
        if !wanted.users.is_empty() {
            return Some(class(interface, number, rate, ceil));
        }
        self.classes.remove(key);
        self.promise(&interface, |promised| promised.saturating_sub(rate));
        Some(Turn::Unwant(EntryKey::Class(interface, number)))
    }

    /// A link of this host, and how much it carries.
    pub(crate) fn add_link(&mut self, link: LinkId, local: IpAddr, capacity: Option<Bandwidth>) {
        self.links.insert(link, (local, capacity));
        self.links_changed(local);
    }

    pub(crate) fn remove_link(&mut self, link: &LinkId) {
        if let Some((local, _)) = self.links.remove(link) {
            self.links_changed(local);
        }
    }

    fn links_changed(&mut self, local: IpAddr) {
        let Some(name) = self.by_address.get(&local).cloned() else { return };
        self.look_at_links(&name);
        self.touched.insert(name);
    }

    fn look_at_links(&mut self, name: &str) {
        let here = |local: &IpAddr| self.by_address.get(local).is_some_and(|at| at == name);
        let links: Vec<Option<Bandwidth>> =
            self.links.values().filter(|(local, _)| here(local)).map(|(_, capacity)| *capacity).collect();
        let told = Told::of(&links);
        if let Some(known) = self.interfaces.get_mut(name) {
            known.told = told;
        }
    }

    /// What is wanted of the interfaces about which something changed, after a round of leaving and joining.
    pub(crate) fn shapers(&mut self) -> Vec<Turn> {
        for end in std::mem::take(&mut self.idle) {
            let Some(number) = self.numbers.get(&end).filter(|known| known.users.is_empty()) else {
                continue;
            };
            if !self.seen.contains_key(&end) {
                self.taken.remove(&number.number);
            }
            self.numbers.remove(&end);
        }
        let mut turns = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(shaper) = self.shaper(&name) else {
                turns.push(Turn::Unwant(EntryKey::Shaper(name)));
                continue;
            };
            turns.extend(self.raise(&name, shaper.rate));
            turns.push(want(Entry::Shaper(shaper), &name));
        }
        turns
    }

    /// The classes of an interface whose rate is another one now.
    fn raise(&mut self, interface: &str, ceil: u64) -> Vec<Turn> {
        match self.interfaces.get_mut(interface) {
            Some(known) if known.ceil != ceil => known.ceil = ceil,
            Some(_) | None => return Vec::new(),
        }
        let [first, last] = [0, u16::MAX].map(|number| (interface.to_owned(), number));
        let its = self.classes.range(first..=last);
        its.map(|((name, number), wanted)| class(name.clone(), *number, wanted.rate, ceil)).collect()
    }

    /// The queues that the kernel has.
    pub(crate) fn keep(&mut self, seen: &Shaper) {
        if seen.rate != 0 {
            self.kept.insert(seen.interface.clone(), seen.rate);
        }
    }

    /// None: it may not be shaped, or nobody ever knew how fast it is.
    fn shaper(&mut self, name: &str) -> Option<Shaper> {
        let Some(known) = self.interfaces.get(name) else {
            self.kept.remove(name);
            return None;
        };
        let rate = known.rate().or_else(|| self.kept.get(name).copied())?;
        self.kept.insert(name.to_owned(), rate);
        let rest = known.rest(rate);
        Some(Shaper { interface: name.to_owned(), rate, rest })
    }
}

/// Of the interface's queues and never of the circuit: where there are none, it works and its share is only accounted.
fn want(entry: Entry, interface: &str) -> Turn {
    Turn::Want(entry, Some(ObjectKey::Queues(interface.to_owned())))
}

fn class(interface: String, number: u16, rate: u64, ceil: u64) -> Turn {
    let name = interface.clone();
    want(Entry::Class(Class { interface, number, rate, ceil: ceil.max(rate) }), &name)
}

/// Whose number it is, and what it has; none: nothing.
fn share(object: &Object) -> Option<(End, Share)> {
    match object {
        Object::Endpoint(end) => {
            let reserved = match end.leg {
                Leg::Tunnel { .. } => end.share.reserved,
                // No link is crossed.
                Leg::Local { .. } => Bandwidth::ZERO,
            };
            let share = Share { reserved, ..end.share };
            (!share.is_none()).then_some(((end.circuit, end.side), share))
        }
        Object::Hop(Hop { circuit, from_side, reserved, .. }) => {
            let share = Share { reserved: *reserved, limit: None };
            (!share.is_none()).then_some(((*circuit, *from_side), share))
        }
        Object::Eni(_) | Object::Rules(_) | Object::Peer(_) | Object::Trace(_) | Object::Policy(_) => None,
    }
}

/// The end of which the kernel's entry is, with its number.
pub(crate) fn seen(entry: &Entry) -> Option<(End, u16)> {
    use ebpf_abi::Direction;
    let side = |direction| match direction {
        Direction::Forward => Side::Source,
        Direction::Reverse => Side::Destination,
    };
    match entry {
        Entry::Flow(flow) => Some(((CircuitId(flow.circuit), side(flow.direction)), flow.class)),
        Entry::Label(label) => Some(((CircuitId(label.circuit), side(label.direction)), label.class)),
        Entry::NextHop(_)
        | Entry::Shaper(_)
        | Entry::Eni(_)
        | Entry::Rules(_)
        | Entry::Meter(_)
        | Entry::Seal(_)
        | Entry::Class(_)
        | Entry::Peer(_)
        | Entry::Trace(_)
        | Entry::Route(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::desired::{NextHop, Receive};
    use proto_model::{Label, Name, NodeName};

    /// 1 to 3 would be other queues' worse half.
    const FIRST: u16 = 4;

    const HERE: [u8; 4] = [192, 0, 2, 1];

    fn label(value: u32) -> Label {
        Label::new(value).expect("a label")
    }

    fn hop(circuit: u64, under: u32, mbit: u64) -> Object {
        let (local, there): (IpAddr, IpAddr) = (HERE.into(), [192, 0, 2, 2].into());
        Object::Hop(Hop {
            circuit: CircuitId(circuit),
            from_side: Side::Source,
            receive: Receive { label: label(under), local, from: there },
            send: NextHop { node: name("b"), local, remote: there, label: label(7) },
            reserved: Bandwidth::mbit(mbit),
        })
    }

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    fn shaped(speed: Option<u64>) -> Shares {
        let mut shares = Shares::default();
        let network: Name = "lan".parse().expect("a name");
        let (interface, speed) = ("eth0".to_owned(), speed.map(Bandwidth::mbit));
        let addresses = vec![HERE.into()];
        let underlay = Underlay { interface, network, addresses, mtu: 1_500, speed, shape: true };
        assert!(shares.learn(std::slice::from_ref(&underlay)));
        assert!(!shares.learn(&[underlay]), "nothing new");
        shares
    }

    fn use_it(shares: &mut Shares, object: &Object) -> (u16, Vec<Turn>) {
        let number = shares.join(object).expect("a number");
        let turns = shares.wants(object, number);
        (number, turns)
    }

    fn rest(shares: &mut Shares) -> Option<(u64, u64)> {
        match shares.shapers().pop()? {
            Turn::Want(Entry::Shaper(shaper), _) => Some((shaper.rate, shaper.rest)),
            Turn::Want(..) | Turn::Unwant(_) => None,
        }
    }

    #[test]
    fn what_is_not_promised_is_for_the_rest() {
        let mut shares = shaped(Some(100));
        assert_eq!(rest(&mut shares), Some((98_000_000, 93_100_000)));
        use_it(&mut shares, &hop(1, 1, 40));
        assert_eq!(rest(&mut shares), Some((98_000_000, 53_100_000)));
        assert_eq!(rest(&mut shares), None, "nothing changed since");
        use_it(&mut shares, &hop(2, 2, 60));
        assert_eq!(rest(&mut shares), Some((98_000_000, 980_000)), "a hundredth at least");
    }

    #[test]
    fn what_a_class_may_use_follows_the_rate_of_its_interface() {
        let mut shares = shaped(Some(100));
        use_it(&mut shares, &hop(1, 1, 40));
        let ceils = |turns: &[Turn]| -> Vec<u64> {
            let ceil = |turn: &Turn| match turn {
                Turn::Want(Entry::Class(class), _) => Some(class.ceil),
                Turn::Want(..) | Turn::Unwant(_) => None,
            };
            turns.iter().filter_map(ceil).collect()
        };
        assert_eq!(ceils(&shares.shapers()), [98_000_000]);
        assert_eq!(ceils(&use_it(&mut shares, &hop(2, 2, 10)).1), [98_000_000]);
        assert_eq!(ceils(&shares.shapers()), [], "the rate is the same");
        let id = LinkId::new(name("a"), name("b"), "lan".parse().expect("a name")).expect("two ends");
        shares.add_link(id.clone(), HERE.into(), Some(Bandwidth::mbit(20)));
        assert_eq!(ceils(&shares.shapers()), [40_000_000, 19_600_000], "never less than its own");
        shares.remove_link(&id);
        assert_eq!(ceils(&shares.shapers()), [98_000_000, 98_000_000]);
    }

    #[test]
    fn both_ways_of_a_circuit_by_one_interface_are_one_class() {
        let mut shares = shaped(Some(100));
        let (one, other) = (hop(1, 1, 40), hop(1, 2, 40));
        let (number, _) = use_it(&mut shares, &one);
        let (again, turns) = use_it(&mut shares, &other);
        assert_eq!((number, again, turns.len()), (FIRST, FIRST, 1));
        assert_eq!(rest(&mut shares), Some((98_000_000, 53_100_000)));
        assert!(matches!(shares.leave(&one)[..], [Turn::Want(Entry::Class(_), _)]), "the other needs it");
        assert_eq!(shares.leave(&other), [Turn::Unwant(EntryKey::Class("eth0".into(), FIRST))]);
        assert_eq!(rest(&mut shares), Some((98_000_000, 93_100_000)));
    }

    #[test]
    fn an_object_that_is_told_anew_keeps_its_number() {
        let mut shares = shaped(Some(100));
        let object = hop(1, 1, 40);
        use_it(&mut shares, &hop(2, 2, 1));
        let (number, _) = use_it(&mut shares, &object);
        shares.shapers();
        shares.leave(&object);
        assert_eq!(use_it(&mut shares, &object).0, number);
        shares.leave(&object);
        shares.shapers();
        assert_eq!(use_it(&mut shares, &hop(3, 3, 1)).0, number, "nobody has it any more");
    }

    #[test]
    fn a_restarted_agent_gives_the_numbers_that_the_kernel_has() {
        let mut shares = shaped(Some(100));
        shares.adopt((CircuitId(5), Side::Source), 3);
        assert_eq!(use_it(&mut shares, &hop(6, 6, 1)).0, 4);
        assert_eq!(use_it(&mut shares, &hop(5, 5, 1)).0, 3);
    }

    #[test]
    fn best_effort_and_interfaces_that_may_not_be_shaped_have_no_class() {
        let mut shares = shaped(Some(100));
        assert_eq!(use_it(&mut shares, &hop(1, 1, 0)), (0, Vec::new()));
        let mut unshaped = Shares::default();
        assert_eq!(use_it(&mut unshaped, &hop(1, 1, 40)), (FIRST, Vec::new()));
    }

    #[test]
    fn an_interface_of_unknown_speed_is_as_fast_as_its_fastest_link() {
        let mut shares = shaped(None);
        assert_eq!(rest(&mut shares), None, "nobody knows how fast it is");
        let id =
            |other| LinkId::new(name("a"), name(other), "lan".parse().expect("a name")).expect("two ends");
        shares.add_link(id("b"), HERE.into(), Some(Bandwidth::mbit(10)));
        shares.add_link(id("c"), HERE.into(), Some(Bandwidth::mbit(50)));
        assert_eq!(rest(&mut shares).map(|(rate, _)| rate), Some(49_000_000));
        shares.remove_link(&id("c"));
        assert_eq!(rest(&mut shares).map(|(rate, _)| rate), Some(9_800_000));
        shares.remove_link(&id("b"));
        assert_eq!(rest(&mut shares).map(|(rate, _)| rate), Some(9_800_000), "until somebody knows better");
    }

    #[test]
    fn where_nobody_shapes_a_reservation_is_best_effort_like_all_else() {
        let mut shares = Shares::default();
        for circuit in 1..=40 {
            let (number, _) = use_it(&mut shares, &hop(circuit, circuit as u32, 40));
            assert!(is_best_effort(number), "{number:#x}");
        }
    }
}
