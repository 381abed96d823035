//! What hosts tell of a circuit's packets, as bytes in `TRACED`.
use crate::kernel_state::Trace;
use ebpf_abi::trace::Wanted;
use proto_model::Timestamp;

/// `until`: the trace's end by the monotonic clock.
pub fn trace(trace: &Trace, until: u64) -> Wanted {
    Wanted {
        until,
        until_wall: trace.until.0,
        protocol: trace.protocol.map_or(Wanted::ANY, u16::from),
        port: trace.port.unwrap_or(0),
        snaplen: trace.snaplen,
        reserved: [0; 2],
    }
}

pub fn read_trace(circuit: u64, wanted: &Wanted) -> Trace {
    Trace {
        circuit,
        until: Timestamp(wanted.until_wall),
        protocol: u8::try_from(wanted.protocol).ok(),
        port: (wanted.port != 0).then_some(wanted.port),
        snaplen: wanted.snaplen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_read_back_as_written() {
        for (protocol, port) in [(None, None), (Some(6), Some(5432)), (Some(255), None)] {
            let written = Trace { circuit: 7, until: Timestamp(99), protocol, port, snaplen: 128 };
            assert_eq!(read_trace(7, &trace(&written, 5)), written);
        }
    }
}
