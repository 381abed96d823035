//! What is encrypted for whom, as bytes in `SEALS`.
use crate::kernel_state::Seal;
use ebpf_abi::seal::SealRow;
use proto_model::SealKey;

/// What goes into `SEALS`; more than two keys do not fit.
pub fn seal(seal: &Seal) -> SealRow {
    let key = |at: usize| seal.keys.get(at).map_or([0; 32], |key| key.0);
    SealRow {
        circuit: seal.circuit,
        keys: [key(0), key(1)],
        slot: seal.slot,
        mtu: seal.mtu,
        reserved: [0; 2],
    }
}

pub fn read_seal(row: &SealRow) -> Seal {
    let keys = row.keys.iter().filter(|key| **key != [0; 32]).map(|key| SealKey(*key));
    Seal { circuit: row.circuit, keys: keys.collect(), slot: row.slot, mtu: row.mtu }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_read_back_as_written() {
        for keys in [vec![SealKey([1; 32])], vec![SealKey([1; 32]), SealKey([2; 32])]] {
            let written = Seal { circuit: 7, keys, slot: 9, mtu: 1390 };
            assert_eq!(read_seal(&seal(&written)), written);
        }
    }
}
