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
}

/// How long.
const EAGER: Duration = Duration::from_secs(30);

struct Pair {
    local: SealKey,
    remote: SealKey,
    tunn: Tunn,
    limiter: Arc<RateLimiter>,
    indices: IndexTable,
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
        let mut circuit = Self { seal: seal.clone(), pairs: Vec::new(), waiting: VecDeque::new(), eager };
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
                    Some(at) => former.swap_remove(at),
                    None => Pair::new(secret, local, *remote, timing),
                };
                self.pairs.push(pair);
            }
        }
        self.seal = seal;
    }

    /// Handshakes that bring about the most wanted session; until there is any, those for all pairs, as it is not known
    /// which keys the far end has heard of.
    pub(super) fn begin(&mut self) -> Vec<Packet> {
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
        Self { local, remote, tunn, limiter, indices, confirmed: false }
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
