//! History in bytes, so that a restart keeps it: little-endian, versioned, with a checksum; gaps take no room.
//!
//! `FWTL`, version, number of links; of each link its names and its time of the last sample, then of each resolution the
//! number of the open bucket, how many follow, and these with their distance from it; in the end FNV-1a of all before.
use super::bucket::Cell;
use super::history::{History, Resolution, Ring};
use proto_model::topology::LinkId;
use proto_model::{Name, NodeName, Timestamp};
use std::collections::BTreeMap;

const MAGIC: [u8; 4] = *b"FWTL";
const VERSION: u8 = 1;
/// Names are shorter; a longer one is garbage.
const LONGEST: usize = 255;

/// Why bytes are no history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHistory {
    #[error("the history ends after {0} bytes, in the middle of something")]
    Truncated(usize),
    #[error("the history begins with {0:02x?}, not with {MAGIC:02x?}")]
    NoHistory([u8; 4]),
    #[error("the history has version {0}; this controller reads version {VERSION}")]
    Version(u8),
    #[error("the history's checksum is {found:016x}, its bytes have {actual:016x}")]
    Damaged { found: u64, actual: u64 },
    #[error("at byte {at} of the history: {what}")]
    Nonsense { at: usize, what: &'static str },
}

pub(super) fn write(links: &BTreeMap<LinkId, History>) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    out.push(VERSION);
    out.extend((links.len() as u32).to_le_bytes());
    for (id, history) in links {
        let (a, b) = id.ends();
        for name in [a.as_str(), b.as_str(), id.network().as_str()] {
            out.push(name.len().min(LONGEST) as u8);
            out.extend(&name.as_bytes()[..name.len().min(LONGEST)]);
        }
        out.extend(history.last.0.to_le_bytes());
        history.rings.iter().for_each(|ring| write_ring(ring, &mut out));
    }
    let sum = checksum(&out);
    out.extend(sum.to_le_bytes());
    out
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
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<LinkId, History>, BadHistory> {
    let mut reader = Reader { bytes, at: 0 };
    let magic = reader.take::<4>()?;
    if magic != MAGIC {
        return Err(BadHistory::NoHistory(magic));
    }
    let [version] = reader.take::<1>()?;
    if version != VERSION {
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
    let count = u32::from_le_bytes(reader.take()?);
    let mut links = BTreeMap::new();
    for _ in 0..count {
        let (id, history) = reader.link()?;
        links.insert(id, history);
    }
    if reader.at < body.len() { Err(reader.nonsense("more follows")) } else { Ok(links) }
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

    fn link(&mut self) -> Result<(LinkId, History), BadHistory> {
        let [a, b, network] = [self.name()?, self.name()?, self.name()?];
        let id = LinkId::new(NodeName(a), NodeName(b), network);
        let id = id.ok_or_else(|| self.nonsense("a link from a host to itself"))?;
        let last = Timestamp(u64::from_le_bytes(self.take()?));
        let mut history = History::new(last);
        for (ring, resolution) in history.rings.iter_mut().zip(Resolution::ALL) {
            *ring = self.ring(resolution)?;
        }
        Ok((id, history))
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
