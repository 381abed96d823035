//! The two threads of encryption: one takes packets and gives messages, the other takes messages and gives packets.
use super::circuit::Opened;
use super::former::Former;
use super::frames::{Frames, Read};
use super::table::{Shared, Table};
use agent_core::seal::cut::cut;
use agent_core::seal::join::{self, Joined};
use agent_core::seal::message::{self, Packed, Pushed};
use agent_core::seal::virtio;
use agent_core::seal::{HEAD, Ip, TAG};
use bytes::BytesMut;
use ebpf_abi::Reason;
use ebpf_abi::seal::Tag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use zerocopy::IntoBytes;

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long packets wait for timers, and timers for packets.
const SLICE: Duration = Duration::from_millis(2);
/// Frames after which is looked whether it is time to stop.
const BATCH: usize = 256;
/// Bytes of the longest frame that a TAP interface gives.
const FRAME: usize = HEAD + 65_536;

pub(super) struct Devices {
    /// Where frames are read: the interfaces, or what a successor passes on.
    pub(super) from_plain: Frames,
    pub(super) from_cipher: Frames,
    /// The interfaces.
    pub(super) plain: Frames,
    pub(super) cipher: Frames,
    pub(super) stop: EventFd,
    pub(super) former: Option<Arc<Former>>,
}

impl Devices {
    /// Waits for something to read. False: it is time to stop.
    fn wait(&self, source: &Frames, timeout: PollTimeout) -> bool {
        let mut fds = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, timeout);
        !fds[1].any().unwrap_or(false)
    }

    /// While one is being relieved.
    pub(super) fn former(&self) -> Option<&Former> {
        self.former.as_deref().filter(|former| former.is_there())
    }
}

/// Messages on their way out.
struct Messages<'a> {
    cipher: &'a Frames,
    packed: Packed,
}

impl Messages<'_> {
    fn put(&mut self, index: u32, circuit: u64, message: &[u8]) {
        if self.packed.push(index, circuit, message) == Pushed::Full {
            self.write();
            let _ = self.packed.push(index, circuit, message);
        }
    }

    fn write(&mut self) {
        if let Some(frame) = self.packed.take() {
            give(self.cipher, frame);
        }
    }
}

fn give(tap: &Frames, frame: &[u8]) {
    if let Err(error) = tap.write(frame) {
        debug!(%error, length = frame.len(), "a frame was not taken");
    }
}

/// Has the program count a packet that was dropped here: there is one door out.
fn refuse(tap: &Frames, tag: &Tag, reason: Reason) {
    let mut frame = [0; HEAD];
    let refusal = Tag::refused(tag.index(), tag.circuit(), reason as u16);
    frame[virtio::LENGTH..].copy_from_slice(refusal.as_bytes());
    give(tap, &frame);
}

/// Until it is told to stop, or nothing can come any more.
pub(super) fn encrypt(devices: &Devices, table: &Table) {
    let mut frame = vec![0; FRAME];
    let mut out = Messages { cipher: &devices.cipher, packed: Packed::default() };
    let mut more = true;
    while more && devices.wait(&devices.from_plain, PollTimeout::NONE) {
        for _ in 0..BATCH {
            let Some(length) = read(&devices.from_plain, &mut frame, &mut more) else { break };
            seal(&mut frame[..length], table, devices.former(), &mut out);
        }
        out.write();
    }
}

fn read(source: &Frames, frame: &mut [u8], more: &mut bool) -> Option<usize> {
    match source.read(frame) {
        Ok(Read::Frame(length)) => Some(length),
        Ok(Read::Nothing) => None,
        Ok(Read::Gone) => {
            *more = false;
            None
        }
        Err(error) => {
            warn!(%error, "cannot read from a TAP interface");
            None
        }
    }
}

fn seal(frame: &mut [u8], table: &Table, former: Option<&Former>, out: &mut Messages<'_>) {
    let Some((header, tag, _)) = message::split(frame) else { return };
    // What the kernel itself says on the interface has no such tag.
    if tag.mark != Tag::PACKET {
        return;
    }
    if let Some(former) = former
        && former.keeps(tag.circuit(), table)
    {
        return former.packet(frame);
    }
    let Some(circuit) = table.get(tag.circuit()) else {
        return refuse(out.cipher, &tag, Reason::NoSealSession);
    };
    let mut circuit = circuit.lock();
    let (index, number) = (circuit.seal.slot, tag.circuit());
    let mut dropped = 0;
    let done = cut(&header, &mut frame[HEAD..], |packet| {
        let taken = circuit.seal(packet, &mut |message| out.put(index, number, message));
        dropped += u32::from(!taken);
    });
    if done.is_err() {
        refuse(out.cipher, &tag, Reason::MalformedIp);
    }
    (0..dropped).for_each(|_| refuse(out.cipher, &tag, Reason::NoSealSession));
}

/// Packets on their way to the workloads.
struct Packets<'a> {
    plain: &'a Frames,
    joined: Joined,
}

