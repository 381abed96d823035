//! The queues of underlay interfaces that their owners let the agent shape: HTB with a class per circuit (tc-htb(8)).
//!
//! A queue that somebody configured is never replaced: it has a handle, the kernel's own default has none. So taking ours
//! away brings back what was there.
use super::links;
use super::netlink::{Netlink, Refused};
use agent_core::io::ClassDrops;
use agent_core::kernel_state::{Class, Entry, Shaper};
use anyhow::{Context, Result, anyhow, bail};
use ebpf_abi::share::{CONTROL, HANDLE, REST, ROOT};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;

const NEW_QDISC: u16 = 36;
const DEL_QDISC: u16 = 37;
const GET_QDISC: u16 = 38;
const NEW_CLASS: u16 = 40;
const DEL_CLASS: u16 = 41;
const GET_CLASS: u16 = 42;
/// Index of `lo` in every namespace.
const LOOPBACK: u32 = 1;
/// `TC_H_ROOT`.
const TOP: u32 = u32::MAX;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_STATS2`, and `TCA_STATS_QUEUE` in it.
const STATS: u16 = 7;
const STATS_QUEUE: u16 = 3;
const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;

/// What a class that was idle may send at once, as time at its rate: timers are not more exact than that on a busy host.
const BURST_NANOS: u64 = 2_000_000;
/// The same for a circuit that sends as much as it reserved. Its packets come in heaps, and what it could not save of its rate
/// before one is lost to it: the heap would then wait until others leave something. All circuits of an interface together
/// bring no more than this time of the line at once.
const HEAP_NANOS: u64 = 5_000_000;
/// The kernel counts these times in units of 64 ns (`PSCHED_SHIFT`).
const TICK: u64 = 64;
/// What waits in a class, as time at its rate; the rest of the packets is dropped there.
const WAIT_MILLIS: u64 = 10;
/// But so many bytes at least: a few packets, and a superpacket as long as workloads with a reservation make them.
const WAIT_LEAST: u64 = 16 << 10;
/// Of what has no class of its own: superpackets of any length wait there.
const REST_LEAST: u64 = 128 << 10;
/// Of the interface's rate, what probes have: so much that they never wait.
const CONTROL_SHARE: u64 = 100;

/// Puts the root queue and its own classes, or changes their rates in place.
pub(super) fn put_shaper(netlink: &mut Netlink, shaper: &Shaper) -> Result<()> {
    let index = index(netlink, &shaper.interface)?;
    match root(netlink, index)? {
        Some(root) if root.is_ours() => {}
        Some(root) if root.handle != 0 => bail!("{}", root.foreign(&shaper.interface)),
        Some(_) | None => make_root(netlink, index)?,
    }
    let rate = shaper.rate / 8;
    class(netlink, index, 0, ROOT, rate, rate)?;
    class(netlink, index, ROOT, CONTROL, rate / CONTROL_SHARE, rate)?;
    leaf(netlink, index, CONTROL, WAIT_LEAST)?;
    class(netlink, index, ROOT, REST, (shaper.rest / 8).max(1), rate)?;
    // At the rate of the whole: what others leave is for the rest, and a queue that is short then would waste it.
    leaf(netlink, index, REST, wait(rate).max(REST_LEAST))
}

/// A circuit's class; the root is there.
pub(super) fn put_class(netlink: &mut Netlink, wanted: &Class) -> Result<()> {
    let index = index(netlink, &wanted.interface)?;
    if wanted.number == 0 || !has_root_class(netlink, index)? {
        bail!("{} has no queues of the agent", wanted.interface);
    }
    let rate = (wanted.rate / 8).max(1);
    class(netlink, index, ROOT, wanted.number, rate, wanted.ceil / 8)?;
    leaf(netlink, index, wanted.number, wait(rate).max(WAIT_LEAST))
}

/// Doing it twice is fine, also when the interface is gone.
pub(super) fn remove_class(netlink: &mut Netlink, interface: &str, number: u16) -> Result<()> {
    let Some(link) = links::find(netlink, interface)? else { return Ok(()) };
    let found = root(netlink, link.index)?;
    if !found.is_some_and(|root| root.is_ours()) {
        return Ok(());
    }
    gone(netlink.raw(DEL_CLASS, 0, &message(link.index, id(number), 0, &[]))?)
        .with_context(|| format!("class {number:x} of {interface}"))
}

/// The kernel's default comes in its place.
pub(super) fn remove_shaper(netlink: &mut Netlink, interface: &str) -> Result<()> {
    let Some(link) = links::find(netlink, interface)? else { return Ok(()) };
    if root(netlink, link.index)?.is_some_and(|root| root.is_ours()) {
        gone(netlink.raw(DEL_QDISC, 0, &message(link.index, id(0), TOP, &[]))?)
            .with_context(|| format!("the queues of {interface}"))?;
    }
    Ok(())
}

/// Interfaces with queues of ours.
pub(crate) fn shaped(netlink: &mut Netlink) -> Result<Vec<String>> {
    let ours: Vec<u32> =
        queues(netlink)?.into_iter().filter(Queue::is_ours).map(|queue| queue.interface).collect();
    let links = links::all(netlink)?;
    Ok(links.into_iter().filter(|link| ours.contains(&link.index)).map(|link| link.name).collect())
}

/// What classes of ours had no room for.
pub(crate) fn lost(netlink: &mut Netlink) -> Result<Vec<ClassDrops>> {
    let mut lost = Vec::new();
    for interface in shaped(netlink)? {
        let index = index(netlink, &interface)?;
        let answers = netlink.raw(GET_CLASS, NLM_F_DUMP, &message(index, 0, 0, &[]))??;
        let all = answers.iter().filter_map(|body| drops(body)).filter(|(_, packets)| *packets > 0);
        lost.extend(all.map(|(number, packets)| ClassDrops {
            interface: interface.clone(),
            number,
            packets: packets.into(),
        }));
    }
    Ok(lost)
}

/// Of our classes, by number.
fn drops(body: &[u8]) -> Option<(u16, u32)> {
    let handle = word(body, 8)?;
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    // `struct gnet_stats_queue`: packets and bytes that wait come first.
    let queue = find(find(body.get(20..)?, STATS)?, STATS_QUEUE)?;
    (handle >> 16 == u32::from(HANDLE)).then_some((handle as u16, word(queue, 8)?))
}

/// Whether this kernel can queue as it must, tried in a network namespace that goes with this.
///
/// # Errors
/// What it refused.
pub(crate) fn attempt() -> Result<()> {
    let attempt = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace to try it in")?;
        let mut netlink = Netlink::open()?;
        make_root(&mut netlink, LOOPBACK)?;
        class(&mut netlink, LOOPBACK, 0, ROOT, 1 << 20, 1 << 20)?;
        leaf(&mut netlink, LOOPBACK, ROOT, WAIT_LEAST)
    });
    attempt.join().map_err(|_| anyhow!("the attempt panicked"))?
}

/// Whether somebody else's root queue is in the way there.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn in_the_way(interface: &str) -> Result<Option<String>> {
    let mut netlink = Netlink::open()?;
    let index = index(&mut netlink, interface)?;
    let found = root(&mut netlink, index)?.filter(|root| !root.is_ours() && root.handle != 0);
    Ok(found.map(|root| root.foreign(interface)))
}

/// Takes all queues of ours away; says of which interfaces.
pub(crate) fn leave(netlink: &mut Netlink) -> Result<Vec<String>> {
    let shaped = shaped(netlink)?;
    for interface in &shaped {
        remove_shaper(netlink, interface)?;
    }
    Ok(shaped)
}

/// What is there. A class without its own queue differs from every wanted one, so that it is put again.
pub(super) fn observe(netlink: &mut Netlink) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let queues = queues(netlink)?;
    for interface in shaped(netlink)? {
        let Some(link) = links::find(netlink, &interface)? else { continue };
        let rates = rates(netlink, link.index)?;
        let whole = |number: u16| {
            let own = |queue: &&Queue| queue.interface == link.index && queue.parent == id(number);
            let queued = queues.iter().find(own).is_some_and(|queue| queue.kind == "bfifo");
            let as_made = |class: &Rates| queued && (class.burst, class.prio) == turn(number);
            rates.get(&number).copied().filter(as_made).unwrap_or(NOTHING)
        };
        let top = rates.get(&ROOT).map_or(0, |top| top.rate);
        // Those that are put with the root may use all of it; else it was not put to the end.
        let [control, rest] =
            [CONTROL, REST].map(whole).map(|class| if class.ceil == top { class.rate * 8 } else { 0 });
        let rate = if control == 0 { 0 } else { top * 8 };
        entries.push(Entry::Shaper(Shaper { interface: interface.clone(), rate, rest }));
        for number in rates.keys().copied().filter(|number| ![ROOT, CONTROL, REST].contains(number)) {
            let (interface, Rates { rate, ceil, .. }) = (interface.clone(), whole(number));
            entries.push(Entry::Class(Class { interface, number, rate: rate * 8, ceil: ceil * 8 }));
        }
    }
    Ok(entries)
}

/// A queueing discipline.
struct Queue {
    interface: u32,
    handle: u32,
    parent: u32,
    kind: String,
}

impl Queue {
    fn is_ours(&self) -> bool {
        self.parent == TOP && self.handle == id(0) && self.kind == "htb"
    }

    fn foreign(&self, interface: &str) -> String {
        format!(
            "{interface} has the root queue {} {:x}:, which is not the agent's; take it away or leave `shape` out",
            self.kind,
            self.handle >> 16
        )
    }
}

fn index(netlink: &mut Netlink, interface: &str) -> Result<u32> {
    let link = links::find(netlink, interface)?;
    Ok(link.with_context(|| format!("the interface {interface} does not exist"))?.index)
}

const fn id(number: u16) -> u32 {
    (HANDLE as u32) << 16 | number as u32
}

fn wait(rate: u64) -> u64 {
    rate * WAIT_MILLIS / 1_000
}

fn root(netlink: &mut Netlink, index: u32) -> Result<Option<Queue>> {
    // Before 6.8 only an echo comes to who asked. A root that is not shown (`noop`) is refused as an invalid request.
    match netlink.raw(GET_QDISC, NLM_F_ECHO, &message(index, 0, TOP, &[]))? {
        Ok(answers) => Ok(answers.iter().find_map(|body| queue(body)).filter(|found| found.parent == TOP)),
        Err(refused) if refused.is_missing() || refused.errno == libc::EINVAL => Ok(None),
        Err(refused) => Err(refused.into()),
    }
}

/// Without it HTB would take a class for one beside it.
fn has_root_class(netlink: &mut Netlink, index: u32) -> Result<bool> {
    match netlink.raw(GET_CLASS, NLM_F_ECHO, &message(index, id(ROOT), 0, &[]))? {
        Ok(_) => Ok(true),
        Err(refused) if refused.is_missing() => Ok(false),
        Err(refused) => Err(refused.into()),
    }
}

fn queues(netlink: &mut Netlink) -> Result<Vec<Queue>> {
    let answers = netlink.raw(GET_QDISC, NLM_F_DUMP, &message(0, 0, 0, &[]))??;
    Ok(answers.iter().filter_map(|body| queue(body)).collect())
}

fn queue(body: &[u8]) -> Option<Queue> {
    let kind = attributes(body.get(20..)?).find(|(kind, _)| *kind == KIND)?.1;
    Some(Queue {
        interface: word(body, 4)?,
        handle: word(body, 8)?,
        parent: word(body, 12)?,
        kind: String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned(),
    })
}

/// Of our classes, by number.
fn rates(netlink: &mut Netlink, index: u32) -> Result<BTreeMap<u16, Rates>> {
    let answers = netlink.raw(GET_CLASS, NLM_F_DUMP, &message(index, 0, 0, &[]))??;
    Ok(answers.iter().filter_map(|body| read(body)).collect())
}

fn read(body: &[u8]) -> Option<(u16, Rates)> {
    let handle = word(body, 8)?;
    if handle >> 16 != u32::from(HANDLE) {
        return None;
    }
    let options = attributes(body.get(20..)?).find(|(kind, _)| *kind == OPTIONS)?.1;
    let find = |wanted: u16| attributes(options).find(|(kind, _)| *kind == wanted).map(|(_, bytes)| bytes);
    let parms = find(HTB_PARMS)?;
    let long = |kind: u16| find(kind)?.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    let speed = |kind: u16, at: usize| long(kind).or_else(|| word(parms, at).map(u64::from));
    // Two `struct tc_ratespec` come first, of 12 bytes, each with its rate last.
    let (rate, ceil) = (speed(HTB_RATE64, 8)?, speed(HTB_CEIL64, 20)?);
    let burst = u64::from(word(parms, 24)?) * TICK;
    Some((handle as u16, Rates { rate, ceil, burst, prio: word(parms, 40)? }))
}

fn make_root(netlink: &mut Netlink, index: u32) -> Result<()> {
    // `struct tc_htb_glob`: version 3, rate2quantum, default class, debug, packets sent directly.
    let init: Vec<u8> = [3, 10, u32::from(REST), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let body = message(index, id(0), TOP, &[kind("htb"), attribute(OPTIONS, &attribute(HTB_INIT, &init))]);
    netlink.raw(NEW_QDISC, NLM_F_CREATE | NLM_F_EXCL, &body)?.context("root queue (HTB)")?;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    /// Bytes per second.
    rate: u64,
    ceil: u64,
    /// What it may save of its rate, as time, nanoseconds.
    burst: u64,
    /// Lower goes first, also where what nobody uses is lent.
    prio: u32,
}

const NOTHING: Rates = Rates { rate: 0, ceil: 0, burst: 0, prio: 0 };

impl Rates {
    fn of(number: u16, rate: u64, ceil: u64) -> Self {
        let (burst, prio) = turn(number);
        Self { rate, ceil, burst, prio }
    }
}

/// What a class may save of its rate, and when its turn is where what nobody uses is lent: a circuit that has to make up
/// for a moment comes before the rest.
const fn turn(number: u16) -> (u64, u32) {
    match number {
        ROOT | CONTROL => (BURST_NANOS, 0),
        REST => (BURST_NANOS, 2),
        _ => (HEAP_NANOS, 1),
    }
}

fn class(netlink: &mut Netlink, index: u32, parent: u16, number: u16, rate: u64, ceil: u64) -> Result<()> {
    let rates = Rates::of(number, rate, ceil);
    let mut options = attribute(HTB_PARMS, &parms(rates));
    for (kind, rate) in [(HTB_RATE64, rates.rate), (HTB_CEIL64, rates.ceil)] {
        if rate > u64::from(u32::MAX) {
            options.extend(attribute(kind, &rate.to_ne_bytes()));
        }
    }
    let body = message(index, id(number), id(parent), &[kind("htb"), attribute(OPTIONS, &options)]);
    netlink.raw(NEW_CLASS, NLM_F_CREATE, &body)?.with_context(|| format!("class {number:x}"))?;
    Ok(())
}

/// `struct tc_htb_opt`.
fn parms(rates: Rates) -> Vec<u8> {
    let short = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    let [burst, ceil_burst] = [rates.burst, BURST_NANOS].map(|nanos| (nanos / TICK) as u32);
    // What is lent goes round in turns as long as the rates.
    let quantum = (rates.rate / 1_000).clamp(1_600, 60_000) as u32;
    let mut bytes = Vec::with_capacity(44);
    for rate in [rates.rate, rates.ceil] {
        // `struct tc_ratespec`: Ethernet, so that the kernel asks for no table.
        bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(short(rate).to_ne_bytes());
    }
    bytes.extend([burst, ceil_burst, quantum, 0, rates.prio].into_iter().flat_map(u32::to_ne_bytes));
    bytes
}

fn leaf(netlink: &mut Netlink, index: u32, number: u16, limit: u64) -> Result<()> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let body = message(index, 0, id(number), &[kind("bfifo"), attribute(OPTIONS, &limit.to_ne_bytes())]);
    netlink
        .raw(NEW_QDISC, NLM_F_CREATE | NLM_F_REPLACE, &body)?
        .with_context(|| format!("queue of class {number:x}"))?;
    Ok(())
}

fn gone(answer: Result<Vec<Vec<u8>>, Refused>) -> Result<()> {
    match answer {
        Err(refused) if !refused.is_missing() => Err(refused.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// `struct tcmsg` and attributes.
fn message(index: u32, handle: u32, parent: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend([index, handle, parent, 0].into_iter().flat_map(u32::to_ne_bytes));
    attributes.iter().for_each(|attribute| bytes.extend(attribute));
    bytes
}

fn kind(name: &str) -> Vec<u8> {
    attribute(KIND, format!("{name}\0").as_bytes())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk::<4>().map(|raw| u32::from_ne_bytes(*raw))
}

/// Kinds without flags, and values; what is cut off is left out.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_as_it_is_written() {
        let rates = Rates::of(7, 5_000_000, 12_250_000);
        assert_eq!(parms(rates).len(), 44);
        let options = attribute(OPTIONS, &attribute(HTB_PARMS, &parms(rates)));
        assert_eq!(read(&message(3, id(7), id(ROOT), &[kind("htb"), options])), Some((7, rates)));
        let long = [attribute(HTB_PARMS, &parms(rates)), attribute(HTB_RATE64, &(1u64 << 40).to_ne_bytes())];
        let body = message(3, id(7), id(ROOT), &[attribute(OPTIONS, &long.concat())]);
        assert_eq!(read(&body), Some((7, Rates::of(7, 1 << 40, 12_250_000))));
        assert_eq!(read(&message(3, 0x1_0007, 0, &[])), None, "another's");
    }

    #[test]
    fn drops_of_a_class_are_read() {
        let queue: Vec<u8> = [0u32, 0, 9, 0, 4].into_iter().flat_map(u32::to_ne_bytes).collect();
        let stats = attribute(STATS, &attribute(STATS_QUEUE, &queue));
        let body = message(3, id(7), id(ROOT), &[kind("htb"), stats.clone()]);
        assert_eq!(drops(&body), Some((7, 9)));
        assert_eq!(drops(&message(3, 0x1_0007, 0, &[stats])), None, "another's");
        assert_eq!(drops(&message(3, id(7), id(ROOT), &[kind("htb")])), None);
    }

    #[test]
    fn cut_messages_are_left_out() {
        let body = message(3, id(0), TOP, &[kind("htb")]);
        assert!(queue(&body).is_some_and(|queue| queue.is_ours()));
        for length in 0..body.len() - 4 {
            assert!(queue(&body[..length]).is_none(), "{length}");
        }
    }
}
