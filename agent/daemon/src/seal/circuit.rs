//! One end of an encrypted circuit: a WireGuard tunnel per pair of keys, of which the newest that works is used.
use super::Timing;
use super::keys::Keys;
use agent_core::kernel_state::Seal;
use bytes::BytesMut;
use gotatun::noise::errors::WireGuardError;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519::{PublicKey, StaticSecret};
use proto_model::SealKey;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets that wait for the first session. At the bound more are dropped, and counted.
const WAITING: usize = 256;
/// Handshakes of one far end that are answered in a second; beyond that it has to prove its address (cookies).
const HANDSHAKES: u64 = 20;
/// The far end is known by its circuit, not by an address.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

pub(super) struct Circuit {
    pub(super) seal: Seal,
    /// The most wanted first: the newest key here with the newest there.
    pairs: Vec<Pair>,
    waiting: VecDeque<Vec<u8>>,
    /// Until then sessions are agreed on although no packet waits for them: the far end may still use those of an agent
    /// that is gone, and cannot know it.
    eager: Instant,
    /// Another sealer agrees on sessions now; this one uses up those that it has.
    retired: bool,
}

/// How long.
const EAGER: Duration = Duration::from_secs(30);

struct Pair {
    local: SealKey,
    remote: SealKey,
    tunn: Tunn,
    limiter: Arc<RateLimiter>,
    indices: IndexTable,
    timing: Timing,
    /// The far end is known to have the newest session's key.
    confirmed: bool,
}

/// What came of a message.
pub(super) enum Opened {
    /// A packet of the workload at the other end.
    Packet(Packet),
    /// To be sent to the other end.
    Answer(Packet),
    Nothing,
    /// It does not decrypt: damaged, replayed, or meant for other keys.
    Broken,
}

impl Circuit {
    pub(super) fn new(seal: Seal, keys: &Keys, timing: Timing) -> Self {
        let eager = Instant::now() + EAGER;
        let mut circuit =
            Self { seal: seal.clone(), pairs: Vec::new(), waiting: VecDeque::new(), eager, retired: false };
        circuit.renew(seal, keys, timing);
        circuit
    }

    /// Keys or labels have changed: what goes on is kept, with its sessions.
    pub(super) fn renew(&mut self, seal: Seal, keys: &Keys, timing: Timing) {
        let mut former = std::mem::take(&mut self.pairs);
        for (secret, local) in keys.secrets.iter().zip(keys.public()) {
            for remote in &seal.keys {
                let kept = former.iter().position(|pair| (pair.local, pair.remote) == (local, *remote));
                let pair = match kept {
                    Some(at) => former.swap_remove(at).timed(timing),
                    None => Pair::new(secret, local, *remote, timing),
                };
                self.pairs.push(pair);
            }
        }
        self.seal = seal;
    }

    /// Whether there are keys that packets can be encrypted with.
    pub(super) fn has_session(&self) -> bool {
        self.pairs.iter().any(Pair::has_session)
    }

    /// Whether there are keys that the far end is known to have.
    pub(super) fn is_confirmed(&self) -> bool {
        self.pairs.iter().any(|pair| pair.confirmed && pair.has_session())
    }

