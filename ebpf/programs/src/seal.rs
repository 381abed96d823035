//! What the packets that carry an encrypted circuit's messages look like.
use crate::network::{Network, Part};
use crate::transport::{Kind, Transport};
use crate::words::same;
use ebpf_abi::mapped;
use ebpf_abi::seal::{PORT, RECEIVER, SENDER};

/// Whether a packet that came out of a circuit carries a message; what else it is, its sender did not encrypt.
#[inline(always)]
pub fn is_message(network: &Network, transport: &Transport) -> bool {
    same(&network.source, &mapped(SENDER))
        && same(&network.destination, &mapped(RECEIVER))
        && matches!(network.part, Part::Whole)
        && matches!(transport.kind, Kind::Udp)
        && transport.destination_port == PORT.to_be_bytes()
}

#[cfg(all(test, not(target_arch = "bpf")))]
mod tests {
    use super::*;
    use crate::parse;

    fn frame(source: [u8; 4], protocol: u8, fragment: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 32, 0, 7, fragment, 0, 64, protocol, 0, 0]);
        frame.extend(source);
        frame.extend(RECEIVER);
        frame.extend([0, 9]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        frame
    }

    #[test]
    fn only_the_fixed_addresses_and_port_carry_messages() {
        let is = |frame: Vec<u8>| parse(&frame).map(|(network, transport)| is_message(&network, &transport));
        assert_eq!(is(frame(SENDER, 17, 0, PORT)), Ok(true));
        assert_eq!(is(frame(RECEIVER, 17, 0, PORT)), Ok(false));
        assert_eq!(is(frame(SENDER, 17, 0, PORT + 1)), Ok(false));
        assert_eq!(is(frame(SENDER, 17, 0x20, PORT)), Ok(false), "a fragment");
        assert_eq!(is(frame(SENDER, 132, 0, PORT)), Ok(false), "another protocol");
    }
}
