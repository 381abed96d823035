//! Probes as bytes: a STAMP request alone, or inside a circuit's tunnel (see [`ebpf_abi::probe`]).
use ebpf_abi::probe::{
    DEFECT_PORT, DEFECT_SEQUENCE, Defect, ERROR_ESTIMATE, INNER, OAM, PORT, REFLECTOR, Request, SENDER, Stamp,
};

/// Bytes of a link probe's UDP payload.
pub(crate) const LINK: usize = size_of::<Request>();
/// Bytes of a path probe's UDP payload: VXLAN, the inner headers, the request.
pub(crate) const PATH: usize = VXLAN + INNER as usize + LINK;

const VXLAN: usize = 8;
/// Flags of RFC 7348 §5: the VNI is valid.
const VALID: u8 = 0x08;
/// Where a path probe says that it comes from. Not [`PORT`], by which answers are told from requests, nor [`DEFECT_PORT`].
const SOURCE: u16 = 49_152;
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
const UDP: u8 = 17;
/// Locally administered, one per end; nobody looks at them.
const MAC_OF_SENDER: [u8; 6] = [0x02, 0x66, 0x77, 0, 0, 1];
const MAC_OF_REFLECTOR: [u8; 6] = [0x02, 0x66, 0x77, 0, 0, 2];
const ETHERTYPE_IPV4: u16 = 0x0800;

/// `at`: nanoseconds, TAI.
pub(crate) fn link(session: u16, sequence: u32, at: u64) -> [u8; LINK] {
    let request = Request {
        sequence: sequence.to_be_bytes(),
        timestamp: Stamp::of(at),
        error_estimate: ERROR_ESTIMATE,
        session: session.to_be_bytes(),
        must_be_zero: [0; 28],
    };
    zerocopy::transmute!(request)
}

/// What the next hop takes under `label`.
pub(crate) fn path(label: u32, session: u16, sequence: u32, at: u64) -> [u8; PATH] {
    inside(label, SOURCE, &link(session, sequence, at))
}

/// That the path `dead` begins on an interface without a carrier.
pub(crate) fn defect(label: u32, dead: u64, at: u64) -> [u8; PATH] {
    let defect = Defect {
        sequence: DEFECT_SEQUENCE.to_be_bytes(),
        timestamp: Stamp::of(at),
        error_estimate: ERROR_ESTIMATE,
        session: [0; 2],
        dead: dead.to_be_bytes(),
        must_be_zero: [0; 20],
    };
    inside(label, DEFECT_PORT, &zerocopy::transmute!(defect))
}

fn inside(label: u32, source: u16, stamp: &[u8; LINK]) -> [u8; PATH] {
    let udp_length = (8 + LINK) as u16;
    let mut bytes = [0; PATH];
    let mut writer = Writer { bytes: &mut bytes, at: 0 };
    writer.put(&[VALID | OAM, 0, 0, 0]);
    writer.put(&(label << 8).to_be_bytes());
    writer.put(&MAC_OF_REFLECTOR);
    writer.put(&MAC_OF_SENDER);
    writer.put(&ETHERTYPE_IPV4.to_be_bytes());
    writer.put(&ipv4(20 + udp_length));
    writer.put(&source.to_be_bytes());
    writer.put(&PORT.to_be_bytes());
    writer.put(&udp_length.to_be_bytes());
    // No checksum (RFC 768): each host on the way would have to write it anew.
    writer.put(&[0, 0]);
    writer.put(stamp);
    bytes
}

fn ipv4(length: u16) -> [u8; 20] {
    let mut header = [0; 20];
    let mut writer = Writer { bytes: &mut header, at: 0 };
    writer.put(&[0x45, 0]);
    writer.put(&length.to_be_bytes());
    writer.put(&[0, 0]);
    writer.put(&DONT_FRAGMENT.to_be_bytes());
    writer.put(&[TTL, UDP, 0, 0]);
    writer.put(&SENDER);
    writer.put(&REFLECTOR);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x6543_2100 * 1_000_000_000 + 0x0012_3456;

    #[test]
    fn a_link_probe_is_laid_out_as_rfc_8762_and_8972_say() {
        let mut expected = vec![0x01, 0x02, 0x03, 0x04]; // sequence number
        expected.extend([0x65, 0x43, 0x21, 0x00, 0x00, 0x12, 0x34, 0x56]); // timestamp: PTPv2, truncated
        expected.extend([0x40, 0x01]); // error estimate: Z set, multiplier 1
        expected.extend([0xbe, 0xef]); // SSID
        expected.extend([0; 28]);
        assert_eq!(link(0xbeef, 0x0102_0304, AT)[..], expected);
    }

    #[test]
    fn a_path_probe_is_a_request_inside_a_vxlan_packet_with_the_oam_bit() {
        let bytes = path(0x0a_0b0c, 7, 9, AT);
        assert_eq!(bytes[..8], [0x09, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0], "VXLAN: flags, reserved, VNI, reserved");
        assert_eq!(bytes[8..14], [0x02, 0x66, 0x77, 0, 0, 2]);
        assert_eq!(bytes[14..20], [0x02, 0x66, 0x77, 0, 0, 1]);
        assert_eq!(bytes[20..22], [0x08, 0x00], "IPv4");
        let ip = &bytes[22..42];
        assert_eq!(ip[..10], [0x45, 0, 0, 72, 0, 0, 0x40, 0, 64, 17], "to the protocol");
        assert_eq!(ip[12..], [169, 254, 86, 1, 169, 254, 86, 2]);
        assert_eq!(checksum(ip), 0, "a right header sums up to nothing");
        assert_eq!(bytes[42..50], [0xc0, 0, 0x03, 0x5e, 0, 52, 0, 0], "UDP to port 862, no checksum");
        assert_eq!(bytes[50..], link(7, 9, AT));
        assert_eq!(bytes.len(), 8 + 14 + 72);
    }

    #[test]
    fn a_defect_is_a_path_probe_from_another_port_with_a_path_where_zeros_must_be() {
        let (bytes, probe) = (defect(0x0a_0b0c, 0x0102_0304_0506_0708, AT), path(0x0a_0b0c, 0, u32::MAX, AT));
        assert_eq!(bytes[42..44], [0xc0, 1]);
        assert_eq!(bytes[66..74], [1, 2, 3, 4, 5, 6, 7, 8]);
        let differ: Vec<usize> = (0..PATH).filter(|at| bytes[*at] != probe[*at]).collect();
        assert_eq!(differ, [43, 66, 67, 68, 69, 70, 71, 72, 73]);
    }

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