impl Packets<'_> {
    fn put(&mut self, tag: &Tag, packet: &[u8]) {
        if self.joined.push(tag, packet) == join::Pushed::Full {
            self.write();
            let _ = self.joined.push(tag, packet);
        }
    }

    fn write(&mut self) {
        if let Some(frame) = self.joined.take() {
            give(self.plain, frame);
        }
    }
}

/// As [`encrypt`]; keeps the timers, too.
pub(super) fn decrypt(devices: &Devices, table: &Table) {
    let mut frame = BytesMut::zeroed(FRAME);
    let mut packets = Packets { plain: &devices.plain, joined: Joined::default() };
    let mut messages = Messages { cipher: &devices.cipher, packed: Packed::default() };
    let mut round = Round { left: Vec::new(), due: Instant::now(), remind: false };
    let mut more = true;
    while more && devices.wait(&devices.from_cipher, round.patience()) {
        let pause = round.pause();
        while let Some(length) = read(&devices.from_cipher, &mut frame, &mut more) {
            open(&mut frame[..length], table, devices.former(), &mut packets, &mut messages);
            if Instant::now() >= pause {
                break;
            }
        }
        packets.write();
        round.go_on(table, devices.former(), &mut messages);
        messages.write();
    }
}

/// A look at the timers of all circuits. With many, beginning handshakes takes seconds: it is done in slices, so that
/// packets do not wait longer than one.
struct Round {
    left: Vec<(u64, Shared)>,
    /// When the next one begins.
    due: Instant,
    /// The far ends are shown the sessions in use.
    remind: bool,
}

impl Round {
    /// How long may be waited for packets.
    fn patience(&self) -> PollTimeout {
        let patience = if self.left.is_empty() { TICK } else { Duration::ZERO };
        PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO)
    }

    /// Until when packets come first.
    fn pause(&self) -> Instant {
        if self.left.is_empty() { self.due } else { Instant::now() + SLICE }
    }

    fn go_on(&mut self, table: &Table, former: Option<&Former>, messages: &mut Messages<'_>) {
        let now = Instant::now();
        if self.left.is_empty() && now >= self.due {
            self.due = now + TICK;
            self.left = table.all();
            self.remind = former.is_some_and(|former| former.tick(table));
        }
        while let Some((number, circuit)) = self.left.pop() {
            let mut circuit = circuit.lock();
            let index = circuit.seal.slot;
            circuit.tick(&mut |message| messages.put(index, number, message));
            if self.remind {
                circuit.remind(&mut |message| messages.put(index, number, message));
            }
            if now.elapsed() > SLICE {
                break;
            }
        }
    }
}

fn open(
    frame: &mut [u8],
    table: &Table,
    former: Option<&Former>,
    packets: &mut Packets<'_>,
    messages: &mut Messages<'_>,
) {
    let Some((header, tag, packet)) = message::split(frame) else { return };
    if tag.mark != Tag::PACKET {
        return;
    }
    let Some((range, size)) = message::messages(&header, packet) else {
        return refuse(packets.plain, &tag, Reason::SealBroken);
    };
    let Some(circuit) = table.get(tag.circuit()) else {
        // Not told of here yet, or no longer.
        let Some(former) = former else { return refuse(packets.plain, &tag, Reason::NoSealSession) };
        return packet[range].chunks(size).for_each(|bytes| former.message(&tag, bytes));
    };
    let mut circuit = circuit.lock();
    let index = circuit.seal.slot;
    let mut formers = Vec::new();
    for bytes in packet[range].chunks(size) {
        if former.is_some() && !circuit.owns(bytes) {
            formers.push(bytes);
            continue;
        }
        match circuit.open(BytesMut::from(bytes)) {
            Opened::Packet(packet) => deliver(&tag, &packet, packets),
            Opened::Answer(answer) => {
                messages.put(index, tag.circuit(), &answer);
                // The other thread seals by this session as soon as it can: what it sends would be unknown there without the answer.
                messages.write();
                circuit.flush(&mut |message| messages.put(index, tag.circuit(), message));
            }
            Opened::Nothing => circuit.flush(&mut |message| messages.put(index, tag.circuit(), message)),
            Opened::Broken => refuse(packets.plain, &tag, Reason::SealBroken),
        }
    }
    // The former one may take its time; nobody waits for the circuit meanwhile.
    drop(circuit);
    if let Some(former) = former {
        formers.into_iter().for_each(|bytes| former.message(&tag, bytes));
    }
}

/// Without its padding, under a tag that says which family it is of.
fn deliver(tag: &Tag, packet: &[u8], packets: &mut Packets<'_>) {
    let Some(ip) = Ip::of(packet) else { return refuse(packets.plain, tag, Reason::MalformedIp) };
    let ethertype = if ip.v6 { 0x86dd } else { 0x0800 };
    let tag = Tag::packet(tag.index(), tag.circuit(), ethertype);
    packets.put(&tag, &packet[..ip.length]);
}

const _: () = assert!(TAG == 14);
