//! The two threads of encryption: one takes packets and gives messages, the other takes messages and gives packets.
use super::Table;
use super::circuit::Opened;
use super::taps::Tap;
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
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};
use zerocopy::IntoBytes;

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of the longest frame that a TAP interface gives.
const FRAME: usize = HEAD + 65_536;

pub(super) struct Devices {
    pub(super) plain: Tap,
    pub(super) cipher: Tap,
    pub(super) stop: EventFd,
}

impl Devices {
    /// Waits for something to read. False: it is time to stop.
    fn wait(&self, tap: &Tap, timeout: PollTimeout) -> bool {
        let mut fds =
            [PollFd::new(tap.as_fd(), PollFlags::POLLIN), PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, timeout);
        !fds[1].any().unwrap_or(false)
    }
}

/// Messages on their way out.
struct Messages<'a> {
    cipher: &'a Tap,
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

fn give(tap: &Tap, frame: &[u8]) {
    if let Err(error) = tap.write(frame) {
        debug!(%error, length = frame.len(), "a frame was not taken");
    }
}

/// Has the program count a packet that was dropped here: there is one door out.
fn refuse(tap: &Tap, tag: &Tag, reason: Reason) {
    let mut frame = [0; HEAD];
    let refusal = Tag::refused(tag.index(), tag.circuit(), reason as u16);
    frame[virtio::LENGTH..].copy_from_slice(refusal.as_bytes());
    give(tap, &frame);
}

/// Until it is told to stop.
pub(super) fn encrypt(devices: &Arc<Devices>, table: &Table) {
    let mut frame = vec![0; FRAME];
    let mut out = Messages { cipher: &devices.cipher, packed: Packed::default() };
    while devices.wait(&devices.plain, PollTimeout::NONE) {
        while let Some(length) = read(&devices.plain, &mut frame) {
            seal(&mut frame[..length], table, &mut out);
        }
        out.write();
    }
}

fn read(tap: &Tap, frame: &mut [u8]) -> Option<usize> {
    tap.read(frame).unwrap_or_else(|error| {
        warn!(%error, "cannot read from a TAP interface");
        None
    })
}

fn seal(frame: &mut [u8], table: &Table, out: &mut Messages<'_>) {
    let Some((header, tag, packet)) = message::split(frame) else { return };
    // What the kernel itself says on the interface has no such tag.
    let Some(circuit) = (tag.mark == Tag::PACKET).then(|| table.get(tag.circuit())).flatten() else { return };
    let mut circuit = circuit.lock().unwrap_or_else(PoisonError::into_inner);
    let (index, number) = (circuit.seal.slot, tag.circuit());
    let mut dropped = 0;
    let done = cut(&header, packet, |packet| {
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
    plain: &'a Tap,
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

/// Until it is told to stop; keeps the timers, too.
pub(super) fn decrypt(devices: &Arc<Devices>, table: &Table) {
    let mut frame = BytesMut::zeroed(FRAME);
    let mut packets = Packets { plain: &devices.plain, joined: Joined::default() };
    let mut messages = Messages { cipher: &devices.cipher, packed: Packed::default() };
    let mut due = Instant::now();
    while devices.wait(&devices.cipher, PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO)) {
        while let Some(length) = read(&devices.cipher, &mut frame) {
            open(&mut frame, length, table, &mut packets, &mut messages);
            if Instant::now() >= due {
                break;
            }
        }
        packets.write();
        if Instant::now() >= due {
            due = Instant::now() + TICK;
            tick(table, &mut messages);
        }
        messages.write();
    }
}

fn tick(table: &Table, messages: &mut Messages<'_>) {
    for (number, circuit) in table.all() {
        let mut circuit = circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let index = circuit.seal.slot;
        circuit.tick(&mut |message| messages.put(index, number, message));
    }
}

fn open(
    frame: &mut BytesMut,
    length: usize,
    table: &Table,
    packets: &mut Packets<'_>,
    messages: &mut Messages<'_>,
) {
    let Some((header, tag, packet)) = message::split(&mut frame[..length]) else { return };
    let Some(circuit) = (tag.mark == Tag::PACKET).then(|| table.get(tag.circuit())).flatten() else { return };
    let Some((range, size)) = message::messages(&header, packet) else {
        return refuse(packets.plain, &tag, Reason::SealBroken);
    };
    let mut circuit = circuit.lock().unwrap_or_else(PoisonError::into_inner);
    let index = circuit.seal.slot;
    for bytes in packet[range].chunks(size) {
        match circuit.open(BytesMut::from(bytes)) {
            Opened::Packet(packet) => deliver(&tag, &packet, packets),
            Opened::Answer(answer) => {
                messages.put(index, tag.circuit(), &answer);
                circuit.flush(&mut |message| messages.put(index, tag.circuit(), message));
            }
            Opened::Nothing => circuit.flush(&mut |message| messages.put(index, tag.circuit(), message)),
            Opened::Broken => refuse(packets.plain, &tag, Reason::SealBroken),
        }
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
