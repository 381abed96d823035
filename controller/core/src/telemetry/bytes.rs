//! History in bytes, so that a restart keeps it: little-endian, versioned, with a checksum; gaps take no room.
//!
//! `FWTL`, version, number of links; of each link its names and its time of the last sample, then of each resolution the
//! number of the open bucket, how many follow, and these with their distance from it. From version 2 on the same of circuits,
//! by their numbers. In the end FNV-1a of all before.
use super::Store;
use super::bucket::Cell;
use super::history::{History, Resolution, Ring};
use proto_model::topology::LinkId;
use proto_model::{CircuitId, Name, NodeName, Timestamp};
use std::collections::BTreeMap;

const MAGIC: [u8; 4] = *b"FWTL";
const VERSION: u8 = 2;
/// Of links alone.
const FORMER: u8 = 1;
/// Names are shorter; a longer one is garbage.
const LONGEST: usize = 255;

/// Why bytes are no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHistory {
    #[error("the history ends after {0} bytes, in the middle of something")]
    Truncated(usize),
    #[error("the history begins with {0:02x?}, not with {MAGIC:02x?}")]
    NoHistory([u8; 4]),
    #[error("the history has version {0}; this controller reads versions {FORMER} and {VERSION}")]
    Version(u8),
    #[error("the history's checksum is {found:016x}, its bytes have {actual:016x}")]
    Damaged { found: u64, actual: u64 },
    #[error("at byte {at} of the history: {what}")]
    Nonsense { at: usize, what: &'static str },
}

pub fn to_bytes(links: &Store<LinkId>, circuits: &Store<CircuitId>) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.push(VERSION);
    write_store(links, &mut out);
    write_store(circuits, &mut out);
    let sum = checksum(&out);
    out.extend(sum.to_le_bytes());
    out
}

/// What a history is of.
trait Key: Ord + Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(reader: &mut Reader<'_>) -> Result<Self, BadHistory>;
}

fn write_store<K: Key>(store: &Store<K>, out: &mut Vec<u8>) {
    out.extend((store.all.len() as u32).to_le_bytes());
    for (of, history) in &store.all {
        of.write(out);
        out.extend(history.last.0.to_le_bytes());
        history.rings.iter().for_each(|ring| write_ring(ring, out));
    }
}

fn write_ring(ring: &Ring, out: &mut Vec<u8>) {
    out.extend(ring.number.to_le_bytes());
    out.extend((ring.cells().count() as u16).to_le_bytes());
    for (number, cell) in ring.cells() {
        out.extend(((ring.number - number) as u16).to_le_bytes());
        cell.write(out);
    }
}

/// FNV-1a, 64 bits: one changed byte always changes it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// # Errors
/// The bytes are not such a history, of another version, cut or damaged.
pub fn from_bytes(bytes: &[u8]) -> Result<(Store<LinkId>, Store<CircuitId>), BadHistory> {
    let mut reader = Reader { bytes, at: 0 };
    let magic = reader.take::<4>()?;
    if magic != MAGIC {
        return Err(BadHistory::NoHistory(magic));
    }
    let [version] = reader.take::<1>()?;
    if !(FORMER..=VERSION).contains(&version) {
        return Err(BadHistory::Version(version));
    }
    let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
        return Err(BadHistory::Truncated(bytes.len()));
    };
    let (found, actual) = (u64::from_le_bytes(*sum), checksum(body));
    if found != actual {
        return Err(BadHistory::Damaged { found, actual });
    }
    reader.bytes = body;
    let links = reader.store()?;
    let circuits = if version == FORMER { Store::default() } else { reader.store()? };
    if reader.at < body.len() { Err(reader.nonsense("more follows")) } else { Ok((links, circuits)) }
}

impl Key for LinkId {
    fn write(&self, out: &mut Vec<u8>) {
        let (a, b) = self.ends();
        for name in [a.as_str(), b.as_str(), self.network().as_str()] {
            out.push(name.len().min(LONGEST) as u8);
            out.extend(&name.as_bytes()[..name.len().min(LONGEST)]);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BadHistory> {
        let [a, b, network] = [reader.name()?, reader.name()?, reader.name()?];
        let id = Self::new(NodeName(a), NodeName(b), network);
        id.ok_or_else(|| reader.nonsense("a link from a host to itself"))
    }
}

impl Key for CircuitId {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.0.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BadHistory> {
        Ok(Self(u64::from_le_bytes(reader.take()?)))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadHistory> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(BadHistory::Truncated(self.bytes.len()));
        };
        self.at += N;
        Ok(*taken)
    }

    fn nonsense(&self, what: &'static str) -> BadHistory {
        BadHistory::Nonsense { at: self.at, what }
    }

    fn store<K: Key>(&mut self) -> Result<Store<K>, BadHistory> {
        let count = u32::from_le_bytes(self.take()?);
        let mut all = BTreeMap::new();
        for _ in 0..count {
            let of = K::read(self)?;
            all.insert(of, self.history()?);
        }
        Ok(Store { all })
    }

    fn history(&mut self) -> Result<History, BadHistory> {
        let last = Timestamp(u64::from_le_bytes(self.take()?));
        let mut history = History::new(last);
        for (ring, resolution) in history.rings.iter_mut().zip(Resolution::ALL) {
            *ring = self.ring(resolution)?;
        }
        Ok(history)
    }

    fn name(&mut self) -> Result<Name, BadHistory> {
        let [length] = self.take::<1>()?;
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let Some(name) = rest.get(..length.into()) else {
            return Err(BadHistory::Truncated(self.bytes.len()));
        };
        self.at += name.len();
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        name.ok_or_else(|| self.nonsense("not a name"))
    }

    fn ring(&mut self, resolution: Resolution) -> Result<Ring, BadHistory> {
        let mut ring = Ring::new(resolution, u64::from_le_bytes(self.take()?));
        let count = u16::from_le_bytes(self.take()?);
        for _ in 0..count {
            let back = u16::from_le_bytes(self.take()?);
            let cell = Cell::read(&self.take()?);
            let number = ring.number.checked_sub(back.into());
            if !number.is_some_and(|number| ring.put(number, cell)) {
                return Err(self.nonsense("a bucket older than is kept"));
            }
        }
        Ok(ring)
    }
}