    /// Whether a message is meant for this end of the circuit, and not for another sealer that has the same keys.
    pub(super) fn owns(&self, message: &[u8]) -> bool {
        // Where the receiver's index stands, by the type of message (WireGuard, §5.4 of its paper).
        let at = match message.first() {
            Some(2) => 8,
            Some(3 | 4) => 4,
            // Whoever begins a handshake knows no index yet.
            _ => return true,
        };
        let Some(index) = message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) else {
            return true;
        };
        let index = u32::from_le_bytes(index);
        self.pairs.iter().any(|pair| pair.indices.in_use(index))
    }

    /// From now on no session is agreed on here any more.
    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    /// An empty message by the session in use: a far end that has not heard of it yet uses it from then on.
    pub(super) fn remind(&mut self, out: &mut impl FnMut(&[u8])) {
        let pair = self.pairs.iter_mut().find(|pair| pair.confirmed && pair.has_session());
        if let Some(pair) = pair
            && let Ok(message) = pair.tunn.encapsulate_with_session(Packet::from_bytes(BytesMut::new()))
        {
            out(&message.into_bytes());
        }
    }

    /// Handshakes that bring about the most wanted session; until there is any, those for all pairs, as it is not known
    /// which keys the far end has heard of.
    pub(super) fn begin(&mut self) -> Vec<Packet> {
        if self.retired {
            return Vec::new();
        }
        let any = self.pairs.iter().any(Pair::has_session);
        let wanted = self.pairs.iter_mut().take(if any { 1 } else { usize::MAX });
        let begin = |pair: &mut Pair| match pair.has_session() {
            true => None,
            false => pair.tunn.format_handshake_initiation(false).map(Packet::from),
        };
        wanted.filter_map(begin).collect()
    }

    /// Encrypts a packet, or keeps it until there is a session. False: it was dropped.
    pub(super) fn seal(&mut self, packet: &[u8], out: &mut impl FnMut(&[u8])) -> bool {
        if !self.pairs.first().is_some_and(Pair::has_session) {
            self.begin().iter().for_each(|message| out(message));
        }
        match self.encrypt(packet) {
            Some(message) => {
                out(&message);
                true
            }
            None => {
                let room = self.waiting.len() < WAITING;
                if room {
                    self.waiting.push_back(packet.to_vec());
                }
                room
            }
        }
    }

    fn encrypt(&mut self, packet: &[u8]) -> Option<Packet> {
        let padded = packet.len().next_multiple_of(16).min(usize::from(self.seal.mtu)).max(packet.len());
        let mut bytes = BytesMut::with_capacity(padded);
        bytes.extend_from_slice(packet);
        bytes.resize(padded, 0);
        let mut plain = Packet::from_bytes(bytes);
        // A session that the far end may not have yet only when there is no other.
        for confirmed in [true, false] {
            for pair in self.pairs.iter_mut().filter(|pair| pair.confirmed == confirmed) {
                match pair.tunn.encapsulate_with_session(plain) {
                    Ok(message) => return Some(message.into_bytes()),
                    Err(back) => plain = back,
                }
            }
        }
        None
    }

    /// What waited, once there is a session.
    pub(super) fn flush(&mut self, out: &mut impl FnMut(&[u8])) {
        while let Some(packet) = self.waiting.pop_front() {
            match self.encrypt(&packet) {
                Some(message) => out(&message),
                None => return self.waiting.push_front(packet),
            }
        }
    }

    /// Decrypts a message, or answers it.
    pub(super) fn open(&mut self, bytes: BytesMut) -> Opened {
        let Ok(message) = Packet::from_bytes(bytes).try_into_wg() else { return Opened::Broken };
        match message {
            WgKind::Data(data) => {
                let index = data.header.receiver_idx.get();
                let Some(pair) = self.pairs.iter_mut().find(|pair| pair.indices.in_use(index)) else {
                    return Opened::Broken;
                };
                match pair.tunn.handle_incoming_packet(WgKind::Data(data)) {
                    TunnResult::WriteToTunnel(packet) => {
                        pair.confirmed = true;
                        if packet.is_empty() { Opened::Nothing } else { Opened::Packet(packet) }
                    }
                    TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => Opened::Broken,
                }
            }
            other => self.agree(&Packet::from(other)),
        }
    }

    /// A message of a handshake: of whichever pair of keys it is.
    fn agree(&mut self, message: &[u8]) -> Opened {
        if self.retired {
            return Opened::Nothing;
        }
        for pair in &mut self.pairs {
            match pair.agree(message) {
                Ok(opened) => return opened,
                Err(_) => continue,
            }
        }
        Opened::Broken
    }

    /// What time brings: new handshakes, keepalives. To be called every 100 ms or so.
    pub(super) fn tick(&mut self, out: &mut impl FnMut(&[u8])) {
        if self.retired {
            return;
        }
        for pair in &mut self.pairs {
            match pair.tunn.update_timers() {
                Ok(Some(message)) => out(&Packet::from(message)),
                Ok(None) => {}
                // No answer for long: the next packet tries again.
                Err(_) => pair.confirmed = false,
            }
        }
        let wanted = !self.waiting.is_empty() || Instant::now() < self.eager;
        if wanted && !self.pairs.iter().any(Pair::has_session) {
            self.begin().iter().for_each(|message| out(message));
        }
        self.flush(out);
    }
}

