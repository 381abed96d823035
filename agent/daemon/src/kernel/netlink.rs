//! Speaks rtnetlink synchronously: several requests in one system call, every one with its own answer.
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use tracing::debug;

/// One socket; it belongs to the network namespace in which it was opened, whichever thread uses it. An open one keeps
/// its namespace alive, so those of workloads are closed after each use.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What the kernel answered instead of doing it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    pub(crate) errno: i32,
    text: String,
}

impl Refused {
    /// Of a dump: what it read changed under way, so that parts may be missing or there twice (`NLM_F_DUMP_INTR`).
    fn torn() -> Self {
        Self { errno: libc::EAGAIN, text: format!("what was read changed under way, {READS} times in a row") }
    }

    fn is_torn(&self) -> bool {
        self.errno == libc::EAGAIN
    }

    pub(crate) fn is_missing(&self) -> bool {
        [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL].contains(&self.errno)
    }
}

/// A request; `flags` beside `NLM_F_REQUEST`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

pub(crate) type Answer = Result<Vec<RouteNetlinkMessage>, Refused>;

/// How often something is read that changes each time.
const READS: usize = 10;
/// What the kernel fills one answer of a dump with at most (`NLMSG_GOODSIZE` and `max_recvmsg_len`).
const BUFFER: usize = 32 * 1024;

impl Netlink {
    /// # Errors
    /// When no socket could be made.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Errors then carry the kernel's own sentence, and not our request again. Strict checks make dumps filter.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends all requests at once. The kernel performs them in order, also after one has failed.
    ///
    /// # Errors
    /// When the socket failed; refusals are in the answers.
    pub(crate) fn transact(&mut self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let count = requests.len();
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            append(&mut bytes, request, self.sequence);
        }
        self.socket.send(&bytes, 0)?;
        self.collect(first, count)
    }

    /// One request with one answer.
    ///
    /// # Errors
    /// When the socket failed, or the kernel refused.
    pub(crate) fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> anyhow::Result<Answer> {
        let mut answers = self.transact(vec![Request { message, flags }])?;
        Ok(answers.pop().unwrap_or_else(|| Ok(Vec::new())))
    }

    /// What changes while it is read is read again.
    ///
    /// # Errors
    /// When the socket failed, the kernel refused, or it changed each time.
    pub(crate) fn dump(&mut self, message: RouteNetlinkMessage) -> anyhow::Result<Vec<RouteNetlinkMessage>> {
        let mut outcome = self.ask(message.clone(), NLM_F_DUMP)?;
        for _ in 1..READS {
            if !outcome.as_ref().is_err_and(Refused::is_torn) {
                break;
            }
            outcome = self.ask(message.clone(), NLM_F_DUMP)?;
        }
        Ok(outcome?)
    }

    /// To which nothing answers.
    #[cfg(test)]
    pub(crate) fn deaf() -> io::Result<Self> {
        let socket = Socket::new(netlink_sys::protocols::NETLINK_KOBJECT_UEVENT)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// One request in bytes, for messages that the parser does not know; the answer's bodies, after their headers.
    ///
    /// # Errors
    /// When the socket failed; what the kernel refused is inside.
    pub(crate) fn raw(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> io::Result<Result<Vec<Vec<u8>>, Refused>> {
        self.sequence = self.sequence.wrapping_add(1);
        let ack = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        let length = u32::try_from(body.len() + HEADER).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(body.len() + HEADER);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | ack | flags).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        self.socket.send(&bytes, 0)?;
        let mut bodies = Vec::new();
        loop {
            self.buffer.clear();
            let length = self.socket.recv(&mut self.buffer, 0)?;
            if length > self.buffer.len() {
                return Err(io::Error::other(format!("a netlink answer of {length} bytes was cut off")));
            }
            if let Some(end) = gather(&self.buffer, self.sequence, &mut bodies) {
                return Ok(end.map(|()| bodies));
            }
        }
    }

    fn collect(&mut self, first: u32, count: usize) -> io::Result<Vec<Answer>> {
        let mut parts: BTreeMap<u32, Vec<RouteNetlinkMessage>> = BTreeMap::new();
        let mut done: BTreeMap<u32, Answer> = BTreeMap::new();
        let mut interrupted = BTreeSet::new();
        while done.len() < count {
            self.buffer.clear();
            let length = self.socket.recv(&mut self.buffer, 0)?;
            if length > self.buffer.len() {
                return Err(io::Error::other(format!("a netlink answer of {length} bytes was cut off")));
            }
            for message in split(&self.buffer) {
                let slot = message.header.sequence_number.wrapping_sub(first);
                if slot as usize >= count {
                    continue;
                }
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    interrupted.insert(slot);
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => parts.entry(slot).or_default().push(inner),
                    NetlinkPayload::Error(error) => {
                        let answer = match error.code {
                            None => Ok(parts.remove(&slot).unwrap_or_default()),
                            Some(code) => Err(refused(code.get().abs(), &error.header)),
                        };
                        done.insert(slot, answer);
                    }
                    NetlinkPayload::Done(_) => {
                        let seen = parts.remove(&slot).unwrap_or_default();
                        let whole = !interrupted.contains(&slot);
                        done.insert(slot, if whole { Ok(seen) } else { Err(Refused::torn()) });
                    }
                    NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
                    _ => {}
                }
            }
        }
        Ok(done.into_values().collect())
    }
}

