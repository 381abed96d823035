//! Keeps promises: records that are on the disk before anybody is told of them.
mod embedded;
mod memory;

pub use embedded::Embedded;
pub use memory::Memory;

use controller_core::io::Write;
use controller_core::record::{Record, RecordKey};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Where the records are kept. One `commit` is one transaction.
pub trait Store: Send {
    /// All records, in the order of their keys.
    fn load(&self) -> Result<Vec<Record>, StoreError>;
    /// Performs all of `writes` in order, or none; they are durable when this returns.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError>;
}

/// What went wrong with the store; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{file}: {what}: {why}")]
    Failed { file: String, what: &'static str, why: String },
    #[error(
        "{file}: is not a store of Foreweave, or is damaged: {why}; restore it from a backup, or move it away to begin anew"
    )]
    Foreign { file: String, why: String },
    #[error(
        "{file}: another foreweave-controller has it open: one at a time may run with this state directory"
    )]
    InUse { file: String },
    #[error("{file}: was written by a newer version (format {found}, this version knows {known})")]
    Newer { file: String, found: u64, known: u64 },
    #[error("{file}: belongs to the region \"{found}\", the configuration says \"{wanted}\"")]
    OtherRegion { file: String, found: String, wanted: String },
    #[error("{file}: the record {key} is damaged: {why}; restore the file from a backup")]
    Damaged { file: String, key: String, why: String },
}

/// Of the records' encoding; changes with every incompatible change of theirs.
const SCHEMA: u8 = 1;
const CHECKSUM: usize = 8;

/// The key as it is stored and shown.
fn key_text(key: &RecordKey) -> String {
    match key {
        RecordKey::Counters => "counters".into(),
        RecordKey::Node(name) => format!("node/{name}"),
        RecordKey::Token(hash) => hash.iter().fold("token/".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
        RecordKey::Link(id) => format!("link/{}/{}/{}", id.ends().0, id.ends().1, id.network()),
        RecordKey::Resource(id) => format!("resource/{id}"),
        RecordKey::Circuit(id) => format!("circuit/{:020}", id.0),
        RecordKey::Decision(id) => format!("decision/{:020}", id.0),
        RecordKey::Idempotency(key) => format!("idempotency/{key}"),
    }
}

/// Schema number, first bytes of the SHA-256 over key and text, and the record as JSON: so that a newer version can
/// read it, people can too, and a flipped bit is noticed.
fn encode(key: &str, record: &Record) -> Result<Vec<u8>, String> {
    let mut bytes = vec![SCHEMA; 1 + CHECKSUM];
    serde_json::to_writer(&mut bytes, record).map_err(|why| why.to_string())?;
    let sum = checksum(key, &bytes[1 + CHECKSUM..]);
    bytes[1..=CHECKSUM].copy_from_slice(&sum);
    Ok(bytes)
}

fn decode(key: &str, bytes: &[u8]) -> Result<Record, String> {
    let Some((header, text)) = bytes.split_at_checked(1 + CHECKSUM) else {
        return Err(format!("it has {} bytes, at least {} are needed", bytes.len(), 1 + CHECKSUM));
    };
    if header[0] != SCHEMA {
        return Err(format!("its schema is {}, this version knows {SCHEMA}", header[0]));
    }
    if header[1..] != checksum(key, text) {
        return Err("its checksum is wrong".into());
    }
    let record: Record = serde_json::from_slice(text).map_err(|why| why.to_string())?;
    let own = key_text(&record.key());
    if own == key { Ok(record) } else { Err(format!("it is the record {own}")) }
}

fn checksum(key: &str, text: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(key.as_bytes()).chain_update([0]).chain_update(text).finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_core::record::Counters;
    use proto_model::CircuitId;
    use proto_model::plan::{Plan, Weights};

    /// A stored plan is the plan that was decided, to the last bit of its costs.
    #[test]
    fn costs_are_stored_to_the_last_bit() {
        let spread = (1..5000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 * 1.7e-13);
        for cost in spread.chain([0.1 + 0.2, 1e23]) {
            let weights = Weights { rtt: cost, ..Weights::default() };
            let plan = Plan { weights, ..Plan::default() };
            let record = Record::Decision(CircuitId(1), plan);
            let key = key_text(&record.key());
            assert_eq!(decode(&key, &encode(&key, &record).expect("encode")), Ok(record));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let record = Record::Counters(Counters { next_circuit: 42 });
        let good = encode("counters", &record).expect("encode");
        assert_eq!(decode("counters", &good), Ok(record));
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(decode("counters", &bad).is_err(), "bit {at}");
        }
        for length in 0..good.len() {
            assert!(decode("counters", &good[..length]).is_err(), "cut to {length}");
        }
        assert!(decode("node/a", &good).is_err());
    }
}