impl Pair {
    fn new(secret: &StaticSecret, local: SealKey, remote: SealKey, timing: Timing) -> Self {
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(local.0), HANDSHAKES));
        let indices = IndexTable::from_os_rng();
        let far = PublicKey::from(remote.0);
        let mut tunn = Tunn::new(secret.clone(), far, None, None, indices.clone(), limiter.clone());
        tunn.dangerously_set_timer_params(timing.params());
        Self { local, remote, tunn, limiter, indices, timing, confirmed: false }
    }

    fn timed(mut self, timing: Timing) -> Self {
        if self.timing != timing {
            self.tunn.dangerously_set_timer_params(timing.params());
            self.timing = timing;
        }
        self
    }

    fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn agree(&mut self, message: &[u8]) -> Result<Opened, WireGuardError> {
        let copy = Packet::from_bytes(BytesMut::from(message));
        let verified = match self.limiter.verify_packet(ANY, copy) {
            Ok(verified) => verified,
            Err(TunnResult::WriteToNetwork(cookie)) => return Ok(Opened::Answer(cookie.into())),
            Err(TunnResult::Err(error)) => return Err(error),
            Err(TunnResult::Done | TunnResult::WriteToTunnel(_)) => return Ok(Opened::Nothing),
        };
        let initiated = matches!(verified, WgKind::HandshakeResp(_));
        match self.tunn.handle_incoming_packet(verified) {
            TunnResult::WriteToNetwork(answer) => {
                // Who answered has the key; who asked shows it by its first message.
                self.confirmed |= initiated;
                Ok(Opened::Answer(answer.into()))
            }
            TunnResult::Done | TunnResult::WriteToTunnel(_) => Ok(Opened::Nothing),
            TunnResult::Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_390;

    fn seal(keys: &Keys) -> Seal {
        Seal { circuit: 7, keys: keys.public(), slot: 9, mtu: MTU }
    }

    /// Two ends, and what is on its way to each of them.
    struct Ends {
        ends: [Circuit; 2],
        towards: [VecDeque<Vec<u8>>; 2],
        delivered: [Vec<Vec<u8>>; 2],
        broken: usize,
    }

    impl Ends {
        fn new(here: &Keys, there: &Keys) -> Self {
            let end = |own: &Keys, far: &Keys| Circuit::new(seal(far), own, Timing::default());
            let ends = [end(here, there), end(there, here)];
            Self { ends, towards: Default::default(), delivered: Default::default(), broken: 0 }
        }

        fn send(&mut self, from: usize, packet: &[u8]) -> bool {
            let towards = &mut self.towards[1 - from];
            self.ends[from].seal(packet, &mut |message| towards.push_back(message.to_vec()))
        }

        /// Until nothing is on its way any more.
        fn settle(&mut self) {
            while let Some(at) = (0..2).find(|at| !self.towards[*at].is_empty()) {
                let message = self.towards[at].pop_front().expect("not empty");
                self.take(at, &message);
            }
        }

        fn take(&mut self, at: usize, message: &[u8]) {
            match self.ends[at].open(BytesMut::from(message)) {
                Opened::Packet(packet) => self.delivered[at].push(packet.to_vec()),
                Opened::Answer(answer) => self.towards[1 - at].push_back(answer.to_vec()),
                Opened::Nothing => {}
                Opened::Broken => self.broken += 1,
            }
            let towards = &mut self.towards[1 - at];
            self.ends[at].flush(&mut |message| towards.push_back(message.to_vec()));
        }
    }

    fn keys() -> Keys {
        Keys::generate().expect("random numbers")
    }

    fn rotated(keys: &Keys) -> Keys {
        let new = keys_of(&[self::keys(), keys.clone()]);
        Keys { secrets: new.secrets[..2].to_vec() }
    }

    fn keys_of(all: &[Keys]) -> Keys {
        Keys { secrets: all.iter().flat_map(|keys| keys.secrets.clone()).collect() }
    }

    #[test]
    fn what_is_sent_before_there_is_a_session_waits_for_it() {
        let mut ends = Ends::new(&keys(), &keys());
        for i in 0..20 {
            assert!(ends.send(0, &[i; 100]));
        }
        assert!(ends.delivered[1].is_empty());
        ends.settle();
        let first: Vec<u8> = ends.delivered[1].iter().map(|packet| packet[0]).collect();
        assert_eq!(first, (0..20).collect::<Vec<u8>>());
        assert!(ends.send(1, &[9; 5]));
        ends.settle();
        assert_eq!(ends.delivered[0], [[&[9; 5][..], &[0; 11]].concat()], "padded to 16 bytes");
        assert_eq!(ends.broken, 0);
    }

    #[test]
    fn padding_never_makes_a_packet_longer_than_the_circuit_carries() {
        let mut ends = Ends::new(&keys(), &keys());
        assert!(ends.send(0, &[1; MTU as usize]));
        ends.settle();
        assert_eq!(ends.delivered[1][0].len(), usize::from(MTU));
    }

    #[test]
    fn no_more_than_some_packets_wait() {
        let mut ends = Ends::new(&keys(), &keys());
        let taken = (0..WAITING + 5).filter(|_| ends.send(0, &[1; 100])).count();
        assert_eq!(taken, WAITING);
    }

    #[test]
    fn with_a_wrong_key_nothing_is_ever_delivered() {
        let (here, there) = (keys(), keys());
        let mut ends = Ends::new(&here, &there);
        // The far end expects somebody else.
        ends.ends[1] = Circuit::new(seal(&keys()), &there, Timing::default());
        for _ in 0..10 {
            ends.send(0, &[1; 100]);
            ends.settle();
            ends.send(1, &[2; 100]);
            ends.settle();
        }
        assert_eq!(ends.delivered, [Vec::<Vec<u8>>::new(), Vec::new()]);
        assert!(ends.broken > 0);
    }

    #[test]
    fn what_is_damaged_or_repeated_is_not_delivered() {
        let mut ends = Ends::new(&keys(), &keys());
        ends.send(0, &[1; 100]);
        ends.settle();
        ends.send(0, &[2; 100]);
        let message = ends.towards[1].pop_front().expect("a message");
        let mut damaged = message.clone();
        damaged[40] ^= 1;
        ends.take(1, &damaged);
        assert_eq!((ends.delivered[1].len(), ends.broken), (1, 1));
        ends.take(1, &message);
        ends.take(1, &message);
        assert_eq!((ends.delivered[1].len(), ends.broken), (2, 2), "once only");
    }

    #[test]
    fn other_keys_of_a_host_cost_no_packet_whichever_end_hears_of_them_first() {
        for far_end_first in [false, true] {
            let (here, there) = (keys(), keys());
            let mut ends = Ends::new(&here, &there);
            ends.send(0, &[0; 16]);
            ends.settle();
            let new = rotated(&here);
            let own = |ends: &mut Ends| ends.ends[0].renew(seal(&there), &new, Timing::default());
            let far = |ends: &mut Ends| ends.ends[1].renew(seal(&new), &there, Timing::default());
            let steps: [&dyn Fn(&mut Ends); 2] = if far_end_first { [&far, &own] } else { [&own, &far] };
            let mut sent = 1;
            for step in steps {
                step(&mut ends);
                for _ in 0..5 {
                    assert!(ends.send(0, &[1; 16]) && ends.send(1, &[2; 16]));
                    sent += 1;
                    ends.settle();
                }
            }
            assert_eq!((ends.delivered[0].len(), ends.delivered[1].len()), (sent - 1, sent));
            // The former key is not needed any more.
            let only = Keys { secrets: new.secrets[..1].to_vec() };
            ends.ends[0].renew(seal(&there), &only, Timing::default());
            assert!(ends.ends[0].pairs[0].has_session() || far_end_first);
            ends.send(0, &[3; 16]);
            ends.settle();
            assert_eq!(ends.delivered[1].len(), sent + 1);
        }
    }

    #[test]
    fn an_end_that_has_forgotten_everything_is_understood_again() {
        let (here, there) = (keys(), keys());
        let mut ends = Ends::new(&here, &there);
        ends.send(0, &[1; 16]);
        ends.settle();
        // Handshakes carry the time, which must have moved on (TAI64N).
        std::thread::sleep(Duration::from_millis(20));
        ends.ends[1] = Circuit::new(seal(&here), &there, Timing::default());
        let towards = &mut ends.towards[0];
        ends.ends[1].tick(&mut |message| towards.push_back(message.to_vec()));
        ends.settle();
        ends.send(0, &[2; 16]);
        ends.settle();
        assert_eq!(ends.delivered[1].last(), Some(&vec![2; 16]));
    }
}