/// Of `struct nlmsghdr`.
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Takes the bodies of one datagram; the end of the answer, when it is there.
fn gather(mut bytes: &[u8], sequence: u32, bodies: &mut Vec<Vec<u8>>) -> Option<Result<(), Refused>> {
    while let Some(head) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let ours = head[8..12] == sequence.to_ne_bytes();
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        match kind {
            _ if !ours => {}
            DONE => return Some(Ok(())),
            ERROR => {
                let code = body.first_chunk::<4>().map_or(0, |raw| i32::from_ne_bytes(*raw));
                let rest = body.get(4..).unwrap_or_default();
                return Some(if code == 0 { Ok(()) } else { Err(refused(code.abs(), rest)) });
            }
            _ => bodies.push(body.to_vec()),
        }
    }
    None
}

fn append(bytes: &mut Vec<u8>, request: Request, sequence: u32) {
    let mut header = NetlinkHeader::default();
    // A dump ends by itself; everything else is acknowledged.
    let ack = if request.flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
    header.flags = NLM_F_REQUEST | ack | request.flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// The messages of one datagram; one that the parser does not understand is left out.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>().map(|raw| u32::from_ne_bytes(*raw) as usize) {
        if length < 16 || length > bytes.len() {
            break;
        }
        match NetlinkMessage::deserialize(&bytes[..length]) {
            Ok(message) => messages.push(message),
            Err(error) => debug!(%error, "netlink message not understood"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// `rest` is the header of the refused request, then attributes (`NLMSGERR_ATTR_*`), the first of which is a sentence.
fn refused(errno: i32, rest: &[u8]) -> Refused {
    let system = io::Error::from_raw_os_error(errno);
    let mut attributes = rest.get(16..).unwrap_or_default();
    while let Some(head) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let Some(value) = attributes.get(4..length) else { break };
        if kind == 1 {
            let text = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
            return Refused { errno, text: format!("{system}: {text}") };
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Refused { errno, text: system.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_kernels_sentence() {
        let mut rest = vec![0u8; 16];
        rest.extend_from_slice(&9u16.to_ne_bytes());
        rest.extend_from_slice(&1u16.to_ne_bytes());
        rest.extend_from_slice(b"nope\0\0\0\0");
        let refusal = refused(libc::EPERM, &rest);
        assert_eq!(refusal.errno, libc::EPERM);
        assert!(refusal.to_string().ends_with(": nope"), "{refusal}");
    }

    #[test]
    fn cut_attributes_do_not_confuse_the_reader() {
        for length in 0..24 {
            let rest = vec![0xffu8; length];
            assert_eq!(refused(libc::EINVAL, &rest).errno, libc::EINVAL);
        }
    }

    #[test]
    fn cut_messages_are_left_out() {
        assert!(split(&[1, 2, 3]).is_empty());
        assert!(split(&[255, 0, 0, 0, 1, 2]).is_empty());
        assert!(split(&[0; 64]).is_empty());
    }
}
