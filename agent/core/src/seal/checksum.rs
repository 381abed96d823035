//! The Internet checksum (RFC 1071), by words so that the compiler can use vectors.

/// Sum of the bytes as 16-bit words in memory order, not folded.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(last));
    sum
}

/// What stands in a header, complemented or not, in memory order.
pub(super) fn fold(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u16).to_ne_bytes()
}

pub(super) fn complement(sum: u64) -> [u8; 2] {
    let [a, b] = fold(sum);
    [!a, !b]
}

/// The pseudo header's sum (RFC 9293 §3.1, RFC 8200 §8.1): `addresses` as they stand in the IP header.
pub(super) fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    let [_, _, _, _, a, b, c, d] = (length as u64).to_be_bytes();
    sum(addresses) + sum(&[0, 0, 0, protocol]) + sum(&[a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_rfc_comes_out() {
        // RFC 1071 §3.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), [0xdd, 0xf2]);
        assert_eq!(fold(sum(&[1, 2, 3])), [1 + 3, 2], "an odd byte counts as if a zero followed");
    }
}
